//! The versions of a definition: each by itself, what they share, and what they have together.

use serde_json::Value;

use super::{SPEC, defaults, joined, openapi, rules, structural};
use crate::{
    custom::steps,
    field::{FieldError, FieldPath},
    meta::names,
    strategy::rules::Errors,
    value::{is_empty, is_set, items, text, truth},
};

/// What stands once above the versions in upstream's internal form, where all versions say it alike.
const SHARED: [(&str, &str); 4] = [
    ("schema", "validation"),
    ("subresources", "subresources"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
];

fn is_shared(versions: &[Value], key: &str) -> bool {
    let first = versions.first().map(|version| &version[key]).unwrap_or(&Value::Null);
    !is_empty(first) && versions.iter().all(|version| version[key] == *first)
}

pub(super) fn check(spec: &Value, errors: &mut Errors) {
    let versions = items(&spec["versions"]);
    let list = SPEC.child("versions");
    for (i, version) in versions.iter().enumerate() {
        if !is_set(&version["schema"]["openAPIV3Schema"]) {
            let path = list.index(i);
            let path = path.child("schema");
            errors.push(FieldError::required(&path.child("openAPIV3Schema"), "schemas are required"));
        }
    }
    for (i, version) in versions.iter().enumerate() {
        let path = list.index(i);
        joined(names::dns1035(text(&version["name"])), text(&version["name"]), "", &path.child("name"), errors);
        deprecation(version, &path.child("deprecationWarning"), errors);
        for (key, _) in SHARED {
            if !is_shared(versions, key) {
                part(key, version, has_status(version), &path.child(key), errors);
            }
        }
    }
    let names: Vec<&str> = versions.iter().map(|version| text(&version["name"])).collect();
    let mut fail = |why: &str| errors.push(FieldError::invalid(&list, spec["versions"].clone(), why));
    if names.iter().enumerate().any(|(i, name)| names[..i].contains(name)) {
        fail("must contain unique version names");
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        fail("must have exactly one version marked as storage version");
    }
}

/// What all versions say alike is checked, and complained of, once.
pub(super) fn check_shared(spec: &Value, errors: &mut Errors) {
    let versions = items(&spec["versions"]);
    let Some(first) = versions.first() else { return };
    for (key, name) in SHARED {
        if is_shared(versions, key) {
            part(key, first, versions.iter().any(has_status), &SPEC.child(name), errors);
        }
    }
}

fn has_status(version: &Value) -> bool {
    is_set(&version["subresources"]["status"])
}

fn part(key: &str, version: &Value, has_status: bool, path: &FieldPath<'_>, errors: &mut Errors) {
    match key {
        "schema" => schema(&version["schema"]["openAPIV3Schema"], has_status, path, errors),
        "subresources" => scale(&version["subresources"]["scale"], path, errors),
        "additionalPrinterColumns" => {
            for (i, one) in items(&version[key]).iter().enumerate() {
                column(one, &path.index(i), errors);
            }
        }
        _ => selectable(items(&version[key]), &version["schema"]["openAPIV3Schema"], path, errors),
    }
}

fn schema(schema: &Value, has_status: bool, path: &FieldPath<'_>, errors: &mut Errors) {
    if !is_set(schema) {
        return;
    }
    let before = errors.len();
    let root = path.child("openAPIV3Schema");
    openapi::root(schema, has_status, path, errors);
    let unsupported = structural::unsupported(schema);
    if unsupported.is_none() {
        let wrong = structural::check(schema, &root);
        if wrong.is_empty() {
            defaults::check(schema, &root, errors);
        }
        errors.extend(wrong);
    }
    openapi::check(schema, &root, errors);
    if errors.len() > before {
        return;
    }
    if let Some(why) = unsupported {
        return errors.push(FieldError::invalid(&root, "", why));
    }
    rules::check(schema, &root, errors);
    if errors.len() == before {
        defaults::check_rules(schema, &root, errors);
    }
}

fn deprecation(version: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    let mut fail = |why: String| errors.push(FieldError::invalid(path, warning, why));
    if !truth(&version["deprecated"]) {
        return fail("can only be set for deprecated versions".to_owned());
    }
    if warning.len() > 256 {
        fail("must be <= 256 characters long".to_owned());
    }
    if warning.is_empty() {
        fail("must not be an empty string".to_owned());
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' ')) {
        fail(format!("must only contain printable UTF-8 characters; non-printable character found at index {i}"));
    }
}

