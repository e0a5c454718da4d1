//! Names and owners of objects, as controllers ask for them.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// On a Node and on its certificate requests: which machine it is, so that a second one of the same name is noticed.
pub const MACHINE: &str = "knarr.dev/machine";
/// On a Node, in seconds: how long the cluster waits for a silent node. Its agent renews its Lease to fit.
pub const LEASE_DURATION: &str = "knarr.dev/lease-duration-seconds";

/// Namespace (empty for cluster-scoped objects) and name: what work queues carry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    pub namespace: String,
    pub name: String,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn of<K: kube::Resource>(object: &K) -> Self {
        Self::of_meta(object.meta())
    }

    pub fn of_meta(meta: &ObjectMeta) -> Self {
        Self::new(namespace(meta), name(meta))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// What those work on who bind claims to volumes or make volumes for them: either side of a binding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BindingKey {
    Claim(ObjectKey),
    Volume(String),
}

impl fmt::Display for BindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(key) => write!(f, "claim {key}"),
            Self::Volume(name) => write!(f, "volume {name}"),
        }
    }
}

pub fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

pub fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

pub fn uid(meta: &ObjectMeta) -> &str {
    meta.uid.as_deref().unwrap_or_default()
}

/// Which of the versions of objects of one resource is newer can be seen by their numbers; 0 where it has none yet.
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions>)
pub fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The zone that a Node is in. An empty label names none, and would be no name for a hint either.
pub fn zone(node: &ObjectMeta) -> Option<&str> {
    label(node, "topology.kubernetes.io/zone").filter(|zone| !zone.is_empty())
}

/// The owner that manages the object, at most one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

pub fn is_controlled_by(meta: &ObjectMeta, owner_uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == owner_uid)
}

/// The reference that makes `owner` the controller of a new object.
pub fn controller_reference<K: kube::Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: name(owner.meta()).to_owned(),
        uid: uid(owner.meta()).to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

pub fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|f| f == finalizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_label_names_no_zone() {
        for (value, expected) in [(None, None), (Some(""), None), (Some("z"), Some("z"))] {
            let label = |value: &str| ("topology.kubernetes.io/zone".to_owned(), value.to_owned());
            let labels = value.map(|value| [label(value)].into());
            assert_eq!(zone(&ObjectMeta { labels, ..ObjectMeta::default() }), expected, "{value:?}");
        }
    }

    #[test]
    fn versions_are_numbers() {
        for (text, expected) in [(None, 0), (Some("9"), 9), (Some("10"), 10), (Some("x"), 0)] {
            let resource_version = text.map(str::to_owned);
            assert_eq!(version(&ObjectMeta { resource_version, ..ObjectMeta::default() }), expected, "{text:?}");
        }
    }
}
