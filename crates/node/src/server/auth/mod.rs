//! Who may ask: everybody whom the API says may. A client shows a certificate of the cluster's authority or a bearer
//! token; whose the token is, and whether its owner may do what is asked, the API server decides, and is believed for a
//! while. Nobody in particular may ask for nothing.
//! (<https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/>)

mod attributes;
mod cache;
mod review;

use http::{HeaderMap, Method, StatusCode, header};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

pub use attributes::Asked;
pub use review::{ALLOWED_BELIEVED, DENIED_BELIEVED, Reviewer, TOKEN_BELIEVED, User};

use super::Refusal;

/// Groups whose members may ask for everything: the API server's own, and the cluster's masters. Who shows a certificate
/// of these needs no review, so that logs and exec do not wait for one.
const GROUPS: [&str; 2] = ["knarr:apiserver", "system:masters"];
const USER: &str = "kube-apiserver-kubelet-client";
const AUTHENTICATED: &str = "system:authenticated";

/// `certificates` were verified against the cluster's authority by the handshake.
pub async fn check(
    reviewer: &Reviewer,
    certificates: &[CertificateDer<'_>],
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let unauthorized = || Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized");
    let user = match certificates.first().and_then(owner) {
        Some(user) if is_trusted(&user) => return Ok(()),
        Some(user) => user,
        None => {
            let token = bearer(headers).ok_or_else(unauthorized)?;
            reviewer.user(token).await.ok_or_else(unauthorized)?
        }
    };
    let user = count_as_authenticated(user);
    let Asked { verb, subresources } = Asked::of(method, path);
    // The finest grain first; what was enough before there were any still is.
    for subresource in &subresources {
        match reviewer.may(&user, verb, subresource).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(user = user.name, %error, "the API server did not say whether a client of the node may do this");
                let what = format!("user={}, verb={verb}, resource=nodes, subresource={subresource}", user.name);
                let why = format!("Authorization error ({what})");
                return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, why));
            }
        }
    }
    let (name, subresources) = (user.name, subresources.join(" "));
    let why = format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])\n");
    Err(Refusal::new(StatusCode::FORBIDDEN, why))
}

fn is_trusted(user: &User) -> bool {
    user.name == USER || user.groups.iter().any(|group| GROUPS.contains(&group.as_str()))
}

/// The user that a certificate is for: its common name, with its organizations as groups.
fn owner(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    // Of several the last counts, as for the API server.
    let name = subject.iter_common_name().last()?.as_str().ok().filter(|name| !name.is_empty())?;
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    Some(User { name: name.to_owned(), groups: groups.map(str::to_owned).collect(), ..User::default() })
}

fn count_as_authenticated(mut user: User) -> User {
    if !user.groups.iter().any(|group| group == AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found() {
        for (value, expected) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer  a", Some("a")),
            ("Bearer ", None),
            ("Bearer", None),
            ("Basic a", None),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            assert_eq!(bearer(&headers), expected, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