fn simple_path(path_text: &str, path: &FieldPath<'_>, errors: &mut Errors) -> bool {
    let simple = path_text.starts_with('.');
    if !simple {
        errors.push(FieldError::invalid(path, path_text, "must be a simple json path starting with ."));
    }
    simple
}

fn scale(scale: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if !is_set(scale) {
        return;
    }
    let rows: [(&str, &str, &[&str], &str); 3] = [
        ("specReplicasPath", "scale.specReplicasPath", &[".spec."], "should be a json path under .spec"),
        ("statusReplicasPath", "scale.statusReplicasPath", &[".status."], "should be a json path under .status"),
        (
            "labelSelectorPath",
            "scale.labelSelectorPath",
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
        ),
    ];
    for (key, name, under, why) in rows {
        let (path, written) = (path.child(name), text(&scale[key]));
        if written.is_empty() {
            if key != "labelSelectorPath" {
                errors.push(FieldError::required(&path, ""));
            }
        } else if simple_path(written, &path, errors) && !under.iter().any(|prefix| written.starts_with(prefix)) {
            errors.push(FieldError::invalid(&path, written, why));
        }
    }
}

fn column(column: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    if is_empty(&column["name"]) {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let one_of = |list: &[&str]| format!("must be one of {}", list.join(","));
    let (kind, format) = (text(&column["type"]), text(&column["format"]));
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), one_of(&TYPES)));
    } else if !TYPES.contains(&kind) {
        errors.push(FieldError::invalid(&path.child("type"), kind, one_of(&TYPES)));
    }
    if !format.is_empty() && !FORMATS.contains(&format) {
        errors.push(FieldError::invalid(&path.child("format"), format, one_of(&FORMATS)));
    }
    match text(&column["jsonPath"]) {
        "" => errors.push(FieldError::required(&path.child("JSONPath"), "")),
        written => drop(simple_path(written, &path.child("JSONPath"), errors)),
    }
}

/// More fields than this would cost every watch too much.
const MAX_SELECTABLE: usize = 8;

fn selectable(fields: &[Value], schema: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if !fields.is_empty() && !is_set(schema) {
        let why = "selectableFields may only be set when version.schema.openAPIV3Schema is not included";
        errors.push(FieldError::invalid(path, "", why));
        return;
    }
    let mut taken: Vec<&str> = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let written = text(&field["jsonPath"]);
        let path = path.index(i);
        let path = path.child("jsonPath");
        if written.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let found = match field_schema(written, schema) {
            Ok(found) => found,
            Err(why) => {
                errors.push(FieldError::invalid(&path, written, format!("is an invalid path: {why}")));
                continue;
            }
        };
        if steps(written).next() == Some("metadata") {
            errors.push(FieldError::invalid(&path, written, "must not point to fields in metadata"));
        }
        if !matches!(text(&found["type"]), "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                       formats are allowed.";
            errors.push(FieldError::invalid(&path, written, why));
        }
        match taken.contains(&written) {
            true => errors.push(FieldError::duplicate(&path, written)),
            false => taken.push(written),
        }
    }
    if taken.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(path, taken.len(), MAX_SELECTABLE));
    }
}

fn field_schema<'a>(written: &str, schema: &'a Value) -> Result<&'a Value, &'static str> {
    if written.contains('[') {
        return Err("array notation is not allowed");
    }
    let Some(names) = written.strip_prefix('.') else { return Err("must start with a dot: .spec.field") };
    names.split('.').try_fold(schema, |schema, name| match (&schema["properties"][name], name) {
        (_, "") => Err("unexpected end of JSON path"),
        (Value::Null, _) if schema["properties"].is_null() && schema["additionalProperties"].is_object() => {
            Ok(&schema["additionalProperties"])
        }
        (Value::Null, _) => Err("does not refer to a valid field"),
        (found, _) => Ok(found),
    })
}
