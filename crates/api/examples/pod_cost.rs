//! Measures what defaulting and validating one pod of about 3 KB costs: `cargo run --release --example pod_cost`.

use std::time::Instant;

use knarr_api::{print, registry, strategy};
use serde_json::{Value, json};

fn pod() -> Value {
    let container = |name: &str| {
        json!({
            "name": name, "image": "registry.example.com/team/web:1.2.3", "args": ["--listen=:8080", "--verbose"],
            "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 9090, "name": "metrics"}],
            "env": [{"name": "A", "value": "1"}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "initialDelaySeconds": 5},
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}},
            "volumeMounts": [{"name": "config", "mountPath": "/etc/web"}, {"name": "tmp", "mountPath": "/tmp"}],
            "securityContext": {"runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web", "tier": "front"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"}},
        "spec": {
            "containers": [container("web"), container("sidecar")],
            "volumes": [{"name": "config", "configMap": {"name": "web"}}, {"name": "tmp", "emptyDir": {}}],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100,
                "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}}]}},
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300}],
            "nodeSelector": {"kubernetes.io/os": "linux"}, "serviceAccountName": "web",
        },
    })
}

fn main() {
    const ROUNDS: u32 = 20_000;
    let resource = registry::by_kind("", "v1", "Pod").expect("pods are built in");
    let rules = strategy::of(resource);
    let fresh = pod();
    let mut objects: Vec<Value> = (0..ROUNDS).map(|_| fresh.clone()).collect();
    let start = Instant::now();
    for object in &mut objects {
        rules.default(object);
        rules.prepare_create(object);
        assert!(rules.validate_create(object).is_empty());
    }
    println!("create of {} bytes: {:?}", fresh.to_string().len(), start.elapsed() / ROUNDS);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        rules.default(&mut objects[0]);
    }
    println!("defaults again: {:?}", start.elapsed() / ROUNDS);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        assert!(rules.validate_create(&objects[0]).is_empty());
    }
    println!("validation: {:?}", start.elapsed() / ROUNDS);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let start = Instant::now();
    for object in &objects {
        std::hint::black_box(print::row(resource, object, now));
    }
    println!("table row: {:?}", start.elapsed() / ROUNDS);
}
