//! `spec.conversion`, under the names of upstream's internal form.

use serde_json::Value;

use super::SPEC;
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::{check as checks, rules::Errors},
    value::{int, is_empty, is_set, items, text},
};

pub(super) fn check(conversion: &Value, errors: &mut Errors) {
    if conversion.is_null() {
        return;
    }
    let path = SPEC.child("conversion");
    checks::one_of(&conversion["strategy"], &["None", "Webhook"], &path.child("strategy"), errors);
    let (webhook, before) = (&conversion["webhook"], errors.len());
    let (config, versions) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if conversion["strategy"] == "Webhook" {
        if is_set(&webhook["clientConfig"]) {
            client(&webhook["clientConfig"], &config, errors);
        } else {
            errors.push(FieldError::required(&config, "required when strategy is set to Webhook"));
        }
        review_versions(&webhook["conversionReviewVersions"], &versions, errors);
        if errors.len() == before {
            // Who reads another version would be shown fields of the stored one as if nothing differed.
            let why = "webhooks are not asked for conversion by this server yet; use None where versions differ in \
                       nothing but apiVersion";
            errors.push(FieldError::forbidden(&path.child("strategy"), why));
        }
        return;
    }
    let why = "should not be set when strategy is not set to Webhook";
    if is_set(&webhook["clientConfig"]) {
        errors.push(FieldError::forbidden(&config, why));
    }
    if !is_empty(&webhook["conversionReviewVersions"]) {
        errors.push(FieldError::forbidden(&versions, why));
    }
}

fn review_versions(versions: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let all: Vec<&str> = items(versions).iter().map(text).collect();
    if all.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    for (i, version) in all.iter().copied().enumerate() {
        if all[..i].contains(&version) {
            errors.push(FieldError::invalid(&path.index(i), version, "duplicate version"));
            continue;
        }
        checks::faults(names::dns1035(version), version, &path.index(i), errors);
    }
    if !all.iter().any(|version| matches!(*version, "v1" | "v1beta1")) {
        errors.push(FieldError::invalid(path, versions.clone(), "must include at least one of v1, v1beta1"));
    }
}

fn client(config: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
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
    let target = text(&service["path"]);
    if !target.is_empty() && !target.starts_with('/') {
        errors.push(FieldError::invalid(&path.child("path"), target, "must start with a '/'"));
    } else if target.len() > 1 && target[1..].trim_end_matches('/').split('/').any(str::is_empty) {
        errors.push(FieldError::invalid(&path.child("path"), target, "segment may not be empty"));
    }
}
