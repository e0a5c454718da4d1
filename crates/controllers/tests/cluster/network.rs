//! What nodes and Services are given: ranges of addresses, and addresses.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    core::v1::{Endpoints, Node, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::call;
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, start, start_with};

async fn nodes(cluster: &Cluster) -> Vec<Node> {
    Api::<Node>::all(cluster.client.clone()).list(&Default::default()).await.unwrap().items
}

/// The nodes' ranges, once each has one.
async fn ranges(cluster: &Cluster) -> Vec<(String, String)> {
    let of = |node: Node| Some((node.metadata.name?, node.spec?.pod_cidr?));
    cluster
        .eventually("each node's range", || async { nodes(cluster).await.into_iter().all(|node| of(node).is_some()) })
        .await;
    nodes(cluster).await.into_iter().filter_map(of).collect()
}

#[tokio::test]
async fn each_node_has_a_range_of_its_own() {
    let cluster = start(6).await;
    let before = ranges(&cluster).await;
    let distinct: BTreeSet<_> = before.iter().map(|(_, range)| range.clone()).collect();
    assert_eq!(distinct.len(), 6, "{before:?}");
    assert!(distinct.iter().all(|range| range.starts_with("10.244.") && range.ends_with(".0/24")), "{before:?}");
    let told = nodes(&cluster).await.into_iter().filter_map(|node| node.metadata.annotations);
    let told: Vec<_> = told.filter_map(|mut all| all.remove("knarr.dev/cluster-pod-cidr")).collect();
    assert_eq!(told, ["10.244.0.0/16"; 6]);

    // A node that comes later gets one that nobody has, nor had just now.
    let api = Api::<Node>::all(cluster.client.clone());
    api.delete("n3", &DeleteParams::default()).await.unwrap();
    cluster.add_node("later").await;
    let after = ranges(&cluster).await;
    let later = after.iter().find(|(name, _)| name == "later").unwrap();
    assert!(!distinct.contains(&later.1), "{later:?} of {before:?}");
}

async fn balancer(cluster: &Cluster, name: &str) {
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80}]}}))
        .await;
}

/// A Service's address, and the node that answers for it.
async fn answered(cluster: &Cluster, name: &str) -> Option<(String, String)> {
    let service = call::get::<Service>(&cluster.client, "default", name).await.unwrap()?;
    let node = service.metadata.annotations?.remove("knarr.dev/load-balancer-node")?;
    Some((service.status?.load_balancer?.ingress?.into_iter().next()?.ip?, node))
}

#[tokio::test]
async fn an_address_of_the_pool_moves_when_its_node_falls_silent() {
    let cluster = start_with(3, Some("192.0.2.200-192.0.2.201".parse().unwrap())).await;
    for name in ["one", "two", "three"] {
        balancer(&cluster, name).await;
    }
    let names = ["one", "two", "three"];
    let count = || async {
        let mut found = BTreeSet::new();
        for name in names {
            found.extend(answered(&cluster, name).await.map(|(ip, _)| ip));
        }
        found.len() == 2
    };
    cluster.eventually("both addresses are given out", count).await;
    let mut holders = Vec::new();
    for name in names {
        holders.extend(answered(&cluster, name).await.map(|(ip, node)| (name, ip, node)));
    }
    let [(first, ip, node), (second, ..)] = &holders[..] else { panic!("{holders:?}") };

    let lost = call::get::<Node>(&cluster.client, "", node).await.unwrap().unwrap();
    let silent = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    call::merge_subresource(&cluster.client, &lost, "status", silent).await.unwrap();
    cluster
        .eventually("another node answers", || async {
            answered(&cluster, first).await.is_some_and(|(same, other)| same == *ip && other != *node)
        })
        .await;

    // What one gives back is for the one that waits.
    let waiting = names.iter().find(|name| ![first, second].contains(name)).unwrap();
    let services = Api::<Service>::namespaced(cluster.client.clone(), "default");
    services.delete(first, &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("the address is given again", || async {
            answered(&cluster, waiting).await.is_some_and(|(given, _)| given == *ip)
        })
        .await;
}

#[tokio::test]
async fn hints_follow_the_service_and_the_labels_of_its_nodes() {
    let cluster = start(1).await;
    let client = &cluster.client;
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "v1"}]}});
    cluster.create(pod).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}], "trafficDistribution": "PreferSameNode"}});
    cluster.create(service).await;
    let becomes = |what: &'static str, expected: Value| {
        cluster.eventually(what, move || {
            let expected = expected.clone();
            async move {
                let slices = Api::<EndpointSlice>::namespaced(client.clone(), "default");
                let of_web = kube::api::ListParams::default().labels("kubernetes.io/service-name=web");
                let slices = slices.list(&of_web).await.unwrap().items;
                let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
                let seen: Vec<_> = endpoints.map(|endpoint| json!([endpoint.zone, endpoint.hints])).collect();
                seen == [expected]
            }
        })
    };
    becomes("a hint for the node alone", json!([null, {"forNodes": [{"name": "n0"}]}])).await;

    let node = call::get::<Node>(client, "", "n0").await.unwrap().unwrap();
    let zone = |zone: Value| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
    call::merge(client, &node, zone(json!("z"))).await.unwrap();
    let both = json!({"forZones": [{"name": "z"}], "forNodes": [{"name": "n0"}]});
    becomes("hints for node and zone", json!(["z", both])).await;

    let there = call::get::<Service>(client, "default", "web").await.unwrap().unwrap();
    let prefer = |distribution: Value| json!({"spec": {"trafficDistribution": distribution}});
    call::merge(client, &there, prefer(json!("PreferClose"))).await.unwrap();
    becomes("a hint for the zone alone", json!(["z", {"forZones": [{"name": "z"}]}])).await;
    call::merge(client, &node, zone(json!("y"))).await.unwrap();
    becomes("a hint for the other zone", json!(["y", {"forZones": [{"name": "y"}]}])).await;
    call::merge(client, &there, prefer(json!(null))).await.unwrap();
    becomes("no hints", json!(["y", null])).await;
}

