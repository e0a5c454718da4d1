use serde_json::{Value, json};

use super::*;
use crate::registry;

#[test]
fn every_served_kind_has_a_type() {
    for resource in registry::builtins() {
        let ty = of(resource.group, resource.version, resource.kind).unwrap_or_else(|| panic!("{}", resource.kind));
        assert!(ty.name().ends_with(&format!(".{}", resource.kind)), "{}", ty.name());
        if resource.allows(registry::Verb::List) {
            assert!(of(resource.group, resource.version, &resource.list_kind()).is_some(), "{}", resource.list_kind());
        }
        for sub in resource.subresources.iter().filter(|s| !s.kind.ends_with("Options")) {
            assert!(of(sub.group, sub.version, sub.kind).is_some(), "{}/{}", resource.plural, sub.name);
        }
    }
    assert!(of("apps", "v1", "Nothing").is_none());
}

#[test]
fn merge_facts_are_upstreams() {
    let spec = of("", "v1", "Pod").unwrap().child("spec").unwrap();
    let field = |name: &str| spec.field(name).unwrap();
    assert_eq!(field("containers").ty().relation(), Relation::Associative);
    assert_eq!(field("containers").ty().keys().collect::<Vec<_>>(), ["name"]);
    assert_eq!(field("containers").merge_key(), Some("name"));
    assert!(field("containers").is_required() && field("containers").merges());
    assert!(field("volumes").retains_keys() && field("volumes").merges());
    assert_eq!(field("topologySpreadConstraints").merge_key(), Some("topologyKey"));
    assert_eq!(
        field("topologySpreadConstraints").ty().keys().collect::<Vec<_>>(),
        ["topologyKey", "whenUnsatisfiable"]
    );
    assert_eq!(field("tolerations").ty().relation(), Relation::Atomic);
    assert_eq!(field("nodeSelector").ty().relation(), Relation::Atomic);
    let ports = field("containers").ty().element().child("ports").unwrap();
    assert_eq!(ports.element().field("protocol").unwrap().default(), Some(json!("TCP")));
    let budget = of("policy", "v1", "PodDisruptionBudget").unwrap().child("spec").unwrap();
    assert!(budget.field("selector").unwrap().replaces());
    let volume = of("", "v1", "PersistentVolume").unwrap().child("spec").unwrap();
    assert_eq!(volume.child("claimRef").unwrap().relation(), Relation::Granular);
    let meta = of("", "v1", "Pod").unwrap().child("metadata").unwrap();
    assert_eq!(meta.child("finalizers").unwrap().relation(), Relation::Set);
}

#[test]
fn fields_are_in_order_so_that_they_are_found() {
    for (group, version, kind) in kinds() {
        let mut seen = std::collections::BTreeSet::new();
        let mut pending = vec![of(group, version, kind).unwrap()];
        while let Some(ty) = pending.pop() {
            if !seen.insert(ty.id()) {
                continue;
            }
            let names: Vec<_> = ty.fields().map(|f| f.name()).collect();
            assert!(names.is_sorted(), "{}", ty.name());
            for field in ty.fields() {
                assert_eq!(ty.field(field.name()).unwrap().name(), field.name());
                pending.push(field.ty());
            }
            if matches!(ty.kind(), Kind::List | Kind::Map) {
                pending.push(ty.element());
            }
        }
    }
}

fn messages(kind: &str, object: serde_json::Value) -> Vec<String> {
    let group = if kind == "Deployment" { "apps" } else { "" };
    check(of(group, "v1", kind).unwrap(), &object).iter().map(ToString::to_string).collect()
}

#[test]
fn wrong_types_are_named_as_upstreams_decoder_does() {
    let unmarshal = |rest: &str| format!("json: cannot unmarshal {rest}");
    for (kind, object, expected) in [
        (
            "Deployment",
            json!({"spec": {"replicas": "3"}}),
            unmarshal("string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        ),
        (
            "Deployment",
            json!({"spec": {"replicas": 3.5}}),
            unmarshal("number 3.5 into Go struct field DeploymentSpec.spec.replicas of type int32"),
        ),
        (
            "Pod",
            json!({"metadata": {"labels": {"a": 1}}}),
            unmarshal("number into Go struct field ObjectMeta.metadata.labels of type string"),
        ),
        (
            "Pod",
            json!({"spec": {"containers": [{"env": [{"name": "a", "value": 1}]}]}}),
            unmarshal("number into Go struct field EnvVar.spec.containers.env.value of type string"),
        ),
        ("Pod", json!({"spec": []}), unmarshal("array into Go struct field Pod.spec of type v1.PodSpec")),
        (
            "Pod",
            json!({"spec": {"containers": {}}}),
            unmarshal("object into Go struct field PodSpec.spec.containers of type []v1.Container"),
        ),
        (
            "Pod",
            json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "much"}}}]}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned(),
        ),
        (
            "Pod",
            json!({"metadata": {"creationTimestamp": "noon"}}),
            "parsing time \"noon\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"noon\" as \"2006\"".to_owned(),
        ),
        ("Secret", json!({"data": {"a": "not base64!"}}), "illegal base64 data at input byte 3".to_owned()),
    ] {
        assert_eq!(messages(kind, object), [expected]);
    }
}

