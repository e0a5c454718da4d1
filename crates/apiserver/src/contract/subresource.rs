use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use knarr_api::{registry::Resource, status::ApiError};

use super::{Lookup, UserInfo};
use crate::codec::Accept;

/// A streamed body of either direction.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
pub type Response = http::Response<Body>;

/// A request to a subresource that the generic path does not serve (it serves `status`, `scale` and the like).
/// It was authenticated and authorised; admission is the handler's.
pub struct SubresourceRequest {
    pub resource: &'static Resource,
    pub subresource: &'static str,
    pub namespace: String,
    pub name: String,
    /// What follows the subresource in the path, with its slash, as in `proxy/metrics`.
    pub rest: String,
    pub user: UserInfo,
    pub dry_run: bool,
    /// The representation of what the handler answers as an object.
    pub accept: Accept,
    /// Headers, query and body as they came; `hyper::upgrade::on` works on it.
    pub request: http::Request<Body>,
}

/// Serves one subresource, such as `pods/log` or `serviceaccounts/token`.
#[async_trait]
pub trait SubresourceHandler: Send + Sync + 'static {
    /// As `resource/subresource`, with the group after a dot where there is one: `pods/exec`.
    fn serves(&self) -> &'static [&'static str];
    async fn handle(&self, lookup: Arc<dyn Lookup>, request: SubresourceRequest) -> Result<Response, ApiError>;
}
