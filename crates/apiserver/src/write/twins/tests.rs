use serde_json::{Value, json};

use crate::testing::{Cluster, admin, message, pod, user};

const PODS: &str = "/api/v1/namespaces/a/pods";

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.namespace("a").await;
    cluster.namespace("b").await;
    cluster
}

fn template() -> Value {
    let mut pod = pod("", json!({}));
    pod["metadata"] = json!({"generateName": "p-", "labels": {"app": "x"}});
    pod
}

/// Each object's token volume has a name by chance, which only twins share.
fn volume(pod: &Value) -> &str {
    pod["spec"]["volumes"][0]["name"].as_str().unwrap()
}

/// What twins have in common.
fn likeness(pod: &Value) -> Value {
    let mut pod: Value = serde_json::from_str(&pod.to_string().replace(volume(pod), "volume")).unwrap();
    for key in ["name", "uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        pod["metadata"].as_object_mut().unwrap().remove(key);
    }
    pod
}

/// Two that are made one after the other in the same second.
async fn two(cluster: &Cluster, path: &str, body: Value) -> [Value; 2] {
    loop {
        let two = [cluster.make(path, body.clone()).await, cluster.make(path, body.clone()).await];
        if two[0]["metadata"]["creationTimestamp"] == two[1]["metadata"]["creationTimestamp"] {
            return two;
        }
    }
}

#[tokio::test]
async fn twins_differ_in_name_and_identity_only() {
    let cluster = cluster().await;
    let [first, twin] = two(&cluster, PODS, template()).await;
    assert_eq!(volume(&first), volume(&twin));
    assert_eq!(first["metadata"]["managedFields"], twin["metadata"]["managedFields"]);
    assert_eq!(likeness(&first), likeness(&twin));
    for key in ["name", "uid", "resourceVersion"] {
        assert_ne!(first["metadata"][key], twin["metadata"][key], "{key}");
    }
    // Another series in between, and the rules are asked again, with the same outcome.
    let mut other = template();
    other["metadata"]["labels"]["app"] = "y".into();
    let other = cluster.make(PODS, other).await;
    assert_eq!(other["metadata"]["labels"]["app"], "y");
    let anew = cluster.make(PODS, template()).await;
    assert_ne!(volume(&anew), volume(&first));
    assert_eq!(likeness(&anew), likeness(&first));
    let (_, kept) = cluster.get(&admin(), &format!("{PODS}/{}", twin["metadata"]["name"].as_str().unwrap())).await;
    assert_eq!(kept, twin);
}

#[tokio::test]
async fn whoever_asks_elsewhere_or_as_another_is_no_twin() {
    let cluster = cluster().await;
    let [_, twin] = two(&cluster, PODS, template()).await;
    let elsewhere = cluster.make("/api/v1/namespaces/b/pods", template()).await;
    assert_eq!(elsewhere["metadata"]["namespace"], "b");
    assert_ne!(volume(&elsewhere), volume(&twin));
    let [_, twin] = two(&cluster, PODS, template()).await;
    let (code, other) = cluster.post(&user("somebody", &["system:masters"]), PODS, template()).await;
    assert_eq!(code, 201);
    assert_ne!(volume(&other), volume(&twin));
    let [_, twin] = two(&cluster, PODS, template()).await;
    let other = cluster.make(&format!("{PODS}?fieldManager=m"), template()).await;
    assert_eq!(other["metadata"]["managedFields"][0]["manager"], "m");
    assert_ne!(volume(&other), volume(&twin));
    // A rehearsal has no part in a series.
    let rehearsed = cluster.make(&format!("{PODS}?dryRun=All"), template()).await;
    assert_ne!(volume(&rehearsed), volume(&other));
}

#[tokio::test]
async fn what_the_rules_look_at_is_looked_at_again_when_it_changes() {
    let cluster = cluster().await;
    two(&cluster, PODS, template()).await;
    let limits = json!([{"type": "Container", "default": {"cpu": "2"}, "defaultRequest": {"cpu": "1"}}]);
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": limits}});
    cluster.make("/api/v1/namespaces/a/limitranges", range).await;
    let [_, limited] = two(&cluster, PODS, template()).await;
    assert_eq!(
        limited["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}})
    );

    let class = json!({"metadata": {"name": "c"}, "value": 7, "globalDefault": true});
    cluster.make("/apis/scheduling.k8s.io/v1/priorityclasses", class).await;
    let [_, classed] = two(&cluster, PODS, template()).await;
    assert_eq!(classed["spec"]["priority"], 7);

    let change = json!({"imagePullSecrets": [{"name": "s"}]});
    let account = "/api/v1/namespaces/a/serviceaccounts/default";
    assert_eq!(cluster.send(&admin(), "PATCH", account, change).await.0, 200);
    cluster.settle().await;
    let [_, secret] = two(&cluster, PODS, template()).await;
    assert_eq!(secret["spec"]["imagePullSecrets"], json!([{"name": "s"}]));

    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    assert_eq!(cluster.send(&admin(), "PATCH", "/api/v1/namespaces/a", labels).await.0, 200);
    cluster.settle().await;
    let (code, refused) = cluster.post(&admin(), PODS, template()).await;
    assert_eq!(code, 403, "{refused}");
    assert!(message(&refused).contains("violates PodSecurity"), "{refused}");
}

#[tokio::test]
async fn policies_see_each_one() {
    let cluster = cluster().await;
    let constraints = json!({"resourceRules": [
        {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]});
    let rule = json!({"expression": "false", "message": "not today"});
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": constraints, "validations": [rule], "failurePolicy": "Fail"}});
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    two(&cluster, PODS, template()).await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    cluster.make(&format!("{group}/validatingadmissionpolicies"), policy).await;
    cluster.make(&format!("{group}/validatingadmissionpolicybindings"), binding).await;
    let (code, refused) = cluster.post(&admin(), PODS, template()).await;
    assert_eq!(code, 422, "{refused}");
    assert!(message(&refused).contains("not today"), "{refused}");
}

#[tokio::test]
async fn quota_counts_each_one() {
    let cluster = cluster().await;
    two(&cluster, PODS, template()).await;
    let (_, pods) = cluster.get(&admin(), PODS).await;
    let hard = pods["items"].as_array().unwrap().len() + 2;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": hard.to_string()}}});
    cluster.make("/api/v1/namespaces/a/resourcequotas", quota).await;
    for _ in 0..2 {
        cluster.make(PODS, template()).await;
    }
    let (code, refused) = cluster.post(&admin(), PODS, template()).await;
    assert_eq!(code, 403, "{refused}");
    assert!(message(&refused).contains("exceeded quota: q"), "{refused}");
}
