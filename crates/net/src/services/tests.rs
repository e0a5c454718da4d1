mod changes;
mod near;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use knarr_client::ObjectKey;
use knarr_os::net::nft::Nftables;
use serde_json::json;

use super::*;
use crate::{pods::PodNetworkHandle, testbed::*};

const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 7, 7);
const EXTERNAL_IP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 5);
const NODE_PORT: u16 = 30080;

/// A node with a client machine beside it, and its Service proxy.
struct Bed {
    outside: Space,
    node: Node,
    network: PodNetworkHandle,
    nftables: Arc<Nftables>,
    proxy: Proxy,
}

impl Bed {
    fn new() -> Self {
        let outside = Space::outside();
        let links = outside.links();
        let eth0 = links.get("eth0").unwrap().index;
        let route = |destination: Ipv4Addr| knarr_os::net::Route {
            gateway: Some(NODE_IP.into()),
            ..knarr_os::net::Route::new(destination.into(), 32, eth0)
        };
        links.change(|changes| changes.set_route(&route(EXTERNAL_IP))).unwrap();
        links.change(|changes| changes.set_route(&route(CLUSTER_IP))).unwrap();
        let node = Node::new();
        let (nftables, network) = (node.base.nftables.clone(), PodNetworkHandle(node.base.pods.clone()));
        let proxy = Proxy::open(nftables.clone(), site()).unwrap();
        Self { outside, node, network, nftables, proxy }
    }

    fn pods(&self, names: &[&str]) -> Vec<(Space, Ipv4Addr)> {
        names.iter().map(|name| pod(&self.network, name, 8080, Vec::new())).collect()
    }

    fn set(&mut self, view: &ServiceView) {
        let update = [(view.key.clone(), Some(Arc::new(view.clone())))];
        self.proxy.update(&update).unwrap_or_else(|error| panic!("{error:?}"));
    }
}

fn site() -> Site {
    Site { node: "node-a".into(), zone: Some("zone-a".into()), cluster_dns: [10, 96, 0, 10].into() }
}

/// A Service on every kind of address, over TCP and UDP.
fn service(endpoints: &[Ipv4Addr]) -> ServiceView {
    let port = |name: &str, protocol| ServicePort { name: name.into(), protocol, port: 80, node_port: Some(NODE_PORT) };
    let target = |name: &str, protocol| EndpointPort { name: name.into(), protocol, port: 8080 };
    let ports: Arc<[EndpointPort]> = Arc::new([target("t", 6), target("u", 17)]);
    ServiceView {
        key: ObjectKey::new("default", "web"),
        cluster_ips: vec![CLUSTER_IP.into()],
        headless: false,
        external_name: None,
        external_ips: vec![EXTERNAL_IP],
        balancer_ips: vec![EXTERNAL_IP],
        source_ranges: Vec::new(),
        ports: vec![port("t", 6), port("u", 17)],
        affinity_s: None,
        internal_local: false,
        external_local: false,
        health_port: None,
        publish_not_ready: false,
        proxied: true,
        endpoints: endpoints
            .iter()
            .map(|ip| Endpoint {
                ip: (*ip).into(),
                ports: ports.clone(),
                ready: true,
                serving: true,
                terminating: false,
                node: Some("node-a".into()),
                for_nodes: Vec::new(),
                for_zones: Vec::new(),
                hostname: None,
                pod: None,
            })
            .collect(),
    }
}

fn addresses(pods: &[(Space, Ipv4Addr)]) -> Vec<Ipv4Addr> {
    pods.iter().map(|(_, ip)| *ip).collect()
}

#[test]
fn every_way_in_leads_to_an_endpoint() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["a", "b"]);
        let (client, client_ip) = pod(&bed.network, "client", 8080, Vec::new());
        bed.set(&service(&addresses(&pods[..1])));
        let a = |peer: IpAddr| Answer { name: "a".into(), peer };
        let gateway = bed.node.config.gateway();

        type Ask = fn((Ipv4Addr, u16)) -> std::io::Result<Answer>;
        for ask in [ask_tcp as Ask, ask_udp] {
            // A pod's own address is what the endpoint sees.
            for to in [(CLUSTER_IP, 80), (EXTERNAL_IP, 80), (NODE_IP, NODE_PORT), (gateway, NODE_PORT)] {
                assert_eq!(client.run(|| ask(to).unwrap()), a(client_ip.into()), "pod to {to:?}");
            }
            for to in [(EXTERNAL_IP, 80), (NODE_IP, NODE_PORT), (CLUSTER_IP, 80)] {
                let answer = bed.outside.run(|| ask(to).unwrap());
                assert_ne!(answer.peer, IpAddr::from(CLIENT_IP), "masqueraded: the endpoint may be on another node");
                assert_eq!(answer.name, "a", "outside to {to:?}");
            }
            let loopback = Ipv4Addr::LOCALHOST;
            for to in [(CLUSTER_IP, 80), (EXTERNAL_IP, 80), (NODE_IP, NODE_PORT), (loopback, NODE_PORT)] {
                assert_eq!(ask(to).unwrap_or_else(|error| panic!("node to {to:?}: {error}")).name, "a");
            }
            // The pod itself through its own Service.
            assert_eq!(pods[0].0.run(|| ask((CLUSTER_IP, 80)).unwrap().name), "a");
            assert!(client.run(|| ask((CLUSTER_IP, 81))).is_err(), "a port that is not the Service's");
        }
    });
}

