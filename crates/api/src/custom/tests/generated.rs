//! Schemas as generators write them from Go types: all of their usual turns at once.

use serde_json::{Value, json};

use super::{Definition, definition};
use crate::strategy::of_kind;

const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
const REASON: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";
const CONDITION: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

fn schema() -> Value {
    let quantity = json!({
        "anyOf": [{"type": "integer"}, {"type": "string"}], "pattern": QUANTITY, "x-kubernetes-int-or-string": true,
    });
    let port = json!({
        "type": "object", "required": ["containerPort"], "properties": {
            "containerPort": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535},
            "protocol": {"type": "string", "default": "TCP", "enum": ["TCP", "UDP", "SCTP"]},
        },
    });
    let condition = json!({
        "type": "object", "required": ["lastTransitionTime", "reason", "status", "type"], "properties": {
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "message": {"type": "string", "maxLength": 32768},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            "reason": {"type": "string", "maxLength": 1024, "minLength": 1, "pattern": REASON},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "type": {"type": "string", "maxLength": 316, "pattern": CONDITION},
        },
    });
    let one_of = json!([{"required": ["url"]}, {"required": ["service"]}]);
    json!({
        "type": "object", "description": "A widget.", "required": ["spec"], "properties": {
            "apiVersion": {"type": "string", "description": "Which version this is."},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": {"type": "integer", "format": "int32", "default": 1, "minimum": 0},
                    "limits": {"type": "object", "additionalProperties": quantity},
                    "ports": {
                        "type": "array", "items": port, "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
                    },
                    "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
                        "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
                    }},
                    "target": {"type": "object", "oneOf": one_of, "properties": {
                        "url": {"type": "string", "format": "uri"}, "service": {"type": "string"},
                    }},
                    "values": {"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true},
                    "template": {
                        "type": "object", "x-kubernetes-embedded-resource": true,
                        "x-kubernetes-preserve-unknown-fields": true,
                    },
                },
            },
            "status": {"type": "object", "properties": {"conditions": {
                "type": "array", "items": condition, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            }}},
        },
    })
}

fn widget() -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"},
        "spec": {
            "limits": {"cpu": 2, "memory": "1Gi"},
            "ports": [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}],
            "target": {"url": "https://example.com/hook"},
            "values": {"anything": [1, {"at": "all"}]},
            "template": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}},
        },
        "status": {"conditions": [{
            "lastTransitionTime": "2024-01-02T03:04:05Z", "reason": "AsExpected", "status": "True",
            "type": "example.com/Ready",
        }]},
    })
}

#[test]
fn a_generated_definition_is_taken_and_its_objects_too() {
    let mut crd = definition(&schema());
    crd["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    let strategy = of_kind("apiextensions.k8s.io", "CustomResourceDefinition");
    strategy.default(&mut crd);
    strategy.prepare_create(&mut crd);
    assert_eq!(strategy.validate_create(&crd), []);
    assert_eq!(strategy.warnings(&crd), Vec::<String>::new());

    let version = Definition::of(&crd).unwrap().versions.remove(0);
    let mut object = widget();
    assert_eq!(version.prune(&mut object), Vec::<String>::new());
    version.default(&mut object);
    let mut expected = widget();
    expected["spec"]["replicas"] = json!(1);
    expected["spec"]["ports"][0]["protocol"] = json!("TCP");
    assert_eq!(object, expected);
    assert_eq!(version.validate(&object, None), []);
}

#[test]
fn what_is_wrong_with_its_objects_is_told_by_its_place() {
    let version = Definition::of(&definition(&schema())).unwrap().versions.remove(0);
    let rows = [
        (
            "/spec/limits/cpu",
            json!("many"),
            format!("spec.limits.cpu: Invalid value: \"many\": spec.limits.cpu in body should match '{QUANTITY}'"),
        ),
        (
            "/spec/ports/1/protocol",
            json!("TCP"),
            "spec.ports[1]: Duplicate value: {\"containerPort\":53,\"protocol\":\"TCP\"}".to_owned(),
        ),
        (
            "/spec/ports/0/containerPort",
            json!(0),
            "spec.ports[0].containerPort: Invalid value: 0: spec.ports[0].containerPort in body should be greater \
             than or equal to 1"
                .to_owned(),
        ),
        (
            "/spec/target",
            json!({"url": "https://a/", "service": "s"}),
            "<nil>: Invalid value: \"\": \"spec.target\" must validate one and only one schema (oneOf). Found 2 valid \
             alternatives"
                .to_owned(),
        ),
        (
            "/spec/target",
            json!({}),
            "<nil>: Invalid value: \"\": \"spec.target\" must validate one and only one schema (oneOf). Found none \
             valid | spec.target.url: Required value"
                .to_owned(),
        ),
        (
            "/status/conditions/0/lastTransitionTime",
            json!("now"),
            "status.conditions[0].lastTransitionTime: Invalid value: \"now\": status.conditions[0].lastTransitionTime \
             in body must be of type date-time: \"now\""
                .to_owned(),
        ),
    ];
    for (pointer, value, expected) in rows {
        let mut object = widget();
        version.default(&mut object);
        *object.pointer_mut(pointer).unwrap() = value;
        let errors: Vec<String> = version.validate(&object, None).iter().map(ToString::to_string).collect();
        assert_eq!(errors.join(" | "), expected, "{pointer}");
    }
}
