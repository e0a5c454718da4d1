//! An object's metadata without what clients keep there for themselves.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use knarr_api::apply::LAST_APPLIED;
use serde::{Deserialize, Deserializer};

/// All but who manages which field.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    #[serde(deserialize_with = "super::exact_some")]
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    uid: Option<String>,
}

pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let mut kept = Option::<Kept>::deserialize(deserializer)?.unwrap_or_default();
    if let Some(annotations) = &mut kept.annotations {
        annotations.remove(LAST_APPLIED);
    }
    Ok(ObjectMeta {
        annotations: kept.annotations.filter(|annotations| !annotations.is_empty()),
        creation_timestamp: kept.creation_timestamp,
        deletion_grace_period_seconds: kept.deletion_grace_period_seconds,
        deletion_timestamp: kept.deletion_timestamp,
        finalizers: kept.finalizers,
        generate_name: kept.generate_name,
        generation: kept.generation,
        labels: kept.labels,
        managed_fields: None,
        name: kept.name,
        namespace: kept.namespace,
        owner_references: kept.owner_references,
        resource_version: kept.resource_version,
        self_link: None,
        uid: kept.uid,
    })
}
