use knarr_api::status::ApiError;
use serde_json::Value;

use crate::Env;
use crate::builtin;
use crate::contract::Lookup;
use crate::json::{items, text};

/// One ready endpoint behind a Service's port, which goes by its name or number.
pub fn service_endpoint(
    lookup: &dyn Lookup,
    namespace: &str,
    service: &Value,
    port: &str,
    env: &Env,
) -> Result<(String, u16), ApiError> {
    let name = crate::json::name(service);
    let ports = items(&service["spec"]["ports"]);
    let wanted = match port {
        "" if ports.len() == 1 => ports.first(),
        "" => ports.iter().find(|p| text(&p["name"]).is_empty()),
        port => ports.iter().find(|p| p["name"] == port || p["port"].as_u64().is_some_and(|n| Ok(n) == port.parse())),
    };
    let no_port = || ApiError::service_unavailable(format!("no service port {port:?} found for service {name:?}"));
    let port_name = text(&wanted.ok_or_else(no_port)?["name"]);

    let mut candidates = Vec::new();
    for slice in lookup.list(builtin::endpoint_slices(), namespace) {
        let slice = slice.value();
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != name {
            continue;
        }
        let port = items(&slice["ports"]).iter().find(|p| text(&p["name"]) == port_name);
        let Some(port) = port.and_then(|p| p["port"].as_u64()).and_then(|p| u16::try_from(p).ok()) else { continue };
        for endpoint in items(&slice["endpoints"]) {
            if endpoint["conditions"]["ready"] != false
                && let Some(address) = items(&endpoint["addresses"]).first()
            {
                candidates.push((text(address).to_owned(), port));
            }
        }
    }
    if candidates.is_empty() {
        return Err(ApiError::service_unavailable(format!("no endpoints available for service {name:?}")));
    }
    Ok(candidates.swap_remove(env.random() as usize % candidates.len()))
}
