//! What a schema may say at each of its nodes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::structural::is_said;
use crate::{
    custom::{field_path, is_known_format},
    field::{FieldError, FieldPath},
    strategy::rules::Errors,
    value::{entries, is_empty, is_set, items, text, truth},
};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// In Go's names, as upstream's message lists them.
const AT_ROOT: &str = "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength \
                       MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties \
                       ExternalDocs Example XPreserveUnknownFields XValidations";

/// The root of a schema; `path` is that of what holds it.
pub(super) fn root(schema: &Value, has_status: bool, path: &FieldPath<'_>, errors: &mut Errors) {
    if has_status {
        let is_allowed = |key: &str| {
            let go =
                key.strip_prefix("x-kubernetes-").map_or(key.to_owned(), |rest| format!("x{}", rest.replace('-', "")));
            AT_ROOT.split(' ').any(|name| name.eq_ignore_ascii_case(&go))
        };
        if is_set(&schema["type"]) && schema["type"] != "object" {
            let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is \
                       enabled";
            errors.push(FieldError::invalid(&path.child("openAPIV3Schema.type"), schema["type"].clone(), why));
        }
        if entries(schema).any(|(key, value)| is_said(value) && !is_allowed(key)) {
            let why = format!(
                "only [{AT_ROOT}] fields are allowed at the root of the schema if the status subresource is enabled"
            );
            errors.push(FieldError::invalid(&path.child("openAPIV3Schema"), schema.clone(), why));
        }
    }
    if truth(&schema["nullable"]) {
        let path = path.child("openAPIV3Schema.nullable");
        errors.push(FieldError::forbidden(&path, "nullable cannot be true at the root"));
    }
}

/// Formats that say nothing here, in all that a schema is made of.
pub(super) fn unknown_formats<'a>(schema: &'a Value, found: &mut BTreeSet<&'a str>) {
    let format = text(&schema["format"]);
    if !format.is_empty() && !is_known_format(format, text(&schema["type"])) {
        found.insert(format);
    }
    let below = [&schema["items"], &schema["additionalProperties"], &schema["not"]];
    let lists = ["allOf", "anyOf", "oneOf"].iter().flat_map(|key| items(&schema[*key]));
    let properties = entries(&schema["properties"]).map(|(_, property)| property);
    below.into_iter().filter(|one| one.is_object()).chain(lists).chain(properties).for_each(|schema| {
        unknown_formats(schema, found);
    });
}

/// What surrounds a node.
#[derive(Clone, Copy, Default)]
struct Around<'a> {
    is_root: bool,
    /// In `apiVersion`, `kind` or `metadata` of an object or of one embedded in it.
    in_metadata: bool,
    /// Why there may be no defaults.
    no_defaults: Option<&'a str>,
}

/// Every node of a schema, those in alternatives included.
pub(super) fn check(schema: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    node(schema, path, Around { is_root: true, ..Around::default() }, errors);
}

fn node(schema: &Value, path: &FieldPath<'_>, around: Around<'_>, errors: &mut Errors) {
    supported(schema, path, around, errors);
    if truth(&schema["uniqueItems"]) {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), why));
    }
    let inside = Around { is_root: false, ..around };
    let additional = path.child("additionalProperties");
    if !is_empty(&schema["properties"])
        && is_set(&schema["additionalProperties"])
        && schema["additionalProperties"] != true
    {
        let why = "additionalProperties and properties are mutual exclusive";
        errors.push(FieldError::forbidden(&additional, why));
    }
    if schema["additionalProperties"].is_object() {
        let mut around = inside;
        if around.in_metadata {
            around.no_defaults = Some("inside additionalProperties applying to object metadata");
        }
        node(&schema["additionalProperties"], &additional, around, errors);
    }
    let properties = path.child("properties");
    for (name, property) in entries(&schema["properties"]) {
        let is_meta = matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
        let mut below = inside;
        let top = format!("in top-level {name}");
        if is_meta && (around.is_root || truth(&schema["x-kubernetes-embedded-resource"])) {
            below.in_metadata = true;
            if around.is_root {
                below.no_defaults = Some(&top);
            }
        }
        node(property, &properties.key(name), below, errors);
    }
    if schema["not"].is_object() {
        node(&schema["not"], &path.child("not"), inside, errors);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        let path = path.child(key);
        for (i, one) in items(&schema[key]).iter().enumerate() {
            node(one, &path.index(i), inside, errors);
        }
    }
    if schema["items"].is_object() {
        node(&schema["items"], &path.child("items"), inside, errors);
    }
    extensions(schema, path, errors);
    list(schema, path, errors);
    rules(schema, path, errors);
}

