//! For whom an endpoint is meant: what `spec.trafficDistribution` of a Service asks, as hints that proxies follow. Pure.
//! (<https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-distribution>)

use k8s_openapi::api::{
    core::v1::Service,
    discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone},
};

/// The annotations, the present and the former one, that ask for shares by the zones' CPUs.
const TOPOLOGY_MODE: [&str; 2] = ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];

/// How close to its client a Service wants the endpoint to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closeness {
    Anywhere,
    SameZone,
    SameNode,
}

impl Closeness {
    /// `PreferClose` is the older name of `PreferSameZone`. Where one of the annotations asks for shares by CPUs, it
    /// comes first, as in Kubernetes: such shares are not made here, so nobody is preferred.
    pub fn of(service: &Service) -> Self {
        let annotations = service.metadata.annotations.as_ref();
        let mode = TOPOLOGY_MODE.iter().find_map(|name| annotations?.get(*name));
        if mode.is_some_and(|mode| mode == "Auto" || mode == "auto") {
            return Self::Anywhere;
        }
        match service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref()) {
            Some("PreferClose" | "PreferSameZone") => Self::SameZone,
            Some("PreferSameNode") => Self::SameNode,
            _ => Self::Anywhere,
        }
    }

    /// The hints of an endpoint: its own zone, and its own node. One that is not ready has none, for proxies count
    /// only the ready ones.
    pub fn hints(self, endpoint: &Endpoint) -> Option<EndpointHints> {
        let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true);
        if self == Self::Anywhere || !is_ready {
            return None;
        }
        let zone = endpoint.zone.clone().map(|name| vec![ForZone { name }]);
        let node = endpoint.node_name.clone().filter(|_| self == Self::SameNode).map(|name| vec![ForNode { name }]);
        (zone.is_some() || node.is_some()).then_some(EndpointHints { for_zones: zone, for_nodes: node })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_a_service_asks_for() {
        let check = |distribution: Value, annotations: Value, expected| {
            let value =
                json!({"metadata": {"annotations": annotations}, "spec": {"trafficDistribution": distribution}});
            let service: Service = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(Closeness::of(&service), expected, "{value}");
        };
        check(json!(null), json!(null), Closeness::Anywhere);
        check(json!("PreferClose"), json!(null), Closeness::SameZone);
        check(json!("PreferSameZone"), json!({"a": "b"}), Closeness::SameZone);
        check(json!("PreferSameNode"), json!({TOPOLOGY_MODE[1]: "Disabled"}), Closeness::SameNode);
        check(json!("PreferSameNode"), json!({TOPOLOGY_MODE[1]: "Auto"}), Closeness::Anywhere);
        check(json!("PreferSameZone"), json!({TOPOLOGY_MODE[0]: "auto"}), Closeness::Anywhere);
        check(json!("Elsewhere"), json!(null), Closeness::Anywhere);
    }

    #[test]
    fn what_an_endpoint_is_hinted_for() {
        let check = |closeness: Closeness, ready: bool, zone: Value, node: Value, expected: Value| {
            let value =
                json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "zone": zone, "nodeName": node});
            let endpoint: Endpoint = serde_json::from_value(value.clone()).unwrap();
            let hints = serde_json::to_value(closeness.hints(&endpoint)).unwrap();
            assert_eq!(hints, expected, "{closeness:?} {value}");
        };
        let (z, n) = (json!("z"), json!("n"));
        let (for_z, for_n) = (json!([{"name": "z"}]), json!([{"name": "n"}]));
        check(Closeness::Anywhere, true, z.clone(), n.clone(), json!(null));
        check(Closeness::SameZone, true, z.clone(), n.clone(), json!({"forZones": for_z}));
        check(Closeness::SameNode, true, z.clone(), n.clone(), json!({"forZones": for_z, "forNodes": for_n}));
        check(Closeness::SameZone, true, json!(null), n.clone(), json!(null));
        check(Closeness::SameNode, true, json!(null), n.clone(), json!({"forNodes": for_n}));
        check(Closeness::SameNode, true, z.clone(), json!(null), json!({"forZones": for_z}));
        check(Closeness::SameNode, false, z, n, json!(null));
    }
}
