//! Somebody with kubectl who does one thing after the other, and does not always wait for what came of the last.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{chance::Dice, link::Link, storm::NODES};

pub const NAMESPACES: [&str; 2] = ["a", "b"];
const NAMES: [&str; 3] = ["red", "green", "blue"];
const PAUSE: Duration = Duration::from_secs(8);
/// How long pods stay on a node that fell silent.
const TOLERATION_SECONDS: u32 = 10;

pub struct User {
    pub link: Link,
    pub dice: Dice,
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/{ns}/deployments";
const DAEMON_SETS: &str = "/apis/apps/v1/namespaces/{ns}/daemonsets";
const STATEFUL_SETS: &str = "/apis/apps/v1/namespaces/{ns}/statefulsets";
const JOBS: &str = "/apis/batch/v1/namespaces/{ns}/jobs";
const SERVICES: &str = "/api/v1/namespaces/{ns}/services";
const PODS: &str = "/api/v1/namespaces/{ns}/pods";

impl User {
    /// Does so many things.
    pub async fn act(&self, times: usize) {
        for namespace in NAMESPACES {
            self.create_namespace(namespace).await;
        }
        for _ in 0..times {
            self.one().await;
            tokio::time::sleep(self.dice.time(PAUSE)).await;
        }
    }

    /// Namespaces that were deleted are made again, deployments that were paused go on: only what is whole settles.
    pub async fn tidy(&self) {
        for namespace in NAMESPACES {
            self.create_namespace(namespace).await;
            for name in NAMES {
                let path = format!("{}/{name}", place(DEPLOYMENTS, namespace));
                self.patch(&path, json!({"spec": {"paused": false}})).await;
            }
        }
    }

    async fn one(&self) {
        let (namespace, name) = (*self.dice.pick(&NAMESPACES), *self.dice.pick(&NAMES));
        let named = |template: &str| format!("{}/{name}", place(template, namespace));
        let dice = &self.dice;
        match dice.below(25) {
            0..=3 => self.create(&place(DEPLOYMENTS, namespace), deployment(name, dice)).await,
            4 | 5 => self.patch(&named(DEPLOYMENTS), json!({"spec": {"replicas": dice.below(6)}})).await,
            6 | 7 => self.patch(&named(DEPLOYMENTS), new_image(dice)).await,
            8 => self.patch(&named(DEPLOYMENTS), json!({"spec": {"paused": dice.one_in(2)}})).await,
            9 => self.delete(&named(DEPLOYMENTS)).await,
            10 | 11 => self.create(&place(JOBS, namespace), job(name, dice)).await,
            12 => self.delete(&named(JOBS)).await,
            13 => self.create(&place(SERVICES, namespace), service(name)).await,
            14 if dice.one_in(3) => self.delete(&format!("/api/v1/namespaces/{namespace}")).await,
            14 => self.create_namespace(namespace).await,
            16 | 17 => self.create(&place(DAEMON_SETS, namespace), daemon_set(name, dice)).await,
            18 => self.patch(&named(DAEMON_SETS), new_image(dice)).await,
            19 | 20 => self.create(&place(STATEFUL_SETS, namespace), stateful_set(name, dice)).await,
            21 => self.patch(&named(STATEFUL_SETS), new_image(dice)).await,
            22 => self.patch(&named(STATEFUL_SETS), json!({"spec": {"replicas": dice.below(4)}})).await,
            23 => self.delete(&named(if dice.one_in(2) { DAEMON_SETS } else { STATEFUL_SETS })).await,
            // A node that lives makes its object again.
            24 => self.delete(&format!("/api/v1/nodes/n{}", dice.below(NODES))).await,
            _ => self.kill_a_pod(namespace).await,
        }
    }

    async fn create_namespace(&self, name: &str) {
        self.create("/api/v1/namespaces", json!({"metadata": {"name": name}})).await;
    }

