//! For which node a directory is made, where no pod decides that. Pure.

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use knarr_api::volume::{self as rules, HOSTNAME};
use knarr_client::meta;

use super::claim::World;

/// The node that was chosen is no more.
#[derive(Debug, PartialEq, Eq)]
pub struct Gone;

/// The node to be written into the claim; none where one is there already, or has to be waited for.
pub fn choose(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    waits: bool,
    world: &World<'_>,
) -> Result<Option<String>, Gone> {
    if let Some(chosen) = rules::selected_node(claim) {
        let exists = world.nodes.iter().any(|node| meta::name(&node.metadata) == chosen);
        return if exists { Ok(None) } else { Err(Gone) };
    }
    if waits {
        return Ok(None);
    }
    let able = world.nodes.iter().filter(|node| takes_volumes(node) && is_allowed(class, node));
    let volumes_on = |node: &Node| {
        let host = hostname(node);
        world.volumes.iter().filter(|volume| is_on(volume, host)).count()
    };
    let fewest = able.min_by_key(|node| (volumes_on(node), meta::name(&node.metadata).to_owned()));
    Ok(fewest.map(|node| meta::name(&node.metadata).to_owned()))
}

/// Ready, not cordoned and without a taint that keeps pods away: a volume is of use only where pods can go.
pub fn takes_volumes(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let spec = node.spec.as_ref();
    let mut taints = spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        && spec.is_none_or(|spec| spec.unschedulable != Some(true))
        && taints.all(|taint| taint.effect == "PreferNoSchedule")
}

fn hostname(node: &Node) -> &str {
    meta::label(&node.metadata, HOSTNAME).unwrap_or_default()
}

fn is_allowed(class: &StorageClass, node: &Node) -> bool {
    let terms = class.allowed_topologies.as_deref().unwrap_or_default();
    terms.is_empty()
        || terms.iter().any(|term| {
            let mut wishes = term.match_label_expressions.iter().flatten();
            wishes.all(|wish| {
                meta::label(&node.metadata, &wish.key).is_some_and(|value| wish.values.iter().any(|one| one == value))
            })
        })
}

/// True where the volume says that it is on this host and no other.
fn is_on(volume: &PersistentVolume, host: &str) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    let terms = affinity.iter().flat_map(|selector| &selector.node_selector_terms);
    terms
        .flat_map(|term| term.match_expressions.iter().flatten())
        .any(|wish| wish.key == HOSTNAME && wish.operator == "In" && wish.values.as_deref() == Some(&[host.to_owned()]))
}
