//! Who is asking. Client certificates name a user and groups by their subject, service account tokens by what
//! they are bound to, static tokens by a table; several authenticators are asked in turn. Who proves nothing may read
//! health and nothing else, as upstream with `anonymous` limited to those paths; where no authenticator is set at all,
//! everyone is `system:anonymous`.

mod bearer;
mod bootstrap_token;
mod certificate;
mod impersonate;
pub(crate) mod oidc;
mod token_file;
mod union;

#[cfg(test)]
mod tests;

pub use bearer::{StaticToken, bearer_token};
pub use bootstrap_token::BootstrapTokens;
pub use certificate::ClientCertificates;
pub use impersonate::impersonate;
pub use oidc::{Oidc, OidcConfig, OidcError};
pub use token_file::{TokenFile, TokenFileError};
pub use union::Union;

use crate::contract::UserInfo;

/// Everyone who proved an identity is in this group.
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The group that may do everything, whatever the rules say.
pub const MASTERS: &str = "system:masters";

/// Whoever proved an identity is in the group of those that did.
pub fn count_as_authenticated(user: &mut UserInfo) {
    if !user.groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
        user.groups.push(AUTHENTICATED.into());
    }
}

/// Who proved nothing.
pub fn anonymous() -> UserInfo {
    UserInfo { name: "system:anonymous".into(), groups: vec![UNAUTHENTICATED.into()], ..UserInfo::default() }
}

/// The server itself, where it acts in its own name (bootstrap objects, events).
pub fn server_itself() -> UserInfo {
    UserInfo {
        name: "system:apiserver".into(),
        groups: vec![MASTERS.into(), AUTHENTICATED.into()],
        ..UserInfo::default()
    }
}

/// A component that runs in the server's process under a name of its own, such as `system:kube-scheduler`.
pub fn component(name: &str) -> UserInfo {
    UserInfo { name: name.into(), groups: vec![AUTHENTICATED.into()], ..UserInfo::default() }
}

/// A controller: a service account in `kube-system`, as each of upstream's has one.
pub fn controller(name: &str) -> UserInfo {
    service_account("kube-system", name)
}

/// A service account, as it is known before it shows a token.
pub fn service_account(namespace: &str, name: &str) -> UserInfo {
    UserInfo {
        name: crate::tokens::service_account_user(namespace, name),
        groups: vec![
            "system:serviceaccounts".into(),
            format!("system:serviceaccounts:{namespace}"),
            AUTHENTICATED.into(),
        ],
        ..UserInfo::default()
    }
}
