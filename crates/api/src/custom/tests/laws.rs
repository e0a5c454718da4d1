//! What holds of any schema and any object.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Version, version, with_spec};

/// Schemas over a few field names, so that objects meet them; a default always fits its schema.
fn schema() -> impl Strategy<Value = Value> {
    let leaf = (0..6u8, any::<bool>(), any::<bool>()).prop_map(|(kind, nullable, has_default)| {
        let (mut schema, default) = match kind {
            0 => (json!({"type": "string", "maxLength": 2}), json!("d")),
            1 => (json!({"type": "integer", "minimum": 0}), json!(1)),
            2 => (json!({"type": "boolean"}), json!(true)),
            3 => (json!({"x-kubernetes-int-or-string": true}), json!("50%")),
            4 => (json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}), json!({"any": 1})),
            _ => (json!({"type": "string", "enum": ["a", "b"]}), json!("b")),
        };
        if nullable {
            schema["nullable"] = json!(true);
        }
        if has_default {
            schema["default"] = default;
        }
        schema
    });
    leaf.prop_recursive(3, 16, 3, |inner| {
        let properties = prop::collection::btree_map("[abc]", inner.clone(), 0..3);
        prop_oneof![
            (properties, any::<bool>()).prop_map(|(properties, has_default)| {
                let mut schema = json!({"type": "object", "properties": properties});
                if has_default {
                    schema["default"] = json!({});
                }
                schema
            }),
            inner.clone().prop_map(|values| json!({"type": "object", "additionalProperties": values})),
            inner.prop_map(|items| json!({"type": "array", "items": items})),
        ]
    })
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2..3i64).prop_map(Value::from),
        "[ab]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[abcd]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn completed(version: &Version, spec: Value) -> Value {
    let mut object = json!({ "spec": spec });
    version.prune(&mut object);
    version.default(&mut object);
    object
}

proptest! {
    #[test]
    fn defaults_settle_at_once(schema in schema(), spec in value()) {
        let version = version(&with_spec(&schema));
        let mut once = json!({ "spec": spec });
        version.default(&mut once);
        let mut twice = once.clone();
        version.default(&mut twice);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn what_is_pruned_has_nothing_unknown(schema in schema(), spec in value()) {
        let version = version(&with_spec(&schema));
        let mut once = json!({ "spec": spec });
        let dropped = version.prune(&mut once);
        let mut twice = once.clone();
        prop_assert_eq!(version.prune(&mut twice), Vec::<String>::new());
        prop_assert_eq!(&once, &twice);
        prop_assert_eq!(dropped.is_empty(), once == json!({ "spec": spec }));
    }

    #[test]
    fn defaults_are_known(schema in schema(), spec in value()) {
        let version = version(&with_spec(&schema));
        let mut object = completed(&version, spec);
        prop_assert_eq!(version.prune(&mut object), Vec::<String>::new());
    }

    #[test]
    fn a_valid_object_stays_valid(schema in schema(), spec in value()) {
        let version = version(&with_spec(&schema));
        let object = json!({ "spec": spec });
        if version.validate(&object, None).is_empty() {
            let completed = completed(&version, spec);
            prop_assert_eq!(version.validate(&completed, None), []);
        }
    }

    #[test]
    fn what_does_not_change_passes(schema in schema(), spec in value()) {
        let version = version(&with_spec(&schema));
        let object = json!({ "spec": spec });
        prop_assert_eq!(version.validate(&object, Some(&object)), []);
    }
}
