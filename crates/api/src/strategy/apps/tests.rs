use serde_json::{Value, json};

use super::{super::Strategy, *};
use crate::strategy::Part;

fn object(spec: Value) -> Value {
    let template =
        json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let mut base = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template, "serviceName": "s"});
    for (key, value) in spec.as_object().unwrap() {
        base[key.as_str()] = value.clone();
    }
    json!({"metadata": {"name": "w"}, "spec": base})
}

fn errors(rules: &Rules, spec: Value) -> Vec<String> {
    let mut object = object(spec);
    rules.default(&mut object);
    rules.prepare_create(&mut object);
    rules.validate_create(&object).iter().map(ToString::to_string).collect()
}

#[test]
fn a_deployment_has_the_documented_defaults() {
    let mut deployment = object(json!({}));
    DEPLOYMENT.default(&mut deployment);
    let spec = &deployment["spec"];
    assert_eq!(
        (&spec["replicas"], &spec["revisionHistoryLimit"], &spec["progressDeadlineSeconds"]),
        (&json!(1), &json!(10), &json!(600))
    );
    assert_eq!(
        spec["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(spec["template"]["spec"]["restartPolicy"], "Always");
    assert_eq!(spec["template"]["spec"].get("enableServiceLinks"), None);
    let mut recreate = object(json!({"strategy": {"type": "Recreate"}}));
    DEPLOYMENT.default(&mut recreate);
    assert_eq!(recreate["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
fn faults_of_workloads() {
    let rows: [(&Rules, Value, &str); 12] = [
        (&DEPLOYMENT, json!({}), ""),
        (&DEPLOYMENT, json!({"replicas": -1}), "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        (
            &DEPLOYMENT,
            json!({"selector": null}),
            "spec.selector: Required value; spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` \
             does not match template `labels`",
        ),
        (
            &DEPLOYMENT,
            json!({"selector": {}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            &DEPLOYMENT,
            json!({"selector": {"matchLabels": {"app": "other"}}}),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
        ),
        (
            &DEPLOYMENT,
            json!({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
        ),
        (
            &DEPLOYMENT,
            json!({"strategy": {"type": "Recreate", "rollingUpdate": {}}}),
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            &DEPLOYMENT,
            json!({"minReadySeconds": 600}),
            "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
        ),
        (
            &REPLICA_SET,
            json!({"template": {"metadata": {"labels": {"app": "web"}}, "spec": {"restartPolicy": "Never",
                "containers": [{"name": "c", "image": "i"}]}}}),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            &STATEFUL_SET,
            json!({"podManagementPolicy": "Odd"}),
            "spec.podManagementPolicy: Invalid value: \"Odd\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            &DAEMON_SET,
            json!({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 0}}}),
            "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0 when maxSurge is 0",
        ),
        (
            &DAEMON_SET,
            json!({"selector": {}}),
            "spec.selector: Invalid value: {}: empty selector is invalid for daemonset",
        ),
    ];
    for (rules, spec, expected) in rows {
        let found = errors(rules, spec.clone());
        assert_eq!(found.join("; "), expected, "{spec}");
    }
}

#[test]
fn what_may_not_change_in_workloads() {
    let selector = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]});
    let forbidden = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', \
                     'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                     'minReadySeconds' are forbidden";
    let immutable = "spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Exists\"}]}: field \
                     is immutable";
    let rows: [(&Rules, Value, &str); 4] = [
        (&DEPLOYMENT, json!({"selector": selector}), immutable),
        (&DAEMON_SET, json!({"selector": selector}), immutable),
        (&STATEFUL_SET, json!({"serviceName": "other"}), forbidden),
        (&STATEFUL_SET, json!({"replicas": 7}), ""),
    ];
    for (rules, spec, expected) in rows {
        let mut old = object(json!({}));
        rules.default(&mut old);
        rules.prepare_create(&mut old);
        let mut new = object(spec);
        rules.default(&mut new);
        rules.prepare_update(&mut new, &old, Part::Main);
        let found: Vec<String> =
            rules.validate_update(&new, &old, Part::Main).iter().map(ToString::to_string).collect();
        assert_eq!(found.join("; "), expected);
        assert_eq!(new["metadata"]["generation"], 2);
    }
}

#[test]
fn a_daemon_set_counts_the_changes_of_its_template() {
    let key = "deprecated.daemonset.template.generation";
    let mut old = object(json!({}));
    DAEMON_SET.default(&mut old);
    DAEMON_SET.prepare_create(&mut old);
    assert_eq!(old["metadata"]["annotations"][key], "1");
    let mut new = old.clone();
    new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j");
    DAEMON_SET.prepare_update(&mut new, &old, Part::Main);
    assert_eq!(new["metadata"]["annotations"][key], "2");
}

#[test]
fn a_replication_controller_takes_its_selector_from_its_template() {
    let mut object = object(json!({"selector": null}));
    REPLICATION_CONTROLLER.default(&mut object);
    assert_eq!(object["spec"]["selector"], json!({"app": "web"}));
    assert_eq!(object["metadata"]["labels"], json!({"app": "web"}));
    assert!(REPLICATION_CONTROLLER.validate_create(&object).is_empty());
}
