//! Elements of sets, and keys of lists that are maps, are there once
//! (`apiserver/schema/listtype` of apiextensions-apiserver).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::schema::{ListType, Schema};
use crate::field::{FieldError, FieldPath};

pub(crate) fn check(schema: &Schema, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema, object, &FieldPath::ROOT, &mut errors);
    errors
}

fn walk(schema: &Schema, value: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match (schema.properties.get(name), &schema.additional) {
                    (Some(property), _) => walk(property, value, &path.child(name), errors),
                    (None, Some(values)) => {
                        if let Some(values) = values.schema() {
                            walk(values, value, &path.key(name), errors);
                        }
                    }
                    (None, None) => {}
                }
            }
        }
        Value::Array(list) => {
            match &schema.list {
                ListType::Set => repeated(list).for_each(|i| {
                    errors.push(FieldError::duplicate(&path.index(i), list[i].clone()));
                }),
                ListType::Map(keys) => keyed(list, keys, path, errors),
                ListType::Unsaid | ListType::Atomic => {}
            }
            if let Some(items) = &schema.items {
                for (i, value) in list.iter().enumerate() {
                    walk(items, value, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn keyed(list: &[Value], keys: &[String], path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if let Some(i) = list.iter().position(|one| !one.is_object() && !one.is_null()) {
        let why = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(&path.index(i), list[i].clone(), why));
        return;
    }
    let key_of = |one: &Value| -> Value {
        let found: Map<String, Value> =
            keys.iter().filter_map(|key| Some((key.clone(), one.get(key)?.clone()))).collect();
        Value::Object(found)
    };
    let found: Vec<Value> = list.iter().map(key_of).collect();
    for i in repeated(&found) {
        errors.push(FieldError::duplicate(&path.index(i), found[i].clone()));
    }
}

/// Where each value that is there more than once stands for the second time.
fn repeated(list: &[Value]) -> impl Iterator<Item = usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut again = Vec::new();
    for (i, value) in list.iter().enumerate() {
        let times = seen.entry(value.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            again.push(i);
        }
    }
    again.into_iter()
}
