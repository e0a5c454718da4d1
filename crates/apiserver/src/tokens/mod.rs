//! Service account tokens: JSON Web Tokens (RFC 7519) signed with ES256, bound to the objects they were made
//! for. A token says who it is for, until when, and which Pod, Secret or Node it lives and dies with; whether
//! those still exist is asked at every use, so that deleting a Pod ends its tokens.

mod claims;
mod discovery;
mod issuer;
mod key;
mod review;

#[cfg(test)]
mod tests;

pub use claims::{Bound, Claims, Reference};
pub use discovery::{IssuerDiscovery, discovery_document, key_set};
pub use issuer::{TokenError, TokenIssuer, TokenSpec};
pub use key::{KeyError, SigningKey};
pub use review::TokenReviewer;

/// The prefix of a service account's user name; namespace and name follow.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// The user name of a service account.
pub fn service_account_user(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// Splits a service account's user name into namespace and name.
pub fn split_service_account_user(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}
