//! What extends the API: aggregated services.

use serde_json::Value;

use super::{
    check,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::{NameRule, names},
    value::{is_set, set_default, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) static API_SERVICE: Rules = Rules {
    // That of the core group is called `v1.`, which is no domain.
    name_rule: NameRule::PathSegment,
    generation: Generation::Never,
    unconditional_update: false,
    default: |object| {
        if let Some(service) = object.pointer_mut("/spec/service").and_then(Value::as_object_mut) {
            set_default(service, "port", 443);
        }
    },
    validate: |object, errors| {
        let spec = &object["spec"];
        let name = text(&object["metadata"]["name"]);
        let group = text(&spec["group"]);
        let wanted = format!("{}.{group}", text(&spec["version"]));
        if name != wanted {
            let meta = FieldPath::new("metadata");
            let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
            errors.push(FieldError::invalid(&meta.child("name"), name, why));
        }
        if group.is_empty() && spec["version"] != "v1" {
            let why = "only v1 may have an empty group and it better be legacy kube";
            errors.push(FieldError::required(&SPEC.child("group"), why));
        }
        if !group.is_empty() {
            check::name(&spec["group"], names::subdomain, &SPEC.child("group"), errors);
        }
        aggregated_server(spec, errors);
        check::name(&spec["version"], names::dns1035, &SPEC.child("version"), errors);
        for (key, high) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
            let value = crate::value::int(&spec[key]);
            if !(1..=high).contains(&value) {
                let why = format!("must be positive and less than {high}");
                errors.push(FieldError::invalid(&SPEC.child(key), value, why));
            }
        }
    },
    ..Rules::WITH_STATUS
};

/// Whom an APIService sends requests to, and how that one is known.
fn aggregated_server(spec: &Value, errors: &mut Errors) {
    let bundle = text(&spec["caBundle"]);
    let is_insecure = spec["insecureSkipTLSVerify"] == true;
    let service = &spec["service"];
    if !is_set(service) {
        if !bundle.is_empty() {
            // What is encoded is shorter than what is written, by the padding and a quarter.
            let bytes = bundle.trim_end_matches('=').len() * 3 / 4;
            let why = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(&SPEC.child("caBundle"), format!("{bytes} bytes"), why));
        }
        if is_insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(&SPEC.child("insecureSkipTLSVerify"), true, why));
        }
        return;
    }
    let path = SPEC.child("service");
    for key in ["namespace", "name"] {
        if text(&service[key]).is_empty() {
            errors.push(FieldError::required(&path.child(key), ""));
        }
    }
    if is_insecure && !bundle.is_empty() {
        let why = "may not be true if caBundle is present";
        errors.push(FieldError::invalid(&SPEC.child("insecureSkipTLSVerify"), true, why));
    }
}
