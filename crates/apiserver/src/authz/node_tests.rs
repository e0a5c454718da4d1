use serde_json::{Value, json};

use crate::contract::{Attributes, Decision};
use crate::testing::{Cluster, admin, node, pod};

async fn may(cluster: &Cluster, who: &str, verb: &str, resource: &str, name: &str) -> bool {
    may_select(cluster, who, verb, resource, name, "").await
}

async fn may_select(
    cluster: &Cluster,
    who: &str,
    verb: &str,
    resource: &str,
    name: &str,
    field_selector: &str,
) -> bool {
    let user = node(who);
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = Attributes {
        user: &user,
        verb,
        namespace: if matches!(resource, "persistentvolumes" | "nodes") { "" } else { "team" },
        group: "",
        version: "v1",
        resource,
        subresource,
        name,
        field_selector,
        path: "",
        is_resource: true,
    };
    cluster.security.authorizer.authorize(&attributes).await == Decision::Allow
}

async fn bind(cluster: &Cluster, pod: &str, node: &str) {
    let binding = json!({ "metadata": { "name": pod }, "target": { "kind": "Node", "name": node } });
    cluster.make(&format!("/api/v1/namespaces/team/pods/{pod}/binding"), binding).await;
}

#[tokio::test]
async fn a_node_reads_what_its_pods_use_and_nothing_else() {
    let cluster = Cluster::start().await;
    cluster.namespace("team").await;
    let spec = json!({
        "imagePullSecrets": [{ "name": "pull" }],
        "containers": [{
            "name": "main", "image": "example.org/x:1",
            "env": [{ "name": "A", "valueFrom": { "secretKeyRef": { "name": "env", "key": "k" } } }],
            "envFrom": [{ "configMapRef": { "name": "env-from" } }],
        }],
        "volumes": [
            { "name": "v1", "secret": { "secretName": "volume" } },
            { "name": "v2", "projected": { "sources": [
                { "secret": { "name": "projected" } }, { "configMap": { "name": "projected" } },
            ] } },
            { "name": "v3", "persistentVolumeClaim": { "claimName": "claim" } },
        ],
    });
    cluster.make("/api/v1/namespaces/team/pods", pod("p", spec)).await;
    let volume = json!({
        "metadata": { "name": "pv" },
        "spec": {
            "capacity": { "storage": "1Gi" }, "accessModes": ["ReadWriteOnce"],
            "claimRef": { "namespace": "team", "name": "claim" },
            "csi": {
                "driver": "d", "volumeHandle": "h",
                "nodePublishSecretRef": { "namespace": "team", "name": "csi" },
            },
        },
    });
    cluster.make("/api/v1/persistentvolumes", volume).await;

    let its_own = [
        ("get", "secrets", "pull"),
        ("watch", "secrets", "env"),
        ("list", "secrets", "volume"),
        ("get", "secrets", "projected"),
        ("get", "secrets", "csi"),
        ("get", "configmaps", "env-from"),
        ("get", "configmaps", "projected"),
        ("get", "configmaps", "kube-root-ca.crt"),
        ("patch", "persistentvolumeclaims/status", "claim"),
        ("create", "serviceaccounts/token", "default"),
    ];
    // Any node may be the one that is to make a claim's volume, so claims are no secret between nodes.
    for (verb, resource, name, expected) in [
        ("get", "persistentvolumeclaims", "claim", true),
        ("list", "persistentvolumes", "", true),
        ("update", "persistentvolumeclaims", "claim", false),
        ("patch", "persistentvolumes", "pv", false),
        ("update", "persistentvolumes/status", "pv", false),
    ] {
        assert_eq!(may(&cluster, "n2", verb, resource, name).await, expected, "{verb} {resource}");
    }
    for (verb, resource, name) in its_own {
        assert!(!may(&cluster, "n1", verb, resource, name).await, "before binding: {verb} {resource} {name}");
    }
    bind(&cluster, "p", "n1").await;
    for (verb, resource, name) in its_own {
        assert!(may(&cluster, "n1", verb, resource, name).await, "{verb} {resource} {name}");
        assert!(!may(&cluster, "n2", verb, resource, name).await, "another node: {verb} {resource} {name}");
    }
    for (verb, resource, name) in [
        ("get", "secrets", "other"),
        ("list", "secrets", ""),
        ("update", "secrets", "pull"),
        ("create", "serviceaccounts/token", "other"),
        ("get", "serviceaccounts", "default"),
    ] {
        assert!(!may(&cluster, "n1", verb, resource, name).await, "{verb} {resource} {name}");
    }
    let (code, _) =
        cluster.send(&admin(), "DELETE", "/api/v1/namespaces/team/pods/p?gracePeriodSeconds=0", Value::Null).await;
    assert_eq!(code, 200);
    cluster.settle().await;
    assert!(!may(&cluster, "n1", "get", "secrets", "pull").await, "the pod is gone");
}

