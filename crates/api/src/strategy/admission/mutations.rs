//! What a mutating policy does, and to what.

use serde_json::Value;

use super::{SPEC, expressions::compile};
use crate::{
    field::{FieldError, FieldPath},
    policy::{Composition, Scope, Wanted, env},
    strategy::{check, rules::Errors},
    value::{is_empty, is_set, items, text},
};

/// Nothing is left of an object that is deleted.
pub(super) fn operations(constraints: &Value, errors: &mut Errors) {
    let (outer, known) = (SPEC.child("matchConstraints"), ["*", "CONNECT", "CREATE", "UPDATE"]);
    let list = outer.child("resourceRules");
    for (i, rule) in items(&constraints["resourceRules"]).iter().enumerate() {
        let path = list.index(i);
        let operations = path.child("operations");
        for (i, operation) in items(&rule["operations"]).iter().map(text).enumerate() {
            if operation == "DELETE" {
                errors.push(FieldError::not_supported(&operations.index(i), operation, &known));
            }
        }
    }
}

pub(super) fn check(spec: &Value, scope: Scope, composition: &Composition, errors: &mut Errors) {
    let list = SPEC.child("mutations");
    if is_empty(&spec["mutations"]) {
        errors.push(FieldError::required(&list, "mutations must contain at least one item"));
    }
    let env = composition.extend(env(Scope { patches: true, ..scope }));
    for (i, mutation) in items(&spec["mutations"]).iter().enumerate() {
        one(mutation, &env, &list.index(i), errors);
    }
    let policies = ["IfNeeded", "Never"];
    check::one_of(&spec["reinvocationPolicy"], &policies, &SPEC.child("reinvocationPolicy"), errors);
}

fn one(mutation: &Value, env: &knarr_cel::Env, path: &FieldPath<'_>, errors: &mut Errors) {
    let forms = [
        ("ApplyConfiguration", "applyConfiguration", Wanted::Configuration),
        ("JSONPatch", "jsonPatch", Wanted::JsonPatch),
    ];
    let kind = text(&mutation["patchType"]);
    check::one_of(&mutation["patchType"], &forms.map(|(kind, ..)| kind), &path.child("patchType"), errors);
    if !forms.iter().any(|(known, ..)| *known == kind) {
        return;
    }
    for (form, key, wanted) in forms {
        let (at, said) = (path.child(key), &mutation[key]);
        match (form == kind, is_set(said)) {
            (true, false) => {
                errors.push(FieldError::required(&at, format!("must be specified when patchType is {kind}")));
            }
            (false, true) => {
                let why = format!("must not be specified when patchType is {kind}");
                errors.push(FieldError::invalid(&at, format!("{{{key}}}"), why));
            }
            (true, true) => {
                let (at, source) = (at.child("expression"), text(&said["expression"]).trim());
                if source.is_empty() {
                    errors.push(FieldError::required(&at, ""));
                } else {
                    compile(env, source, source, wanted, &at, errors);
                }
            }
            (false, false) => {}
        }
    }
}
