use knarr_api::status::ApiError;
use serde_json::Value;

use crate::json::{items, text};

const DEFAULT_NODE_PORT: u16 = 10250;

/// Where a node's agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAddress {
    pub host: String,
    pub port: u16,
}

/// Reads a Node's status: its internal address first, and the port it announces.
pub fn node_address(node: &Value) -> Result<NodeAddress, ApiError> {
    let addresses = items(&node["status"]["addresses"]);
    let of_type = |wanted: &str| addresses.iter().find(|address| address["type"] == wanted);
    let host = ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"].into_iter().find_map(of_type);
    let Some(host) = host.map(|address| text(&address["address"])).filter(|host| !host.is_empty()) else {
        let name = crate::json::name(node);
        return Err(ApiError::internal(format!(
            "no preferred addresses found for node {name:?}; it has not reported yet"
        )));
    };
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    Ok(NodeAddress { host: host.to_owned(), port: port.unwrap_or(DEFAULT_NODE_PORT) })
}

/// Splits `[scheme:]name[:port]`, as the `proxy` subresource takes names: `web`, `web:http`, `https:web:8443`.
/// `None` where it is malformed.
pub fn split_name(id: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = id.split(':').collect();
    match parts.as_slice() {
        [name] => Some(("", *name, "")),
        [name, port] => Some(("", *name, *port)),
        [scheme @ ("" | "http" | "https"), name, port] => Some((*scheme, *name, *port)),
        _ => None,
    }
    .filter(|(_, name, _)| !name.is_empty())
}
