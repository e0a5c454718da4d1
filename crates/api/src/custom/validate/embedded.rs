//! Objects inside an object (`x-kubernetes-embedded-resource`) say what they are
//! (`apiserver/schema/objectmeta` of apiextensions-apiserver).

use serde_json::Value;

use super::super::{prune::object_meta, schema::Schema};
use crate::{
    field::{FieldError, FieldPath},
    meta::{self, names},
    schema as types,
};

pub(crate) fn check(schema: &Schema, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    below(schema, object, &FieldPath::ROOT, &mut errors);
    errors
}

fn walk(schema: &Schema, value: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if schema.is_resource && value.is_object() {
        resource(value, path, errors);
    }
    below(schema, value, path, errors);
}

/// The value's parts: the whole object itself is checked by who checks everyone's metadata.
fn below(schema: &Schema, value: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match (schema.properties.get(name), schema.child(name)) {
                    (Some(property), _) => walk(property, value, &path.child(name), errors),
                    (None, Some(values)) => walk(values, value, &path.key(name), errors),
                    (None, None) => {}
                }
            }
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return };
            list.iter().enumerate().for_each(|(i, value)| walk(items, value, &path.index(i), errors));
        }
        _ => {}
    }
}

fn resource(value: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    for (key, fault) in [("apiVersion", api_version as fn(&str) -> Option<String>), ("kind", kind)] {
        let path = path.child(key);
        match value.get(key) {
            None => errors.push(FieldError::required(&path, "must not be empty")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&path, "", "must not be empty"));
            }
            Some(Value::String(text)) => {
                errors.extend(fault(text).map(|why| FieldError::invalid(&path, text.as_str(), why)));
            }
            Some(other) => errors.push(FieldError::invalid(&path, other.clone(), "must be a string")),
        }
    }
    let (Some(meta), Some(ty)) = (value.get("metadata"), object_meta()) else { return };
    let path = path.child("metadata");
    match types::check(ty, meta).into_iter().find(types::SchemaError::is_fatal) {
        Some(error) => errors.push(FieldError::invalid(&path, meta.clone(), error.to_string())),
        None => meta::validate_template(meta, &path, errors),
    }
}

fn api_version(text: &str) -> Option<String> {
    (text.matches('/').count() > 1).then(|| format!("unexpected GroupVersion string: {text}"))
}

fn kind(text: &str) -> Option<String> {
    let faults = names::dns1035(&text.to_lowercase());
    let why = || format!("may have mixed case, but should otherwise match: {}", faults.join(","));
    (!faults.is_empty()).then(why)
}
