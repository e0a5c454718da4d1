//! The claims of a pod, and which of them its containers want.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::{check, rules::Errors},
    value::{is_set, items, text},
};

pub(super) fn of_pod(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("resourceClaims");
    let mut taken = HashSet::new();
    for (i, claim) in items(&spec["resourceClaims"]).iter().enumerate() {
        let path = list.index(i);
        let name = path.child("name");
        if text(&claim["name"]).is_empty() || taken.insert(text(&claim["name"])) {
            check::name(&claim["name"], names::label, &name, errors);
        } else {
            errors.push(FieldError::duplicate(&name, text(&claim["name"])));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        match sources.map(|key| is_set(&claim[key])) {
            [true, true] => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.push(FieldError::invalid(&path, claim.clone(), why));
            }
            [false, false] => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.push(FieldError::required(&path, why));
            }
            _ => {}
        }
        for key in sources.into_iter().filter(|key| is_set(&claim[*key])) {
            check::faults(names::subdomain(text(&claim[key])), text(&claim[key]), &path.child(key), errors);
        }
    }
}

/// `requirements` are those of a container.
pub(super) fn of_container(requirements: &Value, spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("claims");
    let mut known: Vec<&str> = items(&spec["resourceClaims"]).iter().map(|claim| text(&claim["name"])).collect();
    known.sort_unstable();
    let mut taken = HashSet::new();
    for (i, claim) in items(&requirements["claims"]).iter().enumerate() {
        let (path, name) = (list.index(i), text(&claim["name"]));
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if !taken.insert((name, text(&claim["request"]))) {
            errors.push(FieldError::duplicate(&path, name));
        }
        if !known.contains(&name) {
            let which = if known.is_empty() { " which is empty".to_owned() } else { format!(": {}", known.join(", ")) };
            let mut missing = FieldError::not_found(&path, name);
            missing.detail = format!("must be one of the names in pod.spec.resourceClaims{which}");
            errors.push(missing);
        }
    }
}
