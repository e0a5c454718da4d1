//! Which addresses a Service's load balancer has. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service};
use knarr_client::meta;

/// Takes a node out of load balancing.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The class by which the load balancer built in here can be asked for; no class means it too.
const CLASS: &str = "knarr.dev/node";

/// The address of a node that is Ready: its external one, else its internal one.
pub fn address(node: &Node) -> Option<&str> {
    let status = node.status.as_ref()?;
    let ready =
        status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let excluded = meta::label(&node.metadata, EXCLUDED).is_some() || node.metadata.deletion_timestamp.is_some();
    let of_type = |kind| status.addresses.iter().flatten().find(|address| address.type_ == kind);
    let address = of_type("ExternalIP").or_else(|| of_type("InternalIP"))?;
    (ready && !excluded).then_some(address.address.as_str())
}

/// The addresses to write; `None` where nothing is to change.
pub fn ingress(service: &Service, nodes: &[Arc<Node>]) -> Option<Vec<LoadBalancerIngress>> {
    let spec = service.spec.as_ref()?;
    let is_ours = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS)
        && service.metadata.deletion_timestamp.is_none();
    let there =
        service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.clone()).unwrap_or_default();
    if spec.type_.as_deref() == Some("LoadBalancer") && !is_ours {
        return None;
    }
    let current = there.first().and_then(|ingress| ingress.ip.as_deref());
    let mut addresses: Vec<_> =
        if is_ours { nodes.iter().filter_map(|node| address(node)).collect() } else { Vec::new() };
    addresses.sort_unstable();
    // The address that clients know stays as long as its node does.
    let chosen = addresses.iter().copied().find(|address| Some(*address) == current).or(addresses.first().copied());
    if is_ours && chosen.is_none() && current.is_some() {
        // No node is Ready just now; taking the address away would help nobody.
        return None;
    }
    let ingress = |ip: &str| LoadBalancerIngress {
        ip: Some(ip.to_owned()),
        ip_mode: Some("VIP".to_owned()),
        ..Default::default()
    };
    let wanted: Vec<_> = chosen.map(ingress).into_iter().collect();
    (wanted != there).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, ready: &str, address: &str) -> Arc<Node> {
        let value = json!({"metadata": {"name": name}, "status": {
            "conditions": [{"type": "Ready", "status": ready}], "addresses": [{"type": "InternalIP", "address": address}]}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn table() {
        let (a, b, gone) =
            (node("a", "True", "10.0.0.1"), node("b", "True", "10.0.0.2"), node("a", "Unknown", "10.0.0.1"));
        for (kind, class, current, nodes, expected) in [
            ("LoadBalancer", None, None, vec![&b, &a], Some(vec!["10.0.0.1"])),
            ("LoadBalancer", None, Some("10.0.0.2"), vec![&a, &b], None),
            ("LoadBalancer", None, Some("10.0.0.1"), vec![&gone, &b], Some(vec!["10.0.0.2"])),
            ("LoadBalancer", None, Some("10.0.0.1"), vec![&gone], None),
            ("LoadBalancer", None, None, vec![], None),
            ("LoadBalancer", Some("other/class"), None, vec![&a], None),
            ("LoadBalancer", Some("other/class"), Some("192.0.2.1"), vec![&a], None),
            ("ClusterIP", None, None, vec![&a], None),
            ("ClusterIP", None, Some("10.0.0.1"), vec![&a], Some(vec![])),
        ] {
            let ingress: Vec<_> = current.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
            let service: Service = serde_json::from_value(json!({"metadata": {"name": "s"},
                "spec": {"type": kind, "loadBalancerClass": class}, "status": {"loadBalancer": {"ingress": ingress}}}))
            .unwrap();
            let nodes: Vec<_> = nodes.into_iter().cloned().collect();
            let found = super::ingress(&service, &nodes);
            let found = found.map(|list| list.into_iter().map(|ingress| ingress.ip.unwrap()).collect::<Vec<_>>());
            let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(found, expected, "{kind} {class:?} {current:?}");
        }
    }
}
