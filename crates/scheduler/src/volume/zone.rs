//! Zones and regions that a volume has as labels: how volumes said where they are before they had a node affinity, and
//! some still do. Upstream's `VolumeZone`.
//! (<https://kubernetes.io/docs/reference/labels-annotations-taints/#topologykubernetesiozone>)

use k8s_openapi::api::core::v1::PersistentVolume;

use crate::terms::Labels;

/// Each label with its name of today.
const LABELS: [(&str, &str); 4] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("topology.kubernetes.io/region", "topology.kubernetes.io/region"),
];
/// Between the zones of a volume that is in several.
const DELIMITER: &str = "__";

/// What one label of a volume asks of a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Zone<'a> {
    key: &'static str,
    key_of_today: &'static str,
    any_of: Vec<&'a str>,
}

/// A label with an empty part says nothing.
pub(super) fn zones(volume: &PersistentVolume) -> impl Iterator<Item = Zone<'_>> {
    LABELS.into_iter().filter_map(|(key, key_of_today)| {
        let value = volume.metadata.labels.as_ref()?.get(key)?;
        let any_of: Vec<_> = value.split(DELIMITER).map(str::trim).collect();
        (!any_of.contains(&"")).then_some(Zone { key, key_of_today, any_of })
    })
}

/// True where the node is in all of these. A node without any such label is in a cluster without zones.
pub(super) fn is_in(zones: &[Zone<'_>], labels: &Labels) -> bool {
    let has_none = || !LABELS.iter().any(|(key, _)| labels.contains_key(*key));
    zones.is_empty()
        || has_none()
        || zones.iter().all(|zone| {
            let value = labels.get(zone.key).or_else(|| labels.get(zone.key_of_today));
            value.is_some_and(|value| zone.any_of.contains(&value.as_str()))
        })
}
