//! Filling in a schema's defaults. The rules are upstream's (`apiserver/schema/defaulting` of apiextensions-apiserver).

use serde_json::Value;

use super::schema::Schema;

pub(super) fn fill(schema: &Schema, object: &mut Value) {
    drop_nulls(schema, object);
    default(schema, object);
}

/// Nulls that may not be null and have no default are as good as missing.
fn drop_nulls(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|name, value| {
            let Some(child) = schema.child(name) else { return true };
            if value.is_null() {
                return child.nullable || child.default.is_some();
            }
            drop_nulls(child, value);
            true
        }),
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                list.iter_mut().for_each(|value| drop_nulls(items, value));
            }
        }
        _ => {}
    }
}

pub(super) fn default(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, property) in &schema.properties {
                if let Some(default) = &property.default
                    && map.get(name).is_none_or(|value| value.is_null() && !property.nullable)
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(property) = schema.properties.get(name) {
                    default(property, value);
                } else if let Some(values) = schema.child(name) {
                    replace_null(values, value);
                    default(values, value);
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return };
            for value in list {
                replace_null(items, value);
                default(items, value);
            }
        }
        _ => {}
    }
}

fn replace_null(schema: &Schema, value: &mut Value) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
}
