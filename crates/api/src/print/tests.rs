use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{registry, strategy};

fn now() -> Timestamp {
    "2026-01-01T01:00:00Z".parse().unwrap()
}

fn cells(group: &str, kind: &str, object: &Value) -> Vec<String> {
    let version = match kind {
        "HorizontalPodAutoscaler" => "v2",
        "ClusterTrustBundle" => "v1beta1",
        _ => "v1",
    };
    let resource = registry::by_kind(group, version, kind).unwrap();
    let show = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    row(resource, object, now()).iter().map(show).collect()
}

#[test]
fn every_row_of_the_registry_has_rules_and_prints() {
    for resource in registry::builtins() {
        let rules = strategy::of(resource);
        let mut object = json!({"metadata": {"name": "x"}});
        rules.default(&mut object);
        rules.prepare_create(&mut object);
        rules.validate_create(&object);
        let columns = columns(resource);
        for object in [&object, &Value::Null] {
            assert_eq!(row(resource, object, now()).len(), columns.len(), "{}", resource.kind);
        }
        let named = columns.iter().filter(|column| column.format == "name").count();
        assert_eq!(named, 1, "{}: kubectl finds names by this format", resource.kind);
        let has_status = resource.subresource("status").is_some();
        let kept = object.get("status").is_some();
        assert_eq!(has_status, kept, "{}: status is a subresource of exactly these", resource.kind);
    }
}

fn pod(status: Value, change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut object = json!({
        "metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": status,
    });
    change(&mut object);
    cells("", "Pod", &object)[1..4].to_vec()
}

#[test]
fn pods_say_how_they_are() {
    let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
    let waiting = |reason: &str| {
        json!({"restartCount": 3, "state": {"waiting": {"reason": reason}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:55:00Z"}}})
    };
    let ended = |reason: &str, code: i64| json!({"state": {"terminated": {"reason": reason, "exitCode": code}}});
    let rows = [
        (json!({"phase": "Pending"}), ["0/2", "Pending", "0"]),
        (json!({"phase": "Running", "containerStatuses": [running, running]}), ["2/2", "Running", "0"]),
        (
            json!({"phase": "Running", "containerStatuses": [running, waiting("CrashLoopBackOff")]}),
            ["1/2", "CrashLoopBackOff", "3 (5m ago)"],
        ),
        (
            json!({"phase": "Pending", "containerStatuses": [waiting("ContainerCreating")]}),
            ["0/2", "ContainerCreating", "3 (5m ago)"],
        ),
        (json!({"phase": "Succeeded", "containerStatuses": [ended("Completed", 0)]}), ["0/2", "Completed", "0"]),
        (
            json!({"phase": "Running", "containerStatuses": [running, ended("Completed", 0)],
                "conditions": [{"type": "Ready", "status": "True"}]}),
            ["1/2", "Running", "0"],
        ),
        (json!({"phase": "Running", "containerStatuses": [running, ended("Completed", 0)]}), ["1/2", "NotReady", "0"]),
        (json!({"phase": "Failed", "containerStatuses": [ended("Error", 1)]}), ["0/2", "Error", "0"]),
        (json!({"phase": "Failed", "containerStatuses": [ended("", 9)]}), ["0/2", "ExitCode:9", "0"]),
        (json!({"phase": "Failed", "reason": "Evicted"}), ["0/2", "Evicted", "0"]),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}),
            ["0/2", "SchedulingGated", "0"],
        ),
    ];
    for (status, expected) in rows {
        assert_eq!(pod(status.clone(), |_| {}), expected, "{status}");
    }
    let dying = |object: &mut Value| object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:59:00Z");
    assert_eq!(pod(json!({"phase": "Running", "containerStatuses": [running]}), dying)[1], "Terminating");
    assert_eq!(pod(json!({"phase": "Running", "reason": "NodeLost"}), dying)[1], "Unknown");
}

