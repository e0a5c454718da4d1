//! What a CustomResourceDefinition must be, in upstream's words
//! (`apiextensions-apiserver/pkg/apis/apiextensions/validation`). What one means is said in [`crate::custom`].
//!
//! Upstream checks an internal form, whose names are in the paths of its errors: what all versions say alike stands
//! once, under `spec.validation`, `spec.subresources` and so on. Users search for these paths, so they are kept.

mod conversion;
mod defaults;
mod names;
mod openapi;
mod rules;
mod structural;
#[cfg(test)]
mod tests;
mod versions;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    check,
    rules::{Errors, Rules},
};
use crate::{
    field::{FieldError, FieldPath, quote},
    meta::names as syntax,
    value::{get, is_empty, items, object_at, object_mut, set_default, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");
const METADATA: FieldPath<'static> = FieldPath::new("metadata");
const STATUS: FieldPath<'static> = FieldPath::new("status");

pub(super) static CUSTOM_RESOURCE_DEFINITION: Rules = Rules {
    unconditional_update: false,
    initial_status: Some(
        || json!({"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": []}),
    ),
    default: complete,
    create: |object| {
        let storage = storage_versions(object);
        if let Some(status) = object_mut(object, "status") {
            status.insert("storedVersions".into(), storage.into());
        }
    },
    update: |new, _, _| {
        // Objects may be stored in any version that ever was the storage version.
        let storage = storage_versions(new);
        if let Some(Value::Array(stored)) = new.pointer_mut("/status/storedVersions") {
            for version in storage {
                if !stored.contains(&version) {
                    stored.push(version);
                }
            }
        }
    },
    validate,
    validate_update: |new, old, _, errors| {
        let established = items(&old["status"]["conditions"])
            .iter()
            .any(|condition| condition["type"] == "Established" && condition["status"] == "True");
        let (now, then) = (&new["spec"], &old["spec"]);
        let names = SPEC.child("names");
        if established {
            check::immutable(&now["scope"], &then["scope"], &SPEC.child("scope"), errors);
            check::immutable(&now["names"]["kind"], &then["names"]["kind"], &names.child("kind"), errors);
        }
        check::immutable(&now["group"], &then["group"], &SPEC.child("group"), errors);
        check::immutable(&now["names"]["plural"], &then["names"]["plural"], &names.child("plural"), errors);
        stored_versions(new, errors);
    },
    warnings: |object| {
        // Upstream says it of what is new in an update, too. Whoever sends what is there should not hear it again, and
        // only what is made has no resourceVersion.
        if !is_empty(&object["metadata"]["resourceVersion"]) {
            return Vec::new();
        }
        let mut formats = BTreeSet::new();
        for version in items(&object["spec"]["versions"]) {
            openapi::unknown_formats(&version["schema"]["openAPIV3Schema"], &mut formats);
        }
        formats.into_iter().map(|format| format!("unrecognized format {}", quote(format))).collect()
    },
    ..Rules::WITH_STATUS
};

fn complete(object: &mut Value) {
    let Some(spec) = super::defaults::spec(object) else { return };
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let kind = text(get(names, "kind")).to_owned();
        if !kind.is_empty() {
            set_default(names, "singular", kind.to_lowercase());
            set_default(names, "listKind", format!("{kind}List"));
        }
    }
    let Some(conversion) = object_at(spec, "conversion") else { return };
    set_default(conversion, "strategy", "None");
    if let Some(webhook) = conversion.get_mut("webhook")
        && let Some(service) = webhook.pointer_mut("/clientConfig/service").and_then(Value::as_object_mut)
    {
        set_default(service, "port", 443);
    }
}

fn storage_versions(object: &Value) -> Vec<Value> {
    let versions = items(&object["spec"]["versions"]).iter();
    versions.filter(|version| version["storage"] == true).map(|version| version["name"].clone()).collect()
}

fn validate(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let name = text(&object["metadata"]["name"]);
    if name != format!("{plural}.{group}") {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid(&METADATA.child("name"), name, why));
    }
    let path = SPEC.child("group");
    if is_empty(&spec["group"]) {
        errors.push(FieldError::required(&path, ""));
    } else if !joined(syntax::subdomain(group), group, "", &path, errors) && !group.contains('.') {
        errors.push(FieldError::invalid(&path, group, "should be a domain with at least one dot"));
    }
    check::one_of(&spec["scope"], &["Cluster", "Namespaced"], &SPEC.child("scope"), errors);
    versions::check(spec, errors);
    names::check(spec, errors);
    versions::check_shared(spec, errors);
    conversion::check(&spec["conversion"], errors);
    names::check_accepted(&object["status"]["acceptedNames"], errors);
    approval(object, errors);
    if spec["preserveUnknownFields"] == true {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema \
                   instead";
        errors.push(FieldError::invalid(&SPEC.child("preserveUnknownFields"), true, why));
    }
}

/// All that is wrong with one name as one error; true where something is.
fn joined(faults: syntax::Faults, value: &str, before: &str, path: &FieldPath<'_>, errors: &mut Errors) -> bool {
    if faults.is_empty() {
        return false;
    }
    errors.push(FieldError::invalid(path, value, format!("{before}{}", faults.join(","))));
    true
}

/// Groups of the Kubernetes community say where they were approved.
fn approval(object: &Value, errors: &mut Errors) {
    const ANNOTATION: &str = "api-approved.kubernetes.io";
    const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";
    let group = text(&object["spec"]["group"]);
    if !["k8s.io", "kubernetes.io"].iter().any(|of| group == *of || group.ends_with(&format!(".{of}"))) {
        return;
    }
    let annotations = METADATA.child("annotations");
    let path = annotations.key(ANNOTATION);
    let approved = text(&object["metadata"]["annotations"][ANNOTATION]);
    let is_url = approved.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty() && !host.is_empty() && !host.starts_with('/') && !host.contains(char::is_whitespace)
    });
    if approved.is_empty() {
        let why = format!("protected groups must have approval annotation \"{ANNOTATION}\", {SEE}");
        errors.push(FieldError::required(&path, why));
    } else if !is_url && !approved.starts_with("unapproved") {
        let why = format!(
            "protected groups must have approval annotation \"{ANNOTATION}\" with either a URL or a reason starting \
             with \"unapproved\", {SEE}"
        );
        errors.push(FieldError::invalid(&path, approved, why));
    }
}

/// Every version that objects may be stored in is one that can be read.
fn stored_versions(object: &Value, errors: &mut Errors) {
    let path = STATUS.child("storedVersions");
    let stored = items(&object["status"]["storedVersions"]);
    if stored.is_empty() {
        errors.push(FieldError::invalid(&path, json!(stored), "must have at least one stored version"));
        return;
    }
    for storage in storage_versions(object) {
        if !stored.contains(&storage) {
            let why = format!("must have the storage version {}", text(&storage));
            errors.push(FieldError::invalid(&path, json!(stored), why));
        }
    }
    for (i, version) in stored.iter().enumerate() {
        if !items(&object["spec"]["versions"]).iter().any(|one| one["name"] == *version) {
            let name = text(version);
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {name} and removes \
                 {name} from status.storedVersions"
            );
            errors.push(FieldError::invalid(&path.index(i), name, why));
        }
    }
}
