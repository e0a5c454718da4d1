//! What is wrong with claims, slices, classes and what becomes of claims, as the API server says it.

use serde_json::{Value, json};

use crate::{
    field::FieldError,
    strategy::{Part, of_kind},
};

const GROUP: &str = "resource.k8s.io";

fn said(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// What is said of a new object, which gets its defaults first.
fn faults(kind: &str, spec: Value) -> Vec<String> {
    let mut object = json!({"metadata": {"name": "x"}, "spec": spec});
    let rules = of_kind(GROUP, kind);
    rules.default(&mut object);
    said(&rules.validate_create(&object))
}

fn merged(mut base: Value, change: Value) -> Value {
    json_patch::merge(&mut base, &change);
    base
}

fn exactly(change: Value) -> Value {
    json!({"devices": {"requests": [{"name": "r", "exactly": merged(json!({"deviceClassName": "c"}), change)}]}})
}

#[test]
fn claims_are_checked() {
    let with = |more: Value| merged(exactly(json!({})), json!({"devices": more}));
    let reference =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let at = "spec.devices.requests[0]";
    let one_of = "exactly one of `exactly` or `firstAvailable` is required";
    for (spec, expected) in [
        (json!({}), vec![]),
        (exactly(json!({})), vec![]),
        (exactly(json!({"allocationMode": "All"})), vec![]),
        (
            exactly(json!({"allocationMode": "All", "count": 2})),
            vec![format!("{at}.exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'")],
        ),
        (exactly(json!({"count": -1})), vec![format!("{at}.exactly.count: Invalid value: -1: must be greater than zero")]),
        (
            exactly(json!({"allocationMode": "Some"})),
            vec![format!("{at}.exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"")],
        ),
        (json!({"devices": {"requests": [{"name": "r"}]}}), vec![format!("{at}: Required value: {one_of}")]),
        (
            json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}, "firstAvailable": [{}]}]}}),
            vec![format!("{at}: Invalid value: null: {one_of}, but multiple fields are set")],
        ),
        (
            json!({"devices": {"requests": [{"name": "r", "firstAvailable": [
                {"name": "a", "deviceClassName": "c"}, {"name": "a", "deviceClassName": ""}]}]}}),
            vec![
                format!("{at}.firstAvailable[1].deviceClassName: Required value"),
                format!("{at}.firstAvailable[1]: Duplicate value: \"a\""),
            ],
        ),
        (
            exactly(json!({"selectors": [{}, {"cel": {"expression": "device.driver"}}]})),
            vec![
                format!("{at}.exactly.selectors[0].cel: Required value"),
                format!(
                    "{at}.exactly.selectors[1].cel.expression: Invalid value: \"device.driver\": must evaluate to bool or \
                     the unknown type, not string"
                ),
            ],
        ),
        (
            exactly(json!({"tolerations": [{"key": "k", "operator": "Exists", "value": "v"}, {"effect": "Never"}]})),
            vec![
                format!("{at}.exactly.tolerations[0].value: Invalid value: \"v\": must be empty for operator `Exists`"),
                format!(
                    "{at}.exactly.tolerations[1].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \
                     \"NoSchedule\", \"None\""
                ),
            ],
        ),
        (
            with(json!({"constraints": [{"matchAttribute": "d.io/a", "requests": ["r", "r/x", "q"]}, {"matchAttribute": "a"}, {}]})),
            vec![
                format!("spec.devices.constraints[0].requests[1]: Invalid value: \"r/x\": {reference}"),
                format!("spec.devices.constraints[0].requests[2]: Invalid value: \"q\": {reference}"),
                "spec.devices.constraints[1].matchAttribute: Invalid value: \"a\": must include a domain".to_owned(),
                "spec.devices.constraints[2]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is \
                 required"
                    .to_owned(),
            ],
        ),
        (
            with(json!({"config": [{}, {"opaque": {"driver": "d", "parameters": {}}}, {"opaque": {"driver": "d", "parameters": 1}}]})),
            vec![
                "spec.devices.config[0].opaque: Required value".to_owned(),
                "spec.devices.config[2].opaque.parameters: Invalid value: 1: must be a valid JSON object".to_owned(),
            ],
        ),
    ] {
        assert_eq!(faults("ResourceClaim", spec.clone()), expected, "{spec}");
        let of_template: Vec<String> = expected.iter().map(|fault| format!("spec.{fault}")).collect();
        assert_eq!(faults("ResourceClaimTemplate", json!({"spec": spec})), of_template, "{spec}");
    }
    let many: Vec<Value> =
        (0..33).map(|i| json!({"name": format!("r{i}"), "exactly": {"deviceClassName": "c"}})).collect();
    let expected = "spec.devices.requests: Too many: 33: must have at most 32 items";
    assert_eq!(faults("ResourceClaim", json!({"devices": {"requests": many}})), [expected]);
}

