//! What the API is told of drivers. Pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::Node,
        storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use knarr_client::meta;
use knarr_csi::messages::NodeGetInfoResponse;
use serde_json::{Value, json};

/// On a Node: how each driver calls it, as JSON.
const NODE_IDS: &str = "csi.volume.kubernetes.io/nodeid";

/// It goes with its node.
pub fn csi_node(node: &Node) -> CSINode {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: meta::name(&node.metadata).to_owned(),
        uid: meta::uid(&node.metadata).to_owned(),
        ..OwnerReference::default()
    };
    CSINode {
        metadata: ObjectMeta {
            name: node.metadata.name.clone(),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: CSINodeSpec { drivers: Vec::new() },
    }
}

pub fn entry(driver: &str, info: &NodeGetInfoResponse) -> CSINodeDriver {
    let keys = info.accessible_topology.iter().flat_map(|topology| topology.segments.keys().cloned());
    let keys: Vec<String> = keys.collect();
    let most = i32::try_from(info.max_volumes_per_node).unwrap_or(i32::MAX);
    CSINodeDriver {
        name: driver.to_owned(),
        node_id: info.node_id.clone(),
        topology_keys: (!keys.is_empty()).then_some(keys),
        allocatable: (most > 0).then_some(VolumeNodeResources { count: Some(most) }),
    }
}

/// What changes in a Node when a driver comes, or goes. Labels stay: volumes are tied to them.
pub fn node_with(
    node: &Node,
    driver: &str,
    id: Option<&str>,
    topology: &BTreeMap<String, String>,
) -> Result<Value, String> {
    for (key, value) in topology {
        if let Some(known) = meta::label(&node.metadata, key).filter(|known| known != value) {
            return Err(format!(
                "detected topology value collision: driver reported {key:?}:{value:?} but existing label is \
                 {key:?}:{known:?}"
            ));
        }
    }
    let written = meta::annotation(&node.metadata, NODE_IDS).unwrap_or("{}");
    let mut ids: BTreeMap<String, String> = serde_json::from_str(written)
        .map_err(|error| format!("failed to parse node's {NODE_IDS:?} annotation value ({written:?}) err={error}"))?;
    match id {
        Some(id) => ids.insert(driver.to_owned(), id.to_owned()),
        None => ids.remove(driver),
    };
    let ids = if ids.is_empty() { Value::Null } else { json!(json!(ids).to_string()) };
    Ok(json!({"metadata": {"labels": topology, "annotations": {NODE_IDS: ids}}}))
}
