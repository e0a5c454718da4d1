//! Rules in CEL over objects: what is refused, and in which words.

use serde_json::{Value, json};

use super::{version, with_spec};

/// Each row: the schema of `spec`, what it is, what it was (null: it is created), and the errors.
fn check(rows: &[(Value, Value, Value, &str)]) {
    for (schema, new, old, expected) in rows {
        let version = version(&with_spec(schema));
        let object = |spec: &Value| json!({"apiVersion": "example.com/v1", "kind": "Widget", "spec": spec});
        let old = (!old.is_null()).then(|| object(old));
        let errors: Vec<String> =
            version.validate(&object(new), old.as_ref()).iter().map(ToString::to_string).collect();
        assert_eq!(errors.join(" | "), *expected, "{schema} {new}");
    }
}

fn integers(rules: &Value) -> Value {
    json!({"type": "object", "x-kubernetes-validations": rules, "properties": {
        "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string"},
    }})
}

#[test]
fn rules_refuse_in_their_own_words() {
    let rule = |more: Value| {
        let mut rule = json!({"rule": "self.min <= self.max"});
        rule.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        integers(&json!([rule]))
    };
    let wrong = json!({"min": 2, "max": 1});
    check(&[
        (rule(json!({})), json!({"min": 1, "max": 2}), Value::Null, ""),
        (
            rule(json!({})),
            wrong.clone(),
            Value::Null,
            "spec: Invalid value: \"object\": failed rule: self.min <= self.max",
        ),
        (rule(json!({"message": " too big "})), wrong.clone(), Value::Null, "spec: Invalid value: \"object\": too big"),
        (
            rule(json!({"messageExpression": "'min %d, max %d'.format([self.min, self.max])", "message": "m"})),
            wrong.clone(),
            Value::Null,
            "spec: Invalid value: \"object\": min 2, max 1",
        ),
        (
            rule(json!({"messageExpression": "'a'.substring(5)", "message": "m"})),
            wrong.clone(),
            Value::Null,
            "spec: Invalid value: \"object\": m",
        ),
        (
            rule(json!({"reason": "FieldValueForbidden", "fieldPath": ".max"})),
            wrong.clone(),
            Value::Null,
            "spec.max: Forbidden: failed rule: self.min <= self.max",
        ),
        (
            rule(json!({"reason": "FieldValueRequired"})),
            wrong.clone(),
            Value::Null,
            "spec: Required value: failed rule: self.min <= self.max",
        ),
        (rule(json!({"reason": "FieldValueDuplicate"})), wrong, Value::Null, "spec: Duplicate value: \"object\""),
        (
            rule(json!({})),
            json!({"min": 1}),
            Value::Null,
            "spec: Invalid value: \"object\": no such key: max evaluating rule: self.min <= self.max",
        ),
        (
            rule(json!({})),
            json!({"min": 1, "max": "x"}),
            Value::Null,
            "spec.max: Invalid value: \"string\": spec.max in body must be of type integer: \"string\" | <nil>: Invalid \
             value: null: some validation rules were not checked because the object was invalid; correct the existing \
             errors to complete validation",
        ),
    ]);
}

#[test]
fn rules_about_changes_are_run_where_something_was_before() {
    let fixed = integers(&json!([{"rule": "self.name == oldSelf.name"}]));
    let optional =
        integers(&json!([{"rule": "!oldSelf.hasValue() || oldSelf.value().min <= self.min", "optionalOldSelf": true}]));
    let created = integers(&json!([{"rule": "oldSelf.hasValue()", "optionalOldSelf": true, "message": "old"}]));
    let list = json!({"type": "object", "properties": {"list": {
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]},
    }}});
    check(&[
        (fixed.clone(), json!({"name": "a"}), Value::Null, ""),
        (fixed.clone(), json!({"name": "a"}), json!({"name": "a"}), ""),
        (
            fixed,
            json!({"name": "b"}),
            json!({"name": "a"}),
            "spec: Invalid value: \"object\": failed rule: self.name == oldSelf.name",
        ),
        (optional.clone(), json!({"min": 1}), Value::Null, ""),
        (
            optional,
            json!({"min": 1}),
            json!({"min": 2}),
            "spec: Invalid value: \"object\": failed rule: !oldSelf.hasValue() || oldSelf.value().min <= self.min",
        ),
        (created, json!({"min": 1}), Value::Null, "spec: Invalid value: \"object\": old"),
        (
            list,
            json!({"list": [{"k": "new", "v": 0}, {"k": "b", "v": 1}, {"k": "a", "v": 1}]}),
            json!({"list": [{"k": "a", "v": 1}, {"k": "b", "v": 2}]}),
            "spec.list[1]: Invalid value: \"object\": failed rule: self.v >= oldSelf.v",
        ),
    ]);
}