/// What OpenAPI knows and Kubernetes does not.
fn supported(schema: &Value, path: &FieldPath<'_>, around: Around<'_>, errors: &mut Errors) {
    let kind = text(&schema["type"]);
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("type"), kind, &TYPES));
    }
    if is_set(&schema["default"])
        && let Some(why) = around.no_defaults
    {
        errors.push(FieldError::forbidden(&path.child("default"), format!("must not be set {why}")));
    }
    for key in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        let said = if key == "additionalItems" { is_set(&schema[key]) } else { !is_empty(&schema[key]) };
        if said {
            errors.push(FieldError::forbidden(&path.child(key), format!("{key} is not supported")));
        }
    }
    if kind == "null" {
        let why = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path.child("type"), why));
    }
    if !items(&schema["items"]).is_empty() {
        errors.push(FieldError::forbidden(&path.child("items"), "items must be a schema object and not an array"));
    }
    if around.in_metadata && truth(&schema["x-kubernetes-embedded-resource"]) {
        let path = path.child("x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(&path, "must not be used inside of resource meta"));
    }
}

/// True where the type is the one wanted; otherwise it is complained of.
fn wants_type(schema: &Value, wanted: &str, why: String, path: &FieldPath<'_>, errors: &mut Errors) -> bool {
    let (kind, path) = (text(&schema["type"]), path.child("type"));
    if kind == wanted {
        return true;
    }
    errors.push(match kind {
        "" => FieldError::required(&path, why),
        kind => FieldError::invalid(&path, kind, why),
    });
    false
}

fn extensions(schema: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    const KEEP: &str = "x-kubernetes-preserve-unknown-fields";
    const MAP: &str = "x-kubernetes-map-type";
    if schema[KEEP] == false {
        errors.push(FieldError::invalid(&path.child(KEEP), false, "must be true or undefined"));
    }
    if is_set(&schema[MAP]) {
        wants_type(schema, "object", format!("must be object if {MAP} is specified"), path, errors);
        if !matches!(text(&schema[MAP]), "atomic" | "granular") {
            let supported = ["atomic", "granular"];
            errors.push(FieldError::not_supported(&path.child(MAP), schema[MAP].clone(), &supported));
        }
    }
}

const LIST: &str = "x-kubernetes-list-type";
const KEYS: &str = "x-kubernetes-list-map-keys";

fn list(schema: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let (kind, keys) = (text(&schema[LIST]), items(&schema[KEYS]));
    let element = &schema["items"];
    let (items_path, keys_path) = (path.child("items"), path.child(KEYS));
    if is_set(&schema[LIST]) {
        let is_list = wants_type(schema, "array", format!("must be array if {LIST} is specified"), path, errors);
        if is_list && kind == "set" {
            set(element, &items_path, errors);
        }
        if !matches!(kind, "atomic" | "set" | "map") {
            let supported = ["atomic", "set", "map"];
            errors.push(FieldError::not_supported(&path.child(LIST), schema[LIST].clone(), &supported));
        }
    }
    if !keys.is_empty() && kind != "map" {
        let why = format!("must be map if {KEYS} is non-empty");
        errors.push(match schema[LIST].is_null() {
            true => FieldError::required(&path.child(LIST), why),
            false => FieldError::invalid(&path.child(LIST), kind, why),
        });
    }
    if kind == "map" {
        if keys.is_empty() {
            errors.push(FieldError::required(&keys_path, format!("must not be empty if {LIST} is map")));
        }
        map(schema, &items_path, &keys_path, errors);
    }
    if matches!(kind, "set" | "map") && element.is_object() {
        if truth(&element["nullable"]) {
            let why = format!("cannot be nullable when {LIST} is {kind}");
            errors.push(FieldError::forbidden(&items_path.child("nullable"), why));
        }
        if kind == "map" {
            keys_are_there(element, keys, &items_path, errors);
        }
    }
}

/// The elements of a set are compared as wholes.
fn set(element: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let why = format!("must be atomic as item of a list with {LIST}=set");
    let (key, ok) = match text(&element["type"]) {
        "array" => (LIST, element[LIST].is_null() || element[LIST] == "atomic"),
        "object" => ("x-kubernetes-map-type", element["x-kubernetes-map-type"] == "atomic"),
        _ => return,
    };
    if !ok {
        errors.push(FieldError::invalid(&path.child(key), element[LIST].clone(), why));
    }
}

