use std::collections::BTreeMap;

use http::HeaderMap;
use knarr_api::status::ApiError;

use super::{AUTHENTICATED, UNAUTHENTICATED};
use crate::authz::forbidden;
use crate::contract::{Attributes, Authorizer, Decision, UserInfo};
use crate::tokens::split_service_account_user;

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// Takes `Impersonate-User`, `-Uid`, `-Group` and `-Extra-*` headers at their word where the user may: each is
/// authorised as verb `impersonate` on `users`, `serviceaccounts`, `groups`, `uids` or `userextras/KEY`
/// (<https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/>). Yields `None` where a
/// request has no such headers.
pub async fn impersonate(
    authorizer: &dyn Authorizer,
    user: &UserInfo,
    headers: &HeaderMap,
) -> Result<Option<UserInfo>, ApiError> {
    let Some(wanted) = parse(headers)? else { return Ok(None) };
    let check = Check { authorizer, user };

    let mut groups = wanted.groups.clone();
    match split_service_account_user(&wanted.name) {
        Some((namespace, name)) => {
            check.may("", "serviceaccounts", "", namespace, name).await?;
            if groups.is_empty() {
                groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        None => check.may("", "users", "", "", &wanted.name).await?,
    }
    if !wanted.uid.is_empty() {
        check.may("authentication.k8s.io", "uids", "", "", &wanted.uid).await?;
    }
    for group in &wanted.groups {
        check.may("", "groups", "", "", group).await?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            check.may("authentication.k8s.io", "userextras", key, "", value).await?;
        }
    }

    // Who is impersonated counts as authenticated, unless it is the one who never is.
    let general = if wanted.name == super::anonymous().name { UNAUTHENTICATED } else { AUTHENTICATED };
    if !groups.iter().any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED) {
        groups.push(general.to_owned());
    }
    Ok(Some(UserInfo { name: wanted.name, uid: wanted.uid, groups, extra: wanted.extra }))
}

fn parse(headers: &HeaderMap) -> Result<Option<UserInfo>, ApiError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut wanted = UserInfo {
        name: text(USER),
        uid: text(UID),
        groups: headers.get_all(GROUP).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect(),
        extra: BTreeMap::new(),
    };
    for (name, value) in headers {
        if let (Some(key), Ok(value)) = (name.as_str().strip_prefix(EXTRA_PREFIX), value.to_str()) {
            wanted.extra.entry(percent_decode(key)).or_default().push(value.to_owned());
        }
    }
    if wanted == UserInfo::default() {
        return Ok(None);
    }
    if wanted.name.is_empty() {
        return Err(ApiError::bad_request(
            "requested impersonation of groups, uid or extra without impersonating a user: set Impersonate-User",
        ));
    }
    Ok(Some(wanted))
}

/// Keys of extras hold characters that header names must not, so they come percent-encoded (RFC 3986).
fn percent_decode(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| key.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

struct Check<'a> {
    authorizer: &'a dyn Authorizer,
    user: &'a UserInfo,
}

impl Check<'_> {
    async fn may(
        &self,
        group: &str,
        resource: &str,
        subresource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<(), ApiError> {
        let attributes = Attributes {
            user: self.user,
            verb: "impersonate",
            namespace,
            group,
            version: "v1",
            resource,
            subresource,
            name,
            field_selector: "",
            path: "",
            is_resource: true,
        };
        match self.authorizer.authorize(&attributes).await {
            Decision::Allow => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(&attributes, &reason)),
        }
    }
}
