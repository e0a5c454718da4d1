use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use knarr_api::bootstrap_token::{
    BootstrapToken, GROUP, NAMESPACE, SECRET_TYPE, USER_PREFIX, extra_groups, is_expired,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::bearer_token;
use crate::Env;
use crate::builtin;
use crate::contract::{AuthenticationError, Authenticator, Credentials, Lookup, UserInfo};

/// Machines that are about to join: the token is in a Secret of `kube-system`, which whoever made it may remove again.
pub struct BootstrapTokens {
    lookup: Arc<dyn Lookup>,
    env: Env,
}

impl BootstrapTokens {
    pub fn new(lookup: Arc<dyn Lookup>, env: Env) -> Self {
        Self { lookup, env }
    }

    /// Whom the token speaks for by its Secret, or why it is not good.
    fn user(&self, token: &BootstrapToken, secret: &Value) -> Result<UserInfo, String> {
        let data = |key: &str| {
            let decoded = BASE64_STANDARD.decode(secret["data"][key].as_str()?).ok()?;
            String::from_utf8(decoded).ok().filter(|text| !text.is_empty())
        };
        let digest = |text: &str| <[u8; 32]>::from(Sha256::digest(text));
        // Comparing digests tells nothing about how much of a guess was right.
        let is_it = data("token-secret").is_some_and(|known| digest(&known) == digest(&token.secret));
        let name = token.secret_name();
        if secret["type"] != SECRET_TYPE || !secret["metadata"]["deletionTimestamp"].is_null() {
            return Err(format!("{name} is no bootstrap token, or is being deleted"));
        }
        if !is_it || data("token-id").as_deref() != Some(&token.id) {
            return Err(format!("it is not the one that {name} has"));
        }
        if is_expired(data("expiration").as_deref(), self.env.now()) {
            return Err(format!("{name} has expired"));
        }
        if data("usage-bootstrap-authentication").as_deref() != Some("true") {
            return Err(format!("{name} is not meant for authentication"));
        }
        let more = extra_groups(&data("auth-extra-groups").unwrap_or_default());
        let more = more.map_err(|group| format!("{name} names the group {group:?}, which no bootstrapper may have"))?;
        let groups = [GROUP.to_owned()].into_iter().chain(more).collect();
        Ok(UserInfo { name: format!("{USER_PREFIX}{}", token.id), groups, ..UserInfo::default() })
    }
}

#[async_trait]
impl Authenticator for BootstrapTokens {
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Option<UserInfo>, AuthenticationError> {
        let token = bearer_token(credentials.headers).and_then(|text| text.parse::<BootstrapToken>().ok());
        let Some(token) = token else { return Ok(None) };
        // As new as the last write: a token is used as soon as it was made.
        let stored = self.lookup.get_fresh(builtin::secrets(), NAMESPACE, &token.secret_name()).await;
        let stored =
            stored.map_err(|error| AuthenticationError::Rejected(format!("the bootstrap token: {error:?}")))?;
        let Some(stored) = stored else { return Ok(None) };
        let user = self.user(&token, &stored.value());
        user.map(Some).map_err(|why| AuthenticationError::Rejected(format!("the bootstrap token: {why}")))
    }
}
