//! Claims, slices and classes of devices.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>)

mod claim;
mod slice;
mod status;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{
    Part, check, defaults,
    rules::{Errors, Generation, Rules},
};
use crate::{
    device::selector::Selector,
    field::{FieldError, FieldPath},
    meta::names,
    value::{is_set, items, object_at, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");
/// How many requests, constraints, configurations and selectors one list may have.
const MAX_ITEMS: usize = 32;
const MAX_EXPRESSION_BYTES: usize = 10 << 10;
const MAX_PARAMETERS_BYTES: usize = 10 << 10;
const MAX_DRIVER_BYTES: usize = 63;

pub(super) static RESOURCE_CLAIM: Rules = Rules {
    generation: Generation::Never,
    default: |object| {
        if let Some(spec) = defaults::spec(object) {
            claim::default(spec);
        }
    },
    validate: |object, errors| claim::validate(&object["spec"], &SPEC, errors),
    validate_update: |new, old, part, errors| match part {
        Part::Main => check::immutable(&new["spec"], &old["spec"], &SPEC, errors),
        Part::Subresource(_) => status::validate(new, old, errors),
    },
    ..Rules::WITH_STATUS
};

pub(super) static RESOURCE_CLAIM_TEMPLATE: Rules = Rules {
    default: |object| {
        if let Some(template) = defaults::spec(object)
            && let Some(spec) = object_at(template, "spec")
        {
            claim::default(spec);
        }
    },
    validate: |object, errors| claim::validate(&object["spec"]["spec"], &SPEC.child("spec"), errors),
    validate_update: |new, old, _, errors| check::immutable(&new["spec"], &old["spec"], &SPEC, errors),
    ..Rules::DATA
};

pub(super) static RESOURCE_SLICE: Rules = Rules {
    generation: Generation::Content,
    validate: |object, errors| slice::validate(&object["spec"], errors),
    validate_update: |new, old, _, errors| {
        let pool = SPEC.child("pool");
        check::immutable(&new["spec"]["pool"]["name"], &old["spec"]["pool"]["name"], &pool.child("name"), errors);
        for key in ["driver", "nodeName"] {
            check::immutable(&new["spec"][key], &old["spec"][key], &SPEC.child(key), errors);
        }
    },
    warnings: |object| slice::warnings(&object["spec"]),
    fields: &["spec.nodeName", "spec.driver"],
    ..Rules::DATA
};

pub(super) static DEVICE_CLASS: Rules = Rules {
    generation: Generation::Spec,
    validate: |object, errors| {
        let spec = &object["spec"];
        selectors(&spec["selectors"], &SPEC.child("selectors"), errors);
        each(&spec["config"], MAX_ITEMS, &SPEC.child("config"), errors, configuration);
        let extended = &spec["extendedResourceName"];
        if is_set(extended) && (!text(extended).contains('/') || !names::qualified_name(text(extended)).is_empty()) {
            let why = "must be a valid extended resource name";
            errors.push(FieldError::invalid(&SPEC.child("extendedResourceName"), extended.clone(), why));
        }
    },
    warnings: |object| {
        let extended = &object["spec"]["extendedResourceName"];
        let warning = |name| {
            format!(
                "spec.extendedResourceName: this cluster hands out devices to claims only, and none to pods that ask for {name}"
            )
        };
        is_set(extended).then(|| warning(text(extended))).into_iter().collect()
    },
    ..Rules::DATA
};

/// Checks the elements of a list that may have so many.
fn each(
    list: &Value,
    most: usize,
    path: &FieldPath<'_>,
    errors: &mut Errors,
    check: impl Fn(&Value, &FieldPath<'_>, &mut Errors),
) {
    let list = items(list);
    if list.len() > most {
        errors.push(FieldError::too_many(path, list.len(), most));
    }
    for (i, item) in list.iter().enumerate() {
        check(item, &path.index(i), errors);
    }
}

/// No two elements of a list have the same value below `key`, or are the same where there is no key.
fn unique(list: &Value, key: Option<&str>, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut seen = std::collections::BTreeSet::new();
    for (i, item) in items(list).iter().enumerate() {
        let value = text(key.map_or(item, |key| &item[key]));
        if !value.is_empty() && !seen.insert(value) {
            errors.push(FieldError::duplicate(&path.index(i), value));
        }
    }
}

/// The name of a driver, which is a domain's.
fn driver(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if check::required(value, path, errors) {
        if text(value).len() > MAX_DRIVER_BYTES {
            errors.push(FieldError::too_long(path, MAX_DRIVER_BYTES));
        }
        check::faults(names::subdomain(&text(value).to_lowercase()), text(value), path, errors);
    }
}

fn selectors(list: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    each(list, MAX_ITEMS, path, errors, |selector, path, errors| {
        let expression = &selector["cel"]["expression"];
        let path = path.child("cel");
        if !is_set(&selector["cel"]) {
            return errors.push(FieldError::required(&path, ""));
        }
        let path = path.child("expression");
        if text(expression).len() > MAX_EXPRESSION_BYTES {
            errors.push(FieldError::too_long(&path, MAX_EXPRESSION_BYTES));
        } else if let Err(why) = Selector::compile(text(expression)) {
            errors.push(FieldError::invalid(&path, text(expression), why));
        }
    });
}

/// What a driver is told of a claim: of a kind that only the driver understands.
fn configuration(config: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let path = path.child("opaque");
    let opaque = &config["opaque"];
    if !is_set(opaque) {
        return errors.push(FieldError::required(&path, ""));
    }
    driver(&opaque["driver"], &path.child("driver"), errors);
    let (parameters, path) = (&opaque["parameters"], path.child("parameters"));
    match parameters {
        Value::Null => errors.push(FieldError::required(&path, "")),
        Value::Object(_) if parameters.to_string().len() > MAX_PARAMETERS_BYTES => {
            errors.push(FieldError::too_long(&path, MAX_PARAMETERS_BYTES));
        }
        Value::Object(_) => {}
        other => errors.push(FieldError::invalid(&path, other.clone(), "must be a valid JSON object")),
    }
}

/// `DOMAIN/NAME`, or a name alone where the domain may be left out.
fn attribute_name(value: &str, needs_domain: bool, path: &FieldPath<'_>, errors: &mut Errors) {
    let (domain, id) = match value.split_once('/') {
        Some((domain, id)) => (Some(domain), id),
        None => (None, value),
    };
    match domain {
        None if needs_domain => {
            errors.push(FieldError::invalid(path, value, "must include a domain"));
        }
        None => {}
        Some("") => errors.push(FieldError::invalid(path, value, "the domain must not be empty")),
        Some(domain) => {
            if domain.len() > MAX_DRIVER_BYTES {
                errors.push(FieldError::too_long(path, MAX_DRIVER_BYTES));
            }
            check::faults(names::subdomain(domain), domain, path, errors);
        }
    }
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_identifier = id.starts_with(is_first) && id.chars().all(|c| is_first(c) || c.is_ascii_digit());
    if id.is_empty() {
        errors.push(FieldError::invalid(path, value, "the name must not be empty"));
    } else if id.len() > 32 {
        errors.push(FieldError::too_long(path, 32));
    } else if !is_identifier {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
                   characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
                   '[A-Za-z_][A-Za-z0-9_]*')";
        errors.push(FieldError::invalid(path, id, why));
    }
}
