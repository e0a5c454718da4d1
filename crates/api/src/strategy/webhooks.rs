//! Configurations of admission webhooks, in upstream's words (`pkg/apis/admissionregistration/validation`), and how any
//! webhook is reached.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    admission::match_conditions,
    check, defaults,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    value::{int, is_empty, is_set, items, items_mut, set_default, text},
};

pub(super) static VALIDATING: Rules = Rules {
    generation: Generation::Content,
    unconditional_update: false,
    default: |object| complete(object, false),
    validate: |object, errors| check_all(object, false, errors),
    ..Rules::DATA
};

pub(super) static MUTATING: Rules = Rules {
    generation: Generation::Content,
    unconditional_update: false,
    default: |object| complete(object, true),
    validate: |object, errors| check_all(object, true, errors),
    ..Rules::DATA
};

fn complete(object: &mut Value, mutating: bool) {
    let Some(object) = object.as_object_mut() else { return };
    for hook in items_mut(object, "webhooks").iter_mut().filter_map(Value::as_object_mut) {
        set_default(hook, "failurePolicy", "Fail");
        set_default(hook, "matchPolicy", "Equivalent");
        set_default(hook, "timeoutSeconds", 10);
        defaults::empty_object(hook, "namespaceSelector");
        defaults::empty_object(hook, "objectSelector");
        if mutating {
            set_default(hook, "reinvocationPolicy", "Never");
        }
        if let Some(client) = hook.get_mut("clientConfig").and_then(Value::as_object_mut)
            && let Some(service) = client.get_mut("service").and_then(Value::as_object_mut)
        {
            set_default(service, "port", 443);
        }
        for rule in items_mut(hook, "rules").iter_mut().filter_map(Value::as_object_mut) {
            set_default(rule, "scope", "*");
        }
    }
}

fn check_all(object: &Value, mutating: bool, errors: &mut Errors) {
    let list = FieldPath::new("webhooks");
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    for (i, hook) in items(&object["webhooks"]).iter().enumerate() {
        let path = list.index(i);
        check_one(hook, mutating, &path, errors);
        review_versions(&hook["admissionReviewVersions"], &path.child("admissionReviewVersions"), errors);
        let name = text(&hook["name"]);
        if !name.is_empty() && !taken.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
}

fn check_one(hook: &Value, mutating: bool, path: &FieldPath<'_>, errors: &mut Errors) {
    let name = text(&hook["name"]);
    if check::required(&hook["name"], &path.child("name"), errors) {
        let faults = names::subdomain(name);
        if !faults.is_empty() {
            errors.push(FieldError::invalid(&path.child("name"), name, faults.join(",")));
        }
        if name.split('.').count() < 3 {
            let why = "should be a domain with at least three segments separated by dots";
            errors.push(FieldError::invalid(&path.child("name"), name, why));
        }
    }
    let list = path.child("rules");
    for (i, one) in items(&hook["rules"]).iter().enumerate() {
        rule(one, &list.index(i), errors);
    }
    check::optional_one_of(&hook["failurePolicy"], &["Fail", "Ignore"], &path.child("failurePolicy"), errors);
    check::optional_one_of(&hook["matchPolicy"], &["Equivalent", "Exact"], &path.child("matchPolicy"), errors);
    let harmless = ["None", "NoneOnDryRun"];
    if is_empty(&hook["sideEffects"]) {
        let why = format!("must specify one of {}", harmless.join(", "));
        errors.push(FieldError::required(&path.child("sideEffects"), why));
    }
    check::optional_one_of(&hook["sideEffects"], &harmless, &path.child("sideEffects"), errors);
    if is_set(&hook["timeoutSeconds"]) && !(1..=30).contains(&int(&hook["timeoutSeconds"])) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(&path.child("timeoutSeconds"), hook["timeoutSeconds"].clone(), why));
    }
    for key in ["namespaceSelector", "objectSelector"] {
        check::label_selector(&hook[key], &path.child(key), errors);
    }
    if mutating {
        let (key, known) = ("reinvocationPolicy", ["IfNeeded", "Never"]);
        check::optional_one_of(&hook[key], &known, &path.child(key), errors);
    }
    client(&hook["clientConfig"], &path.child("clientConfig"), errors);
    match_conditions(&hook["matchConditions"], false, &path.child("matchConditions"), errors);
}

pub(super) fn rule(rule: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let lists = [("operations", "operations"), ("apiGroups", "API groups"), ("apiVersions", "API versions")];
    for (key, named) in lists {
        let (path, values) = (path.child(key), items(&rule[key]));
        if values.is_empty() {
            errors.push(FieldError::required(&path, ""));
        }
        if values.len() > 1 && values.iter().any(|value| value == "*") {
            let why = format!("if '*' is present, must not specify other {named}");
            errors.push(FieldError::invalid(&path, rule[key].clone(), why));
        }
        for (i, value) in values.iter().enumerate() {
            match key {
                "operations" => {
                    let known = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
                    if !known.contains(&text(value)) {
                        errors.push(FieldError::not_supported(&path.index(i), text(value), &known));
                    }
                }
                // The core group has no name.
                "apiVersions" if text(value).is_empty() => errors.push(FieldError::required(&path.index(i), "")),
                _ => {}
            }
        }
    }
    resources(&rule["resources"], &path.child("resources"), errors);
    let scopes = ["*", "Cluster", "Namespaced"];
    check::optional_one_of(&rule["scope"], &scopes, &path.child("scope"), errors);
}