#[test]
fn good_objects_pass() {
    for (kind, object) in [
        ("Pod", json!({"spec": {"containers": [{"ports": null, "livenessProbe": {"httpGet": {"port": "http"}}}]}})),
        (
            "Pod",
            json!({"spec": {"containers": [{"livenessProbe": {"httpGet": {"port": 80}}, "resources": {"limits": {"cpu": 1, "memory": "1Gi"}}}]}}),
        ),
        ("Pod", json!({"metadata": {"creationTimestamp": null, "annotations": {"a": "b"}}})),
        ("Secret", json!({"data": {"a": "aGk="}, "stringData": {"b": "c"}, "type": "Opaque"})),
    ] {
        assert_eq!(messages(kind, object), [""; 0]);
    }
}

#[test]
fn unknown_fields_have_their_paths() {
    let object =
        json!({"spec": {"foo": 1, "template": {"spec": {"containers": [{"name": "a"}, {"imagee": "b"}]}}}, "bar": {}});
    let errors = check(of("apps", "v1", "Deployment").unwrap(), &object);
    assert_eq!(
        strict_message(&errors).unwrap(),
        "strict decoding error: unknown field \"bar\", unknown field \"spec.foo\", \
         unknown field \"spec.template.spec.containers[1].imagee\""
    );
    assert!(errors.iter().all(|e| !e.is_fatal()));
    assert_eq!(strict_message(&[]), None);
}

#[test]
fn pruning_keeps_what_the_types_know() {
    let mut object = json!({
        "metadata": {"name": "a", "creationTimestamp": null, "labels": {"x": null}, "oops": 1},
        "spec": {"containers": [{"name": "a", "x": {}}, null]},
    });
    prune(of("", "v1", "Pod").unwrap(), &mut object);
    assert_eq!(
        object,
        json!({"metadata": {"name": "a", "labels": {"x": ""}}, "spec": {"containers": [{"name": "a"}, {}]}})
    );
    let mut empty = json!({
        "metadata": {"labels": {}, "finalizers": []},
        "spec": {"taints": [], "containers": [], "volumes": [{"name": "v", "emptyDir": {}}]},
    });
    prune(of("", "v1", "Pod").unwrap(), &mut empty);
    let expected = json!({"metadata": {}, "spec": {"containers": [], "volumes": [{"name": "v", "emptyDir": {}}]}});
    assert_eq!(empty, expected, "Go leaves empty lists and maps out, but not what is required or a struct");
    let mut event = json!({"apiVersion": "apps/v1", "data": {"any": {"thing": null}}});
    let before = event.clone();
    prune(of("apps", "v1", "ControllerRevision").unwrap(), &mut event);
    assert_eq!(event, before, "raw JSON stays as it is");
}

#[test]
fn descriptions_are_found_again() {
    let docs = Docs::inflate();
    let pod = of("", "v1", "Pod").unwrap();
    assert!(docs.of_type(pod).starts_with("Pod is a collection of containers that can run on a host."));
    assert_eq!(
        docs.of_field(pod.field("kind").unwrap()).split('.').next(),
        Some("Kind is a string value representing the REST resource this object represents")
    );
}

/// The schema of a custom resource's `spec`, and an object with more than that.
pub(crate) fn sample() -> (Value, Value) {
    let spec = json!({
        "type": "object",
        "properties": {
            "size": {"type": "integer", "default": 3},
            "note": {"type": "string", "nullable": true},
            "port": {"x-kubernetes-int-or-string": true},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {
                    "name": {"type": "string"}, "on": {"type": "boolean", "default": true},
                }}},
        },
    });
    let object = json!({
        "apiVersion": "x.io/v1", "kind": "X", "metadata": {"name": "x", "labels": {"a": "b"}, "oops": 1},
        "spec": {"note": null, "port": "http", "any": {"thing": [null]}, "labels": {"k": "v"}, "items": [{"name": "a"}],
                 "more": 1},
    });
    (spec, object)
}

#[test]
fn a_custom_resources_schema_is_a_table_like_the_built_ins() {
    let (spec, mut object) = sample();
    let table = from_structural(&json!({
        "type": "object",
        "required": ["spec"],
        "properties": {"metadata": {"type": "object"}, "spec": spec},
    }));
    let ty = TypeRef::new(&table, 0);
    let errors: Vec<String> = check(ty, &object).iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["unknown field \"metadata.oops\"", "unknown field \"spec.more\""]);
    prune(ty, &mut object);
    assert_eq!(
        object,
        json!({
            "apiVersion": "x.io/v1", "kind": "X", "metadata": {"name": "x", "labels": {"a": "b"}},
            "spec": {"note": null, "port": "http", "any": {"thing": [null]}, "labels": {"k": "v"},
                     "items": [{"name": "a"}]},
        })
    );
    assert_eq!(ty.child("spec").unwrap().child("items").unwrap().keys().collect::<Vec<_>>(), ["name"]);
    let owners = ty.child("metadata").unwrap().child("ownerReferences").unwrap();
    assert_eq!((owners.relation(), owners.keys().collect::<Vec<_>>()), (Relation::Associative, vec!["uid"]));

    let table = from_structural(&Value::Null);
    let ty = TypeRef::new(&table, 0);
    let mut object = json!({"metadata": {"name": "x", "oops": 1}, "spec": {"a": null}});
    prune(ty, &mut object);
    assert_eq!(object, json!({"metadata": {"name": "x"}, "spec": {"a": null}}), "without a schema all is kept");
}
