//! Roles and bindings. (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/>)

use serde_json::Value;

use super::{
    check,
    rules::{Errors, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::{NameRule, names},
    value::{is_empty, items, items_mut, object_at, same, set_default, text},
};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) static ROLE: Rules = Rules {
    name_rule: NameRule::PathSegment,
    create_on_update: true,
    validate: |role, errors| rules(role, true, errors),
    ..Rules::DATA
};

pub(super) static CLUSTER_ROLE: Rules = Rules {
    name_rule: NameRule::PathSegment,
    create_on_update: true,
    validate: |role, errors| {
        rules(role, false, errors);
        let aggregation = FieldPath::new("aggregationRule");
        let list = aggregation.child("clusterRoleSelectors");
        if !role["aggregationRule"].is_null() {
            let selectors = items(&role["aggregationRule"]["clusterRoleSelectors"]);
            if selectors.is_empty() {
                let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.push(FieldError::required(&list, why));
            }
            for (i, selector) in selectors.iter().enumerate() {
                check::label_selector(selector, &list.index(i), errors);
            }
        }
    },
    ..Rules::DATA
};

fn rules(role: &Value, namespaced: bool, errors: &mut Errors) {
    let list = FieldPath::new("rules");
    for (i, rule) in items(&role["rules"]).iter().enumerate() {
        let path = list.index(i);
        if is_empty(&rule["verbs"]) {
            errors.push(FieldError::required(&path.child("verbs"), "verbs must contain at least one value"));
        }
        if !is_empty(&rule["nonResourceURLs"]) {
            let urls = path.child("nonResourceURLs");
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(&urls, rule["nonResourceURLs"].clone(), why));
            }
            if ["apiGroups", "resources", "resourceNames"].iter().any(|key| !is_empty(&rule[*key])) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(&urls, rule["nonResourceURLs"].clone(), why));
            }
            continue;
        }
        if is_empty(&rule["apiGroups"]) {
            let why = "resource rules must supply at least one api group";
            errors.push(FieldError::required(&path.child("apiGroups"), why));
        }
        if is_empty(&rule["resources"]) {
            let why = "resource rules must supply at least one resource";
            errors.push(FieldError::required(&path.child("resources"), why));
        }
    }
}

pub(super) static ROLE_BINDING: Rules = Rules {
    name_rule: NameRule::PathSegment,
    create_on_update: true,
    default: default_binding,
    validate: |object, errors| binding(object, &["ClusterRole", "Role"], errors),
    validate_update: role_is_fixed,
    ..Rules::DATA
};

pub(super) static CLUSTER_ROLE_BINDING: Rules = Rules {
    name_rule: NameRule::PathSegment,
    create_on_update: true,
    default: default_binding,
    validate: |object, errors| binding(object, &["ClusterRole"], errors),
    validate_update: role_is_fixed,
    ..Rules::DATA
};

fn default_binding(object: &mut Value) {
    let Some(object) = object.as_object_mut() else { return };
    if let Some(role) = object_at(object, "roleRef") {
        set_default(role, "apiGroup", GROUP);
    }
    for subject in items_mut(object, "subjects").iter_mut().filter_map(Value::as_object_mut) {
        if matches!(subject.get("kind").map(text), Some("User" | "Group")) {
            set_default(subject, "apiGroup", GROUP);
        }
    }
}

fn binding(object: &Value, roles: &[&str], errors: &mut Errors) {
    let role = &object["roleRef"];
    let path = FieldPath::new("roleRef");
    if role["apiGroup"] != GROUP {
        errors.push(FieldError::not_supported(&path.child("apiGroup"), role["apiGroup"].clone(), &[GROUP]));
    }
    if !roles.contains(&text(&role["kind"])) {
        errors.push(FieldError::not_supported(&path.child("kind"), text(&role["kind"]), roles));
    }
    check::name(&role["name"], names::path_segment, &path.child("name"), errors);
    let list = FieldPath::new("subjects");
    for (i, subject) in items(&object["subjects"]).iter().enumerate() {
        self::subject(subject, &list.index(i), errors);
    }
}

fn subject(subject: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check::required(&subject["name"], &path.child("name"), errors);
    let group = text(&subject["apiGroup"]);
    match text(&subject["kind"]) {
        "ServiceAccount" => {
            let name = text(&subject["name"]);
            if !name.is_empty() {
                check::faults(names::subdomain(name), name, &path.child("name"), errors);
            }
            if !group.is_empty() {
                errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if is_empty(&subject["namespace"]) {
                errors.push(FieldError::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                errors.push(FieldError::not_supported(&path.child("apiGroup"), group, &[GROUP]));
            }
        }
        kind => {
            let kinds = ["Group", "ServiceAccount", "User"];
            errors.push(FieldError::not_supported(&path.child("kind"), kind, &kinds));
        }
    }
}

/// What a binding grants cannot be swapped under those who approved it.
fn role_is_fixed(new: &Value, old: &Value, _: super::Part, errors: &mut Errors) {
    if !same(&new["roleRef"], &old["roleRef"]) {
        errors.push(FieldError::invalid(&FieldPath::new("roleRef"), new["roleRef"].clone(), "cannot change roleRef"));
    }
}