/// `pods`, `pods/status`, `pods/*`, `*`, `*/scale` and `*/*`, and none that another one covers.
fn resources(list: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let all: Vec<&str> = items(list).iter().map(text).collect();
    if all.is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let (mut whole, mut everywhere) = (BTreeSet::new(), BTreeSet::new());
    let mut has_plain = false;
    for (i, one) in all.iter().copied().enumerate() {
        if one.is_empty() {
            errors.push(FieldError::required(&path.index(i), ""));
            continue;
        }
        let Some((resource, part)) = one.split_once('/') else {
            has_plain = one != "*";
            continue;
        };
        if whole.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {one}");
            errors.push(FieldError::invalid(&path.index(i), one, why));
        }
        if everywhere.contains(part) {
            let why = format!("if '*/{part}' is present, must not specify {one}");
            errors.push(FieldError::invalid(&path.index(i), one, why));
        }
        if part == "*" {
            whole.insert(resource);
        }
        if resource == "*" {
            everywhere.insert(part);
        }
    }
    if all.len() > 1 && all.contains(&"*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(path, list.clone(), why));
    }
    if all.contains(&"*") && has_plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(path, list.clone(), why));
    }
}

/// The forms of a review that a webhook understands.
fn review_versions(versions: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if items(versions).is_empty() {
        errors.push(FieldError::required(path, "must specify one of v1, v1beta1"));
        return;
    }
    known_versions(versions, path, errors);
}

/// None twice, all of them names, and one that this server speaks.
pub(super) fn known_versions(versions: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let all: Vec<&str> = items(versions).iter().map(text).collect();
    for (i, version) in all.iter().copied().enumerate() {
        if all[..i].contains(&version) {
            errors.push(FieldError::invalid(&path.index(i), version, "duplicate version"));
            continue;
        }
        check::faults(names::dns1035(version), version, &path.index(i), errors);
    }
    if !all.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        errors.push(FieldError::invalid(path, versions.clone(), "must include at least one of v1, v1beta1"));
    }
}

/// A `clientConfig`: an address or a Service.
pub(super) fn client(config: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    match (config["url"].as_str(), is_set(&config["service"])) {
        (Some(address), false) => url(address, &path.child("url"), errors),
        (None, true) => service(&config["service"], &path.child("service"), errors),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn url(address: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let (before, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (before, query) = before.split_once('?').unwrap_or((before, ""));
    let authority = before.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let mut fail = |value: &str, why: String| errors.push(FieldError::invalid(path, value, why));
    if scheme != "https" {
        fail(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if host.is_empty() {
        fail(host, format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        fail(user, "user information is not permitted in the URL".to_owned());
    }
    if !fragment.is_empty() {
        fail(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if !query.is_empty() {
        fail(query, "query parameters are not permitted in the URL".to_owned());
    }
}

fn service(service: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for key in ["name", "namespace"] {
        if is_empty(&service[key]) {
            errors.push(FieldError::required(&path.child(key), format!("service {key} is required")));
        }
    }
    if is_set(&service["port"]) {
        let port = int(&service["port"]);
        for fault in names::port_number(port) {
            errors.push(FieldError::invalid(&path.child("port"), port, format!("port is not valid: {fault}")));
        }
    }
    service_path(text(&service["path"]), &path.child("path"), errors);
}

fn service_path(target: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if matches!(target, "" | "/") {
        return;
    }
    if target == "//" {
        errors.push(FieldError::invalid(path, target, "segment[0] may not be empty"));
        return;
    }
    if !target.starts_with('/') {
        errors.push(FieldError::invalid(path, target, "must start with a '/'"));
    }
    let steps = target.strip_prefix('/').unwrap_or(target);
    for (i, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            errors.push(FieldError::invalid(path, target, format!("segment[{i}] may not be empty")));
            continue;
        }
        for fault in names::subdomain(step) {
            errors.push(FieldError::invalid(path, target, format!("segment[{i}]: {fault}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(check: impl Fn(&FieldPath<'_>, &mut Errors)) -> String {
        let mut errors = Errors::new();
        check(&FieldPath::new("x"), &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn resources_cover_each_other_once_only() {
        for (list, expected) in [
            (json!(["pods", "pods/status", "*/scale"]), ""),
            (json!(["*", "pods/exec"]), ""),
            (json!([]), "x: Required value"),
            (json!([""]), "x[0]: Required value"),
            (json!(["a/*", "a/x"]), "x[1]: Invalid value: \"a/x\": if 'a/*' is present, must not specify a/x"),
            (json!(["*/a", "x/a"]), "x[1]: Invalid value: \"x/a\": if '*/a' is present, must not specify x/a"),
            (
                json!(["*/*", "a"]),
                "x: Invalid value: [\"*/*\",\"a\"]: if '*/*' is present, must not specify other resources",
            ),
            (
                json!(["*", "a"]),
                "x: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other resources without \
                 subresources",
            ),
        ] {
            assert_eq!(faults(|path, errors| resources(&list, path, errors)), expected, "{list}");
        }
    }

    #[test]
    fn services_are_named_and_have_paths() {
        for (config, expected) in [
            (json!({"name": "s", "namespace": "n", "path": "/a/b.c/", "port": 443}), ""),
            (json!({"name": "s", "namespace": "n", "path": "/"}), ""),
            (json!({"name": "s"}), "x.service.namespace: Required value: service namespace is required"),
            (
                json!({"name": "s", "namespace": "n", "port": 0}),
                "x.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"name": "s", "namespace": "n", "path": "//"}),
                "x.service.path: Invalid value: \"//\": segment[0] may not be empty",
            ),
            (
                json!({"name": "s", "namespace": "n", "path": "/a//b"}),
                "x.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
            ),
        ] {
            let config = json!({"service": config});
            assert_eq!(faults(|path, errors| client(&config, path, errors)), expected, "{config}");
        }
    }
}
