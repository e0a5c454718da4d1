//! Admission policies and their bindings, in upstream's words (`pkg/apis/admissionregistration/validation`). What a
//! policy says of a request is said in [`crate::policy`].

mod binding;
mod expressions;
mod matching;
mod mutations;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::{
    check, defaults,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    policy::{Composition, Scope, env},
    value::{is_set, items_mut, set_default, text},
};

pub(super) use expressions::match_conditions;

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) static VALIDATING_POLICY: Rules = Rules {
    unconditional_update: false,
    default: default_policy,
    validate: |object, errors| {
        let spec = &object["spec"];
        let scope = common(spec, errors);
        let mut composition = Composition::new(env(scope));
        expressions::variables(spec, &mut composition, errors);
        expressions::validations(spec, scope, &composition, errors);
        expressions::audit_annotations(spec, text(&object["metadata"]["name"]), &composition, errors);
    },
    ..Rules::WITH_STATUS
};

pub(super) static MUTATING_POLICY: Rules = Rules {
    generation: Generation::Spec,
    unconditional_update: false,
    default: default_policy,
    validate: |object, errors| {
        let spec = &object["spec"];
        let scope = common(spec, errors);
        mutations::operations(&spec["matchConstraints"], errors);
        let mut composition = Composition::new(env(scope));
        expressions::variables(spec, &mut composition, errors);
        mutations::check(spec, scope, &composition, errors);
    },
    ..Rules::DATA
};

pub(super) static VALIDATING_BINDING: Rules = Rules {
    validate: |object, errors| {
        binding::check(&object["spec"], errors);
        binding::actions(&object["spec"]["validationActions"], errors);
    },
    ..BINDING
};

pub(super) static MUTATING_BINDING: Rules = BINDING;

const BINDING: Rules = Rules {
    generation: Generation::Spec,
    unconditional_update: false,
    default: |object| {
        let Some(spec) = defaults::spec(object) else { return };
        if let Some(resources) = spec.get_mut("matchResources").and_then(Value::as_object_mut) {
            default_match(resources);
        }
    },
    validate: |object, errors| binding::check(&object["spec"], errors),
    ..Rules::DATA
};

fn default_policy(object: &mut Value) {
    let Some(spec) = defaults::spec(object) else { return };
    set_default(spec, "failurePolicy", "Fail");
    if let Some(constraints) = spec.get_mut("matchConstraints").and_then(Value::as_object_mut) {
        default_match(constraints);
    }
}

fn default_match(constraints: &mut crate::value::Object) {
    set_default(constraints, "matchPolicy", "Equivalent");
    defaults::empty_object(constraints, "namespaceSelector");
    defaults::empty_object(constraints, "objectSelector");
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in items_mut(constraints, list).iter_mut().filter_map(Value::as_object_mut) {
            set_default(rule, "scope", "*");
        }
    }
}

/// What both kinds of policy say; and what their expressions may name.
fn common(spec: &Value, errors: &mut Errors) -> Scope {
    check::one_of(&spec["failurePolicy"], &["Fail", "Ignore"], &SPEC.child("failurePolicy"), errors);
    let scope = Scope { params: is_set(&spec["paramKind"]), authorizer: true, patches: false };
    if scope.params {
        param_kind(&spec["paramKind"], &SPEC.child("paramKind"), errors);
    }
    let path = SPEC.child("matchConstraints");
    if is_set(&spec["matchConstraints"]) {
        matching::check(&spec["matchConstraints"], &path, errors);
        check::required(&spec["matchConstraints"]["resourceRules"], &path.child("resourceRules"), errors);
    } else {
        errors.push(FieldError::required(&path, ""));
    }
    match_conditions(&spec["matchConditions"], scope.params, &SPEC.child("matchConditions"), errors);
    scope
}

fn param_kind(kind: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let at = path.child("apiVersion");
    let api_version = text(&kind["apiVersion"]);
    let parts: Vec<&str> = api_version.split('/').collect();
    let joined = |faults: names::Faults| faults.join(",");
    match parts.as_slice() {
        _ if api_version.is_empty() => errors.push(FieldError::required(&at, "")),
        [_, _, _, ..] => {
            let why = format!("unexpected GroupVersion string: {api_version}");
            errors.push(FieldError::invalid(&at, api_version, why));
        }
        parts => {
            let (group, version) = if let [group, version] = parts { (*group, *version) } else { ("", api_version) };
            let faults = names::subdomain(group);
            if !group.is_empty() && !faults.is_empty() {
                errors.push(FieldError::invalid(&at, group, joined(faults)));
            }
            let faults = names::dns1035(version);
            if version.is_empty() {
                errors.push(FieldError::invalid(&at, api_version, "version must be specified"));
            } else if !faults.is_empty() {
                errors.push(FieldError::invalid(&at, version, joined(faults)));
            }
        }
    }
    let (name, at) = (text(&kind["kind"]), path.child("kind"));
    let faults = names::dns1035(&name.to_lowercase());
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if !faults.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", joined(faults));
        errors.push(FieldError::invalid(&at, name, why));
    }
}
