//! What expressions constructed, put into an object: apply configurations and JSON patches.

use knarr_cel::{List, Map, Struct, Value as CelValue};
use serde_json::{Value, json};

use crate::{
    apply,
    patch::{PatchError, json_patch},
    schema::TypeRef,
};

/// Merges an `Object{}` into the object as server-side apply would.
pub(super) fn configure(value: &CelValue<'_>, object: &Value, schema: Option<TypeRef<'_>>) -> Result<Value, String> {
    check_names(value)?;
    let mut config = value.to_json()?;
    for key in ["apiVersion", "kind"] {
        config[key] = object[key].clone();
    }
    apply::overlay(schema, object, &config).map_err(|why| format!("error applying patch: {why}"))
}

/// Applies a list of `JSONPatch{}`. Where a test in it fails, the object stays as it is.
pub(super) fn patch(value: &CelValue<'_>, object: &Value) -> Result<Value, String> {
    let CelValue::List(list) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let operations = list.iter().map(|one| operation(&one?)).collect::<Result<Vec<Value>, String>>()?;
    match json_patch(object, &Value::Array(operations)) {
        Ok(patched) => Ok(patched),
        Err(PatchError::DoesNotApply { message }) if message.ends_with(": test failed") => Ok(object.clone()),
        Err(error) => Err(format!("JSONPath: {error}")),
    }
}

fn operation(value: &CelValue<'_>) -> Result<Value, String> {
    let CelValue::Struct(object) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".to_owned());
    };
    let said = |key: &str| object.fields.get(key).and_then(CelValue::as_str).unwrap_or_default();
    let mut operation = json!({"op": said("op"), "path": said("path")});
    if !said("from").is_empty() {
        operation["from"] = said("from").into();
    }
    if let Some(value) = object.fields.get("value") {
        check_names(value)?;
        operation["value"] = value.to_json().map_err(|why| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
        })?;
    }
    Ok(operation)
}

/// An object below a field is of the type that is called after the way there: `Object.spec.template{}`.
fn check_names(value: &CelValue<'_>) -> Result<(), String> {
    let mut faults = Vec::new();
    if let CelValue::Struct(object) = value {
        collect(object, &object.name, &mut faults);
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("type mismatch: {}", faults.join("\n"))) }
}

fn collect(object: &Struct<'_>, expected: &str, faults: &mut Vec<String>) {
    if *object.name != *expected {
        faults.push(format!(
            "unexpected type name {:?}, expected {expected:?}, which matches field name path from root Object type",
            &*object.name
        ));
    }
    for (name, value) in &object.fields {
        below(value, &format!("{expected}.{name}"), faults);
    }
}

/// Lists and maps have no names of their own.
fn below(value: &CelValue<'_>, expected: &str, faults: &mut Vec<String>) {
    match value {
        CelValue::Struct(object) => collect(object, expected, faults),
        CelValue::List(List::Owned(list)) => list.iter().for_each(|one| below(one, expected, faults)),
        CelValue::Map(Map::Owned(map)) => map.values().for_each(|one| below(one, expected, faults)),
        _ => {}
    }
}
