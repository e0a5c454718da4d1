mod addresses;
mod laws;
mod samples;

use serde_json::{Value, json};

use samples::samples;

use super::*;

#[test]
fn status_is_a_subresource_of_its_own() {
    let strategy = of_kind("apps", "ReplicaSet");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let mut object = json!({
        "metadata": {"name": "r", "deletionTimestamp": "t"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template},
        "status": {"replicas": 9},
    });
    strategy.default(&mut object);
    strategy.prepare_create(&mut object);
    assert_eq!(object["status"], json!({"replicas": 0}));
    assert_eq!(object["metadata"], json!({"name": "r", "generation": 1}));

    let mut write = object.clone();
    write["spec"]["replicas"] = json!(5);
    write["status"]["replicas"] = json!(1);
    let mut main = write.clone();
    strategy.prepare_update(&mut main, &object, Part::Main);
    assert_eq!((&main["metadata"]["generation"], &main["status"]["replicas"]), (&json!(2), &json!(0)));
    let mut status = write;
    strategy.prepare_update(&mut status, &object, Part::Subresource("status"));
    assert_eq!((&status["metadata"]["generation"], &status["status"]["replicas"]), (&json!(1), &json!(1)));
    assert_eq!(status["spec"]["replicas"], json!(2));
}

#[test]
fn defaults_settle_after_one_run() {
    for (group, kind, object) in samples() {
        let strategy = of_kind(group, kind);
        let mut once = object;
        strategy.default(&mut once);
        let mut twice = once.clone();
        strategy.default(&mut twice);
        assert_eq!(once, twice, "{kind}");
    }
}

#[test]
fn good_objects_pass_and_can_be_written_back_unchanged() {
    for (group, kind, mut object) in samples() {
        let strategy = of_kind(group, kind);
        strategy.default(&mut object);
        strategy.prepare_create(&mut object);
        assert_eq!(strategy.validate_create(&object), [], "{kind}");
        let mut new = object.clone();
        strategy.default(&mut new);
        strategy.prepare_update(&mut new, &object, Part::Main);
        assert_eq!(strategy.validate_update(&new, &object, Part::Main), [], "{kind}");
        assert_eq!(new, object, "{kind}");
    }
}

#[test]
fn every_selectable_field_reads_from_an_empty_object() {
    for (group, kind, _) in samples() {
        let strategy = of_kind(group, kind);
        for field in strategy.selectable_fields() {
            let value = strategy.field(&Value::Null, field);
            assert!(matches!(value.as_ref(), "" | "false" | "0"), "{kind} {field} {value}");
        }
    }
}

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
            json!({"spec": {"signerName": "a/b"}}),
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
            json!({"spec": {"request": "eA==", "signerName": "a/b", "usages": ["any", "any"]}}),
            "spec.usages[1]: Duplicate value: \"any\"",
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

#[test]
fn namespaces_carry_their_name_and_their_finalizer() {
    let strategy = of_kind("", "Namespace");
    let mut object = json!({"metadata": {"name": "n"}});
    strategy.default(&mut object);
    strategy.prepare_create(&mut object);
    assert_eq!(
        object,
        json!({
            "metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        })
    );
    let mut emptied = object.clone();
    emptied["spec"] = json!({});
    let mut main = emptied.clone();
    strategy.prepare_update(&mut main, &object, Part::Main);
    assert_eq!(main["spec"], object["spec"]);
    strategy.prepare_update(&mut emptied, &object, Part::Subresource("finalize"));
    assert_eq!((&emptied["spec"], &emptied["status"]), (&json!({}), &json!({"phase": "Active"})));
}

#[test]
fn data_that_is_too_large_is_refused() {
    let object = json!({"data": {"a": "x".repeat(1024 * 1024 + 1)}});
    let errors: Vec<String> =
        of_kind("", "ConfigMap").validate_create(&object).iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["[]: Too long: may not be more than 1048576 bytes"]);
}

#[test]
fn probable_mistakes_are_warned_of() {
    let twice = json!({"containers": [{"env": [{"name": "A"}, {"name": "A"}]}]});
    let rows = [
        (
            "",
            "Pod",
            json!({"spec": twice}),
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be \
            dropped when using apply",
        ),
        (
            "apps",
            "Deployment",
            json!({"spec": {"template": {"spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}}}}),
            "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" \
            instead",
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}}),
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
        ),
    ];
    for (group, kind, object, expected) in rows {
        assert_eq!(of_kind(group, kind).warnings(&object), [expected]);
    }
    assert!(of_kind("apps", "Deployment").warnings(&json!({})).is_empty());
}

#[test]
fn what_nobody_follows_says_so() {
    let said = |group: &str, plural: &str| unfollowed(crate::registry::by_plural(group, "v1", plural).unwrap());
    for (group, plural, word) in [
        ("networking.k8s.io", "networkpolicies", "network policies"),
        ("storage.k8s.io", "volumeattributesclasses", "CSI"),
    ] {
        assert!(said(group, plural).is_some_and(|text| text.contains(word)), "{plural}");
    }
    for (group, plural) in [
        ("", "pods"),
        ("resource.k8s.io", "resourceclaims"),
        ("networking.k8s.io", "ingresses"),
        ("networking.k8s.io", "servicecidrs"),
        ("networking.k8s.io", "ipaddresses"),
        ("storage.k8s.io", "storageclasses"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "volumeattachments"),
    ] {
        assert_eq!(said(group, plural), None);
    }
}

#[test]
fn string_data_is_folded_into_data() {
    let mut secret = json!({"stringData": {"a": "hello"}, "data": {"b": "aGk="}});
    of_kind("", "Secret").default(&mut secret);
    assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "aGVsbG8=", "b": "aGk="}}));
}

#[test]
fn custom_resources_have_a_generation_over_all_their_content() {
    let old = json!({"metadata": {"generation": 1}, "data": 1, "status": {"a": 1}});
    let mut new = json!({"metadata": {}, "data": 2, "status": {"a": 2}});
    custom(true).prepare_update(&mut new, &old, Part::Main);
    assert_eq!(new, json!({"metadata": {"generation": 2}, "data": 2, "status": {"a": 1}}));
}