#[tokio::test]
async fn endpoints_kept_by_hand_are_mirrored_while_they_are_there() {
    let cluster = start(1).await;
    let client = &cluster.client;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "default"},
        "spec": {"ports": [{"port": 80}]}});
    cluster.create(service).await;
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "db", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]});
    cluster.create(endpoints).await;
    let becomes = |what: &'static str, expected: Value| {
        cluster.eventually(what, move || {
            let expected = expected.clone();
            async move {
                let slices = Api::<EndpointSlice>::namespaced(client.clone(), "default");
                let of_db = kube::api::ListParams::default().labels("kubernetes.io/service-name=db");
                let slices = slices.list(&of_db).await.unwrap().items;
                let addresses = |slice: &EndpointSlice| -> Vec<_> {
                    slice.endpoints.iter().flatten().flat_map(|endpoint| endpoint.addresses.clone()).collect()
                };
                let port = |slice: &EndpointSlice| slice.ports.as_ref().and_then(|ports| ports.first()?.port);
                json!(slices.iter().map(|slice| json!([addresses(slice), port(slice)])).collect::<Vec<_>>()) == expected
            }
        })
    };
    becomes("the mirrored slice", json!([[["10.1.2.3"], 80]])).await;
    let there = call::get::<Endpoints>(client, "default", "db").await.unwrap().unwrap();
    let moved = json!({"subsets": [{"addresses": [{"ip": "10.2.3.4"}], "ports": [{"port": 81}]}]});
    call::merge(client, &there, moved).await.unwrap();
    becomes("the same slice, changed", json!([[["10.2.3.4"], 81]])).await;
    call::delete(client, &there, DeleteParams::default()).await.unwrap();
    becomes("no slice", json!([])).await;
}

#[tokio::test]
async fn endpoints_kept_by_hand_go_with_their_service_and_not_before_it_comes() {
    let cluster = start(0).await;
    let client = &cluster.client;
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "db", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": 80}]}]});
    cluster.create(endpoints).await;
    cluster.known::<Endpoints>("the Endpoints", "default", "db", |_| true).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "default"},
        "spec": {"ports": [{"port": 80}]}});
    cluster.create(service).await;
    cluster.known::<Service>("the Service", "default", "db", |_| true).await;
    let there = call::get::<Endpoints>(client, "default", "db").await.unwrap();
    assert!(there.is_some(), "they were there before the Service");
    Api::<Service>::namespaced(client.clone(), "default").delete("db", &DeleteParams::default()).await.unwrap();
    cluster
        .eventually("the Endpoints go", || async {
            call::get::<Endpoints>(client, "default", "db").await.unwrap().is_none()
        })
        .await;
}
