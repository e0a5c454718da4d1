mod laws;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema;

fn strategic(kind: &str, original: Value, patch: Value) -> Result<Value, PatchError> {
    let group = if kind == "Deployment" { "apps" } else { "" };
    strategic_merge_patch(schema::of(group, "v1", kind).unwrap(), &original, &patch)
}

#[test]
fn strategic_merges() {
    for (name, kind, original, patch, expected) in [
        (
            "maps merge, null removes",
            "Pod",
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
            json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
        ),
        (
            "lists with a merge key merge by it",
            "Pod",
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "2"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}}),
        ),
        (
            "lists without one are replaced",
            "Pod",
            json!({"spec": {"containers": [{"name": "a", "args": ["1", "2"]}], "tolerations": [{"key": "x"}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["3"]}], "tolerations": [{"key": "y"}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["3"]}], "tolerations": [{"key": "y"}]}}),
        ),
        (
            "$patch: delete takes an element out",
            "Pod",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"$patch": "delete", "name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        ),
        (
            "$patch: replace in a list replaces it",
            "Pod",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "c"}, {"$patch": "replace"}]}}),
            json!({"spec": {"containers": [{"name": "c"}]}}),
        ),
        (
            "$patch: replace in a map replaces it",
            "Pod",
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": "2"}}}),
        ),
        (
            "$patch: delete in a map empties it",
            "Pod",
            json!({"metadata": {"labels": {"a": "1"}}}),
            json!({"metadata": {"labels": {"$patch": "delete"}}}),
            json!({"metadata": {"labels": {}}}),
        ),
        (
            "sets of scalars are united",
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
        ),
        (
            "$deleteFromPrimitiveList",
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b", "c"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}),
            json!({"metadata": {"finalizers": ["a", "c"]}}),
        ),
        (
            "$setElementOrder",
            "Pod",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "server"}, {"name": "b"}]}}),
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}],
                "containers": [{"name": "c", "image": "i"}],
            }}),
            json!({"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "server"}, {"name": "b"}, {"name": "a"}]}}),
        ),
        (
            "$setElementOrder alone",
            "Pod",
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"$setElementOrder/finalizers": ["b", "a"]}}),
            json!({"metadata": {"finalizers": ["b", "a"]}}),
        ),
        (
            "$retainKeys",
            "Deployment",
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        ),
        (
            "$retainKeys in an element",
            "Pod",
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}),
        ),
        (
            "what is new comes without nulls and directives",
            "Pod",
            json!({}),
            json!({"metadata": {"labels": {"a": null, "b": "1"}}, "spec": {"containers": [{"name": "a", "$retainKeys": ["name"], "image": null}]}}),
            json!({"metadata": {"labels": {"b": "1"}}, "spec": {"containers": [{"name": "a"}]}}),
        ),
        (
            "what kubectl apply sends when a container and a port go",
            "Deployment",
            json!({"spec": {"template": {"spec": {"containers": [
                {"name": "x", "image": "i"},
                {"name": "y", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]},
            ]}}}}),
            json!({"spec": {"template": {"spec": {
                "$setElementOrder/containers": [{"name": "y"}],
                "containers": [
                    {
                        "$setElementOrder/ports": [{"containerPort": 81}],
                        "name": "y",
                        "ports": [{"containerPort": 81}, {"$patch": "delete", "containerPort": 80}],
                    },
                    {"$patch": "delete", "name": "x"},
                ],
            }}}}),
            json!({"spec": {"template": {"spec": {"containers": [
                {"name": "y", "image": "i", "ports": [{"containerPort": 81}]},
            ]}}}}),
        ),
        (
            "service ports merge by port alone",
            "Service",
            json!({"spec": {"ports": [{"port": 80, "targetPort": 1}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 2}, {"port": 81}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 2}, {"port": 81}]}}),
        ),
    ] {
        assert_eq!(strategic(kind, original, patch).as_ref(), Ok(&expected), "{name}");
    }
}

#[test]
fn bad_strategic_patches_say_what_is_wrong() {
    let pod = json!({"spec": {"containers": [{"name": "a"}]}, "metadata": {"labels": {}}});
    for (patch, message) in [
        (json!({"metadata": {"labels": {"$patch": "melt"}}}), "unknown patch type: melt"),
        (
            json!({"spec": {"containers": [{"image": "i"}]}}),
            "map: {\"image\":\"i\"} does not contain declared merge key: name",
        ),
        (json!({"spec": {"$retainKeys": ["x"], "containers": []}}), "invalid patch format of retainKeys"),
        (json!({"spec": {"containers": [1]}}), "list element types are not identical"),
        (json!([]), "error decoding patch: the strategic merge patch must be a JSON object"),
    ] {
        assert_eq!(strategic("Pod", pod.clone(), patch).unwrap_err().to_string(), message);
    }
}

