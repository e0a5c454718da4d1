//! Defaults in a schema are valid by it, and say nothing that it would drop.

use serde_json::Value;

use crate::{
    custom::{Schema, check_default, has_unknown},
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

fn one(schema: &Value, default: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let rules = match Schema::parse(schema) {
        Ok(rules) => rules,
        Err(why) => return errors.push(FieldError::invalid(path, default.clone(), why)),
    };
    if has_unknown(&rules, default) {
        errors.push(FieldError::invalid(path, default.clone(), "must not have unknown fields"));
    }
    for mut error in check_default(&rules, default) {
        // The checker knows the path below the default; the default itself is what it calls the whole.
        error.field = match error.field.as_str() {
            "<nil>" => path.to_string(),
            below => format!("{path}.{below}"),
        };
        errors.push(error);
    }
}
