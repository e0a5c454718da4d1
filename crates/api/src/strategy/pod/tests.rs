mod changes;
mod faults;
mod resizes;

use serde_json::{Value, json};

use super::{super::Strategy, *};
use crate::strategy::Part;

fn pod(change: impl FnOnce(&mut Value)) -> Value {
    let mut object = json!({
        "metadata": {"name": "p", "namespace": "d"},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    });
    change(&mut object);
    POD.default(&mut object);
    POD.prepare_create(&mut object);
    object
}

fn errors(object: &Value) -> Vec<String> {
    POD.validate_create(object).iter().map(ToString::to_string).collect()
}

#[test]
fn a_small_pod_gets_the_documented_defaults() {
    let object = pod(|_| {});
    assert_eq!(
        object["spec"],
        json!({
            "containers": [{
                "name": "c", "image": "web:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
        })
    );
    assert_eq!(object["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    assert_eq!(object["metadata"]["generation"], 1);
}

#[test]
fn images_whose_tag_moves_are_pulled_always() {
    let rows = [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("host:5000/web", "Always"),
        ("host:5000/web:1", "IfNotPresent"),
        ("web@sha256:abc", "IfNotPresent"),
    ];
    for (image, policy) in rows {
        assert_eq!(defaults::pull_policy(image), policy, "{image}");
    }
}

#[test]
fn requests_follow_limits_and_amounts_become_canonical() {
    let object = pod(|pod| {
        pod["spec"]["containers"][0]["resources"] =
            json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}, "requests": {"cpu": 0.5}});
    });
    assert_eq!(
        object["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}})
    );
    assert_eq!(object["status"]["qosClass"], "Burstable");
}

#[test]
fn quality_of_service() {
    let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
    let rows = [
        (json!({"containers": [{}]}), "BestEffort"),
        (json!({"containers": [{"resources": full}]}), "Guaranteed"),
        (json!({"containers": [{"resources": full}, {}]}), "Burstable"),
        (json!({"containers": [{"resources": full}], "initContainers": [{}]}), "Burstable"),
        (json!({"containers": [{"resources": {"requests": {"cpu": "1m"}}}]}), "Burstable"),
        (json!({"containers": [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]}), "BestEffort"),
        (json!({"containers": [{}], "resources": full}), "Guaranteed"),
    ];
    for (spec, expected) in rows {
        assert_eq!(qos_class(&spec), expected, "{spec}");
    }
}

#[test]
fn host_network_ports_are_host_ports() {
    let object = pod(|pod| {
        pod["spec"]["hostNetwork"] = json!(true);
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80}]);
    });
    assert_eq!(
        object["spec"]["containers"][0]["ports"],
        json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}])
    );
    assert_eq!(errors(&object), [""; 0]);
}

#[test]
fn volumes_get_modes_and_a_kind() {
    let object = pod(|pod| {
        pod["spec"]["volumes"] = json!([
            {"name": "a"},
            {"name": "b", "configMap": {"name": "m"}},
            {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
                {"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
        ]);
    });
    assert_eq!(errors(&object), [""; 0]);
    assert_eq!(
        object["spec"]["volumes"],
        json!([
            {"name": "a", "emptyDir": {}},
            {"name": "b", "configMap": {"name": "m", "defaultMode": 420}},
            {"name": "c", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"downwardAPI": {"items": [{"path": "x", "fieldRef": {"apiVersion": "v1",
                    "fieldPath": "metadata.namespace"}}]}}]}},
        ])
    );
}

#[test]
fn deletion_waits_for_what_runs() {
    let rows = [
        (json!({"spec": {"terminationGracePeriodSeconds": 30}}), None, 0),
        (json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}}), None, 30),
        (json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}}), Some(5), 5),
        (json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}}), Some(0), 0),
        (json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": -1}}), None, 1),
        (json!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}), Some(9), 0),
    ];
    for (pod, requested, expected) in rows {
        assert_eq!(POD.deletion_grace(&pod, requested), Some(expected), "{pod}");
    }
}

#[test]
fn gated_pods_start_with_a_condition_and_label_keys_become_expressions() {
    let object = pod(|pod| {
        pod["metadata"]["labels"] = json!({"hash": "1"});
        pod["spec"]["schedulingGates"] = json!([{"name": "a.b/c"}]);
        pod["spec"]["topologySpreadConstraints"] = json!([{"maxSkew": 1, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}, "matchLabelKeys": ["hash", "absent"]}]);
    });
    assert_eq!(object["status"]["conditions"][0]["reason"], "SchedulingGated");
    assert_eq!(
        object["spec"]["topologySpreadConstraints"][0]["labelSelector"],
        json!({"matchExpressions": [{"key": "hash", "operator": "In", "values": ["1"]}]})
    );
}

#[test]
fn selectable_fields() {
    let pod = json!({"spec": {"nodeName": "n", "hostNetwork": true}, "status": {"podIPs": [{"ip": "1.2.3.4"}, {"ip": "::1"}]}});
    let rows =
        [("spec.nodeName", "n"), ("spec.hostNetwork", "true"), ("status.podIPs", "1.2.3.4,::1"), ("status.phase", "")];
    for (field, expected) in rows {
        assert_eq!(POD.field(&pod, field), expected);
    }
}

#[test]
fn options_of_windows_are_not_passed_over_in_silence() {
    let spec = json!({"securityContext": {"windowsOptions": {"runAsUserName": "u"}}, "containers": [
        {"name": "a"}, {"name": "b", "securityContext": {"windowsOptions": {"hostProcess": true}}}]});
    assert_eq!(
        warnings(&spec, "spec"),
        [
            "spec.securityContext.windowsOptions: has no effect, all nodes run Linux",
            "spec.containers[1].securityContext.windowsOptions: has no effect, all nodes run Linux",
        ]
    );
}

#[test]
fn claims_are_named_and_found() {
    let of = |claims: Value, wanted: Value| {
        errors(&pod(|pod| {
            pod["spec"]["resourceClaims"] = claims;
            pod["spec"]["containers"][0]["resources"]["claims"] = wanted;
        }))
    };
    let named = |name: &str| json!({"name": name, "resourceClaimName": "c"});
    let missing = "must be one of the names in pod.spec.resourceClaims";
    let at = "spec.containers[0].resources.claims";
    for (claims, wanted, expected) in [
        (json!([named("a")]), json!([{"name": "a"}, {"name": "a", "request": "r"}]), vec![]),
        (
            json!([named("a"), named("a")]),
            json!([]),
            vec!["spec.resourceClaims[1].name: Duplicate value: \"a\"".to_owned()],
        ),
        (
            json!([{"name": "a"}]),
            json!([]),
            vec![
                "spec.resourceClaims[0]: Required value: must specify one of: `resourceClaimName`, \
                 `resourceClaimTemplateName`"
                    .to_owned(),
            ],
        ),
        (json!([]), json!([{"name": "a"}]), vec![format!("{at}[0]: Not found: \"a\": {missing} which is empty")]),
        (
            json!([named("b"), named("a")]),
            json!([{"name": "c"}, {"name": "a"}, {"name": "a"}]),
            vec![format!("{at}[0]: Not found: \"c\": {missing}: a, b"), format!("{at}[2]: Duplicate value: \"a\"")],
        ),
    ] {
        assert_eq!(of(claims.clone(), wanted.clone()), expected, "{claims} {wanted}");
    }
}