#[test]
fn slices_are_checked() {
    let slice = |change: Value| {
        merged(
            json!({"driver": "d.io", "nodeName": "n", "pool": {"name": "p", "generation": 0, "resourceSliceCount": 1}}),
            change,
        )
    };
    let device = |change: Value| slice(json!({"devices": [merged(json!({"name": "a"}), change)]}));
    let one_of = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let attribute = |value: Value| device(json!({"attributes": {"a": value}}));
    let at = "spec.devices[0].attributes[a]";
    for (spec, expected) in [
        (slice(json!({})), vec![]),
        (
            device(
                json!({"attributes": {"a": {"int": 1}, "x.io/b": {"version": "1.2.3"}}, "capacity": {"m": {"value": "1Gi"}}}),
            ),
            vec![],
        ),
        (slice(json!({"driver": null})), vec!["spec.driver: Required value".to_owned()]),
        (
            slice(json!({"pool": {"resourceSliceCount": 0, "generation": -1}})),
            vec![
                "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero".to_owned(),
                "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero".to_owned(),
            ],
        ),
        (slice(json!({"nodeName": null})), vec![format!("spec: Required value: {one_of}")]),
        (
            slice(json!({"allNodes": true})),
            vec![format!("spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {one_of}, but multiple fields are set")],
        ),
        (
            slice(json!({"devices": [{"name": "a"}, {"name": "a"}]})),
            vec!["spec.devices[1]: Duplicate value: \"a\"".to_owned()],
        ),
        (
            slice(json!({"devices": [], "sharedCounters": [{"name": "s", "counters": {"m": {"value": "1"}}}]})),
            vec!["spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed".to_owned()],
        ),
        (attribute(json!({})), vec![format!("{at}: Invalid value: \"\": exactly one value must be specified")]),
        (
            attribute(json!({"version": "1.2"})),
            vec![format!(
                "{at}.version: Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0"
            )],
        ),
        (
            attribute(json!({"string": "x".repeat(65)})),
            vec![format!("{at}.string: Too long: may not be more than 64 bytes")],
        ),
        (
            device(json!({"taints": [{"key": "k", "effect": "Never"}]})),
            vec![
                "spec.devices[0].taints[0].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \
                 \"NoSchedule\", \"None\""
                    .to_owned(),
            ],
        ),
        (
            device(json!({"allNodes": true})),
            vec![
                "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if \
                 `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
                    .to_owned(),
            ],
        ),
    ] {
        assert_eq!(faults("ResourceSlice", spec.clone()), expected, "{spec}");
    }
    let shared = json!({"spec": device(json!({"allowMultipleAllocations": true}))});
    let warning = "spec.devices[0].allowMultipleAllocations: this cluster shares no device between claims, and gives this \
                   one to nobody";
    assert_eq!(of_kind(GROUP, "ResourceSlice").warnings(&shared), [warning]);
    let counted =
        json!({"spec": device(json!({"nodeAllocatableResourceMappings": {"cpu": {"capacityKey": "cores"}}}))});
    let warning = "spec.devices[0].nodeAllocatableResourceMappings: this cluster takes nothing off a node's resources for a \
                   device";
    assert_eq!(of_kind(GROUP, "ResourceSlice").warnings(&counted), [warning]);
}

#[test]
fn classes_are_checked() {
    for (spec, expected) in [
        (json!({"selectors": [{"cel": {"expression": "device.driver == 'd'"}}]}), vec![]),
        (json!({"extendedResourceName": "x.io/gpu"}), vec![]),
        (
            json!({"extendedResourceName": "gpu"}),
            vec!["spec.extendedResourceName: Invalid value: \"gpu\": must be a valid extended resource name"],
        ),
    ] {
        assert_eq!(faults("DeviceClass", spec.clone()), expected, "{spec}");
    }
    let warned = of_kind(GROUP, "DeviceClass").warnings(&json!({"spec": {"extendedResourceName": "x.io/gpu"}}));
    assert!(warned[0].ends_with("none to pods that ask for x.io/gpu"), "{warned:?}");
}

#[test]
fn what_becomes_of_a_claim_is_checked() {
    let claim = |change: Value| {
        let base = json!({"metadata": {"name": "c", "namespace": "d"}, "spec": exactly(json!({})), "status": {}});
        merged(base, change)
    };
    let given = |device: &str| {
        json!({"status": {"allocation": {"devices": {"results": [
            {"request": "r", "driver": "d", "pool": "p", "device": device}]}}}})
    };
    let used = |uid: &str| json!({"status": {"reservedFor": [{"resource": "pods", "name": uid, "uid": uid}]}});
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let nothing = || claim(json!({}));
    for (old, new, expected) in [
        (nothing(), claim(merged(given("a"), used("p"))), vec![]),
        (
            nothing(),
            claim(used("p")),
            vec!["status.reservedFor: Forbidden: may not be specified when `allocated` is not set".to_owned()],
        ),
        (
            nothing(),
            claim(json!({"status": {"allocation": {"devices": {"results": [
                {"request": "q", "driver": "", "pool": "p", "device": "a"}]}}}})),
            vec![
                "status.allocation.devices.results[0].request: Invalid value: \"q\": must be the name of a request in the \
                 claim or the name of a request and a subrequest separated by '/'"
                    .to_owned(),
                "status.allocation.devices.results[0].driver: Required value".to_owned(),
            ],
        ),
        (
            claim(merged(given("a"), going.clone())),
            claim(merged(merged(given("a"), going), used("late"))),
            vec![
                "status.reservedFor: Forbidden: new entries may not be added while `deallocationRequested` or \
                 `deletionTimestamp` are set"
                    .to_owned(),
            ],
        ),
        (claim(given("a")), nothing(), vec![]),
    ] {
        let errors = of_kind(GROUP, "ResourceClaim").validate_update(&new, &old, Part::Subresource("status"));
        assert_eq!(said(&errors), expected, "{new}");
    }
    let (old, new) = (claim(given("a")), claim(given("b")));
    let errors = of_kind(GROUP, "ResourceClaim").validate_update(&new, &old, Part::Subresource("status"));
    assert!(said(&errors)[0].ends_with("field is immutable"), "{errors:?}");
    let mut fresh = claim(given("a"));
    of_kind(GROUP, "ResourceClaim").prepare_create(&mut fresh);
    assert_eq!(fresh["status"], json!({}), "nobody brings what a claim was given along");
}
