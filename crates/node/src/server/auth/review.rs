use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::api::{Api, PostParams};
use ring::digest::{SHA256, digest};

use super::cache::Cache;

/// How long answers are believed; upstream's defaults.
pub const TOKEN_BELIEVED: Duration = Duration::from_secs(2 * 60);
pub const ALLOWED_BELIEVED: Duration = Duration::from_secs(5 * 60);
pub const DENIED_BELIEVED: Duration = Duration::from_secs(30);
/// The API server has this long for an answer.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    #[error("no answer within {} s", LIMIT.as_secs())]
    Timeout,
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// Asks the API server about clients of the node, and remembers what it said.
pub struct Reviewer {
    client: kube::Client,
    node_name: String,
    /// By the hash of a token, so that no token is kept; `None` for those that are nobody's.
    users: Cache<Vec<u8>, Option<User>>,
    decisions: Cache<(User, &'static str, &'static str), bool>,
}

impl Reviewer {
    pub fn new(client: kube::Client, node_name: String) -> Self {
        Self { client, node_name, users: Cache::default(), decisions: Cache::default() }
    }

    /// Whose token it is; nobody's where the API server does not answer, too.
    pub async fn user(&self, token: &str) -> Option<User> {
        let key = digest(&SHA256, token.as_bytes()).as_ref().to_vec();
        if let Some(known) = self.users.get(&key) {
            return known;
        }
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let status = match ask(&self.client, &review).await {
            Ok(answer) => answer.status.unwrap_or_default(),
            Err(error) => {
                tracing::warn!(%error, "the API server did not say whose token a client of the node shows");
                return None;
            }
        };
        if let Some(error) = status.error.filter(|error| !error.is_empty()) {
            tracing::debug!(error, "a client of the node shows a token that is not valid");
        }
        let user = status.user.filter(|_| status.authenticated == Some(true)).map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        });
        self.users.put(key, user.clone(), TOKEN_BELIEVED);
        user
    }

    /// Whether a user may do this with a subresource of this Node.
    pub async fn may(&self, user: &User, verb: &'static str, subresource: &'static str) -> Result<bool, ReviewError> {
        let key = (user.clone(), verb, subresource);
        if let Some(known) = self.decisions.get(&key) {
            return Ok(known);
        }
        let attributes = ResourceAttributes {
            version: Some("v1".to_owned()),
            resource: Some("nodes".to_owned()),
            subresource: Some(subresource.to_owned()),
            name: Some(self.node_name.clone()),
            verb: Some(verb.to_owned()),
            ..ResourceAttributes::default()
        };
        let User { name, uid, groups, extra } = user.clone();
        let spec = SubjectAccessReviewSpec {
            user: Some(name),
            uid: Some(uid),
            groups: Some(groups),
            extra: Some(extra),
            resource_attributes: Some(attributes),
            non_resource_attributes: None,
        };
        let answer = ask(&self.client, &SubjectAccessReview { spec, ..SubjectAccessReview::default() }).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        self.decisions.put(key, allowed, if allowed { ALLOWED_BELIEVED } else { DENIED_BELIEVED });
        Ok(allowed)
    }
}

async fn ask<R>(client: &kube::Client, review: &R) -> Result<R, ReviewError>
where
    R: kube::Resource<DynamicType = ()> + Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let api = Api::<R>::all_with(client.clone(), &());
    let answer = tokio::time::timeout(LIMIT, api.create(&PostParams::default(), review)).await;
    Ok(answer.map_err(|_| ReviewError::Timeout)??)
}
