//! What the generic path does not serve: resources that are questions (access and token reviews), parts of
//! objects that are actions (binding, eviction, tokens), and parts that live on a node (logs, exec, proxy).

mod access_review;
mod binding;
mod eviction;
mod node_proxy;
mod pod_streams;
mod reply;
mod selectors;
mod self_review;
mod service_proxy;
mod token_request;
mod token_review;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::Env;
use crate::authz::Rbac;
use crate::contract::{Authenticator, Authorizer, SubresourceHandler};
use crate::proxy::Dialer;
use crate::tokens::TokenReviewer;

pub use access_review::AccessReviews;
pub use binding::Binding;
pub use eviction::Eviction;
pub use node_proxy::NodeProxy;
pub use pod_streams::PodStreams;
pub use self_review::SelfReviews;
pub use service_proxy::EndpointProxy;
pub use token_request::TokenRequests;
pub use token_review::TokenReviews;

/// What the handlers need of the rest of the server.
pub struct Parts {
    pub authorizer: Arc<dyn Authorizer>,
    pub rbac: Arc<Rbac>,
    pub tokens: Arc<TokenReviewer>,
    /// Whom else a token may speak for.
    pub others: Vec<Arc<dyn Authenticator>>,
    pub dialer: Dialer,
    pub env: Env,
}

/// Every handler.
pub fn handlers(parts: Parts) -> Vec<Arc<dyn SubresourceHandler>> {
    let Parts { authorizer, rbac, tokens, others, dialer, env } = parts;
    vec![
        Arc::new(AccessReviews::new(authorizer, rbac.clone())),
        Arc::new(SelfReviews::new(rbac)),
        Arc::new(TokenReviews::new(tokens.clone(), others)),
        Arc::new(TokenRequests::new(tokens, env.clone())),
        Arc::new(Binding::new(env.clone())),
        Arc::new(Eviction::new(env.clone())),
        Arc::new(PodStreams::new(dialer.clone())),
        Arc::new(NodeProxy::new(dialer.clone())),
        Arc::new(EndpointProxy::new(dialer, env)),
    ]
}