/// The elements of a list that is a map are objects with the keys among their fields.
fn map(schema: &Value, path: &FieldPath<'_>, keys_path: &FieldPath<'_>, errors: &mut Errors) {
    let (element, keys) = (&schema["items"], items(&schema[KEYS]));
    if element.is_null() {
        errors.push(FieldError::required(path, format!("must have a schema if {LIST} is map")));
    } else if element.is_array() {
        let why = format!("must only have a single schema if {LIST} is map");
        errors.push(FieldError::invalid(path, element.clone(), why));
    } else if element["type"] != "object" {
        let why = format!("must be object if parent array's {LIST} is map");
        errors.push(FieldError::invalid(&path.child("type"), text(&element["type"]), why));
    } else {
        let properties = path.child("properties");
        for (i, key) in keys.iter().enumerate() {
            let property = &element["properties"][text(key)];
            let mut about_keys = |why: &str| errors.push(FieldError::invalid(keys_path, schema[KEYS].clone(), why));
            if property.is_null() {
                about_keys("entries must all be names of item properties");
            }
            if keys[..i].contains(key) {
                about_keys("must not contain duplicate entries");
            }
            if matches!(text(&property["type"]), "array" | "object") {
                let why = format!("must be a scalar type if parent array's {LIST} is map");
                let path = properties.key(text(key));
                errors.push(FieldError::invalid(&path.child("type"), text(&element["type"]), why));
            }
        }
    }
}

/// An element without one of its keys could not be told from others.
fn keys_are_there(element: &Value, keys: &[Value], path: &FieldPath<'_>, errors: &mut Errors) {
    let properties = path.child("properties");
    for key in keys {
        let property = &element["properties"][text(key)];
        let path = properties.key(text(key));
        if property.is_null() {
            continue;
        }
        if !items(&element["required"]).contains(key) && property["default"].is_null() {
            let why = format!("this property is in {KEYS}, so it must have a default or be a required property");
            errors.push(FieldError::required(&path.child("default"), why));
        }
        if truth(&property["nullable"]) {
            let why = format!("this property is in {KEYS}, so it cannot be nullable");
            errors.push(FieldError::forbidden(&path.child("nullable"), why));
        }
    }
}

/// `x-kubernetes-validations`: the shape of rules in CEL; what they say is checked once the schema is sound (`rules.rs`).
fn rules(schema: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    const REASONS: [&str; 4] =
        ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
    const MAX_MESSAGE_BYTES: usize = 2048;
    let list = path.child("x-kubernetes-validations");
    for (i, rule) in items(&schema["x-kubernetes-validations"]).iter().enumerate() {
        let path = list.index(i);
        let has_lines = |text: &str| text.contains(['\n', '\r']);
        let (written, message) = (text(&rule["rule"]).trim(), text(&rule["message"]));
        if written.is_empty() {
            errors.push(FieldError::required(&path.child("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            let why = "message must be non-empty if specified";
            errors.push(FieldError::invalid(&path.child("message"), message, why));
        } else if message.len() > MAX_MESSAGE_BYTES {
            let shown: String = message.chars().take(10).collect();
            let why = format!("message must have a maximum length of {MAX_MESSAGE_BYTES} characters");
            errors.push(FieldError::invalid(&path.child("message"), format!("{shown}..."), why));
        } else if has_lines(message.trim()) {
            let why = "message must not contain line breaks";
            errors.push(FieldError::invalid(&path.child("message"), message, why));
        } else if has_lines(written) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(&path.child("message"), why));
        }
        let expression = text(&rule["messageExpression"]);
        if !expression.is_empty() && expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(&path.child("messageExpression"), why));
        }
        if is_set(&rule["reason"]) && !REASONS.contains(&text(&rule["reason"])) {
            errors.push(FieldError::not_supported(&path.child("reason"), rule["reason"].clone(), &REASONS));
        }
        let field = text(&rule["fieldPath"]);
        if !field.is_empty() && field.trim().is_empty() {
            let why = "fieldPath must be non-empty if specified";
            errors.push(FieldError::invalid(&path.child("fieldPath"), field, why));
        }
        if has_lines(field) {
            let why = "fieldPath must not contain line breaks";
            errors.push(FieldError::invalid(&path.child("fieldPath"), field, why));
        }
        if !field.is_empty()
            && let Err(why) = field_path(field, schema)
        {
            let why = format!("fieldPath must be a valid path: {why}");
            errors.push(FieldError::invalid(&path.child("fieldPath"), field, why));
        }
    }
}
