//! Pods as whoever follows all of them reads them. There are more pods than anything else, and most of one is what only
//! its node acts on: as the API's own type a pod takes 9 KB of memory, as this one a fourth of it, and what is not kept
//! is passed over while it is read.
//!
//! Names and shapes are the API's, so that code reads the same with either type. Nobody writes one of these back whole.

mod container;
mod metadata;
mod volume;

use std::{borrow::Cow, collections::BTreeMap};

use k8s_openapi::{
    api::core::v1::{
        Affinity, PodCondition, PodIP, PodResourceClaim, PodResourceClaimStatus, PodSchedulingGate,
        ResourceRequirements, Toleration, TopologySpreadConstraint,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};
use kube::Resource;
use serde::{Deserialize, Deserializer, Serialize};

use crate::informer::Object;
pub use container::{Container, ContainerPort, ContainerStatus};
pub use volume::Volume;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Pod {
    #[serde(default, deserialize_with = "metadata::read")]
    pub metadata: ObjectMeta,
    pub spec: Option<PodSpec>,
    pub status: Option<PodStatus>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    pub active_deadline_seconds: Option<i64>,
    pub affinity: Option<Box<Affinity>>,
    #[serde(default, deserialize_with = "exact")]
    pub containers: Vec<Container>,
    #[serde(default, deserialize_with = "exact_some")]
    pub init_containers: Option<Vec<Container>>,
    pub host_network: Option<bool>,
    pub hostname: Option<String>,
    pub subdomain: Option<String>,
    pub node_name: Option<String>,
    pub node_selector: Option<BTreeMap<String, String>>,
    pub overhead: Option<BTreeMap<String, Quantity>>,
    pub preemption_policy: Option<String>,
    pub priority: Option<i32>,
    pub priority_class_name: Option<String>,
    #[serde(default, deserialize_with = "exact_some")]
    pub resource_claims: Option<Vec<PodResourceClaim>>,
    pub resources: Option<Box<ResourceRequirements>>,
    pub scheduler_name: Option<String>,
    pub scheduling_gates: Option<Vec<PodSchedulingGate>>,
    #[serde(default, deserialize_with = "exact_some")]
    pub tolerations: Option<Vec<Toleration>>,
    #[serde(default, deserialize_with = "exact_some")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Those that are claims.
    #[serde(default, deserialize_with = "volume::claims")]
    pub volumes: Option<Vec<Volume>>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    #[serde(default, deserialize_with = "exact_some")]
    pub conditions: Option<Vec<PodCondition>>,
    #[serde(default, deserialize_with = "exact_some")]
    pub container_statuses: Option<Vec<ContainerStatus>>,
    #[serde(default, deserialize_with = "exact_some")]
    pub init_container_statuses: Option<Vec<ContainerStatus>>,
    pub message: Option<String>,
    pub nominated_node_name: Option<String>,
    pub phase: Option<String>,
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    #[serde(rename = "podIPs", default, deserialize_with = "exact_some")]
    pub pod_ips: Option<Vec<PodIP>>,
    pub reason: Option<String>,
    #[serde(default, deserialize_with = "exact_some")]
    pub resource_claim_statuses: Option<Vec<PodResourceClaimStatus>>,
    pub start_time: Option<Time>,
}

/// A list without the room to grow that reading it one by one leaves: up to three more of its elements.
fn exact<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(exact_some(deserializer)?.unwrap_or_default())
}

fn exact_some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    let mut list = Option::<Vec<T>>::deserialize(deserializer)?;
    if let Some(list) = &mut list {
        list.shrink_to_fit();
    }
    Ok(list)
}

impl Object for Pod {
    const LEAN: bool = true;
}

impl Resource for Pod {
    type DynamicType = ();
    type Scope = k8s_openapi::NamespaceResourceScope;

    fn kind(_: &()) -> Cow<'_, str> {
        "Pod".into()
    }
    fn group(_: &()) -> Cow<'_, str> {
        "".into()
    }
    fn version(_: &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural(_: &()) -> Cow<'_, str> {
        "pods".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests;
