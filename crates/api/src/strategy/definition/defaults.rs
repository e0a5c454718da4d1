//! Defaults in a schema are valid by it, and say nothing that it would drop.

use serde_json::Value;

use crate::{
    custom::{Schema, check_default, check_default_rules, has_unknown},
    field::{FieldError, FieldPath},
    strategy::rules::Errors,
    value::entries,
};

/// Defaults below `additionalProperties` are left alone: upstream does not look there either.
pub(super) fn check(schema: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        one(schema, default, &path.child("default"), errors);
    }
    if schema["items"].is_object() {
        check(&schema["items"], &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in entries(&schema["properties"]) {
        check(property, &properties.key(name), errors);
    }
}

/// Defaults by the rules of what they stand in; they are run once they compile and all else is sound.
pub(super) fn check_rules(schema: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        let below = check_default_rules(schema, default);
        errors.extend(below.into_iter().map(|error| placed(error, &path.child("default"))));
    }
    if schema["items"].is_object() {
        check_rules(&schema["items"], &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in entries(&schema["properties"]) {
        check_rules(property, &properties.key(name), errors);
    }
}

/// The checkers know the path below a default; the default itself is what they call the whole.
fn placed(mut error: FieldError, path: &FieldPath<'_>) -> FieldError {
    error.field = match error.field.as_str() {
        "<nil>" => path.to_string(),
        below if below.starts_with('[') => format!("{path}{below}"),
        below => format!("{path}.{below}"),
    };
    error
}

fn one(schema: &Value, default: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let rules = match Schema::parse(schema) {
        Ok(rules) => rules,
        Err(why) => return errors.push(FieldError::invalid(path, default.clone(), why)),
    };
    if has_unknown(&rules, default) {
        errors.push(FieldError::invalid(path, default.clone(), "must not have unknown fields"));
    }
    errors.extend(check_default(&rules, default).into_iter().map(|error| placed(error, path)));
}
