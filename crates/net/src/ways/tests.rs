use serde_json::json;

use super::*;
use crate::testbed::{Answer, CLIENT_IP, Machine, Space, Wire, ask_tcp, ask_udp, connect, on_node};

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// Behind a router.
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const ROUTER: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 254), Ipv4Addr::new(198, 51, 100, 254)];

fn node(name: &str, range: &str, ip: Ipv4Addr) -> Arc<Node> {
    let node = json!({"metadata": {"name": name}, "spec": {"podCIDR": range},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": ip}]}});
    Arc::new(serde_json::from_value(node).unwrap())
}

#[test]
fn neighbours_are_routed_to_and_others_are_tunnelled_to() {
    let range = |text: &str| text.parse::<Ipv4Cidr>().unwrap();
    let uplinks = vec![(2, range("192.0.2.0/24"), A), (3, range("192.0.0.0/16"), Ipv4Addr::new(192, 0, 9, 9))];
    let nodes = [
        node("a", "10.244.0.0/24", A),
        node("b", "10.244.1.0/24", B),
        node("far", "10.244.2.0/24", FAR),
        node("twin", "10.244.1.0/24", Ipv4Addr::new(192, 0, 2, 7)),
        node("new", "", Ipv4Addr::new(192, 0, 2, 8)),
        Arc::new(Node::default()),
    ];
    for (overlay, expected) in [
        (Overlay::Auto, vec![("b", Way::Link(2)), ("far", Way::Tunnel)]),
        (Overlay::Routes, vec![("b", Way::Link(2))]),
        (Overlay::Vxlan, vec![("b", Way::Tunnel), ("far", Way::Tunnel)]),
    ] {
        let found = plan(&nodes, "a", overlay, &uplinks);
        let found: Vec<_> = found.values().map(|peer| (&*peer.name, peer.way)).collect();
        assert_eq!(found, expected, "{overlay:?}");
    }
}

/// Brings a node's ways up to what the cluster is.
fn settle(machine: &Machine, nodes: &[Arc<Node>]) {
    machine.space.run(|| {
        let base = &machine.base;
        let peers = plan(nodes, &machine.config.node_name, machine.config.overlay, &uplinks(&base.links).unwrap());
        let own = base.ranges().unwrap().node;
        apply(&base.links, &machine.config, &own, base.mtu, &peers).unwrap_or_else(|error| panic!("{error:?}"));
    });
}

/// Pods of two nodes reach each other under their own addresses, and nodes reach each other's pods.
fn check_both_ways(a: &Machine, b: &Machine) {
    let (pod_a, ip_a) = a.pod("on-a", 80);
    let (pod_b, ip_b) = b.pod("on-b", 80);
    for ask in [ask_tcp, ask_udp] {
        assert_eq!(pod_a.run(|| ask((ip_b, 80)).unwrap()), Answer { name: "on-b".into(), peer: ip_a.into() });
        assert_eq!(pod_b.run(|| ask((ip_a, 80)).unwrap()), Answer { name: "on-a".into(), peer: ip_b.into() });
        assert_eq!(a.space.run(|| ask((ip_b, 80)).unwrap().name), "on-b");
        assert_eq!(b.space.run(|| ask((ip_a, 80)).unwrap().name), "on-a");
    }
    // More than one packet's worth, both ways: nothing on the way is too narrow.
    let mut stream = pod_a.run(|| connect((ip_b, 80)).1);
    crate::testbed::echo(&mut stream, 200_000);
}

#[test]
fn pods_of_neighbours_reach_each_other() {
    on_node(|| {
        let wire = Wire::new();
        let a = Machine::new("a", &wire, A, None, "10.244.0.0/24", Overlay::Auto);
        let b = Machine::new("b", &wire, B, None, "10.244.1.0/24", Overlay::Auto);
        let nodes = [node("a", "10.244.0.0/24", A), node("b", "10.244.1.0/24", B)];
        settle(&a, &nodes);
        settle(&b, &nodes);
        check_both_ways(&a, &b);
        let links = a.space.links();
        assert!(links.find(TUNNEL_LINK).unwrap().is_none());

        // A pod is known outside by its node's address.
        let outside = Space::new();
        wire.plug(&outside, "eth0", CLIENT_IP);
        outside.serve("world", 81);
        let (pod, _) = a.pod("another", 80);
        assert_eq!(pod.run(|| ask_tcp((CLIENT_IP, 81)).unwrap().peer), IpAddr::from(A));

        // The node gets another address, then another range, and goes.
        let routes = || {
            let routes = links.routes().unwrap().into_iter().filter(|route| route.protocol == ROUTE_PROTOCOL);
            routes.map(|route| format!("{} by {}", route.destination, route.gateway.unwrap())).collect::<Vec<_>>()
        };
        settle(&a, &[node("b", "10.244.1.0/24", Ipv4Addr::new(192, 0, 2, 3))]);
        assert_eq!(routes(), ["10.244.1.0 by 192.0.2.3"]);
        settle(&a, &[node("b", "10.244.7.0/24", B)]);
        assert_eq!(routes(), ["10.244.7.0 by 192.0.2.2"]);
        // What the kernel lost with its link comes back.
        let eth0 = links.get("eth0").unwrap().index;
        links.change(|changes| changes.set_down(eth0)).unwrap();
        links.change(|changes| changes.set_up(eth0)).unwrap();
        assert!(routes().is_empty());
        settle(&a, &[node("b", "10.244.7.0/24", B)]);
        assert_eq!(routes(), ["10.244.7.0 by 192.0.2.2"]);
        settle(&a, &[]);
        assert!(routes().is_empty());

        settle(&a, &nodes);
        a.space.run(|| crate::reset(&a.config.data_dir).unwrap());
        assert!(routes().is_empty());
    });
}

#[test]
fn pods_behind_a_router_are_reached_by_a_tunnel() {
    on_node(|| {
        let (near, far, router) = (Wire::new(), Wire::new(), Space::new());
        router.up();
        near.plug(&router, "near", ROUTER[0]);
        far.plug(&router, "far", ROUTER[1]);
        router.run(|| sysctl::write("ipv4/ip_forward", "1").unwrap());
        let a = Machine::new("a", &near, A, Some(ROUTER[0]), "10.244.0.0/24", Overlay::Auto);
        let b = Machine::new("b", &far, FAR, Some(ROUTER[1]), "10.244.1.0/24", Overlay::Auto);
        let nodes = [node("a", "10.244.0.0/24", A), node("b", "10.244.1.0/24", FAR)];
        for _ in 0..2 {
            settle(&a, &nodes);
            settle(&b, &nodes);
        }
        check_both_ways(&a, &b);
        let links = a.space.links();
        let tunnel = links.get(TUNNEL_LINK).unwrap();
        assert_eq!(tunnel.mtu, 1450);

        // The far node comes nearer, under the same name: no trace of the tunnel is left.
        settle(&a, &[node("b", "10.244.1.0/24", Ipv4Addr::new(198, 51, 100, 7))]);
        let machine = |machine: Ipv4Addr| vec![Forwarding { mac: tunnel_mac("b"), machine: machine.into() }];
        assert_eq!(links.forwardings(tunnel.index).unwrap(), machine(Ipv4Addr::new(198, 51, 100, 7)));
        settle(&a, &[node("c", "10.244.2.0/24", FAR)]);
        let neighbour = Neighbour { ip: [10, 244, 2, 0].into(), mac: tunnel_mac("c") };
        assert_eq!(links.neighbours(tunnel.index).unwrap(), [neighbour]);
        assert_eq!(links.forwardings(tunnel.index).unwrap().len(), 1);
        settle(&a, &[node("b", "10.244.1.0/24", B)]);
        assert!(links.find(TUNNEL_LINK).unwrap().is_none());
    });
}

#[test]
fn neighbours_may_be_tunnelled_to_as_well() {
    on_node(|| {
        let wire = Wire::new();
        let a = Machine::new("a", &wire, A, None, "10.244.0.0/24", Overlay::Vxlan);
        let b = Machine::new("b", &wire, B, None, "10.244.1.0/24", Overlay::Vxlan);
        let nodes = [node("a", "10.244.0.0/24", A), node("b", "10.244.1.0/24", B)];
        settle(&a, &nodes);
        settle(&b, &nodes);
        check_both_ways(&a, &b);
        let (pod, _) = a.pod("narrow", 80);
        assert_eq!(pod.links().get("eth0").unwrap().mtu, 1450, "no packet has to be cut");
    });
}
