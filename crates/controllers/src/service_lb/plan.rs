//! Which addresses a Service's load balancer has. Pure.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service};
use knarr_client::{ObjectKey, meta};

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

/// True where the Service asks for the load balancer built in here.
pub fn is_ours(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS)
        && service.metadata.deletion_timestamp.is_none()
}

/// A protocol and a port.
type Port<'a> = (&'a str, i32);

/// The addresses that a Service has, and its ports on each.
pub fn claims(service: &Service) -> (Vec<&str>, BTreeSet<Port<'_>>) {
    if !is_ours(service) {
        return <_>::default();
    }
    let ingress = service.status.iter().flat_map(|status| status.load_balancer.iter());
    let ingress = ingress.flat_map(|balancer| balancer.ingress.iter().flatten());
    (ingress.filter_map(|ingress| ingress.ip.as_deref()).collect(), ports(service))
}

fn ports(service: &Service) -> BTreeSet<Port<'_>> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.map(|port| (port.protocol.as_deref().unwrap_or("TCP"), port.port)).collect()
}

/// Why an address is not to be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("port {port}/{protocol} of {address} is taken by the Service {holder}")]
pub struct Taken {
    address: String,
    protocol: String,
    port: i32,
    holder: ObjectKey,
}

/// What is to be done about a Service.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// The addresses to write; `None` where nothing is to change.
    pub ingress: Option<Vec<LoadBalancerIngress>>,
    /// Set where it has to wait for a port.
    pub taken: Option<Taken>,
}

pub fn ingress(service: &Service, nodes: &[Arc<Node>], services: &[Arc<Service>]) -> Outcome {
    let is_ours = is_ours(service);
    if !is_ours && service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer") {
        return Outcome::default();
    }
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let there = balancer.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default();
    let current = there.first().and_then(|ingress| ingress.ip.as_deref());
    let mut addresses: Vec<_> =
        if is_ours { nodes.iter().filter_map(|node| address(node)).collect() } else { Vec::new() };
    if is_ours && addresses.is_empty() && current.is_some() {
        // No node is Ready just now; taking the address away would help nobody.
        return Outcome::default();
    }
    // The address that clients know comes first: it stays as long as its node does.
    addresses.sort_unstable_by_key(|address| (Some(*address) != current, *address));
    let mut taken = None;
    let chosen = addresses.into_iter().find(|address| {
        let found = holder(service, address, Some(*address) == current, services);
        let is_free = found.is_none();
        taken = taken.take().or(found);
        is_free
    });
    let ingress = |ip: &str| LoadBalancerIngress {
        ip: Some(ip.to_owned()),
        ip_mode: Some("VIP".to_owned()),
        ..Default::default()
    };
    let wanted: Vec<_> = chosen.map(ingress).into_iter().collect();
    let is_waiting = wanted.is_empty();
    Outcome { ingress: (wanted != there).then_some(wanted), taken: taken.filter(|_| is_waiting) }
}

/// Who keeps a Service from an address. Where two came to hold the same port, the older one keeps it.
fn holder(service: &Service, address: &str, holds: bool, services: &[Arc<Service>]) -> Option<Taken> {
    let age = |service: &Service| (service.metadata.creation_timestamp.clone(), service.metadata.uid.clone());
    let wanted = ports(service);
    services.iter().find_map(|other| {
        let (theirs, ports) = claims(other);
        if other.metadata.uid == service.metadata.uid
            || !theirs.contains(&address)
            || holds && age(service) < age(other)
        {
            return None;
        }
        let (protocol, port) = *wanted.intersection(&ports).next()?;
        Some(Taken { address: address.into(), protocol: protocol.into(), port, holder: ObjectKey::of(&**other) })
    })
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
            let found = super::ingress(&service, &nodes, &[]).ingress;
            let found = found.map(|list| list.into_iter().map(|ingress| ingress.ip.unwrap()).collect::<Vec<_>>());
            let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(found, expected, "{kind} {class:?} {current:?}");
        }
    }

    fn balanced(name: &str, port: u16, created: &str, ip: Option<&str>) -> Arc<Service> {
        let ingress: Vec<_> = ip.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        let value = json!({"metadata": {"name": name, "namespace": "n", "uid": name, "creationTimestamp": created},
            "spec": {"type": "LoadBalancer", "ports": [{"port": port}]},
            "status": {"loadBalancer": {"ingress": ingress}}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_port_of_an_address_belongs_to_one() {
        let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        let (a, b) = (node("a", "True", "10.0.0.1"), node("b", "True", "10.0.0.2"));
        let holder = balanced("holder", 80, late, Some("10.0.0.1"));
        let ips = |outcome: &Outcome| -> Option<Vec<String>> {
            outcome.ingress.as_ref().map(|list| list.iter().flat_map(|ingress| ingress.ip.clone()).collect())
        };

        // However old, who comes second waits; where another node is free, it gets that one's address.
        let second = balanced("second", 80, early, None);
        let waits = super::ingress(&second, std::slice::from_ref(&a), &[holder.clone(), second.clone()]);
        assert_eq!(waits.ingress, None);
        let message = "port 80/TCP of 10.0.0.1 is taken by the Service n/holder";
        assert_eq!(waits.taken.unwrap().to_string(), message);
        let elsewhere = super::ingress(&second, &[a.clone(), b], &[holder.clone(), second.clone()]);
        assert_eq!((ips(&elsewhere), &elsewhere.taken), (Some(vec!["10.0.0.2".into()]), &None));

        // Another port is free.
        let other = balanced("other", 81, late, None);
        assert_eq!(
            ips(&super::ingress(&other, std::slice::from_ref(&a), std::slice::from_ref(&holder))),
            Some(vec!["10.0.0.1".into()])
        );

        // Of two that hold it, the younger one gives it up.
        let older = balanced("older", 80, early, Some("10.0.0.1"));
        let both = [holder.clone(), older.clone()];
        assert_eq!(super::ingress(&older, std::slice::from_ref(&a), &both), Outcome::default());
        assert_eq!(ips(&super::ingress(&holder, &[a], &both)), Some(vec![]));
    }
}
