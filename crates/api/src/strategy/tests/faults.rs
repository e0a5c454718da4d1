//! What is wrong with objects of many kinds, and what of them may not change.

use serde_json::json;

use super::*;

#[test]
fn first_faults_of_many_kinds() {
    let rows = [
        ("", "ConfigMap", json!({"data": {"a/b": ""}}), "data[a/b]: Invalid value: \"a/b\": a valid config key must"),
        ("", "Secret", json!({"type": "kubernetes.io/tls"}), "data[tls.crt]: Required value"),
        ("", "PersistentVolumeClaim", json!({"spec": {}}), "spec.accessModes: Required value: at least 1 access mode"),
        (
            "storage.k8s.io",
            "CSIDriver",
            json!({"metadata": {"name": "d"}, "spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 599}]}}),
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            "storage.k8s.io",
            "CSIDriver",
            json!({"metadata": {"name": "d_d"}, "spec": {}}),
            "metadata.name: Invalid value: \"d_d\": a lowercase RFC 1123 subdomain must consist of",
        ),
        (
            "storage.k8s.io",
            "CSINode",
            json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["a", "a"]}]}}),
            "spec.drivers[0].topologyKeys: Duplicate value: \"a\"",
        ),
        (
            "storage.k8s.io",
            "CSINode",
            json!({"metadata": {"name": "n"}, "spec": {"drivers": [{"name": "d", "nodeID": "n", "allocatable": {"count": -1}}]}}),
            "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "",
            "PersistentVolume",
            json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s", "namespace": "x"}}}}),
            "spec.csi.volumeHandle: Required value",
        ),
        (
            "",
            "PersistentVolume",
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}),
            "spec: Required value: must specify a volume type",
        ),
        (
            "",
            "Node",
            json!({"spec": {"taints": [{"key": "a", "effect": "Sometimes"}]}}),
            "spec.taints[0].effect: Unsupported value: \"Sometimes\": supported values: \"NoSchedule\"",
        ),
        (
            "",
            "LimitRange",
            json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}}),
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"spec": {}}),
            "spec: Invalid value: {}: either `defaultBackend` or `rules` must be specified",
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"spec": {"rules": [{"http": {"paths": [{"path": "/", "backend":
            {"service": {"name": "s", "port": {"number": 80}}}}]}}]}}),
            "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
        ),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            json!({"spec": {"podSelector": {}, "ingress": [{"from": [{}]}]}}),
            "spec.ingress[0].from[0]: Required value: must specify a peer",
        ),
        (
            "policy",
            "PodDisruptionBudget",
            json!({"spec": {"minAvailable": 1, "maxUnavailable": 1}}),
            "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both",
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            json!({"metadata": {"name": "p"}, "value": 2_000_000_000}),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            "rbac.authorization.k8s.io",
            "Role",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
            "rules[0].verbs: Required value: verbs must contain at least one value",
        ),
        (
            "rbac.authorization.k8s.io",
            "ClusterRoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}}),
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}]}),
            "endpoints[0].addresses[0]: Invalid value: \"::1\": must be a valid IPv4 address",
        ),
        (
            "coordination.k8s.io",
            "Lease",
            json!({"spec": {"leaseDurationSeconds": 0}}),
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
        ),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 0,
            "scaleTargetRef": {"kind": "Deployment", "name": "d"}}}),
            "spec.maxReplicas: Invalid value: 0: must be greater than 0",
        ),
        (
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            json!({"metadata": {"name": "x"}, "spec": {}}),
            "metadata.name: Invalid value: \"x\": must be spec.names.plural+\".\"+spec.group",
        ),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration",
            json!({"webhooks": [{"name": "a"}]}),
            "webhooks[0].name: Invalid value: \"a\": should be a domain with at least three segments",
        ),
        (
            "certificates.k8s.io",
            "CertificateSigningRequest",
            json!({"spec": {"signerName": "a.b/c"}}),
            "spec.request: Required value",
        ),
        (
            "certificates.k8s.io",
            "CertificateSigningRequest",
            json!({"spec": {"request": "eA==", "signerName": "kubernetes.io/legacy-unknown", "usages": ["any"]}}),
            "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed",
        ),
        (
            "certificates.k8s.io",
            "CertificateSigningRequest",
            json!({"spec": {"request": "eA==", "signerName": "a.b/c", "usages": ["any", "any"]}}),
            "spec.usages[1]: Duplicate value: \"any\"",
        ),
        (
            "certificates.k8s.io",
            "CertificateSigningRequest",
            json!({"spec": {"request": "eA==", "signerName": "a/b", "usages": ["any"]}}),
            "spec.signerName: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
        ),
        (
            "apiregistration.k8s.io",
            "APIService",
            json!({"metadata": {"name": "v1.a.io"}, "spec": {"group": "a.io", "version": "v1", "versionPriority": 1,
                "groupPriorityMinimum": 1, "service": {"name": "s"}}}),
            "spec.service.namespace: Required value",
        ),
        (
            "apiregistration.k8s.io",
            "APIService",
            json!({"metadata": {"name": "v1.b.io"}, "spec": {"group": "a.io", "version": "v1"}}),
            "metadata.name: Invalid value: \"v1.b.io\": must be `spec.version+\".\"+spec.group`: \"v1.a.io\"",
        ),
        ("storage.k8s.io", "StorageClass", json!({}), "provisioner: Required value"),
        ("node.k8s.io", "RuntimeClass", json!({}), "handler: Required value"),
    ];
    for (group, kind, mut object, expected) in rows {
        let strategy = of_kind(group, kind);
        strategy.default(&mut object);
        strategy.prepare_create(&mut object);
        let errors = strategy.validate_create(&object);
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        assert!(first.starts_with(expected), "{kind}: {first}");
    }
}

#[test]
fn what_may_not_change() {
    let rows = [
        (
            "",
            "Secret",
            json!({"type": "Opaque"}),
            json!({"type": "kubernetes.io/basic-auth", "data": {"username": ""}}),
            "type: Invalid value: \"kubernetes.io/basic-auth\": field is immutable",
        ),
        (
            "",
            "ConfigMap",
            json!({"immutable": true, "data": {"a": "1"}}),
            json!({"immutable": true, "data": {"a": "2"}}),
            "data: Forbidden: field is immutable when `immutable` is set",
        ),
        (
            "storage.k8s.io",
            "StorageClass",
            json!({"provisioner": "a"}),
            json!({"provisioner": "b"}),
            "provisioner: Forbidden: updates to provisioner are forbidden.",
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "a"}}),
            json!({"roleRef": {"kind": "Role", "name": "b"}}),
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"b\"}: cannot \
             change roleRef",
        ),
        (
            "",
            "Node",
            json!({"spec": {"podCIDR": "10.0.0.0/24"}}),
            json!({"spec": {"podCIDR": "10.0.1.0/24"}}),
            "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
        ),
        (
            "apps",
            "ControllerRevision",
            json!({"data": {"a": 1}, "revision": 1}),
            json!({"data": {"a": 2}, "revision": 1}),
            "data: Invalid value: {\"a\":2}: field is immutable",
        ),
    ];
    for (group, kind, mut old, mut new, expected) in rows {
        let strategy = of_kind(group, kind);
        strategy.default(&mut old);
        strategy.default(&mut new);
        strategy.prepare_update(&mut new, &old, Part::Main);
        let errors: Vec<String> =
            strategy.validate_update(&new, &old, Part::Main).iter().map(ToString::to_string).collect();
        assert_eq!(errors, [expected], "{kind}");
    }
}