    async fn kill_a_pod(&self, namespace: &str) {
        let Some(list) = self.send("GET", &place(PODS, namespace), None).await else { return };
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        if !pods.is_empty() {
            let name = self.dice.pick(&pods)["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            self.send("DELETE", &format!("{}/{name}", place(PODS, namespace)), None).await;
        }
    }

    async fn create(&self, path: &str, object: Value) {
        self.send("POST", path, Some(object)).await;
    }

    async fn patch(&self, path: &str, patch: Value) {
        self.send("PATCH", path, Some(patch)).await;
    }

    async fn delete(&self, path: &str) {
        let policy = *self.dice.pick(&["Background", "Background", "Foreground", "Orphan"]);
        self.send("DELETE", path, Some(json!({"propagationPolicy": policy}))).await;
    }

    /// The answer, where there is one that can be read. A user who hears nothing tries once more.
    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Option<Value> {
        use http_body_util::BodyExt as _;
        let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        for _ in 0..2 {
            let bytes = body.as_ref().map_or_else(Vec::new, |body| body.to_string().into_bytes());
            let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
            let request = request.body(http_body_util::Full::from(bytes)).expect("a valid request");
            let Ok(answer) = self.link.send(request).await else { continue };
            let Ok(body) = answer.into_body().collect().await else { continue };
            return serde_json::from_slice(&body.to_bytes()).ok();
        }
        None
    }
}

fn place(template: &str, namespace: &str) -> String {
    template.replace("{ns}", namespace)
}

fn pod_spec(image: usize, cpu: &str) -> Value {
    json!({"terminationGracePeriodSeconds": 5,
        "containers": [{"name": "c", "image": format!("i:{image}"), "resources": {"requests": {"cpu": cpu}}}],
        "tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": TOLERATION_SECONDS}]})
}

fn deployment(name: &str, dice: &Dice) -> Value {
    let strategy = match dice.below(3) {
        0 => json!({"type": "Recreate"}),
        1 => json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}),
        _ => json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": dice.below(3) + 1, "maxUnavailable": 0}}),
    };
    json!({"metadata": {"name": name}, "spec": {
        "replicas": dice.below(6), "strategy": strategy, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec(dice.below(3), "300m")}}})
}

/// Small enough that there is room on every node whatever else is there.
fn daemon_set(name: &str, dice: &Dice) -> Value {
    let rolling = match dice.one_in(2) {
        true => json!({"maxUnavailable": 1}),
        false => json!({"maxUnavailable": 0, "maxSurge": 1}),
    };
    let app = format!("{name}-daemon");
    json!({"metadata": {"name": name}, "spec": {
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}, "selector": {"matchLabels": {"app": app}},
        "template": {"metadata": {"labels": {"app": app}}, "spec": pod_spec(dice.below(3), "5m")}}})
}

fn stateful_set(name: &str, dice: &Dice) -> Value {
    let app = format!("{name}-stateful");
    json!({"metadata": {"name": name}, "spec": {
        "replicas": dice.below(4), "podManagementPolicy": *dice.pick(&["OrderedReady", "Parallel"]),
        "serviceName": name, "selector": {"matchLabels": {"app": app}},
        "template": {"metadata": {"labels": {"app": app}}, "spec": pod_spec(dice.below(3), "10m")}}})
}

fn new_image(dice: &Dice) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": format!("i:{}", dice.below(4))}]}}}})
}

fn job(name: &str, dice: &Dice) -> Value {
    let completions = dice.below(5) + 1;
    let mode = if dice.one_in(2) { "Indexed" } else { "NonIndexed" };
    let mut spec = pod_spec(0, "100m");
    spec["restartPolicy"] = "Never".into();
    json!({"metadata": {"name": name}, "spec": {
        "completions": completions, "parallelism": dice.below(3) + 1, "completionMode": mode, "backoffLimit": 20,
        "template": {"spec": spec}}})
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}})
}
