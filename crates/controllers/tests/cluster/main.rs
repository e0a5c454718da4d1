//! Whole clusters in one process: what a user does, and what becomes of it.

mod addresses;
mod custom;
mod devices;
mod garbage;
mod harness;
mod network;
mod storage;
mod workloads;

use std::time::Instant;

use harness::{Cluster, start};
use k8s_openapi::ByteString;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    batch::v1::Job,
    certificates::{
        v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
        v1beta1::ClusterTrustBundle,
    },
    core::v1::{ConfigMap, Endpoints, Event, Namespace, Node, Pod, ResourceQuota, Service},
    discovery::v1::EndpointSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use knarr_client::{call, lean, meta};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

fn deployment(name: &str, replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
    })
}

async fn get<K: call::Kind>(cluster: &Cluster, name: &str) -> Option<K> {
    call::get::<K>(&cluster.client, "default", name).await.unwrap()
}

async fn available(cluster: &Cluster, name: &str) -> i32 {
    let deployment = get::<Deployment>(cluster, name).await;
    deployment.and_then(|deployment| deployment.status?.available_replicas).unwrap_or(0)
}

async fn replica_sets(cluster: &Cluster) -> Vec<ReplicaSet> {
    let sets: Api<ReplicaSet> = Api::namespaced(cluster.client.clone(), "default");
    sets.list(&Default::default()).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_rolled_out_updated_and_undone() {
    let cluster = start(3).await;
    cluster.create(deployment("web", 6, "v1")).await;
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}))
        .await;
    cluster.eventually("six available pods", || async { available(&cluster, "web").await == 6 }).await;

    let there = get::<Deployment>(&cluster, "web").await.unwrap();
    call::merge(
        &cluster.client,
        &there,
        json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "v2"}]}}}}),
    )
    .await
    .unwrap();
    let done = |revision: &'static str| {
        let cluster = &cluster;
        move || async move {
            let deployment = get::<Deployment>(cluster, "web").await.unwrap();
            let status = deployment.status.clone().unwrap_or_default();
            meta::annotation(&deployment.metadata, "deployment.kubernetes.io/revision") == Some(revision)
                && status.observed_generation == deployment.metadata.generation
                && status.updated_replicas == Some(6)
                && status.replicas == Some(6)
                && status.available_replicas == Some(6)
                && status.conditions.iter().flatten().any(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"))
        }
    };
    cluster.eventually("the update", done("2")).await;
    let sets = replica_sets(&cluster).await;
    assert_eq!(sets.len(), 2);
    // As kubectl rollout undo does it: the old set's template, without the hash.
    let old = sets.iter().find(|set| set.spec.as_ref().unwrap().replicas == Some(0)).unwrap();
    let mut template = serde_json::to_value(old.spec.as_ref().unwrap().template.as_ref().unwrap()).unwrap();
    template["metadata"]["labels"].as_object_mut().unwrap().remove("pod-template-hash");
    let there = get::<Deployment>(&cluster, "web").await.unwrap();
    call::merge(&cluster.client, &there, json!({"spec": {"template": template}})).await.unwrap();
    cluster.eventually("the old revision again", done("3")).await;
    assert_eq!(replica_sets(&cluster).await.len(), 2);

    cluster
        .eventually("six endpoints", || async {
            let of_web = kube::api::ListParams::default().labels("kubernetes.io/service-name=web");
            let slices: Api<EndpointSlice> = Api::namespaced(cluster.client.clone(), "default");
            let slices = slices.list(&of_web).await.unwrap().items;
            let ready = slices
                .iter()
                .flat_map(|slice| slice.endpoints.iter().flatten())
                .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true));
            let legacy = get::<Endpoints>(&cluster, "web").await;
            let legacy: usize = legacy
                .iter()
                .flat_map(|e| e.subsets.iter().flatten())
                .map(|s| s.addresses.iter().flatten().count())
                .sum();
            ready.count() == 6 && legacy == 6
        })
        .await;
    cluster
        .eventually("a load balancer's address", || async {
            let service = get::<Service>(&cluster, "web").await.unwrap();
            let ingress = service.status.and_then(|status| status.load_balancer?.ingress).unwrap_or_default();
            ingress.iter().any(|ingress| ingress.ip.as_deref() == Some("192.0.2.7"))
        })
        .await;
    cluster
        .eventually("events", || async {
            let events: Api<Event> = Api::namespaced(cluster.client.clone(), "default");
            let events = events.list(&Default::default()).await.unwrap().items;
            let has = |reason: &str| events.iter().any(|event| event.reason.as_deref() == Some(reason));
            ["ScalingReplicaSet", "SuccessfulCreate", "SuccessfulDelete", "Scheduled"].into_iter().all(has)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_takes_dependents_along_or_leaves_them() {
    let cluster = start(1).await;
    for name in ["back", "front", "leave"] {
        cluster.create(deployment(name, 2, "v1")).await;
    }
    for name in ["back", "front", "leave"] {
        cluster.eventually("pods", || async { available(&cluster, name).await == 2 }).await;
    }
    for (name, params) in
        [("back", DeleteParams::background()), ("front", DeleteParams::foreground()), ("leave", DeleteParams::orphan())]
    {
        let there = get::<Deployment>(&cluster, name).await.unwrap();
        call::delete(&cluster.client, &there, params).await.unwrap();
    }
    cluster
        .eventually("only the orphans to be left", || async {
            let gone = get::<Deployment>(&cluster, "front").await.is_none()
                && get::<Deployment>(&cluster, "leave").await.is_none();
            let sets = replica_sets(&cluster).await;
            let orphaned = sets.len() == 1 && sets[0].metadata.owner_references.is_none();
            gone && orphaned && cluster.pods("default").await.len() == 2
        })
        .await;
    // A pod whose owner never existed goes too.
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lost", "namespace": "default",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "none", "uid": "none"}]},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}))
        .await;
    cluster.eventually("the lost pod to go", || async { get::<Pod>(&cluster, "lost").await.is_none() }).await;
    assert_eq!(cluster.pods("default").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_comes_with_its_defaults_and_goes_with_its_content() {
    let cluster = start(1).await;
    cluster.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}})).await;
    cluster
        .eventually("the root certificate", || async {
            call::get::<ConfigMap>(&cluster.client, "team", "kube-root-ca.crt")
                .await
                .unwrap()
                .is_some_and(|map| map.data.is_some())
        })
        .await;
    cluster
        .eventually("the default ServiceAccount", || async {
            call::get::<k8s_openapi::api::core::v1::ServiceAccount>(&cluster.client, "team", "default")
                .await
                .unwrap()
                .is_some()
        })
        .await;
    let mut web = deployment("web", 5, "v1");
    web["metadata"]["namespace"] = "team".into();
    cluster.create(web).await;
    cluster.eventually("pods", || async { cluster.pods("team").await.len() == 5 }).await;
    let namespace = call::get::<Namespace>(&cluster.client, "", "team").await.unwrap().unwrap();
    let begun = Instant::now();
    call::delete(&cluster.client, &namespace, DeleteParams::default()).await.unwrap();
    cluster
        .eventually("the namespace to go", || async {
            call::get::<Namespace>(&cluster.client, "", "team").await.unwrap().is_none()
        })
        .await;
    println!("a namespace with a Deployment of five is gone after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_servers_authority_is_published_and_no_other_in_its_name() {
    let cluster = start(0).await;
    let bundles = || async {
        let all = Api::<ClusterTrustBundle>::all(cluster.client.clone()).list(&ListParams::default()).await.unwrap();
        all.into_iter().map(|one| (one.metadata.name.unwrap(), one.spec.trust_bundle)).collect::<Vec<_>>()
    };
    cluster.eventually("the bundle", || async { !bundles().await.is_empty() }).await;
    let published = bundles().await;
    let hash = published[0].0.strip_prefix("kubernetes.io:kube-apiserver-serving:").unwrap();
    assert!(hash.len() == 24 && published[0].1.starts_with("-----BEGIN CERTIFICATE-----"), "{published:?}");
    // One of an authority before, and this one with a word of somebody's in it.
    let mut other = call::get::<ClusterTrustBundle>(&cluster.client, "", &published[0].0).await.unwrap().unwrap();
    other.spec.trust_bundle.push_str("words");
    call::replace(&cluster.client, &other).await.unwrap();
    other.metadata = ObjectMeta { name: Some(published[0].0.replace(hash, "before")), ..ObjectMeta::default() };
    call::create(&cluster.client, &other).await.unwrap();
    cluster.eventually("what was published", || async { bundles().await == published }).await;
    let own = call::get::<ClusterTrustBundle>(&cluster.client, "", &published[0].0).await.unwrap().unwrap();
    call::delete(&cluster.client, &own, DeleteParams::default()).await.unwrap();
    cluster.eventually("it once more", || async { bundles().await == published }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_completes_and_its_pods_are_counted() {
    let cluster = start(1).await;
    cluster
        .create(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sums", "namespace": "default"},
        "spec": {"parallelism": 3, "completions": 7, "completionMode": "Indexed", "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}))
        .await;
    cluster
        .eventually("the Job", || async {
            let status = get::<Job>(&cluster, "sums").await.and_then(|job| job.status).unwrap_or_default();
            status.succeeded == Some(7)
                && status.completed_indexes.as_deref() == Some("0-6")
                && status.conditions.iter().flatten().any(|c| c.type_ == "Complete" && c.status == "True")
        })
        .await;
    let pods = cluster.pods("default").await;
    assert_eq!(pods.len(), 7);
    cluster
        .eventually("finalizers to go", || async {
            cluster.pods("default").await.iter().all(|pod| pod.metadata.finalizers.is_none())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_fits_nowhere_says_why_and_is_placed_once_it_fits() {
    let cluster = start(1).await;
    cluster
        .create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "picky", "namespace": "default"},
        "spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "c", "image": "i"}]}}))
        .await;
    let wanted = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    cluster
        .eventually("the reason", || async {
            let status = get::<Pod>(&cluster, "picky").await.and_then(|pod| pod.status).unwrap_or_default();
            status
                .conditions
                .iter()
                .flatten()
                .any(|c| c.reason.as_deref() == Some("Unschedulable") && c.message.as_deref() == Some(wanted))
        })
        .await;
    let node = call::get::<Node>(&cluster.client, "", "n0").await.unwrap().unwrap();
    let begun = Instant::now();
    call::merge(&cluster.client, &node, json!({"metadata": {"labels": {"disk": "ssd"}}})).await.unwrap();
    cluster
        .eventually("the pod to run", || async {
            let pod = get::<Pod>(&cluster, "picky").await.unwrap();
            pod.status.and_then(|status| status.phase).as_deref() == Some("Running")
        })
        .await;
    println!("placed {:?} after the label came", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_pods_and_not_one_more() {
    let cluster = start(10).await;
    let begun = Instant::now();
    cluster.create(deployment("big", 500, "v1")).await;
    let pods = cluster.informers.of::<lean::Pod>();
    cluster.eventually("500 pods", || async { pods.len() >= 500 }).await;
    println!("500 pods exist after {:?}", begun.elapsed());
    cluster.eventually("500 available", || async { available(&cluster, "big").await == 500 }).await;
    println!("500 pods are available after {:?}", begun.elapsed());
    assert_eq!(cluster.pods("default").await.len(), 500);
    let there = get::<Deployment>(&cluster, "big").await.unwrap();
    call::merge(&cluster.client, &there, json!({"spec": {"replicas": 20}})).await.unwrap();
    cluster.eventually("20 pods", || async { cluster.pods("default").await.len() == 20 }).await;
    println!("scaled to 20 after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_tells_what_is_used() {
    let cluster = start(1).await;
    cluster
        .create(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"},
        "spec": {"hard": {"pods": "5", "count/deployments.apps": "3", "configmaps": "9"}}}))
        .await;
    cluster.create(deployment("web", 2, "v1")).await;
    let used = || async {
        let quota = get::<ResourceQuota>(&cluster, "q").await.unwrap();
        serde_json::to_value(quota.status.unwrap_or_default().used).unwrap()
    };
    // The root CA's ConfigMap is one of the namespace's own.
    let full = json!({"pods": "2", "count/deployments.apps": "1", "configmaps": "1"});
    cluster.eventually("two pods used", || async { used().await == full }).await;
    let there = get::<Deployment>(&cluster, "web").await.unwrap();
    call::delete(&cluster.client, &there, DeleteParams::background()).await.unwrap();
    let empty = json!({"pods": "0", "count/deployments.apps": "0", "configmaps": "1"});
    cluster.eventually("nothing used", || async { used().await == empty }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_request_is_signed() {
    let cluster = start(0).await;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "jane");
    let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    for (name, usage) in [("good", "client auth"), ("bad", "server auth")] {
        let object = CertificateSigningRequest {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            spec: CertificateSigningRequestSpec {
                request: ByteString(pem.clone().into_bytes()),
                signer_name: "kubernetes.io/kube-apiserver-client".to_owned(),
                usages: Some(vec![usage.to_owned()]),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        let made = call::create(&cluster.client, &object).await.unwrap();
        let approved = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Test"}]}});
        call::merge_subresource(&cluster.client, &made, "approval", approved).await.unwrap();
    }
    let status = |name: &'static str| {
        let client = cluster.client.clone();
        async move {
            let found = call::get::<CertificateSigningRequest>(&client, "", name).await.unwrap().unwrap();
            found.status.unwrap_or_default()
        }
    };
    cluster.eventually("the certificate", || async { status("good").await.certificate.is_some() }).await;
    cluster
        .eventually("the refusal", || async {
            let conditions = status("bad").await.conditions.unwrap_or_default();
            conditions
                .iter()
                .any(|c| c.type_ == "Failed" && c.message.as_deref() == Some("usages did not contain client auth"))
        })
        .await;
    assert!(status("bad").await.certificate.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_a_job_lets_go_of_are_not_held() {
    let cluster = start(0).await;
    cluster
        .create(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "left", "namespace": "default"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}))
        .await;
    cluster.eventually("the pod", || async { cluster.pods("default").await.len() == 1 }).await;
    let job = get::<Job>(&cluster, "left").await.unwrap();
    call::delete(&cluster.client, &job, DeleteParams::orphan()).await.unwrap();
    cluster
        .eventually("a pod without owner and finalizer", || async {
            let pods = cluster.pods("default").await;
            pods.iter().all(|pod| pod.metadata.finalizers.is_none() && pod.metadata.owner_references.is_none())
        })
        .await;
    assert_eq!(cluster.pods("default").await.len(), 1);
}
