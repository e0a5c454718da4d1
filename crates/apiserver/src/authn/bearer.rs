use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, header};
use ring::digest::{SHA256, digest};

use crate::contract::{AuthenticationError, Authenticator, Credentials, UserInfo};
use crate::tokens::{TokenError, TokenReviewer};

/// The subprotocol by which browsers, which cannot set headers on WebSockets, hand in a token.
const WEBSOCKET_TOKEN_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The token of a request: from `Authorization: Bearer`, or from a WebSocket subprotocol.
pub fn bearer_token(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) {
        let (scheme, token) = value.trim().split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned());
    }
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(WEBSOCKET_TOKEN_PREFIX))
        .and_then(|encoded| BASE64_URL_SAFE_NO_PAD.decode(encoded.trim_end_matches('=')).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .filter(|token| !token.is_empty())
}

#[async_trait]
impl Authenticator for TokenReviewer {
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Option<UserInfo>, AuthenticationError> {
        let Some(token) = bearer_token(credentials.headers) else { return Ok(None) };
        match self.review(&token, &[]).await {
            Ok((user, _)) => Ok(Some(user)),
            Err(TokenError::Foreign) => Ok(None),
            Err(error) => Err(AuthenticationError::Rejected(error.to_string())),
        }
    }
}

/// One fixed token for one user: for bootstrapping, where no certificate and no service account exists yet.
pub struct StaticToken {
    digest: [u8; 32],
    user: Arc<UserInfo>,
}

impl StaticToken {
    pub fn new(token: &str, user: UserInfo) -> Self {
        Self { digest: sha256(token), user: Arc::new(user) }
    }
}

pub(super) fn sha256(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    bytes
}

#[async_trait]
impl Authenticator for StaticToken {
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Option<UserInfo>, AuthenticationError> {
        // Comparing digests tells nothing about how much of a guess was right.
        let found = bearer_token(credentials.headers).is_some_and(|token| sha256(&token) == self.digest);
        Ok(found.then(|| (*self.user).clone()))
    }
}
