//! How large a Pod is and how long it takes, in both encodings.

use serde_json::{Value, json};

use crate::protobuf::{Encoder, decode, envelope};

/// A Pod as a Deployment's are once they run.
fn pod() -> Value {
    let env = |name: &str, value: &str| json!({ "name": name, "value": value });
    let probe = |path: &str| {
        json!({ "httpGet": { "path": path, "port": "http", "scheme": "HTTP" }, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3 })
    };
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-14T22:13:20Z" });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "resourceVersion": "123456", "name": "web-6d4cf56db6-x2x4z", "generateName": "web-6d4cf56db6-",
            "namespace": "default", "uid": "0f5c1a62-9c0e-4b8f-8f0a-3f5d3f3e8f11", "generation": 1,
            "creationTimestamp": "2026-11-14T22:13:20Z", "labels": { "app": "web", "pod-template-hash": "6d4cf56db6" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-6d4cf56db6",
                "uid": "6c1b2c0a-8f0e-4a1e-9a43-0e7f4f5d2a11", "controller": true, "blockOwnerDeletion": true }],
            "managedFields": [{ "manager": "knarr", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "time": "2026-11-14T22:13:20Z", "fieldsV1": { "f:metadata": { "f:generateName": {}, "f:labels": {
                ".": {}, "f:app": {}, "f:pod-template-hash": {} } }, "f:spec": { "f:containers": {
                "k:{\"name\":\"web\"}": { ".": {}, "f:env": {}, "f:image": {}, "f:name": {}, "f:ports": {} } } } } }],
        },
        "spec": {
            "containers": [{ "name": "web", "image": "registry.k8s.io/e2e-test-images/nginx:1.15-4",
                "imagePullPolicy": "IfNotPresent", "env": [env("A", "1"), env("LOG_LEVEL", "info")],
                "ports": [{ "name": "http", "containerPort": 80, "protocol": "TCP" }],
                "resources": { "limits": { "memory": "128Mi" }, "requests": { "cpu": "100m", "memory": "64Mi" } },
                "livenessProbe": probe("/livez"), "readinessProbe": probe("/readyz"),
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [{ "name": "kube-api-access-7x2lq", "readOnly": true,
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }] }],
            "volumes": [{ "name": "kube-api-access-7x2lq", "projected": { "defaultMode": 420, "sources": [
                { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
                { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } }] } }],
            "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": 300 }],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "nodeName": "node-1", "securityContext": {}, "priority": 0,
            "schedulerName": "default-scheduler", "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {
            "phase": "Running", "hostIP": "10.0.0.4", "podIP": "10.42.0.17", "podIPs": [{ "ip": "10.42.0.17" }],
            "startTime": "2026-11-14T22:13:20Z", "qosClass": "Burstable",
            "conditions": [condition("Initialized"), condition("Ready"), condition("ContainersReady"),
                condition("PodScheduled")],
            "containerStatuses": [{ "name": "web", "ready": true, "started": true, "restartCount": 0,
                "image": "registry.k8s.io/e2e-test-images/nginx:1.15-4",
                "state": { "running": { "startedAt": "2026-11-14T22:13:21Z" } },
                "containerID": "knarr://4c01db0b339c1f3c0a7f2a0f9d0b1a2c3d4e5f60718293a4b5c6d7e8f9a0b1c2" }],
        },
    })
}

/// What is written in docs/decisions: `cargo test --release -p knarr-api -- --ignored --nocapture measure`.
#[test]
#[ignore = "a measurement"]
fn measure() {
    let json = pod().to_string();
    let encoder = Encoder::of("", "v1", "Pod").unwrap();
    let message = encoder.message(json.as_bytes()).unwrap();
    let body = envelope("v1", "Pod", &message);
    let each = |work: &mut dyn FnMut()| {
        let (rounds, start) = (20_000, std::time::Instant::now());
        (0..rounds).for_each(|_| work());
        start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
    };
    let parse = each(&mut || drop(serde_json::from_str::<Value>(&json)));
    let write = each(&mut || drop(encoder.message(json.as_bytes())));
    let read = each(&mut || drop(decode(&body)));
    println!(
        "JSON {} bytes, protobuf {}; us: JSON to tree {parse:.1}, JSON to protobuf {write:.1}, protobuf to tree {read:.1}",
        json.len(),
        message.len()
    );
}
