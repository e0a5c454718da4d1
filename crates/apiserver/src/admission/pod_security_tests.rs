use serde_json::json;

use super::tests::{PODS, cluster};
use crate::admission::PodSecurityConfig;
use crate::testing::{Cluster, admin, message, pod, user};

#[tokio::test]
async fn a_namespace_may_hold_its_pods_to_a_standard() {
    let cluster = cluster().await;
    let labels = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "baseline" } } });
    let (code, answer) = cluster.send(&admin(), "PATCH", "/api/v1/namespaces/team", labels).await;
    assert_eq!(code, 200, "{answer}");
    cluster.settle().await;
    cluster.make(PODS, pod("a", json!({}))).await;
    let (code, answer) = cluster.post(&admin(), PODS, pod("b", json!({ "hostNetwork": true }))).await;
    assert_eq!(
        (code, message(&answer)),
        (403, r#"pods "b" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)"#)
    );
}

#[tokio::test]
async fn a_namespace_that_becomes_stricter_says_which_pods_are_not() {
    let cluster = cluster().await;
    cluster.make(PODS, pod("a", json!({ "hostNetwork": true }))).await;
    cluster.make(PODS, pod("b", json!({ "hostNetwork": true }))).await;
    let label = |value: &str| json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": value } } });
    let (code, answer) = cluster.send(&admin(), "PATCH", "/api/v1/namespaces/team", label("bogus")).await;
    assert_eq!(
        (code, message(&answer)),
        (
            422,
            "Namespace \"team\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"bogus\": \
             must be one of privileged, baseline, restricted"
        )
    );
    let warnings = cluster.warnings(&admin(), "PATCH", "/api/v1/namespaces/team", label("baseline")).await;
    assert_eq!(
        warnings,
        [
            "299 - \"existing pods in namespace \\\"team\\\" violate the new PodSecurity enforce level \\\"baseline:latest\\\"\"",
            "299 - \"a (and 1 other pod): host namespaces\"",
        ]
    );
}

async fn label(cluster: &Cluster, mode: &str, level: &str) {
    let key = format!("pod-security.kubernetes.io/{mode}");
    let labels = json!({ "metadata": { "labels": { key: level } } });
    let (code, answer) = cluster.send(&admin(), "PATCH", "/api/v1/namespaces/team", labels).await;
    assert_eq!(code, 200, "{answer}");
    cluster.settle().await;
}

#[tokio::test]
async fn a_namespace_that_is_relaxed_says_nothing() {
    let cluster = cluster().await;
    cluster.make(PODS, pod("a", json!({ "hostNetwork": true }))).await;
    label(&cluster, "enforce", "restricted").await;
    let labels = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "baseline" } } });
    let warnings = cluster.warnings(&admin(), "PATCH", "/api/v1/namespaces/team", labels).await;
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[tokio::test]
async fn whoever_makes_pods_or_what_makes_pods_is_warned() {
    let cluster = cluster().await;
    label(&cluster, "warn", "baseline").await;
    let spec = json!({ "hostNetwork": true, "containers": [{ "name": "main", "image": "x" }] });
    let labels = json!({ "app": "a" });
    let template = json!({ "metadata": { "labels": labels }, "spec": spec });
    let deployment =
        json!({ "metadata": { "name": "d" }, "spec": { "selector": { "matchLabels": labels }, "template": template } });
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = "Never".into();
    let cron = json!({
        "metadata": { "name": "c" },
        "spec": { "schedule": "* * * * *", "jobTemplate": { "spec": { "template": once } } },
    });
    let expected = ["299 - \"would violate PodSecurity \\\"baseline:latest\\\": host namespaces (hostNetwork=true)\""];
    for (path, body) in [
        (PODS, pod("p", spec)),
        ("/apis/apps/v1/namespaces/team/deployments", deployment),
        ("/apis/batch/v1/namespaces/team/cronjobs", cron),
        ("/api/v1/namespaces/team/podtemplates", json!({ "metadata": { "name": "t" }, "template": template })),
    ] {
        assert_eq!(cluster.warnings(&admin(), "POST", path, body).await, expected, "{path}");
    }
    cluster.settle().await;
    // Nothing that the standards look at changes.
    let change = json!({ "metadata": { "labels": { "a": "b" } } });
    let warnings = cluster.warnings(&admin(), "PATCH", &format!("{PODS}/p"), change).await;
    assert!(warnings.is_empty(), "{warnings:?}");

    // Whoever is refused needs no warning; who makes what makes such pods does, as nobody else would hear of it.
    let unset = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/warn": null } } });
    cluster.send(&admin(), "PATCH", "/api/v1/namespaces/team", unset).await;
    label(&cluster, "enforce", "baseline").await;
    let body = json!({ "metadata": { "name": "u" }, "template": template });
    assert_eq!(cluster.warnings(&admin(), "POST", "/api/v1/namespaces/team/podtemplates", body).await, expected);
    let response = cluster.open(&admin(), "POST", PODS, pod("q", json!({ "hostNetwork": true }))).await;
    assert_eq!((response.status().as_u16(), response.headers().get("warning")), (403, None));
}

#[tokio::test]
async fn the_administrator_says_what_holds_elsewhere_and_for_whom_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("admission.json");
    let configuration = json!({
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
        "defaults": { "enforce": "baseline" },
        "exemptions": { "usernames": ["ann"], "namespaces": ["free"] },
    });
    let document = json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{ "name": "PodSecurity", "configuration": configuration }],
    });
    std::fs::write(&file, document.to_string()).unwrap();
    let cluster = Cluster::with_pod_security(PodSecurityConfig::open(&file).unwrap()).await;
    for namespace in ["team", "free"] {
        cluster.namespace(namespace).await;
    }
    cluster.settle().await;
    let ann = user("ann", &["system:masters"]);
    for (user, namespace, expected) in [(&admin(), "team", 403), (&ann, "team", 201), (&admin(), "free", 201)] {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let (code, answer) = cluster.post(user, &path, pod("p", json!({ "hostNetwork": true }))).await;
        assert_eq!(code, expected, "{} in {namespace}: {answer}", user.name);
    }
    let labels = json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": "restricted" } } });
    assert_eq!(
        cluster.warnings(&admin(), "PATCH", "/api/v1/namespaces/free", labels).await,
        ["299 - \"namespace \\\"free\\\" is exempt from Pod Security, and the policy (enforce=restricted:latest) \
          will be ignored\""]
    );
}