#[test]
fn a_process_of_the_node_can_be_an_endpoint() {
    on_node(|| {
        let mut bed = Bed::new();
        let (client, client_ip) = pod(&bed.network, "client", 8080, Vec::new());
        serve_here("api", 8080);
        bed.set(&service(&[NODE_IP]));
        assert_eq!(
            client.run(|| ask_tcp((CLUSTER_IP, 80)).unwrap()),
            Answer { name: "api".into(), peer: client_ip.into() }
        );
        assert_eq!(ask_tcp((CLUSTER_IP, 80)).unwrap().name, "api");
        assert_eq!(bed.outside.run(|| ask_tcp((NODE_IP, NODE_PORT)).unwrap().name), "api");
        assert_eq!(ask_tcp((Ipv4Addr::LOCALHOST, NODE_PORT)).unwrap().name, "api");
    });
}

#[test]
fn connections_are_spread_evenly() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["a", "b", "c", "d"]);
        bed.set(&service(&addresses(&pods)));
        let mut counts = BTreeMap::new();
        for _ in 0..800 {
            *counts.entry(ask_udp((CLUSTER_IP, 80)).unwrap().name).or_insert(0) += 1;
        }
        // 200 expected of each; the odds of a fair draw to be off by 75 are below one in a billion.
        assert!(counts.len() == 4 && counts.values().all(|count| (125..=275).contains(count)), "{counts:?}");
    });
}

#[test]
fn without_endpoints_clients_are_refused_at_once() {
    on_node(|| {
        let mut bed = Bed::new();
        let (client, _) = pod(&bed.network, "client", 8080, Vec::new());
        let pods = bed.pods(&["a"]);
        let all = [(CLUSTER_IP, 80), (EXTERNAL_IP, 80), (NODE_IP, NODE_PORT)];
        let refused = |answer: std::io::Result<Answer>| {
            answer.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
        };
        let check = |bed: &Bed, when: &str| {
            for to in all {
                assert!(refused(client.run(|| ask_tcp(to))), "{when}: pod to {to:?}");
                assert!(refused(client.run(|| ask_udp(to))), "{when}: pod to {to:?} by UDP");
                assert!(refused(bed.outside.run(|| ask_tcp(to))), "{when}: outside to {to:?}");
                assert!(refused(ask_tcp(to)), "{when}: node to {to:?}");
            }
        };
        bed.set(&service(&[]));
        check(&bed, "empty");
        bed.set(&service(&addresses(&pods)));
        assert_eq!(client.run(|| ask_tcp((EXTERNAL_IP, 80)).unwrap().name), "a");
        let mut not_ready = service(&addresses(&pods));
        not_ready.endpoints[0] = Endpoint { ready: false, serving: false, ..not_ready.endpoints[0].clone() };
        bed.set(&not_ready);
        check(&bed, "not ready");
    });
}

#[test]
fn ready_endpoints_come_before_terminating_ones() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["a", "b"]);
        let mut view = service(&addresses(&pods));
        view.endpoints[0] = Endpoint { ready: false, terminating: true, ..view.endpoints[0].clone() };
        bed.set(&view);
        let names = || (0..20).map(|_| ask_tcp((CLUSTER_IP, 80)).unwrap().name).collect::<BTreeSet<_>>();
        assert_eq!(names(), BTreeSet::from(["b".into()]));
        view.endpoints.truncate(1);
        bed.set(&view);
        assert_eq!(names(), BTreeSet::from(["a".into()]), "rather one that ends than none");
    });
}

#[test]
fn a_client_with_affinity_stays() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["a", "b", "c", "d"]);
        let clients = bed.pods(&["k", "l", "m", "n", "o", "p"]);
        let mut view = service(&addresses(&pods));
        view.affinity_s = Some(60);
        bed.set(&view);
        let ask = |client: &Space| {
            let names: BTreeSet<_> = (0..12).map(|_| client.run(|| ask_tcp((CLUSTER_IP, 80)).unwrap().name)).collect();
            assert_eq!(names.len(), 1, "{names:?}");
            names.into_iter().next().unwrap()
        };
        let before: Vec<_> = clients.iter().map(|(client, _)| ask(client)).collect();
        assert!(before.iter().collect::<BTreeSet<_>>().len() > 1, "clients are spread: {before:?}");

        let lost = before[0].clone();
        let index = ["a", "b", "c", "d"].iter().position(|name| *name == lost).unwrap();
        view.endpoints.remove(index);
        bed.set(&view);
        for ((client, _), before) in clients.iter().zip(&before) {
            let after = ask(client);
            assert!(if *before == lost { after != lost } else { after == *before }, "{before} then {after}");
        }
    });
}

