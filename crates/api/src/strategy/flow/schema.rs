//! FlowSchemas: which requests belong together, and to which priority level they go.

use serde_json::Value;

use super::{EXEMPT, SPEC, conditions, default_number, fixed_schema, must_be_fixed};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::{
        check, defaults,
        rules::{Errors, Rules},
    },
    value::{int, is_empty, is_set, items, text, truth},
};

const MAX_PRECEDENCE: i64 = 10_000;
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const KINDS: [(&str, &str); 3] = [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
const BAD_NAMESPACE: &str = "each member of this list must be '*' or a DNS-1123 label; ";

pub(in crate::strategy) static FLOW_SCHEMA: Rules = Rules {
    default: |object| {
        if let Some(spec) = defaults::spec(object) {
            default_number(spec, "matchingPrecedence", 1000);
        }
    },
    validate: |object, errors| {
        let (name, spec) = (text(&object["metadata"]["name"]), &object["spec"]);
        precedence(name, int(&spec["matchingPrecedence"]), errors);
        let method = &spec["distinguisherMethod"];
        let methods = ["ByNamespace", "ByUser"];
        if is_set(method) && !methods.contains(&text(&method["type"])) {
            let at = SPEC.child("distinguisherMethod");
            errors.push(FieldError::not_supported(&at.child("type"), method["type"].clone(), &methods));
        }
        let at = SPEC.child("priorityLevelConfiguration");
        let level = &spec["priorityLevelConfiguration"]["name"];
        if is_empty(level) {
            errors.push(FieldError::required(&at.child("name"), "must reference a priority level"));
        } else {
            check::name(level, names::subdomain, &at.child("name"), errors);
        }
        let list = SPEC.child("rules");
        for (i, rule) in items(&spec["rules"]).iter().enumerate() {
            check_rule(rule, &list.index(i), errors);
        }
        if let Some(fixed) = fixed_schema(name) {
            must_be_fixed(spec, &fixed, format!("spec of '{name}' must equal the fixed value"), errors);
        }
        conditions(object, errors);
    },
    validate_update: |new, _, _, errors| {
        if errors.is_empty() {
            conditions(new, errors);
        }
    },
    ..Rules::WITH_STATUS
};

fn precedence(name: &str, precedence: i64, errors: &mut Errors) {
    let at = SPEC.child("matchingPrecedence");
    if precedence <= 0 {
        errors.push(FieldError::invalid(&at, precedence, "must be a positive value"));
    }
    if precedence > MAX_PRECEDENCE {
        errors.push(FieldError::invalid(&at, precedence, format!("must not be greater than {MAX_PRECEDENCE}")));
    }
    if precedence == 1 && name != EXEMPT {
        let words = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(FieldError::invalid(&at, precedence, words));
    }
}

fn check_rule(rule: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let (subjects, at) = (items(&rule["subjects"]), path.child("subjects"));
    if subjects.is_empty() {
        errors.push(FieldError::required(&at, "subjects must contain at least one value"));
    }
    for (i, subject) in subjects.iter().enumerate() {
        check_subject(subject, &at.index(i), errors);
    }
    let (resources, others) = (items(&rule["resourceRules"]), items(&rule["nonResourceRules"]));
    if resources.is_empty() && others.is_empty() {
        let words = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(FieldError::required(path, words));
    }
    let at = path.child("resourceRules");
    for (i, rule) in resources.iter().enumerate() {
        check_resources(rule, &at.index(i), errors);
    }
    let at = path.child("nonResourceRules");
    for (i, rule) in others.iter().enumerate() {
        check_paths(rule, &at.index(i), errors);
    }
}

fn check_subject(subject: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let kind = text(&subject["kind"]);
    let Some((_, own)) = KINDS.iter().find(|(name, _)| *name == kind) else {
        let supported = KINDS.map(|(name, _)| name);
        return errors.push(FieldError::not_supported(&path.child("kind"), kind, &supported));
    };
    let (named, at) = (&subject[*own], path.child(own));
    if !is_set(named) {
        errors.push(FieldError::required(&at, format!("{own} is required when subject kind is '{kind}'")));
    } else {
        let is_account = kind == "ServiceAccount";
        let name = &named["name"];
        if is_empty(name) {
            errors.push(FieldError::required(&at.child("name"), ""));
        } else if is_account && text(name) != "*" {
            check::faults(names::subdomain(text(name)), text(name), &at.child("name"), errors);
        }
        if is_account && is_empty(&named["namespace"]) {
            let words = "must specify namespace for service account";
            errors.push(FieldError::required(&at.child("namespace"), words));
        } else if is_account {
            check::optional_name(&named["namespace"], names::label, &at.child("namespace"), errors);
        }
    }
    for (other, field) in KINDS.iter().filter(|(name, field)| *name != kind && is_set(&subject[*field])) {
        let words = format!("{field} is forbidden when subject kind is not '{other}'");
        errors.push(FieldError::forbidden(&path.child(field), words));
    }
}

fn has_wildcard(list: &[Value]) -> bool {
    list.iter().any(|value| text(value) == "*")
}

/// A list that must not be empty, and in which `*` stands alone.
fn some_or_all(list: &Value, missing: &str, others: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    let values = items(list);
    if values.is_empty() {
        errors.push(FieldError::required(path, missing));
    } else if values.len() > 1 && has_wildcard(values) {
        let words = format!("if '*' is present, must not specify other {others}");
        errors.push(FieldError::invalid(path, list.clone(), words));
    }
}

fn check_verbs(verbs: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    some_or_all(verbs, "verbs must contain at least one value", "verbs", path, errors);
    let values = items(verbs);
    if !has_wildcard(values) && values.iter().any(|verb| !VERBS.contains(&text(verb))) {
        errors.push(FieldError::not_supported(path, verbs.clone(), &VERBS));
    }
}

fn check_resources(rule: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check_verbs(&rule["verbs"], &path.child("verbs"), errors);
    let missing = "resource rules must supply at least one api group";
    some_or_all(&rule["apiGroups"], missing, "api groups", &path.child("apiGroups"), errors);
    let missing = "resource rules must supply at least one resource";
    some_or_all(&rule["resources"], missing, "resources", &path.child("resources"), errors);
    let (list, at) = (&rule["namespaces"], path.child("namespaces"));
    let namespaces = items(list);
    if !namespaces.is_empty() || !truth(&rule["clusterScope"]) {
        let missing = "resource rules that are not cluster scoped must supply at least one namespace";
        some_or_all(list, missing, "namespaces", &at, errors);
    }
    if has_wildcard(namespaces) {
        return;
    }
    for (i, namespace) in namespaces.iter().enumerate() {
        for fault in names::label(text(namespace)) {
            errors.push(FieldError::invalid(&at.index(i), text(namespace), format!("{BAD_NAMESPACE}{fault}")));
        }
    }
}

fn check_paths(rule: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check_verbs(&rule["verbs"], &path.child("verbs"), errors);
    let (list, at) = (&rule["nonResourceURLs"], path.child("nonResourceURLs"));
    some_or_all(list, "nonResourceURLs must contain at least one value", "non-resource URLs", &at, errors);
    if has_wildcard(items(list)) {
        return;
    }
    for (i, url) in items(list).iter().enumerate() {
        if let Some(fault) = path_fault(text(url)) {
            errors.push(FieldError::invalid(&at.index(i), text(url), fault));
        }
    }
}

fn path_fault(path: &str) -> Option<&'static str> {
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ => match path.matches('*').count() {
            0 => None,
            1 if path.ends_with("/*") => None,
            _ => Some("wildcard can only do suffix matching"),
        },
    }
}