#[test]
fn pods_say_how_far_they_have_begun() {
    let init = |object: &mut Value| {
        object["spec"]["initContainers"] = json!([{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]);
    };
    let rows = [
        (json!([{"name": "i", "state": {"running": {}}}]), ["0/3", "Init:0/2", "0"]),
        (
            json!([{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]),
            ["0/3", "Init:Error", "0"],
        ),
        (json!([{"name": "i", "state": {"terminated": {"exitCode": 1}}}]), ["0/3", "Init:ExitCode:1", "0"]),
        (
            json!([{"name": "i", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]),
            ["0/3", "Init:CrashLoopBackOff", "2"],
        ),
        (
            json!([{"name": "i", "state": {"terminated": {"exitCode": 0}}},
                {"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}]),
            ["1/3", "Pending", "1"],
        ),
    ];
    for (statuses, expected) in rows {
        assert_eq!(pod(json!({"phase": "Pending", "initContainerStatuses": statuses}), init), expected, "{statuses}");
    }
}

#[test]
fn the_common_kinds_print_as_kubectl_shows_them() {
    let meta = json!({"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"});
    let template = json!({"spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let rows: [(&str, &str, Value, &[&str]); 19] = [
        (
            "apps",
            "Deployment",
            json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template},
                "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}}),
            &["x", "2/3", "3", "1", "60m", "c", "i:1", "a=b"],
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
            &["x", "NodePort", "10.0.0.1", "<none>", "80:30080/TCP,53/UDP", "60m", "<none>"],
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.0.1"], "ports": [], "selector": {"a": "b"}}}),
            &["x", "LoadBalancer", "10.0.0.1", "<pending>", "<none>", "60m", "a=b"],
        ),
        (
            "",
            "Node",
            json!({"metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": true},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"},
                "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}]}}),
            &[
                "x",
                "Ready,SchedulingDisabled",
                "control-plane",
                "60m",
                "v1",
                "1.2.3.4",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>",
            ],
        ),
        ("", "Namespace", json!({"status": {"phase": "Active"}}), &["x", "Active", "60m"]),
        ("", "ConfigMap", json!({"data": {"a": "1"}, "binaryData": {"b": ""}}), &["x", "2", "60m"]),
        ("", "Secret", json!({"type": "Opaque", "data": {"a": ""}}), &["x", "Opaque", "1", "60m"]),
        (
            "batch",
            "Job",
            json!({"spec": {"completions": 2, "template": template}, "status": {"succeeded": 1,
                "startTime": "2026-01-01T00:58:00Z"}}),
            &["x", "Running", "1/2", "2m", "60m", "c", "i:1", "<none>"],
        ),
        (
            "batch",
            "CronJob",
            json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": template}}}}),
            &["x", "@daily", "<none>", "False", "0", "<none>", "60m", "c", "i:1", "<none>"],
        ),
        (
            "",
            "Event",
            json!({"lastTimestamp": "2026-01-01T00:59:30Z", "firstTimestamp": "2026-01-01T00:50:00Z", "type": "Normal",
                "reason": "Pulled", "message": "m\n", "count": 4, "involvedObject": {"kind": "Pod", "name": "p"},
                "source": {"component": "kubelet", "host": "n"}}),
            &["30s", "Normal", "Pulled", "pod/p", "", "kubelet, n", "m", "10m", "4", "x"],
        ),
        (
            "",
            "Endpoints",
            json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "ports": [{"port": 80}, {"port": 81}]}]}),
            &["x", "1.1.1.1:80,1.1.1.1:81,1.1.1.2:80 + 1 more...", "60m"],
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["1.1.1.1"]}]}),
            &["x", "IPv4", "80", "1.1.1.1", "60m"],
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"spec": {"rules": [{"host": "a.b"}, {}], "tls": [{}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
            &["x", "<none>", "a.b", "1.2.3.4", "80, 443", "60m"],
        ),
        (
            "",
            "PersistentVolumeClaim",
            json!({"spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"},
                "status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
            &["x", "Bound", "v", "1Gi", "RWO", "s", "<unset>", "60m", "Filesystem"],
        ),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 5, "minReplicas": 1, "scaleTargetRef": {"kind": "Deployment", "name": "d"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}]},
                "status": {"currentReplicas": 2}}),
            &["x", "Deployment/d", "cpu: <unknown>/80%", "1", "5", "2", "60m"],
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"},
                {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
            &["x", "Role/r", "60m", "u", "", "n/s"],
        ),
        (
            "certificates.k8s.io",
            "CertificateSigningRequest",
            json!({"spec": {"signerName": "a/b", "username": "u", "expirationSeconds": 3600},
                "status": {"certificate": "c", "conditions": [{"type": "Approved"}]}}),
            &["x", "60m", "a/b", "u", "60m", "Approved,Issued"],
        ),
        ("certificates.k8s.io", "ClusterTrustBundle", json!({"spec": {"signerName": "a.b/c"}}), &["x", "a.b/c"]),
        ("certificates.k8s.io", "ClusterTrustBundle", json!({"spec": {}}), &["x", "<none>"]),
    ];
    for (group, kind, mut object, expected) in rows {
        if object["metadata"].is_null() {
            object["metadata"] = meta.clone();
        }
        assert_eq!(cells(group, kind, &object), expected, "{kind}");
    }
}

#[test]
fn new_style_events_print_like_old_ones() {
    let event = json!({"metadata": {"name": "x"}, "note": "m", "regarding": {"kind": "Pod", "name": "p"},
        "eventTime": "2026-01-01T00:59:00.000000Z", "reportingController": "c"});
    let cells = cells("events.k8s.io", "Event", &event);
    assert_eq!(
        (cells[0].as_str(), cells[3].as_str(), cells[5].as_str(), cells[6].as_str()),
        ("60s", "pod/p", "c", "m")
    );
}

#[test]
fn ended_pods_are_marked() {
    let resource = registry::by_kind("", "v1", "Pod").unwrap();
    let reason = |phase: &str| {
        row_conditions(resource, &json!({"status": {"phase": phase}})).map(|list| list[0]["reason"].clone())
    };
    assert_eq!(reason("Succeeded"), Some(json!("Succeeded")));
    assert_eq!(reason("Failed"), Some(json!("Failed")));
    assert_eq!(reason("Running"), None);
}
