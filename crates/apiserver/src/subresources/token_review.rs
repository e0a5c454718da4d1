use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue, header};
use knarr_api::status::ApiError;
use serde_json::json;

use super::reply::{created, read_object};
use super::self_review::user_value;
use crate::authn::count_as_authenticated;
use crate::contract::{Authenticator, Credentials, Lookup, Response, SubresourceHandler, SubresourceRequest, UserInfo};
use crate::json::{items, text};
use crate::tokens::{TokenError, TokenReviewer};

/// Whose token is this: for servers that let this one authenticate their clients.
pub struct TokenReviews {
    tokens: Arc<TokenReviewer>,
    others: Vec<Arc<dyn Authenticator>>,
}

impl TokenReviews {
    pub fn new(tokens: Arc<TokenReviewer>, others: Vec<Arc<dyn Authenticator>>) -> Self {
        Self { tokens, others }
    }

    /// Whom the token speaks for, and for which of the audiences. Tokens that are no service account's say nothing of
    /// audiences: they are for this server alone.
    async fn review(&self, token: &str, audiences: &[String]) -> Result<Option<(UserInfo, Vec<String>)>, String> {
        let own = self.tokens.issuer().audiences();
        let common: Vec<String> = match audiences {
            [] => own.to_vec(),
            wanted => wanted.iter().filter(|wanted| own.contains(wanted)).cloned().collect(),
        };
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&format!("Bearer {token}"))
            && !common.is_empty()
        {
            headers.insert(header::AUTHORIZATION, value);
        }
        let mut rejected = None;
        for other in &self.others {
            match other.authenticate(Credentials { headers: &headers, peer_certificates: &[] }).await {
                Ok(Some(user)) => return Ok(Some((user, common))),
                Ok(None) => {}
                Err(error) => rejected = Some(error.to_string()),
            }
        }
        match self.tokens.review(token, audiences).await {
            Ok(found) => Ok(Some(found)),
            Err(TokenError::Foreign) => rejected.map_or(Ok(None), Err),
            Err(error) => Err(error.to_string()),
        }
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
        review["status"] = match self.review(token, &audiences).await {
            Ok(Some((mut user, audiences))) => {
                count_as_authenticated(&mut user);
                json!({ "authenticated": true, "user": user_value(&user), "audiences": audiences })
            }
            Ok(None) => json!({ "authenticated": false, "user": {} }),
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
