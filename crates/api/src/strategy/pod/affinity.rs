use serde_json::Value;

use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::{check, rules::Errors},
    value::{int, is_empty, is_set, items, text},
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn validate(affinity: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if affinity.is_null() {
        return;
    }
    let node = &affinity["nodeAffinity"];
    let node_path = path.child("nodeAffinity");
    if is_set(&node[REQUIRED]) {
        check::node_selector(&node[REQUIRED], &node_path.child(REQUIRED), errors);
    }
    let list = node_path.child(PREFERRED);
    for (i, preferred) in items(&node[PREFERRED]).iter().enumerate() {
        let path = list.index(i);
        weight(preferred, &path, errors);
        check::node_selector_term(&preferred["preference"], &path.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let kind_path = path.child(kind);
        let list = kind_path.child(REQUIRED);
        for (i, term) in items(&affinity[kind][REQUIRED]).iter().enumerate() {
            pod_term(term, &list.index(i), errors);
        }
        let list = kind_path.child(PREFERRED);
        for (i, preferred) in items(&affinity[kind][PREFERRED]).iter().enumerate() {
            let path = list.index(i);
            weight(preferred, &path, errors);
            pod_term(&preferred["podAffinityTerm"], &path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(preferred: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let weight = int(&preferred["weight"]);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(&path.child("weight"), weight, "must be in the range 1-100"));
    }
}

fn pod_term(term: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check::label_selector(&term["labelSelector"], &path.child("labelSelector"), errors);
    check::label_selector(&term["namespaceSelector"], &path.child("namespaceSelector"), errors);
    let list = path.child("namespaces");
    for namespace in items(&term["namespaces"]).iter().map(text) {
        check::faults(names::label(namespace), namespace, &list, errors);
    }
    topology_key(term, path, errors);
}

fn topology_key(owner: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let path = path.child("topologyKey");
    match text(&owner["topologyKey"]) {
        "" => errors.push(FieldError::required(&path, "can not be empty")),
        key => check::faults(names::qualified_name(key), key, &path, errors),
    }
}

/// `topologySpreadConstraints`
pub(super) fn spread(list: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for (i, constraint) in items(list).iter().enumerate() {
        let path = path.index(i);
        if int(&constraint["maxSkew"]) <= 0 {
            let why = "must be greater than zero";
            errors.push(FieldError::invalid(&path.child("maxSkew"), int(&constraint["maxSkew"]), why));
        }
        topology_key(constraint, &path, errors);
        let when = path.child("whenUnsatisfiable");
        check::one_of(&constraint["whenUnsatisfiable"], &["DoNotSchedule", "ScheduleAnyway"], &when, errors);
        let pair = (text(&constraint["topologyKey"]), text(&constraint["whenUnsatisfiable"]));
        if taken.contains(&pair) && !is_empty(&constraint["topologyKey"]) {
            let both = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(&both, format!("{{{}, {}}}", pair.0, pair.1)));
        }
        taken.push(pair);
        if is_set(&constraint["minDomains"]) {
            let domains = path.child("minDomains");
            if int(&constraint["minDomains"]) <= 0 {
                let why = "must be greater than zero";
                errors.push(FieldError::invalid(&domains, int(&constraint["minDomains"]), why));
            }
            if pair.1 != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", pair.1);
                errors.push(FieldError::invalid(&domains, constraint["minDomains"].clone(), why));
            }
        }
        for key in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            check::optional_one_of(&constraint[key], &["Honor", "Ignore"], &path.child(key), errors);
        }
        check::label_selector(&constraint["labelSelector"], &path.child("labelSelector"), errors);
    }
}