#[test]
fn what_was_wrong_and_is_not_touched_refuses_nothing() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "x-kubernetes-validations": [{"rule": "self == 'x'"}]},
        "list": {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}},
        "n": {"type": "integer"},
    }});
    check(&[
        (schema.clone(), json!({"a": "y", "n": 2}), json!({"a": "y", "n": 1}), ""),
        (
            schema.clone(),
            json!({"a": "z"}),
            json!({"a": "y"}),
            "spec.a: Invalid value: \"string\": failed rule: self == 'x'",
        ),
        (schema.clone(), json!({"list": [0], "n": 2}), json!({"list": [0], "n": 1}), ""),
        (
            schema,
            json!({"list": [0, 1]}),
            json!({"list": [0]}),
            "spec.list[0]: Invalid value: \"integer\": failed rule: self > 0",
        ),
    ]);
}

#[test]
fn rules_see_maps_embedded_objects_and_the_whole() {
    let map = json!({"type": "object", "additionalProperties":
        {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 5"}]}});
    let embedded = json!({"type": "object", "properties": {"t": {"type": "object", "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-validations": [{"rule": "self.kind == 'Pod' && self.metadata.name.startsWith('a')"}]}}});
    check(&[
        (map, json!({"x": 7, "y": 1}), Value::Null, "spec[x]: Invalid value: \"integer\": failed rule: self < 5"),
        (
            embedded.clone(),
            json!({"t": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}}),
            Value::Null,
            "",
        ),
        (
            embedded,
            json!({"t": {"apiVersion": "v1", "kind": "Job", "metadata": {"name": "a"}}}),
            Value::Null,
            "spec.t: Invalid value: \"object\": failed rule: self.kind == 'Pod' && self.metadata.name.startsWith('a')",
        ),
    ]);
    let mut root = with_spec(&json!({"type": "object", "properties": {"n": {"type": "integer"}}}));
    root["x-kubernetes-validations"] =
        json!([{"rule": "self.metadata.name == 'a'", "fieldPath": ".spec.n"}, {"rule": "has(self.spec)"}]);
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "b"}});
    let errors: Vec<String> = version(&root).validate(&object, None).iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "spec.n: Invalid value: \"object\": failed rule: self.metadata.name == 'a'",
            "<nil>: Invalid value: \"object\": failed rule: has(self.spec)"
        ]
    );
}

#[test]
fn rules_that_cost_too_much_end_the_run() {
    let loops = "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c >= 0)))";
    let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": loops}, {"rule": "false"}],
        "properties": {"list": {"type": "array", "items": {"type": "integer"}}}});
    let list: Vec<u32> = (0..200).collect();
    let expected = format!(
        "spec: Invalid value: \"object\": 'operation cancelled: actual cost limit exceeded': no further validation rules \
         will be run due to call cost exceeds limit for rule: {loops}"
    );
    check(&[(schema, json!({"list": list}), Value::Null, &expected)]);
    let element = json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "array",
        "items": {"type": "integer"}, "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, a + b >= 0))"}]}}}});
    let inner: Vec<u32> = (0..300).collect();
    let spec = json!({"list": vec![inner; 20]});
    check(&[(
        element,
        spec,
        Value::Null,
        "spec.list[15]: Invalid value: \"array\": validation failed due to running out of cost budget, no further \
         validation rules will be run",
    )]);
}
