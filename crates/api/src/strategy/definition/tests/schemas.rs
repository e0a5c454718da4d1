//! What schemas may say.

use serde_json::{Value, json};

use super::{definition, errors, of_kind, with, with_spec};

#[test]
fn structure() {
    let rows = [
        (json!({"type": "object"}), ""),
        (json!({}), "S.type: Required value: must not be empty for specified object fields"),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), ""),
        (json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}), ""),
        (
            json!({"x-kubernetes-int-or-string": true,
                   "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "a"}]}),
            "",
        ),
        (json!({"type": "array"}), "S.items: Required value: must be specified"),
        (
            json!({"type": "array", "items": {}}),
            "S.items.type: Required value: must not be empty for specified array items",
        ),
        (
            json!({"type": "string", "anyOf": [{"type": "string", "description": "a"}]}),
            "S.anyOf[0].description: Forbidden: must be empty to be structural | \
             S.anyOf[0].type: Forbidden: must be empty to be structural",
        ),
        (
            json!({"type": "string", "not": {"default": "a", "nullable": true}}),
            "S.not.default: Forbidden: must be undefined to be structural | \
             S.not.nullable: Forbidden: must be false to be structural",
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            "S.properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without \
             x-kubernetes-preserve-unknown-fields",
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}),
            "S.x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if \
                x-kubernetes-int-or-string \
             is true",
        ),
        (
            json!({"type": "string", "pattern": "a("}),
            "S.pattern: Invalid value: \"a(\": must be a valid regular expression, but isn't: error parsing regexp: \
             invalid syntax: `a(`",
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(with_spec(spec.clone()), expected, "{spec}");
    }
    let root = |schema: Value| with("/spec/versions/0/schema/openAPIV3Schema", schema);
    let path = "spec.validation.openAPIV3Schema";
    for (schema, expected) in [
        (json!({}), format!("{path}.type: Required value: must not be empty at the root")),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            format!("{path}.type: Invalid value: \"array\": must be object at the root"),
        ),
        (
            json!({"type": "object", "nullable": true}),
            format!("{path}.nullable: Forbidden: nullable cannot be true at the root"),
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            format!("{path}.additionalProperties: Forbidden: must not be used at the root"),
        ),
        (
            json!({"type": "object", "properties": {
                "metadata": {"type": "object", "properties": {"labels": {"type": "object"}}},
            }}),
            format!(
                "{path}.properties[metadata]: Forbidden: must not specify anything other than name and \
                    generateName, but metadata is implicitly specified"
            ),
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "integer"}}}),
            format!("{path}.properties[kind].type: Invalid value: \"integer\": must be string"),
        ),
        (
            json!({"type": "object", "anyOf": [{"properties": {"spec": {"minProperties": 1}}}]}),
            format!(
                "{path}.properties[spec]: Required value: because it is defined in {path}.anyOf[0].properties[spec]"
            ),
        ),
        (
            json!({"type": "object", "$schema": "x"}),
            format!("{path}: Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"),
        ),
    ] {
        // An empty schema is none at all to the first rule.
        let found = root(schema.clone());
        assert!(found.ends_with(&expected), "{schema}: {found}");
    }
    let mut crd = definition();
    crd["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"type": "object", "maxProperties": 3});
    assert!(
        errors(crd)[0].ends_with("fields are allowed at the root of the schema if the status subresource is enabled")
    );
}