#[tokio::test]
async fn a_pod_speaks_for_its_own_namespace_and_node_from_the_first_moment_to_the_last() {
    let cluster = Cluster::start().await;
    for namespace in ["team", "other"] {
        cluster.namespace(namespace).await;
    }
    let uses = |name: &str, secret: &str| {
        let volume = json!({ "name": "v", "secret": { "secretName": secret } });
        pod(name, json!({ "nodeName": "n1", "volumes": [volume] }))
    };
    cluster.make("/api/v1/namespaces/other/pods", uses("p", "theirs")).await;
    assert!(!may(&cluster, "n1", "get", "secrets", "theirs").await, "a pod of another namespace");
    for name in ["one", "two"] {
        cluster.make("/api/v1/namespaces/team/pods", uses(name, "ours")).await;
    }
    for (gone, expected) in [("", true), ("one", true), ("two", false)] {
        if !gone.is_empty() {
            let path = format!("/api/v1/namespaces/team/pods/{gone}?gracePeriodSeconds=0");
            let (code, answer) = cluster.send(&admin(), "DELETE", &path, Value::Null).await;
            assert_eq!(code, 200, "{answer}");
            cluster.settle().await;
        }
        assert_eq!(may(&cluster, "n1", "get", "secrets", "ours").await, expected, "{gone:?} is gone");
        assert!(!may(&cluster, "n2", "get", "secrets", "ours").await);
    }
}

#[tokio::test]
async fn a_node_sees_its_own_pods_only_and_where_other_nodes_are() {
    let cluster = Cluster::start().await;
    cluster.namespace("team").await;
    cluster.make("/api/v1/namespaces/team/pods", pod("mine", json!({}))).await;
    bind(&cluster, "mine", "n1").await;
    for (verb, resource, name, selector, expected) in [
        ("list", "pods", "", "spec.nodeName=n1", true),
        ("watch", "pods", "", "spec.nodeName=n1,status.phase!=Failed", true),
        ("list", "pods", "", "", false),
        ("list", "pods", "", "spec.nodeName=n2", false),
        ("list", "pods", "", "spec.nodeName!=n1", false),
        ("get", "pods", "mine", "", true),
        ("get", "pods", "other", "", false),
        ("get", "pods/log", "mine", "", false),
        ("patch", "pods/status", "mine", "", true),
        ("get", "nodes", "n1", "", true),
        ("watch", "nodes", "n1", "metadata.name=n1", true),
        // Routes lead to all of them.
        ("list", "nodes", "", "", true),
        ("get", "nodes", "n2", "", false),
        ("patch", "nodes/status", "n1", "", true),
    ] {
        let allowed = may_select(&cluster, "n1", verb, resource, name, selector).await;
        assert_eq!(allowed, expected, "{verb} {resource} {name} {selector}");
    }
    // Nor by a role: what every agent is given says nothing of pods and nodes.
    assert_eq!(cluster.get(&node("n1"), "/api/v1/pods").await.0, 403);
    assert_eq!(cluster.get(&node("n1"), "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1").await.0, 200);
}

#[tokio::test]
async fn a_node_asks_for_tokens_of_its_own_pods_only() {
    let cluster = Cluster::start().await;
    cluster.namespace("team").await;
    let mine = cluster.make("/api/v1/namespaces/team/pods", pod("mine", json!({}))).await;
    let theirs = cluster.make("/api/v1/namespaces/team/pods", pod("theirs", json!({}))).await;
    bind(&cluster, "mine", "n1").await;
    bind(&cluster, "theirs", "n2").await;
    let path = "/api/v1/namespaces/team/serviceaccounts/default/token";
    let bound = |pod: &Value| {
        let metadata = &pod["metadata"];
        json!({ "spec": { "boundObjectRef": {
            "kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"],
        } } })
    };
    for (what, request, expected) in [
        ("its own pod", bound(&mine), 201),
        ("another's pod", bound(&theirs), 403),
        ("no pod", json!({ "spec": {} }), 403),
    ] {
        let (code, answer) = cluster.post(&node("n1"), path, request).await;
        assert_eq!(code, expected, "{what}: {answer}");
    }
}

#[tokio::test]
async fn nodes_read_the_certificates_of_ingresses_that_they_serve() {
    let cluster = Cluster::start().await;
    cluster.namespace("team").await;
    for (name, controller) in [("ours", "knarr.dev/ingress"), ("theirs", "acme.io/x")] {
        let class = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": { "name": name }, "spec": { "controller": controller },
        });
        cluster.make("/apis/networking.k8s.io/v1/ingressclasses", class).await;
        let ingress = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": name },
            "spec": {
                "ingressClassName": name, "tls": [{ "secretName": format!("cert-{name}") }],
                "defaultBackend": { "service": { "name": "web", "port": { "number": 80 } } },
            },
        });
        cluster.make("/apis/networking.k8s.io/v1/namespaces/team/ingresses", ingress).await;
    }
    for (name, expected) in [("cert-ours", true), ("cert-theirs", false), ("other", false)] {
        assert_eq!(may(&cluster, "n1", "get", "secrets", name).await, expected, "{name}");
    }
    assert!(may_select(&cluster, "n1", "watch", "secrets", "cert-ours", "metadata.name=cert-ours").await);
    assert!(!may(&cluster, "n1", "update", "secrets", "cert-ours").await);
}
