use std::sync::Arc;

use async_trait::async_trait;

use super::{bearer_token, count_as_authenticated};
use crate::contract::{AuthenticationError, Authenticator, Credentials, UserInfo};

/// Asks several authenticators in turn; the first that knows the credentials decides.
pub struct Union {
    members: Vec<Arc<dyn Authenticator>>,
}

impl Union {
    pub fn new(members: Vec<Arc<dyn Authenticator>>) -> Self {
        Self { members }
    }
}

#[async_trait]
impl Authenticator for Union {
    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Option<UserInfo>, AuthenticationError> {
        let mut rejection = None;
        for member in &self.members {
            match member.authenticate(credentials).await {
                Ok(Some(mut user)) => {
                    count_as_authenticated(&mut user);
                    return Ok(Some(user));
                }
                Ok(None) => {}
                Err(error) => rejection = rejection.or(Some(error)),
            }
        }
        if let Some(rejection) = rejection {
            return Err(rejection);
        }
        // A token that nobody knows is a wrong token, not the absence of one: it must not pass as anonymous.
        if bearer_token(credentials.headers).is_some() {
            return Err(AuthenticationError::Rejected("the bearer token is known to no authenticator".into()));
        }
        Ok(None)
    }
}
