//! What a claim asks for.

use serde_json::Value;

use super::{MAX_ITEMS, attribute_name, check, configuration, each, selectors, unique};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::rules::Errors,
    value::{Object, get, int, is_empty, is_set, items, items_mut, object_mut, set_default, text},
};

const MAX_ALTERNATIVES: usize = 8;
const MAX_TOLERATIONS: usize = 16;
pub(super) const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];
const BAD_REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

pub(super) fn default(spec: &mut Object) {
    let Some(devices) = spec.get_mut("devices").and_then(Value::as_object_mut) else { return };
    let one = |request: &mut Object| {
        set_default(request, "allocationMode", "ExactCount");
        if get(request, "allocationMode") == "ExactCount" && get(request, "count").as_i64().unwrap_or(0) == 0 {
            request.insert("count".into(), 1.into());
        }
        for toleration in items_mut(request, "tolerations").iter_mut().filter_map(Value::as_object_mut) {
            set_default(toleration, "operator", "Equal");
        }
    };
    for request in items_mut(devices, "requests") {
        if let Some(exactly) = object_mut(request, "exactly") {
            one(exactly);
        }
        if let Some(request) = request.as_object_mut() {
            items_mut(request, "firstAvailable").iter_mut().filter_map(Value::as_object_mut).for_each(one);
        }
    }
}

pub(super) fn validate(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let (devices, path) = (&spec["devices"], path.child("devices"));
    let requests = path.child("requests");
    each(&devices["requests"], MAX_ITEMS, &requests, errors, request);
    unique(&devices["requests"], Some("name"), &requests, errors);
    each(&devices["constraints"], MAX_ITEMS, &path.child("constraints"), errors, |constraint, path, errors| {
        request_names(constraint, devices, path, errors);
        match (&constraint["matchAttribute"], &constraint["distinctAttribute"]) {
            (Value::Null, Value::Null) => {
                let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required";
                errors.push(FieldError::required(path, why));
            }
            (Value::String(name), Value::Null) => attribute_name(name, true, &path.child("matchAttribute"), errors),
            (Value::Null, Value::String(name)) => attribute_name(name, true, &path.child("distinctAttribute"), errors),
            _ => {
                let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
                errors.push(FieldError::invalid(path, Value::Null, why));
            }
        }
    });
    each(&devices["config"], MAX_ITEMS, &path.child("config"), errors, |config, path, errors| {
        request_names(config, devices, path, errors);
        configuration(config, path, errors);
    });
}

fn request(request: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check::name(&request["name"], names::label, &path.child("name"), errors);
    match (is_set(&request["exactly"]), !items(&request["firstAvailable"]).is_empty()) {
        (false, false) => {
            errors.push(FieldError::required(path, "exactly one of `exactly` or `firstAvailable` is required"));
        }
        (true, true) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(FieldError::invalid(path, Value::Null, why));
        }
        (true, false) => choice(&request["exactly"], &path.child("exactly"), errors),
        (false, true) => {
            let list = path.child("firstAvailable");
            each(&request["firstAvailable"], MAX_ALTERNATIVES, &list, errors, |one, path, errors| {
                check::name(&one["name"], names::label, &path.child("name"), errors);
                choice(one, path, errors);
            });
            unique(&request["firstAvailable"], Some("name"), &list, errors);
        }
    }
}

fn choice(choice: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check::name(&choice["deviceClassName"], names::subdomain, &path.child("deviceClassName"), errors);
    selectors(&choice["selectors"], &path.child("selectors"), errors);
    let count = path.child("count");
    match text(&choice["allocationMode"]) {
        "All" if int(&choice["count"]) != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errors.push(FieldError::invalid(&count, choice["count"].clone(), why));
        }
        "ExactCount" if int(&choice["count"]) <= 0 => {
            errors.push(FieldError::invalid(&count, choice["count"].clone(), "must be greater than zero"));
        }
        "All" | "ExactCount" => {}
        other => errors.push(FieldError::not_supported(&path.child("allocationMode"), other, &["All", "ExactCount"])),
    }
    each(&choice["tolerations"], MAX_TOLERATIONS, &path.child("tolerations"), errors, toleration);
    let capacity = path.child("capacity");
    let capacity = capacity.child("requests");
    for (name, amount) in crate::value::entries(&choice["capacity"]["requests"]) {
        let path = capacity.key(name);
        attribute_name(name, false, &path, errors);
        check::quantity(amount, &path, errors);
    }
}

pub(super) fn toleration(toleration: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check::optional_name(&toleration["key"], names::qualified_name, &path.child("key"), errors);
    let value = path.child("value");
    match text(&toleration["operator"]) {
        "Exists" if !is_empty(&toleration["value"]) => {
            let why = "must be empty for operator `Exists`";
            errors.push(FieldError::invalid(&value, toleration["value"].clone(), why));
        }
        "Exists" => {}
        "Equal" => {
            check::faults(names::label_value(text(&toleration["value"])), text(&toleration["value"]), &value, errors)
        }
        "" => errors.push(FieldError::required(&path.child("operator"), "")),
        other => errors.push(FieldError::not_supported(&path.child("operator"), other, &["Equal", "Exists"])),
    }
    check::optional_one_of(&toleration["effect"], &EFFECTS, &path.child("effect"), errors);
}

/// What a constraint or a configuration is about.
pub(super) fn request_names(of: &Value, devices: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("requests");
    each(&of["requests"], MAX_ITEMS, &list, errors, |name, path, errors| reference(name, devices, path, errors));
    unique(&of["requests"], None, &list, errors);
}

/// A request of the claim, or one of its alternatives.
pub(super) fn reference(name: &Value, devices: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut parts = text(name).splitn(2, '/');
    let (request, sub) = (parts.next().unwrap_or_default(), parts.next());
    let found = items(&devices["requests"]).iter().find(|one| text(&one["name"]) == request);
    let is_there = found.is_some_and(|found| {
        sub.is_none_or(|sub| items(&found["firstAvailable"]).iter().any(|one| text(&one["name"]) == sub))
    });
    if !is_there {
        errors.push(FieldError::invalid(path, name.clone(), BAD_REFERENCE));
    }
}
