//! One row a message.

use serde_json::{Value, json};

use super::{version, with_spec};

fn errors(property: &Value, value: &Value, old: Option<&Value>) -> Vec<String> {
    let version = version(&with_spec(&json!({"type": "object", "properties": {"x": property}})));
    let object = |value: &Value| json!({"spec": {"x": value}});
    version.validate(&object(value), old.map(object).as_ref()).iter().map(ToString::to_string).collect()
}

fn check(rows: &[(Value, Value, &str)]) {
    for (property, value, expected) in rows {
        assert_eq!(errors(property, value, None).join(" | "), *expected, "{property} {value}");
    }
}

#[test]
fn types() {
    let of = |kind: &str| json!({ "type": kind });
    check(&[
        (of("integer"), json!(1), ""),
        (of("integer"), json!(1.0), ""),
        (of("number"), json!(1), ""),
        (
            of("integer"),
            json!("string"),
            r#"spec.x: Invalid value: "string": spec.x in body must be of type integer: "string""#,
        ),
        (
            of("integer"),
            json!(1.5),
            r#"spec.x: Invalid value: "number": spec.x in body must be of type integer: "number""#,
        ),
        (
            of("string"),
            json!(1),
            r#"spec.x: Invalid value: "integer": spec.x in body must be of type string: "integer""#,
        ),
        (of("object"), json!([]), r#"spec.x: Invalid value: "array": spec.x in body must be of type object: "array""#),
        (of("string"), json!(null), r#"spec.x: Invalid value: "null": spec.x in body must be of type string: "null""#),
        (json!({"type": "string", "nullable": true}), json!(null), ""),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), json!([1, "a"]), ""),
        (json!({"x-kubernetes-int-or-string": true}), json!("a"), ""),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            r#"spec.x: Invalid value: "boolean": spec.x in body must be of type integer,string: "boolean""#,
        ),
        (
            json!({"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}),
            json!([{"n": 1}, {"n": "a"}]),
            r#"spec.x[1].n: Invalid value: "string": spec.x[1].n in body must be of type integer: "string""#,
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": 1}),
            r#"spec.x.k: Invalid value: "integer": spec.x.k in body must be of type string: "integer""#,
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            json!("a"),
            r#"spec.x: Invalid value: "a": spec.x in body must be of type ipv4: "a""#,
        ),
        (
            json!({"type": "string", "format": "ipv4"}),
            json!(1),
            r#"spec.x: Invalid value: "int64": spec.x in body must be of type ipv4: "int64""#,
        ),
        (json!({"type": "string", "format": "who-knows"}), json!("a"), ""),
    ]);
}

#[test]
fn scalars() {
    let text = |key: &str, value: Value| json!({"type": "string", key: value});
    let int = |key: &str, value: Value| json!({"type": "integer", key: value});
    check(&[
        (text("maxLength", json!(2)), json!("\u{e9}\u{e9}"), ""),
        (text("maxLength", json!(2)), json!("abc"), "spec.x: Too long: may not be more than 2 bytes"),
        (
            text("minLength", json!(2)),
            json!("a"),
            r#"spec.x: Invalid value: "a": spec.x in body should be at least 2 chars long"#,
        ),
        (text("pattern", json!("^b$")), json!("a"), r#"spec.x: Invalid value: "a": spec.x in body should match '^b$'"#),
        (text("enum", json!(["b", "c"])), json!("a"), r#"spec.x: Unsupported value: "a": supported values: "b", "c""#),
        (int("enum", json!([1, 2])), json!(3), r#"spec.x: Unsupported value: 3: supported values: "1", "2""#),
        (
            int("minimum", json!(1)),
            json!(0),
            "spec.x: Invalid value: 0: spec.x in body should be greater than or equal to 1",
        ),
        (
            json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}),
            json!(1),
            "spec.x: Invalid value: 1: spec.x in body should be greater than 1",
        ),
        (
            int("maximum", json!(1)),
            json!(2),
            "spec.x: Invalid value: 2: spec.x in body should be less than or equal to 1",
        ),
        (
            json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}),
            json!(1.5),
            "spec.x: Invalid value: 1.5: spec.x in body should be less than 1.5",
        ),
        (int("multipleOf", json!(3)), json!(4), "spec.x: Invalid value: 4: spec.x in body should be a multiple of 3"),
        (json!({"type": "number", "multipleOf": 0.5}), json!(1.5), ""),
        (int("multipleOf", json!(0.5)), json!(3), ""),
        (int("minimum", json!(-9_007_199_254_740_993_i64)), json!(-9_007_199_254_740_992_i64), ""),
        (
            int("minimum", json!(1.5)),
            json!(1),
            "spec.x: Invalid value: 1: spec.x in body should be greater than or equal to 1.5",
        ),
    ]);
}

#[test]
fn objects_and_lists() {
    let list = |key: &str, value: Value| json!({"type": "array", "items": {"type": "string"}, key: value});
    let map =
        |key: &str, value: Value| json!({"type": "object", "additionalProperties": {"type": "string"}, key: value});
    let keyed = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
        "items": {"type": "object", "properties": {"n": {"type": "string"}, "v": {"type": "integer"}}},
    });
    check(&[
        (list("maxItems", json!(1)), json!(["a", "b"]), "spec.x: Too many: 2: must have at most 1 item"),
        (
            list("minItems", json!(1)),
            json!([]),
            "spec.x: Invalid value: 0: spec.x in body should have at least 1 items",
        ),
        (map("maxProperties", json!(0)), json!({"a": "b"}), "spec.x: Too many: 1: must have at most 0 items"),
        (
            map("minProperties", json!(1)),
            json!({}),
            "spec.x: Invalid value: 1: spec.x in body should have at least 1 properties",
        ),
        (
            json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
            json!({}),
            "spec.x.a: Required value",
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            json!({"a": 1}),
            r#"spec.x: Invalid value: "a": spec.x.a in body is a forbidden property"#,
        ),
        (
            list("x-kubernetes-list-type", json!("set")),
            json!(["a", "b", "a", "a"]),
            r#"spec.x[2]: Duplicate value: "a""#,
        ),
        (keyed, json!([{"n": "a"}, {"n": "a", "v": 1}]), r#"spec.x[1]: Duplicate value: {"n":"a"}"#),
    ]);
}