#[test]
fn json_patches() {
    let doc = json!({"a": {"b": [1, 2]}});
    let patched = json_patch(
        &doc,
        &json!([
            {"op": "test", "path": "/a/b/0", "value": 1},
            {"op": "add", "path": "/a/b/-", "value": 3},
            {"op": "replace", "path": "/a/b/0", "value": 9},
            {"op": "copy", "from": "/a/b", "path": "/c"},
            {"op": "remove", "path": "/a/b/1"},
        ]),
    );
    assert_eq!(patched, Ok(json!({"a": {"b": [9, 3]}, "c": [9, 2, 3]})));
    for (patch, message) in [
        (json!([{"op": "test", "path": "/a", "value": 1}]), "testing value /a failed: test failed"),
        (
            json!([{"op": "replace", "path": "/x", "value": 1}]),
            "replace operation does not apply: doc is missing key: /x: missing value",
        ),
        (
            json!([{"op": "add", "path": "/x/y", "value": 1}]),
            "add operation does not apply: doc is missing path: /x/y: missing value",
        ),
        (
            json!([{"op": "remove", "path": "/x"}]),
            "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
        ),
    ] {
        assert_eq!(json_patch(&doc, &patch).unwrap_err().to_string(), message);
    }
    assert!(matches!(json_patch(&doc, &json!({"op": "add"})), Err(PatchError::Malformed { .. })));
    let doubling: Vec<Value> = std::iter::once(json!({"op": "add", "path": "/d", "value": ["0123456789"]}))
        .chain((0..64).map(|_| json!({"op": "copy", "from": "/d", "path": "/d/-"})))
        .collect();
    let error = json_patch(&doc, &Value::Array(doubling)).unwrap_err();
    assert!(error.to_string().contains("exceeding the limit"), "{error}");
    let nesting: Vec<Value> = (0..200).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/x"})).collect();
    let error = json_patch(&doc, &Value::Array(nesting)).unwrap_err();
    assert!(error.to_string().contains("levels deep"), "{error}");
}

/// A few bytes may name the largest part of an object, and do so again and again.
#[test]
fn patches_have_bounds() {
    let env: Vec<Value> = (0..20_000).map(|n| json!({"name": n.to_string()})).collect();
    let pod = json!({"spec": {"containers": [{"name": "a", "env": env}]}});
    let patch = |count| {
        let again = vec![json!({"name": "a", "env": [{"name": "x"}]}); count];
        strategic("Pod", pod.clone(), json!({"spec": {"containers": again}}))
    };
    assert!(patch(3).is_ok());
    assert!(matches!(patch(100_000), Err(PatchError::TooLarge { .. })));
    let there = json!({"op": "move", "from": "/spec", "path": "/other"});
    let back = json!({"op": "move", "from": "/other", "path": "/spec"});
    let moves = |count| Value::Array([there.clone(), back.clone()].into_iter().cycle().take(count).collect());
    assert_eq!(json_patch(&pod, &moves(4)).as_ref(), Ok(&pod));
    assert!(matches!(json_patch(&pod, &moves(9_000)), Err(PatchError::TooLarge { .. })));
}

#[test]
fn merge_patches() {
    let doc = json!({"a": {"b": 1, "c": 2}, "d": [1]});
    assert_eq!(merge_patch(&doc, &json!({"a": {"b": null}, "d": [2]})), Ok(json!({"a": {"c": 2}, "d": [2]})));
    assert!(merge_patch(&doc, &json!([])).is_err());
}

proptest! {
    #[test]
    fn a_strategic_patch_applied_twice_is_applied_once(
        old in prop::collection::btree_map("[abc]", "[xy]", 0..3),
        new in prop::collection::btree_map("[abc]", "[xy]", 0..3),
    ) {
        let pod = |containers: &std::collections::BTreeMap<String, String>| {
            let containers: Vec<Value> = containers.iter().map(|(n, i)| json!({"name": n, "image": i})).collect();
            json!({"spec": {"containers": containers}})
        };
        let once = strategic("Pod", pod(&old), pod(&new)).unwrap();
        let twice = strategic("Pod", once.clone(), pod(&new)).unwrap();
        prop_assert_eq!(&once, &twice);
        for (name, image) in &new {
            let containers = once["spec"]["containers"].as_array().unwrap();
            prop_assert_eq!(containers.iter().filter(|c| c["name"] == name.as_str() && c["image"] == image.as_str()).count(), 1);
        }
    }
}
