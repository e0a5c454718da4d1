//! The ranges that Services' addresses are of, and the object that each address has.

use k8s_openapi::api::{
    core::v1::{Event, Service},
    networking::v1::{IPAddress, ServiceCIDR},
};
use knarr_client::{call, meta};
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, start};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

async fn service(cluster: &Cluster, name: &str, ip: Option<&str>) -> String {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": ip, "ports": [{"port": 80}]}});
    cluster.create(service).await;
    let made = call::get::<Service>(&cluster.client, "default", name).await.unwrap().unwrap();
    made.spec.unwrap().cluster_ip.unwrap()
}

async fn range(cluster: &Cluster, name: &str, cidr: &str) {
    cluster
        .create(json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
            "spec": {"cidrs": [cidr]}}))
        .await;
}

/// Its finalizers, and what it says of being ready.
async fn state(cluster: &Cluster, name: &str) -> Option<(Vec<String>, Value)> {
    let cidr = call::get::<ServiceCIDR>(&cluster.client, "", name).await.unwrap()?;
    let ready = cidr.status.and_then(|status| status.conditions?.into_iter().next());
    let ready = ready.map(|ready| json!([ready.type_, ready.status, ready.reason, ready.message]));
    Some((cidr.metadata.finalizers.unwrap_or_default(), ready.unwrap_or_default()))
}

async fn address(cluster: &Cluster, name: &str) -> Option<IPAddress> {
    call::get::<IPAddress>(&cluster.client, "", name).await.unwrap()
}

async fn parent(cluster: &Cluster, name: &str) -> Option<String> {
    Some(address(cluster, name).await?.spec.parent_ref.name)
}

async fn events(cluster: &Cluster, reason: &str) -> Vec<String> {
    let events = Api::<Event>::all(cluster.client.clone()).list(&Default::default()).await.unwrap().items;
    events
        .into_iter()
        .filter(|event| event.reason.as_deref() == Some(reason))
        .filter_map(|event| event.message)
        .collect()
}

#[tokio::test]
async fn a_range_is_ready_and_goes_when_nothing_of_it_is_used() {
    let cluster = start(0).await;
    let ready = || json!(["Ready", "True", "", "Kubernetes Service CIDR is ready"]);
    range(&cluster, "more", "10.200.0.0/28").await;
    for name in ["kubernetes", "more"] {
        cluster
            .eventually("ranges are protected and ready", || async {
                state(&cluster, name).await == Some((vec![FINALIZER.to_owned()], ready()))
            })
            .await;
    }
    assert_eq!(service(&cluster, "a", Some("10.200.0.5")).await, "10.200.0.5");
    assert_eq!(parent(&cluster, "10.200.0.5").await.as_deref(), Some("a"));
    let cidrs = Api::<ServiceCIDR>::all(cluster.client.clone());
    cidrs.delete("more", &DeleteParams::default()).await.unwrap();
    let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
    cluster
        .eventually("the range is held", || async {
            let held = json!(["Ready", "False", "Terminating", why]);
            state(&cluster, "more").await == Some((vec![FINALIZER.to_owned()], held))
        })
        .await;
    // A wider range takes the address over: nothing holds the first one any more, and it goes after a while.
    range(&cluster, "wider", "10.200.0.0/24").await;
    cluster.eventually("the range goes", || async { state(&cluster, "more").await.is_none() }).await;
    assert_eq!(parent(&cluster, "10.200.0.5").await.as_deref(), Some("a"));
}

#[tokio::test]
async fn the_default_range_is_made_again() {
    let cluster = start(0).await;
    // Another range holds what it holds.
    range(&cluster, "same", "10.96.0.0/16").await;
    let uid = || async {
        let cidr = call::get::<ServiceCIDR>(&cluster.client, "", "kubernetes").await.unwrap();
        cidr.map(|cidr| meta::uid(&cidr.metadata).to_owned())
    };
    let before = uid().await.unwrap();
    let cidrs = Api::<ServiceCIDR>::all(cluster.client.clone());
    cluster
        .eventually("it is protected", || async {
            state(&cluster, "kubernetes").await.is_some_and(|(finalizers, _)| !finalizers.is_empty())
        })
        .await;
    cidrs.delete("kubernetes", &DeleteParams::default()).await.unwrap();
    cluster.eventually("another one is there", || async { uid().await.is_some_and(|now| now != before) }).await;
    cluster
        .eventually("it is ready", || async {
            state(&cluster, "kubernetes").await.is_some_and(|(_, ready)| ready[1] == "True")
        })
        .await;
}

#[tokio::test]
async fn what_does_not_fit_together_is_mended_and_told() {
    let cluster = start(0).await;
    let ip = service(&cluster, "a", None).await;
    // Somebody deletes the object of an address that is in use.
    let addresses = Api::<IPAddress>::all(cluster.client.clone());
    addresses.delete(&ip, &DeleteParams::default()).await.unwrap();
    cluster.eventually("it is made again", || async { parent(&cluster, &ip).await.as_deref() == Some("a") }).await;
    let expected = format!("Cluster IP [IPv4]: {ip} is not allocated; repairing");
    cluster
        .eventually("it is told", || async { events(&cluster, "ClusterIPNotAllocated").await == [&*expected] })
        .await;

    // Somebody makes one for a Service that has another address.
    let stray: IPAddress = serde_json::from_value(json!({"metadata": {"name": "10.96.77.77", "labels": {
        "ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}},
        "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "a"}}}))
    .unwrap();
    call::create(&cluster.client, &stray).await.unwrap();
    cluster.eventually("it is cleaned up", || async { address(&cluster, "10.96.77.77").await.is_none() }).await;
    let expected = "IPAddress: 10.96.77.77 for Service default/a has a wrong reference; cleaning up";
    cluster
        .eventually("that is told, too", || async { events(&cluster, "IPAddressWrongReference").await == [expected] })
        .await;
    // What is not the allocator's stays.
    let (mut theirs, mut last) = (stray.clone(), stray);
    theirs.metadata.labels = None;
    last.metadata.name = Some("10.96.77.78".to_owned());
    call::create(&cluster.client, &theirs).await.unwrap();

    // Nothing is told of what comes and goes as it should.
    for round in 0..20 {
        let name = format!("s{round}");
        let ip = service(&cluster, &name, None).await;
        assert_eq!(parent(&cluster, &ip).await, Some(name.clone()));
        let services = Api::<Service>::namespaced(cluster.client.clone(), "default");
        services.delete(&name, &DeleteParams::default()).await.unwrap();
        assert!(address(&cluster, &ip).await.is_none());
    }
    // What would have been told of these is told before this.
    call::create(&cluster.client, &last).await.unwrap();
    cluster
        .eventually("the last one is told", || async { events(&cluster, "IPAddressWrongReference").await.len() > 1 })
        .await;
    assert_eq!(events(&cluster, "ClusterIPNotAllocated").await.len(), 1);
    assert_eq!(events(&cluster, "IPAddressWrongReference").await.len(), 2);
    assert!(address(&cluster, "10.96.77.77").await.is_some());
}