#[test]
fn alternatives() {
    let with = |key: &str, value: Value| json!({"type": "string", key: value});
    let two = json!([{"maxLength": 1}, {"pattern": "^b"}]);
    check(&[
        (
            with("anyOf", two.clone()),
            json!("aa"),
            "<nil>: Invalid value: \"\": \"spec.x\" must validate at least one schema (anyOf) | \
             spec.x: Too long: may not be more than 1 bytes",
        ),
        (
            with("oneOf", two.clone()),
            json!("b"),
            "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). \
             Found 2 valid alternatives",
        ),
        (
            with("oneOf", two.clone()),
            json!("aa"),
            "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found none valid | \
             spec.x: Too long: may not be more than 1 bytes",
        ),
        (with("oneOf", two.clone()), json!("a"), ""),
        (
            with("allOf", two),
            json!("a"),
            "spec.x: Invalid value: \"a\": spec.x in body should match '^b' | \
             <nil>: Invalid value: \"\": \"spec.x\" must validate all the schemas (allOf)",
        ),
        (
            with("not", json!({"enum": ["a"]})),
            json!("a"),
            "<nil>: Invalid value: \"\": \"spec.x\" must not validate the schema (not)",
        ),
    ]);
}

#[test]
fn what_was_wrong_and_did_not_change_passes() {
    let short = json!({"type": "string", "maxLength": 1});
    let wrong = "Too long: may not be more than 1 bytes";
    let object = json!({"type": "object", "properties": {"a": short, "b": {"type": "string"}}});
    let list = |extra: Value| {
        let mut list =
            json!({"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}, "a": short}}});
        list.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        list
    };
    let keyed = list(json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}));
    let atomic = list(json!({"x-kubernetes-list-type": "atomic"}));
    let set = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"});
    let rows = [
        (&short, json!("aa"), json!("aa"), String::new()),
        (&short, json!("aa"), json!("bb"), format!("spec.x: {wrong}")),
        (&object, json!({"a": "aa", "b": "1"}), json!({"a": "aa", "b": "2"}), String::new()),
        (&keyed, json!([{"n": "1", "a": "aa"}]), json!([{"n": "0"}, {"n": "1", "a": "aa"}]), String::new()),
        (&keyed, json!([{"n": "1", "a": "aa"}]), json!([{"n": "2", "a": "aa"}]), format!("spec.x[0].a: {wrong}")),
        (&atomic, json!([{"a": "aa"}]), json!([{"a": "aa"}, {}]), format!("spec.x[0].a: {wrong}")),
        (&atomic, json!([{"a": "aa"}]), json!([{"a": "aa"}]), String::new()),
        (&set, json!(["a", "a"]), json!(["a", "a", "b"]), String::new()),
        (&set, json!(["a", "b"]), json!(["a", "a"]), "spec.x[1]: Duplicate value: \"a\"".to_owned()),
    ];
    for (property, old, new, expected) in rows {
        assert_eq!(errors(property, &new, Some(&old)).join(" | "), expected, "{property} {old} {new}");
    }
}

#[test]
fn scale_reads_numbers() {
    let mut crd = super::definition(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    crd["spec"]["versions"][0]["subresources"] =
        json!({"scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}});
    let version = super::Definition::of(&crd).unwrap().versions.remove(0);
    let rows = [
        (json!({}), ""),
        (json!({"spec": {"n": 3}}), ""),
        (json!({"spec": {"n": -1}}), ".spec.n: Invalid value: -1: should be a non-negative integer"),
        (
            json!({"spec": {"n": 2_147_483_648_i64}}),
            ".spec.n: Invalid value: 2147483648: should be less than or equal to 2147483647",
        ),
        (
            json!({"status": {"n": "a"}}),
            ".status.n: Invalid value: 0: .status.n accessor error: a is of the type string, expected int64",
        ),
    ];
    for (object, expected) in rows {
        let errors: Vec<String> = version.validate(&object, None).iter().map(ToString::to_string).collect();
        assert_eq!(errors.join(" | "), expected, "{object}");
    }
}

#[test]
fn objects_in_objects_say_what_they_are() {
    let embedded = json!({
        "type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true,
    });
    check(&[
        (embedded.clone(), json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}), ""),
        (
            embedded.clone(),
            json!({"kind": ""}),
            "spec.x.apiVersion: Required value: must not be empty | \
             spec.x.kind: Invalid value: \"\": must not be empty",
        ),
        (
            embedded.clone(),
            json!({"apiVersion": "a/b/c", "kind": 1}),
            "spec.x.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c | \
             spec.x.kind: Invalid value: 1: must be a string",
        ),
        (
            embedded,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": "a"}}),
            "spec.x.metadata: Invalid value: {\"labels\":\"a\"}: json: cannot unmarshal string into Go struct field \
             ObjectMeta.labels of type map[string]string",
        ),
    ]);
    let version = version(&json!({"type": "object"}));
    assert_eq!(version.unreadable(&json!({"metadata": {"labels": {"a": "b"}}, "spec": 1})), None);
    assert!(version.unreadable(&json!({"metadata": {"labels": 1}})).is_some());
    assert!(version.unreadable(&json!({"kind": 1})).is_some());
}
