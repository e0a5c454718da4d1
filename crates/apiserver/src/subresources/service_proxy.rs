use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::Value;

use crate::Env;
use crate::contract::{Lookup, Response, SubresourceHandler, SubresourceRequest};
use crate::json::{items, text};
use crate::proxy::{Dialer, Forward, forward, service_endpoint, split_name};

/// HTTP to a pod or to one of a Service's endpoints: `pods/proxy` and `services/proxy`.
pub struct EndpointProxy {
    dialer: Dialer,
    env: Env,
}

impl EndpointProxy {
    pub fn new(dialer: Dialer, env: Env) -> Self {
        Self { dialer, env }
    }
}

/// The path and query to ask for.
pub(super) fn target(rest: &str, query: Option<&str>) -> String {
    let path = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    match query.filter(|query| !query.is_empty()) {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

/// A pod listens where the request says, or else on its first declared port.
fn pod_endpoint(pod: &Value, port: &str) -> Result<(String, u16), ApiError> {
    let address = text(&pod["status"]["podIP"]);
    if address.is_empty() {
        return Err(ApiError::bad_request("address not allowed: the pod has no IP address yet"));
    }
    let declared = || items(&pod["spec"]["containers"]).iter().flat_map(|container| items(&container["ports"]));
    let number = |port: &Value| port["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok());
    let port = match port {
        "" => declared().find_map(number).or(Some(80)),
        port => port.parse().ok().or_else(|| declared().find(|p| p["name"] == port).and_then(number)),
    };
    let port =
        port.ok_or_else(|| ApiError::bad_request("invalid pod port: it is no number and no container names it"))?;
    Ok((address.to_owned(), port))
}

#[async_trait]
impl SubresourceHandler for EndpointProxy {
    fn serves(&self) -> &'static [&'static str] {
        &["pods/proxy", "services/proxy"]
    }

    async fn handle(&self, lookup: Arc<dyn Lookup>, request: SubresourceRequest) -> Result<Response, ApiError> {
        let SubresourceRequest { resource, namespace, name: id, rest, request, .. } = request;
        let malformed = || ApiError::bad_request(format!("invalid {} request {id:?}", resource.singular));
        let (scheme, name, port) = split_name(&id).ok_or_else(malformed)?;
        let found = lookup.get_fresh(resource, &namespace, name).await?;
        let object = found.ok_or_else(|| ApiError::not_found(resource.plural, name))?.value();
        let (address, port) = match resource.plural {
            "pods" => pod_endpoint(&object, port)?,
            _ => service_endpoint(&*lookup, &namespace, &object, port, &self.env)?,
        };
        let sender = self
            .dialer
            .endpoint(scheme == "https", &address, port)
            .await
            .map_err(|error| ApiError::service_unavailable(format!("error trying to reach service: {error}")))?;
        let to = Forward {
            target: target(&rest, request.uri().query()),
            host: if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") },
            errors_as_status: false,
        };
        forward(sender, request, to).await
    }
}
