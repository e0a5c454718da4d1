use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;

use crate::builtin;
use crate::contract::{Lookup, Response, SubresourceHandler, SubresourceRequest};
use crate::proxy::{Dialer, Forward, forward, node_address, split_name};

/// Everything a node serves on its port: `nodes/proxy`.
pub struct NodeProxy {
    dialer: Dialer,
}

impl NodeProxy {
    pub fn new(dialer: Dialer) -> Self {
        Self { dialer }
    }
}

#[async_trait]
impl SubresourceHandler for NodeProxy {
    fn serves(&self) -> &'static [&'static str] {
        &["nodes/proxy"]
    }

    async fn handle(&self, lookup: Arc<dyn Lookup>, request: SubresourceRequest) -> Result<Response, ApiError> {
        let SubresourceRequest { name, rest, request, .. } = request;
        let malformed = || ApiError::bad_request(format!("invalid node request {name:?}"));
        let (_, node, port) = split_name(&name).ok_or_else(malformed)?;
        let found = lookup.get_fresh(builtin::nodes(), "", node).await?;
        let found = found.ok_or_else(|| ApiError::not_found("nodes", node))?;
        let mut address = node_address(&found.value())?;
        if !port.is_empty() {
            let wanted = port.parse().map_err(|_| malformed())?;
            // The API server's certificate opens the agent's port, and no other one of the machine.
            if address.port != wanted {
                return Err(ApiError::bad_request(format!("node {node} serves its API on port {} only", address.port)));
            }
            address.port = wanted;
        }
        let sender =
            self.dialer.node(&address.host, address.port).await.map_err(|error| {
                ApiError::service_unavailable(format!("error trying to reach node {node}: {error}"))
            })?;
        let target = super::service_proxy::target(&rest, request.uri().query());
        let host = format!("{}:{}", address.host, address.port);
        forward(sender, request, Forward { target, host, errors_as_status: false }).await
    }
}
