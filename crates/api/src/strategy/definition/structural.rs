//! Schemas are structural: their fields have types, and alternatives say nothing about structure
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>).

use serde_json::Value;

use crate::{
    custom,
    field::{FieldError, FieldPath},
    strategy::rules::Errors,
    value::{entries, is_empty, items, text, truth},
};

/// Where a schema stands, which decides what a missing type is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Items,
    Field,
}

/// What keeps a schema from being looked at as a structural one at all.
pub(super) fn unsupported(schema: &Value) -> Option<String> {
    let forbidden = ["id", "$schema", "$ref", "additionalItems", "patternProperties", "definitions", "dependencies"];
    let named = forbidden.iter().find(|key| !is_empty(&schema[**key]));
    if let Some(key) = named {
        return Some(format!("OpenAPIV3Schema '{}' is not supported", key.trim_start_matches('$')));
    }
    if schema["items"].is_array() {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    let below = [&schema["items"], &schema["additionalProperties"], &schema["not"]];
    let lists = ["allOf", "anyOf", "oneOf"].iter().flat_map(|key| items(&schema[*key]));
    let properties = entries(&schema["properties"]).map(|(_, property)| property);
    below.into_iter().filter(|one| one.is_object()).chain(lists).chain(properties).find_map(unsupported)
}

/// All that is not structural, sorted as upstream sorts it.
pub(super) fn check(schema: &Value, path: &FieldPath<'_>) -> Errors {
    let mut errors = Errors::new();
    invariants(schema, Level::Root, path, &mut errors);
    completeness(schema, Home { schema: Some(schema), path }, path, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

fn invariants(schema: &Value, level: Level, path: &FieldPath<'_>, errors: &mut Errors) {
    let kind = text(&schema["type"]);
    if schema["items"].is_object() {
        invariants(&schema["items"], Level::Items, &path.child("items"), errors);
    } else if kind == "array" {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    let properties = path.child("properties");
    for (name, property) in entries(&schema["properties"]) {
        invariants(property, Level::Field, &properties.key(name), errors);
    }
    let additional = path.child("additionalProperties");
    let has_additional = !schema["additionalProperties"].is_null();
    if has_additional && level == Level::Root {
        errors.push(FieldError::forbidden(&additional, "must not be used at the root"));
    }
    if schema["additionalProperties"].is_object() {
        invariants(&schema["additionalProperties"], Level::Field, &additional, errors);
    }
    extensions(schema, path, errors);
    let pair = is_int_or_string(&schema["anyOf"]);
    let first = is_int_or_string(&schema["allOf"][0]["anyOf"]);
    values(schema, pair, first, path, errors);
    typed(schema, level, path, errors);
    if truth(&schema["x-kubernetes-embedded-resource"]) && has_additional {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&additional, why));
    }
    metadata(schema, level, &properties, errors);
    if truth(&schema["x-kubernetes-embedded-resource"])
        && !truth(&schema["x-kubernetes-preserve-unknown-fields"])
        && is_empty(&schema["properties"])
    {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&properties, why));
    }
}

fn extensions(schema: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if truth(&schema["x-kubernetes-int-or-string"]) {
        for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if truth(&schema[key]) {
                let why = "must be false if x-kubernetes-int-or-string is true";
                errors.push(FieldError::invalid(&path.child(key), true, why));
            }
        }
    }
}

/// Every field has a type, unless it says in another way what it takes.
fn typed(schema: &Value, level: Level, path: &FieldPath<'_>, errors: &mut Errors) {
    let (kind, path) = (text(&schema["type"]), path.child("type"));
    if truth(&schema["x-kubernetes-embedded-resource"]) && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => FieldError::required(&path, why),
            kind => FieldError::invalid(&path, kind, why),
        });
    } else if kind.is_empty()
        && !truth(&schema["x-kubernetes-int-or-string"])
        && !truth(&schema["x-kubernetes-preserve-unknown-fields"])
    {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Items => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&path, why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(&path, kind, "must be object at the root"));
    }
}

/// What every object has, a schema may only narrow, and of the metadata only the names.
fn metadata(schema: &Value, level: Level, properties: &FieldPath<'_>, errors: &mut Errors) {
    if level != Level::Root && !truth(&schema["x-kubernetes-embedded-resource"]) {
        return;
    }
    let all = &schema["properties"];
    for (key, kind) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        if all[key].is_object() && all[key]["type"] != kind {
            let path = properties.key(key);
            let why = format!("must be {kind}");
            errors.push(FieldError::invalid(&path.child("type"), text(&all[key]["type"]), why));
        }
    }
    if level != Level::Root || !all["metadata"].is_object() {
        return;
    }
    let says_more = entries(&all["metadata"])
        .any(|(key, value)| !matches!(key.as_str(), "type" | "default" | "properties") && is_said(value));
    let restricts_more =
        entries(&all["metadata"]["properties"]).any(|(key, _)| !matches!(key.as_str(), "name" | "generateName"));
    if says_more || restricts_more {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&properties.key("metadata"), why));
    }
}