#[test]
fn source_ranges_guard_the_load_balancer() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["a"]);
        let mut view = service(&addresses(&pods));
        let mut check = |ranges: &[&str], expected: bool| {
            view.source_ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
            bed.set(&view);
            assert_eq!(bed.outside.run(|| ask_tcp((EXTERNAL_IP, 80))).is_ok(), expected, "{ranges:?}");
            assert!(bed.outside.run(|| ask_tcp((NODE_IP, NODE_PORT))).is_ok(), "node ports have no guard");
            assert!(ask_tcp((EXTERNAL_IP, 80)).is_ok(), "nor has the node itself");
        };
        check(&["192.0.2.0/28"], true);
        check(&["10.0.0.0/8", "192.0.2.128/25"], false);
        check(&["10.0.0.0/8", "192.0.2.9/32"], true);
        check(&[], true);
    });
}

#[test]
fn views_read_the_api_with_its_defaults() {
    let service = |spec, status| -> k8s_openapi::api::core::v1::Service {
        serde_json::from_value(json!({"metadata": {"namespace": "n", "name": "s"}, "spec": spec, "status": status}))
            .unwrap()
    };
    let slice = serde_json::from_value(json!({
        "metadata": {}, "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
        "endpoints": [
            {"addresses": ["10.0.0.1"], "nodeName": "a", "hostname": "web-0", "targetRef": {"kind": "Pod", "name": "p"},
                "hints": {"forZones": [{"name": "y"}, {"name": "z"}], "forNodes": [{"name": "a"}]}},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["example.com"]},
        ],
    }));
    let spec = json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.3", "clusterIPs": ["10.96.0.3"], "externalTrafficPolicy": "Local",
        "externalIPs": ["1.2.3.4"], "loadBalancerSourceRanges": ["fd00::/8"], "sessionAffinity": "ClientIP", "ports": [{"name": "http", "port": 80, "nodePort": 31000}],
    });
    let status = json!({"loadBalancer": {"ingress": [{"ip": "5.6.7.8"}, {"ip": "9.9.9.9", "ipMode": "Proxy"}]}});
    let mut view = ServiceView::new(&service(spec, status), &[Arc::new(slice.unwrap())]);
    assert_eq!(view.cluster_ips, [IpAddr::from([10, 96, 0, 3])]);
    assert_eq!(view.external_ips, [Ipv4Addr::new(1, 2, 3, 4), Ipv4Addr::new(5, 6, 7, 8)]);
    assert_eq!((view.balancer_ips.len(), view.source_ranges.len()), (1, 1), "a list for the other family is a list");
    assert_eq!((view.affinity_s, view.external_local, view.headless), (Some(10800), true, false));
    let states: Vec<_> =
        view.endpoints.iter().map(|e| (e.ready, e.serving, e.terminating, e.hostname.as_deref())).collect();
    assert_eq!(states, [(true, true, false, Some("web-0")), (false, true, true, None)]);
    let hints: Vec<_> = view.endpoints.iter().map(|e| (e.for_nodes.join(","), e.for_zones.join(","))).collect();
    assert_eq!(hints, [("a".into(), "y,z".into()), (String::new(), String::new())]);
    view.end(|pod| pod == "p");
    assert_eq!(
        (view.endpoints[0].ready, view.endpoints[0].serving, view.endpoints[0].terminating),
        (false, true, true)
    );

    let headless = ServiceView::new(&service(json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!({})), &[]);
    assert!(headless.headless && headless.cluster_ips.is_empty());
    let named =
        ServiceView::new(&service(json!({"type": "ExternalName", "externalName": "example.org"}), json!({})), &[]);
    assert_eq!((named.external_name.as_deref(), named.headless), (Some("example.org"), false));
}

/// People look at their firewall with `nft list ruleset`, and Debian 12's aborts at what it does not expect.
#[test]
fn nft_prints_the_table() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["a", "b"]);
        let mut view = service(&addresses(&pods));
        view.external_local = true;
        bed.set(&view);
        view.key.name = "sticky".into();
        view.cluster_ips = vec![IpAddr::from([10, 96, 7, 8])];
        view.external_ips.clear();
        view.ports.iter_mut().for_each(|port| port.node_port = None);
        view.affinity_s = Some(60);
        bed.set(&view);
        ask_tcp(([10, 96, 7, 8].into(), 80)).unwrap();
        #[allow(clippy::disallowed_methods)] // what is tested is the other program
        let listed = std::process::Command::new("nft").args(["list", "ruleset"]).output();
        let listed = listed.expect("no nft: apt-get install nftables");
        let (text, errors) = (String::from_utf8_lossy(&listed.stdout), String::from_utf8_lossy(&listed.stderr));
        assert!(listed.status.success() && errors.is_empty(), "{}: {errors}", listed.status);
        for part in
            ["table ip knarr", "chain pick-all-address-2-sticky-60", "chain pick-outside-port-2", "map affinity"]
        {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    });
}