#[test]
fn nodes() {
    let list = |mut more: Value| {
        more["type"] = json!("array");
        if more["items"].is_null() {
            more["items"] = json!({"type": "object", "properties": {"k": {"type": "string"}}});
        }
        more
    };
    let keyed = |items: Value| {
        list(json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": items}))
    };
    let rows = [
        (
            json!({"type": "text"}),
            "S.type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \
                \"number\", \"object\", \"string\"",
        ),
        (json!({"type": "object", "$ref": "x"}), "S.$ref: Forbidden: $ref is not supported"),
        (
            json!({"type": "object", "definitions": {"a": {}}}),
            "S.definitions: Forbidden: definitions is not \
            supported",
        ),
        (
            json!({"type": "array", "items": [{"type": "string"}]}),
            "S.items: Forbidden: items must be a schema object and not an array",
        ),
        (
            list(json!({"uniqueItems": true})),
            "S.uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes \
                quadratic",
        ),
        (
            json!({
                "type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"},
            }),
            "S.additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive",
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            "S.x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
        ),
        (
            json!({"type": "string", "x-kubernetes-map-type": "atomic"}),
            "S.type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified",
        ),
        (
            json!({"type": "string", "x-kubernetes-list-type": "set"}),
            "S.type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
        ),
        (
            list(json!({"x-kubernetes-list-type": "bag"})),
            "S.x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"set\", \"map\"",
        ),
        (
            list(json!({"x-kubernetes-list-type": "set"})),
            "S.items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with \
                x-kubernetes-list-type=set",
        ),
        (
            list(json!({"x-kubernetes-list-map-keys": ["k"]})),
            "S.x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty",
        ),
        (
            list(json!({"x-kubernetes-list-type": "map"})),
            "S.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
        ),
        (
            keyed(json!({"type": "string"})),
            "S.items.type: Invalid value: \"string\": must be object if parent array's x-kubernetes-list-type is map",
        ),
        (
            keyed(json!({"type": "object"})),
            "S.x-kubernetes-list-map-keys: Invalid value: [\"k\"]: entries must all be names of item properties",
        ),
        (
            keyed(json!({"type": "object", "properties": {"k": {"type": "string"}}})),
            "S.items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so \
                it must have a default or be a required property",
        ),
        (keyed(json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}})), ""),
        (
            keyed(
                json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string", "nullable": true}}}),
            ),
            "S.items.properties[k].nullable: Forbidden: this property is in x-kubernetes-list-map-keys, so it \
                cannot be nullable",
        ),
        (
            json!({"type": "string", "default": 1}),
            "S.default: Invalid value: \"integer\":  in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "object", "default": {"a": 1, "b": 1}, "properties": {"a": {"type": "string"}}}),
            "S.default: Invalid value: {\"a\":1,\"b\":1}: must not have unknown fields | \
             S.default.a: Invalid value: \"integer\": a in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": " \
                "}, {"rule": "a\nb"}, {"rule": "true", "reason": "No"}]}),
            "S.x-kubernetes-validations[0].rule: Required value: rule is not specified | \
             S.x-kubernetes-validations[1].message: Required value: message must be specified if rule contains \
             line breaks | \
             S.x-kubernetes-validations[2].reason: Unsupported value: \"No\": supported values: \
             \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.a == 1"}]}),
            "S.x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.a == 1\",\"Message\":\"\",\
             \"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: \
             ERROR: <input>:1:5: undefined field 'a'\n | self.a == 1\n | ....^",
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "1", "optionalOldSelf": true},
                {"rule": "true", "messageExpression": "1"}, {"rule": "true", "optionalOldSelf": false}]}),
            "S.x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"1\",\"Message\":\"\",\"MessageExpression\":\"\",\
             \"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":true}: cel expression must evaluate to a bool | \
             S.x-kubernetes-validations[1].messageExpression: Invalid value: {\"Rule\":\"true\",\"Message\":\"\",\
             \"MessageExpression\":\"1\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: messageExpression must \
             evaluate to a string | \
             S.x-kubernetes-validations[2].optionalOldSelf: Invalid value: false: may not be set if oldSelf is not used \
             in rule",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "true", "fieldPath": ".b"}, {"rule": "true", "fieldPath": ".a[0]"}]}),
            "S.x-kubernetes-validations[0].fieldPath: Invalid value: \".b\": fieldPath must be a valid path: does not refer \
             to a valid field | \
             S.x-kubernetes-validations[1].fieldPath: Invalid value: \".a[0]\": fieldPath must be a valid path: expected \
             single quoted string but got 0",
        ),
        (
            json!({"type": "object", "properties": {"list": {"type": "array", "items":
                {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]}}}}),
            "S.properties[list].items.x-kubernetes-validations[0].rule: Invalid value: \"self > oldSelf\": oldSelf cannot \
             be used on the uncorrelatable portion of the schema within S.properties[list].items",
        ),
        (
            json!({"type": "object", "properties": {"tags": {"type": "array", "items": {"type": "string"},
                "x-kubernetes-validations": [{"rule": "self.all(x, x.contains('gpu'))"}]}}}),
            "S.properties[tags].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor \
             of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, \
             maps, and strings are declared) | \
             S.properties[tags].x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total \
             exceeding cost limit for entire OpenAPIv3 schema | \
             spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for \
             entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding \
             maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
        ),
        (
            json!({"type": "integer", "default": 0, "x-kubernetes-validations": [{"rule": "self > 0"}]}),
            "S.default: Invalid value: \"integer\": failed rule: self > 0",
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(with_spec(spec.clone()), expected, "{spec}");
    }
    let top = json!({"type": "object", "properties": {"kind": {"type": "string", "default": "X"}}});
    assert!(
        with("/spec/versions/0/schema/openAPIV3Schema", top)
            .ends_with("properties[kind].default: Forbidden: must not be set in top-level kind")
    );
}

#[test]
fn formats_that_say_nothing_are_warned_of_once() {
    let strategy = of_kind("apiextensions.k8s.io", "CustomResourceDefinition");
    let mut crd = definition();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"type": "object", "properties": {
        "a": {"type": "string", "format": "date-time"}, "b": {"type": "string", "format": "color"},
        "c": {"type": "array", "items": {"type": "integer", "format": "uint8"}},
        "d": {"type": "string", "format": "color"}, "e": {"type": "integer", "format": "int64"},
    }});
    assert_eq!(strategy.warnings(&crd), ["unrecognized format \"color\"", "unrecognized format \"uint8\""]);
    crd["metadata"]["resourceVersion"] = json!("7");
    assert!(strategy.warnings(&crd).is_empty());
}
