mod changes;
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
fn faults_of_a_container() {
    let rows = [
        (json!({"name": ""}), "spec.containers[0].name: Required value"),
        (json!({"image": ""}), "spec.containers[0].image: Required value"),
        (
            json!({"ports": [{"containerPort": 70000}]}),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (json!({"ports": [{}]}), "spec.containers[0].ports[0].containerPort: Required value"),
        (
            json!({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}),
            "spec.containers[0].ports[1].name: Duplicate value: \"a\"",
        ),
        (
            json!({"env": [{"name": "a", "valueFrom": {}}]}),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, \
             `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        (
            json!({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.odd"}}}]}),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.odd\": error converting \
             fieldPath: field label not supported: spec.odd",
        ),
        (
            json!({"envFrom": [{}]}),
            "spec.containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ),
        (
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
        ),
        (
            json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            json!({"resources": {"requests": {"cpu": "-1"}}}),
            "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        (json!({"livenessProbe": {}}), "spec.containers[0].livenessProbe: Required value: must specify a handler type"),
        (
            json!({"livenessProbe": {"tcpSocket": {"port": "http"}, "successThreshold": 2}}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            json!({"imagePullPolicy": "Soon"}),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Soon\": supported values: \"Always\", \
             \"IfNotPresent\", \"Never\"",
        ),
        (
            json!({"restartPolicy": "Never", "restartPolicyRules": [
                {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}}]}),
            "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"RestartAllContainers\": supported \
             values: \"Restart\"",
        ),
        (
            json!({"securityContext": {"runAsUser": -1}}),
            "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive",
        ),
        (
            json!({"securityContext": {"procMount": "Unmasked"}}),
            "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use \
             `Unmasked`",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp \
             type is Localhost",
        ),
    ];
    for (change, expected) in rows {
        let object = pod(|pod| {
            for (key, value) in change.as_object().unwrap() {
                pod["spec"]["containers"][0][key.as_str()] = value.clone();
            }
        });
        assert_eq!(errors(&object), [expected], "{change}");
    }
}

#[test]
fn users_of_its_own_let_a_pod_see_all_of_proc() {
    let object = pod(|pod| {
        pod["spec"]["hostUsers"] = json!(false);
        pod["spec"]["containers"][0]["securityContext"] = json!({"procMount": "Unmasked"});
    });
    assert_eq!(errors(&object), [""; 0]);
}

#[test]
fn faults_of_variables_from_files() {
    let check = |reference: Value, expected: &[&str]| {
        let object = pod(|pod| {
            pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}, {"name": "m", "configMap": {"name": "m"}}]);
            pod["spec"]["containers"][0]["env"] = json!([{"name": "a", "valueFrom": {"fileKeyRef": reference}}]);
        });
        let path = "spec.containers[0].env[0].valueFrom.fileKeyRef.";
        let expected: Vec<_> = expected.iter().map(|fault| format!("{path}{fault}")).collect();
        assert_eq!(errors(&object), expected, "{reference}");
    };
    check(json!({"volumeName": "v", "path": "vars/env", "key": "any.thing"}), &[]);
    check(json!({}), &["key: Required value", "path: Required value", "volumeName: Required value"]);
    check(
        json!({"volumeName": "v", "path": "../x", "key": "K"}),
        &["path: Invalid value: \"../x\": must not contain '..'"],
    );
    check(json!({"volumeName": "none", "path": "x", "key": "K"}), &["volumeName: Not found: \"none\""]);
    check(
        json!({"volumeName": "m", "path": "x", "key": "K"}),
        &["volumeName: Invalid value: \"m\": referenced volume must be of type emptyDir"],
    );
    check(
        json!({"volumeName": "v", "path": "x", "key": "A=B"}),
        &[
            "key: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
        ],
    );
}

#[test]
fn faults_of_a_spec() {
    let rows = [
        (json!({"containers": []}), "spec.containers: Required value"),
        (
            json!({"schedulingGroup": {"podGroupName": "g"}}),
            "spec.schedulingGroup: Forbidden: this cluster schedules pods one by one, not in groups",
        ),
        (
            json!({"restartPolicy": "Maybe"}),
            "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            json!({"initContainers": [{"name": "c", "image": "i"}]}),
            "spec.initContainers[0].name: Duplicate value: \"c\"",
        ),
        (
            json!({"initContainers": [{"name": "i", "image": "i", "readinessProbe": {"exec": {"command": ["a"]}}}]}),
            "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without \
             restartPolicy=Always",
        ),
        (json!({"volumes": [{"name": "v"}, {"name": "v"}]}), "spec.volumes[1].name: Duplicate value: \"v\""),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (json!({"volumes": [{"name": "v", "secret": {}}]}), "spec.volumes[0].secret.secretName: Required value"),
        (
            json!({"dnsPolicy": "None"}),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            json!({"activeDeadlineSeconds": 0}),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            json!({"tolerations": [{"operator": "Equal"}]}),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which \
             means \"match all values and all keys\"",
        ),
        (
            json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]}),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: \
             must have at least one node selector term",
        ),
        (
            json!({"ephemeralContainers": [{"name": "e", "image": "i", "targetContainerName": "x"}]}),
            "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
        ),
        (
            json!({"ephemeralContainers": [{"name": "e", "image": "i",
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]}]}),
            "spec.ephemeralContainers[0].resizePolicy: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!({"volumes": [{"name": "v", "emptyDir": {}}], "ephemeralContainers": [{"name": "e", "image": "i",
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}]}]}),
            "spec.ephemeralContainers[0].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container",
        ),
        (
            json!({"securityContext": {"seLinuxChangePolicy": "Soon"}}),
            "spec.securityContext.seLinuxChangePolicy: Unsupported value: \"Soon\": supported values: \"MountOption\", \
             \"Recursive\"",
        ),
        (
            json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {"runAsUserName": "u"}}}),
            "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
        ),
        (
            json!({"hostAliases": [{"ip": "x"}]}),
            "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ),
    ];
    for (change, expected) in rows {
        let object = pod(|pod| {
            for (key, value) in change.as_object().unwrap() {
                pod["spec"][key.as_str()] = value.clone();
            }
        });
        assert_eq!(errors(&object), [expected], "{change}");
    }
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
