//! What a write costs.

use serde_json::json;

use super::{request, writer};
use crate::{
    apply::{apply, track_update},
    schema,
};

/// `cargo test -p knarr-api --release -- --ignored --nocapture apply::tests::speed`
#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", "labels": {"app": "x", "pod-template-hash": "1"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]},
        "spec": {
            "containers": [{
                "name": "web", "image": "nginx:1", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 443, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [{"name": "t", "mountPath": "/var/run/secrets", "readOnly": true}, {"name": "c", "mountPath": "/c"}],
            }],
            "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                        {"name": "c", "configMap": {"name": "c", "defaultMode": 420}}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
        },
    });
    let measure = |name: &str, rounds: u32, mut work: Box<dyn FnMut()>| {
        let start = std::time::Instant::now();
        (0..rounds).for_each(|_| work());
        println!("{name}: {:?} each", start.elapsed() / rounds);
    };
    let fresh = pod.clone();
    measure("clone a pod", 20_000, Box::new(move || drop(fresh.clone())));
    let fresh = pod.clone();
    measure(
        "track a create (clone included)",
        20_000,
        Box::new(move || track_update(writer("Pod", "m"), None, &mut fresh.clone())),
    );
    track_update(writer("Pod", "m"), None, &mut pod);
    println!("the pod has {} bytes", pod.to_string().len());
    let (pod_type, fresh) = (schema::of("", "v1", "Pod").unwrap(), pod.clone());
    measure("check a pod", 20_000, Box::new(move || assert!(schema::check(pod_type, &fresh).is_empty())));
    let fresh = pod.clone();
    measure("prune a pod (clone included)", 20_000, Box::new(move || schema::prune(pod_type, &mut fresh.clone())));
    let (fresh, patch) = (pod.clone(), json!({"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}}));
    measure(
        "a small strategic merge patch",
        20_000,
        Box::new(move || drop(crate::patch::strategic_merge_patch(pod_type, &fresh, &patch).unwrap())),
    );
    let mut bound = pod.clone();
    bound["spec"]["nodeName"] = json!("n1");
    let old = pod.clone();
    measure(
        "track an update (clone included)",
        20_000,
        Box::new(move || {
            track_update(writer("Pod", "s"), Some(&old), &mut bound.clone());
        }),
    );
    let old = pod.clone();
    let mut config = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"z": "1"}}});
    let mut round = 0;
    measure(
        "a small apply",
        20_000,
        Box::new(move || {
            round += 1;
            config["metadata"]["labels"]["z"] = json!(round.to_string());
            apply(request(writer("Pod", "a"), Some(&old), &config)).unwrap();
        }),
    );
}
