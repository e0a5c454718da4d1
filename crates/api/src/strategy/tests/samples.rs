//! A good object of each kind that has rules.

use serde_json::{Value, json};

pub(super) fn samples() -> Vec<(&'static str, &'static str, Value)> {
    let pod = json!({"containers": [{"name": "c", "image": "web:1", "ports": [{"containerPort": 80}],
        "resources": {"limits": {"cpu": "0.5", "memory": "64Mi"}},
        "livenessProbe": {"httpGet": {"port": 80}}, "env": [{"name": "A", "value": "b"}]}]});
    let labels = json!({"app": "web"});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    let selector = json!({"matchLabels": labels});
    let meta = || json!({"name": "a", "namespace": "d", "uid": "u"});
    let mut never = template.clone();
    never["spec"]["restartPolicy"] = json!("Never");
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let webhook = json!({"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": "s", "namespace": "n"}}});
    vec![
        ("", "Pod", json!({"metadata": meta(), "spec": pod})),
        ("", "PodTemplate", json!({"metadata": meta(), "template": template})),
        ("", "ReplicationController", json!({"metadata": meta(), "spec": {"template": template}})),
        ("", "Service", json!({"metadata": meta(), "spec": {"ports": [{"port": 80}]}})),
        ("", "ConfigMap", json!({"metadata": meta(), "data": {"a": "b"}})),
        ("", "Secret", json!({"metadata": meta(), "stringData": {"a": "b"}})),
        ("", "Namespace", json!({"metadata": {"name": "n"}})),
        ("", "Node", json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2000m"}}})),
        ("", "Event", json!({"metadata": meta(), "involvedObject": {"namespace": "d"}})),
        (
            "",
            "Endpoints",
            json!({"metadata": meta(), "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 1}]}]}),
        ),
        (
            "",
            "LimitRange",
            json!({"metadata": meta(), "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]}}),
        ),
        ("", "ResourceQuota", json!({"metadata": meta(), "spec": {"hard": {"pods": "10"}}})),
        ("", "PersistentVolumeClaim", json!({"metadata": meta(), "spec": claim})),
        (
            "",
            "PersistentVolume",
            json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}}),
        ),
        ("apps", "Deployment", json!({"metadata": meta(), "spec": {"selector": selector, "template": template}})),
        ("apps", "ReplicaSet", json!({"metadata": meta(), "spec": {"selector": selector, "template": template}})),
        ("apps", "DaemonSet", json!({"metadata": meta(), "spec": {"selector": selector, "template": template}})),
        (
            "apps",
            "StatefulSet",
            json!({"metadata": meta(), "spec": {"selector": selector, "serviceName": "s",
            "template": template, "volumeClaimTemplates": [{"metadata": {"name": "v"}, "spec": claim}]}}),
        ),
        ("batch", "Job", json!({"metadata": meta(), "spec": {"template": never}})),
        (
            "batch",
            "CronJob",
            json!({"metadata": meta(), "spec": {"schedule": "@daily",
            "jobTemplate": {"spec": {"template": never}}}}),
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"metadata": meta(), "spec": {"defaultBackend":
            {"service": {"name": "s", "port": {"name": "http"}}}}}),
        ),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            json!({"metadata": meta(), "spec": {"podSelector": {},
            "egress": [{"ports": [{"port": 53}]}]}}),
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"metadata": meta(), "addressType": "IPv4", "ports": [{"port": 1}],
            "endpoints": [{"addresses": ["10.0.0.1"]}]}),
        ),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            json!({"metadata": meta(), "spec": {"maxReplicas": 3, "behavior": {},
            "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
        ),
        ("policy", "PodDisruptionBudget", json!({"metadata": meta(), "spec": {"minAvailable": "50%"}})),
        ("scheduling.k8s.io", "PriorityClass", json!({"metadata": {"name": "p"}, "value": 5})),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}),
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            json!({"metadata": meta(), "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "u"}]}),
        ),
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration",
            json!({"metadata": {"name": "m"},
            "webhooks": [webhook]}),
        ),
        ("storage.k8s.io", "StorageClass", json!({"metadata": {"name": "s"}, "provisioner": "a.b/c"})),
        ("storage.k8s.io", "CSIDriver", json!({"metadata": {"name": "s"}})),
        (
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            json!({"metadata": {"name": "foos.a.io"}, "spec": {
            "group": "a.io", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
        ),
        (
            "flowcontrol.apiserver.k8s.io",
            "PriorityLevelConfiguration",
            json!({"metadata": {"name": "l"}, "spec": {
            "type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}}),
        ),
        (
            "resource.k8s.io",
            "ResourceClaim",
            json!({"metadata": meta(), "spec": {"devices": {"requests": [
            {"name": "r", "exactly": {"deviceClassName": "c"}}]}}}),
        ),
    ]
}
