//! Services: defaults, what a change of type carries along, and validation. Addresses and node ports are handed out
//! by the API server's allocators, not here.
//! (<https://kubernetes.io/docs/reference/kubernetes-api/service-resources/service-v1/>)

mod defaults;
#[cfg(test)]
mod tests;
mod update;
mod validate;

use serde_json::{Value, json};

use super::rules::{Generation, Rules};
use crate::{meta::NameRule, value::text};

pub(super) static SERVICE: Rules = Rules {
    name_rule: NameRule::Dns1035,
    initial_status: Some(|| json!({"loadBalancer": {}})),
    generation: Generation::Never,
    default: defaults::default,
    update: update::carry_over,
    validate: validate::service,
    validate_update: update::validate,
    fields: &["spec.clusterIP", "spec.type"],
    create_on_update: true,
    ..Rules::WITH_STATUS
};

/// True where the type gives the Service a cluster address (or `None`, for a headless one).
pub(super) fn has_cluster_ip(spec: &Value) -> bool {
    matches!(text(&spec["type"]), "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// True where the ports may be open on nodes.
pub(super) fn may_have_node_ports(spec: &Value) -> bool {
    match text(&spec["type"]) {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

pub(super) fn is_external(spec: &Value) -> bool {
    matches!(text(&spec["type"]), "NodePort" | "LoadBalancer")
}
