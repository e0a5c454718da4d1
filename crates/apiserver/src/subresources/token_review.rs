use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::json;

use super::reply::{created, read_object};
use super::self_review::user_value;
use crate::authn::AUTHENTICATED;
use crate::contract::{Lookup, Response, SubresourceHandler, SubresourceRequest};
use crate::json::{items, text};
use crate::tokens::{TokenError, TokenReviewer};

/// Whose token is this: for servers that let this one authenticate their clients.
pub struct TokenReviews {
    tokens: Arc<TokenReviewer>,
}

impl TokenReviews {
    pub fn new(tokens: Arc<TokenReviewer>) -> Self {
        Self { tokens }
    }
}

#[async_trait]
impl SubresourceHandler for TokenReviews {
    fn serves(&self) -> &'static [&'static str] {
        &["tokenreviews.authentication.k8s.io"]
    }

    async fn handle(&self, _lookup: Arc<dyn Lookup>, request: SubresourceRequest) -> Result<Response, ApiError> {
        let mut review = read_object(request.request, "authentication.k8s.io/v1", "TokenReview").await?;
        let token = text(&review["spec"]["token"]);
        if token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences: Vec<String> =
            items(&review["spec"]["audiences"]).iter().map(|audience| text(audience).to_owned()).collect();
        review["status"] = match self.tokens.review(token, &audiences).await {
            Ok((mut user, audiences)) => {
                user.groups.push(AUTHENTICATED.into());
                json!({ "authenticated": true, "user": user_value(&user), "audiences": audiences })
            }
            Err(TokenError::Foreign) => json!({ "authenticated": false, "user": {} }),
            Err(error) => {
                json!({ "authenticated": false, "user": {}, "error": format!("invalid bearer token, {error}") })
            }
        };
        if !review["metadata"].is_object() {
            review["metadata"] = json!({});
        }
        Ok(created(request.accept, &review))
    }
}