/// False for what Go's zero values are.
pub(super) fn is_said(value: &Value) -> bool {
    !is_empty(value) && *value != false && value.as_f64() != Some(0.0)
}

/// The two forms in which alternatives may have types: an integer or a string.
fn is_int_or_string(any_of: &Value) -> bool {
    let is_only = |one: &Value, kind: &str| {
        one["type"] == kind && entries(one).all(|(key, value)| key == "type" || !is_said(value))
    };
    matches!(items(any_of), [first, second] if is_only(first, "integer") && is_only(second, "string"))
}

/// The value validations of a schema. `pair`: its `anyOf` is one of the two forms; `first`: that of its first `allOf`.
fn values(schema: &Value, pair: bool, first: bool, path: &FieldPath<'_>, errors: &mut Errors) {
    for key in ["anyOf", "allOf", "oneOf"] {
        if key == "anyOf" && pair {
            continue;
        }
        let path = path.child(key);
        for (i, one) in items(&schema[key]).iter().enumerate() {
            nested(one, key == "allOf" && first && i == 0, &path.index(i), errors);
        }
    }
    if schema["not"].is_object() {
        nested(&schema["not"], false, &path.child("not"), errors);
    }
    let pattern = text(&schema["pattern"]);
    if !pattern.is_empty()
        && let Err(why) = custom::compile(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, why));
    }
}

/// A schema in an alternative: it may ask for values, but not shape objects.
fn nested(schema: &Value, pair: bool, path: &FieldPath<'_>, errors: &mut Errors) {
    const EMPTY: &str = "must be empty to be structural";
    const UNDEFINED: &str = "must be undefined to be structural";
    const FALSE: &str = "must be false to be structural";
    const STRUCTURE: [(&str, &str); 14] = [
        ("type", EMPTY),
        ("additionalProperties", UNDEFINED),
        ("default", UNDEFINED),
        ("title", EMPTY),
        ("description", EMPTY),
        ("nullable", FALSE),
        ("externalDocs", UNDEFINED),
        ("x-kubernetes-preserve-unknown-fields", FALSE),
        ("x-kubernetes-embedded-resource", FALSE),
        ("x-kubernetes-int-or-string", FALSE),
        ("x-kubernetes-list-map-keys", EMPTY),
        ("x-kubernetes-list-type", UNDEFINED),
        ("x-kubernetes-map-type", UNDEFINED),
        ("x-kubernetes-validations", EMPTY),
    ];
    values(schema, pair, false, path, errors);
    if schema["items"].is_object() {
        nested(&schema["items"], false, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in entries(&schema["properties"]) {
        nested(property, false, &properties.key(name), errors);
    }
    for (key, why) in STRUCTURE {
        let value = &schema[key];
        if if why == UNDEFINED { !value.is_null() } else { is_said(value) } {
            errors.push(FieldError::forbidden(&path.child(key), why));
        }
    }
    // Reasoning about metadata would restrict it where it may not be restricted.
    if schema["properties"]["metadata"].is_object() {
        errors.push(FieldError::forbidden(&properties.key("metadata"), "must not be specified in a nested context"));
    }
}

/// The part of the structure that an alternative speaks of; `None` where there is no such part.
#[derive(Clone, Copy)]
struct Home<'a> {
    schema: Option<&'a Value>,
    path: &'a FieldPath<'a>,
}

/// What alternatives speak of is there in the structure too.
fn completeness(schema: &Value, home: Home<'_>, path: &FieldPath<'_>, errors: &mut Errors) {
    if schema["not"].is_object() {
        nested_completeness(&schema["not"], home, &path.child("not"), errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        let path = path.child(key);
        for (i, one) in items(&schema[key]).iter().enumerate() {
            nested_completeness(one, home, &path.index(i), errors);
        }
    }
}

fn nested_completeness(schema: &Value, home: Home<'_>, path: &FieldPath<'_>, errors: &mut Errors) {
    let Some(structure) = home.schema else {
        return errors.push(FieldError::required(home.path, format!("because it is defined in {path}")));
    };
    completeness(schema, home, path, errors);
    if schema["items"].is_object() {
        let items = structure.get("items").filter(|items| items.is_object());
        let below = Home { schema: items, path: &home.path.child("items") };
        nested_completeness(&schema["items"], below, &path.child("items"), errors);
    }
    let (home_properties, properties) = (home.path.child("properties"), path.child("properties"));
    for (name, property) in entries(&schema["properties"]) {
        let below = Home { schema: structure["properties"].get(name), path: &home_properties.key(name) };
        nested_completeness(property, below, &properties.key(name), errors);
    }
}
