use std::collections::BTreeMap;

use async_trait::async_trait;
use http::HeaderMap;
use rustls_pki_types::CertificateDer;

/// Who a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a connection and a request bring along to prove it.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    pub headers: &'a HeaderMap,
    /// The client's certificate chain, verified against the client CA by the TLS handshake.
    pub peer_certificates: &'a [CertificateDer<'static>],
}

#[derive(Debug, thiserror::Error)]
pub enum AuthenticationError {
    /// Answered with 401; the reason goes to the log, not to the client.
    #[error("{0}")]
    Rejected(String),
}

#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// `Ok(None)` where these credentials are not of this authenticator's kind.
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Option<UserInfo>, AuthenticationError>;
}

/// What is asked, in the terms that RBAC decides on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, ...; for paths that
    /// are no resource the HTTP method in lower case.
    pub verb: &'a str,
    pub namespace: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub name: &'a str,
    /// What a list, watch or deletion of a collection is narrowed to; empty where it is not, or by nothing that parses.
    pub field_selector: &'a str,
    pub path: &'a str,
    pub is_resource: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny(String),
    /// The next authoriser is asked; when all have no opinion the answer is no.
    NoOpinion(String),
}

#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}
