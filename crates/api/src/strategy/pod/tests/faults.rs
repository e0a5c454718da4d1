//! What is wrong with pods.

use serde_json::{Value, json};

use super::{errors, pod};

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
fn users_of_its_own_go_with_nothing_else_of_the_host() {
    let mut object = pod(|pod| {
        let spec = &mut pod["spec"];
        spec["hostUsers"] = json!(false);
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            spec[field] = json!(true);
        }
        spec["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]);
        spec["containers"][0]["volumeDevices"] = json!([{"name": "v", "devicePath": "/dev/v"}]);
    });
    let forbidden = ["hostNetwork", "hostPID", "hostIPC", "containers[0].volumeDevices"]
        .map(|field| format!("spec.{field}: Forbidden: when `hostUsers` is false"));
    assert_eq!(errors(&object), forbidden);
    object["spec"]["hostUsers"] = json!(true);
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
fn faults_of_projected_volumes() {
    let base = "spec.volumes[0].projected";
    let one = |source: Value| json!([{"clusterTrustBundle": source}]);
    let item = |path: &str| json!({"name": "m", "items": [{"key": "k", "path": path}]});
    let rows = [
        (one(json!({"name": "b", "path": "p"})), ""),
        (one(json!({"name": "a.b:c:d", "path": "p"})), ""),
        (one(json!({"signerName": "a.b/c", "labelSelector": {"matchLabels": {"x": "y"}}, "path": "p"})), ""),
        (
            one(json!({"name": "b", "signerName": "a.b/c", "path": "p"})),
            ".sources[0].clusterTrustBundlePEM: Invalid value: {\"name\":\"b\",\"path\":\"p\",\"signerName\":\"a.b/c\"}: \
             only one of name and signerName may be used",
        ),
        (
            one(json!({"path": "p"})),
            ".sources[0].clusterTrustBundlePEM: Required value: either name or signerName must be specified",
        ),
        (
            one(json!({"name": "b", "labelSelector": {}, "path": "p"})),
            ".sources[0].clusterTrustBundlePEM.labelSelector: Invalid value: {}: labelSelector must be unset if name is \
             specified",
        ),
        (
            one(json!({"name": "a.b:c:-", "path": "p"})),
            ".sources[0].clusterTrustBundlePEM.name: Invalid value: \"a.b:c:-\": not a valid clustertrustbundlename: a \
             lowercase RFC 1123 subdomain must consist of",
        ),
        (
            one(json!({"signerName": "a.b", "path": "p"})),
            ".sources[0].clusterTrustBundlePEM.signerName: Invalid value: \"a.b\": must be a fully qualified domain and \
             path of the form 'example.com/signer-name'",
        ),
        (
            one(json!({"signerName": "a.b/c", "labelSelector": {"matchLabels": {"x": "-"}}, "path": "p"})),
            ".sources[0].clusterTrustBundlePEM.labelSelector.matchLabels: Invalid value: \"-\"",
        ),
        (one(json!({"name": "b"})), ".sources[0].clusterTrustBundlePEM.path: Required value"),
        (
            one(json!({"name": "b", "path": "a/../b"})),
            ".sources[0].clusterTrustBundlePEM.path: Invalid value: \"a/../b\": must not contain '..'",
        ),
        (
            json!([{"clusterTrustBundle": {"name": "b", "path": "p"}, "secret": {"name": "s"}}]),
            ".sources[0].clusterTrustBundle: Forbidden: may not specify more than 1 volume type",
        ),
        (json!([{}]), ".sources[0]: Required value: must specify a volume type"),
        (
            json!([{"configMap": item("p")}, {"clusterTrustBundle": {"name": "b", "path": "p"}}]),
            ": Invalid value: \"p\": conflicting duplicate paths",
        ),
        (
            json!([{"configMap": item("p")}, {"secret": item("p")}]),
            ": Invalid value: \"m\": conflicting duplicate paths",
        ),
    ];
    for (sources, expected) in rows {
        let object =
            pod(|pod| pod["spec"]["volumes"] = json!([{"name": "v", "projected": {"sources": sources.clone()}}]));
        let found = errors(&object);
        assert!(found.len() == usize::from(!expected.is_empty()), "{sources}: {found:?}");
        assert!(found.iter().all(|error| error.starts_with(&format!("{base}{expected}"))), "{sources}: {found:?}");
    }
}
