use serde_json::Value;

use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::{check, pod::volume, rules::Errors},
    value::{is_empty, is_set, items, text},
};

/// `env` and `envFrom` of a container; `volumes` are the pod's.
pub(super) fn validate(container: &Value, volumes: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("env");
    for (i, variable) in items(&container["env"]).iter().enumerate() {
        let path = list.index(i);
        check::name(&variable["name"], names::env_name, &path.child("name"), errors);
        if is_set(&variable["valueFrom"]) {
            let path = path.child("valueFrom");
            value_from(variable, &path, errors);
            if is_set(&variable["valueFrom"]["fileKeyRef"]) {
                file_key_ref(&variable["valueFrom"]["fileKeyRef"], volumes, &path.child("fileKeyRef"), errors);
            }
        }
    }
    let list = path.child("envFrom");
    for (i, source) in items(&container["envFrom"]).iter().enumerate() {
        env_from(source, &list.index(i), errors);
    }
}

fn value_from(variable: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let source = &variable["valueFrom"];
    let kinds = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let given = kinds.iter().filter(|kind| is_set(&source[**kind])).count();
    let why = match given {
        0 => Some(
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        _ if !is_empty(&variable["value"]) => Some("may not be specified when `value` is not empty"),
        1 => None,
        _ => Some("may not have more than one field specified at a time"),
    };
    if let Some(why) = why {
        errors.push(FieldError::invalid(path, "", why));
    }
    if is_set(&source["fieldRef"]) {
        let also = [
            "spec.nodeName",
            "spec.serviceAccountName",
            "status.hostIP",
            "status.hostIPs",
            "status.podIP",
            "status.podIPs",
        ];
        field_ref(&source["fieldRef"], &also, &path.child("fieldRef"), errors);
    }
    if is_set(&source["resourceFieldRef"]) {
        resource_field_ref(&source["resourceFieldRef"], false, &path.child("resourceFieldRef"), errors);
    }
    for kind in ["configMapKeyRef", "secretKeyRef"] {
        if is_set(&source[kind]) {
            let path = path.child(kind);
            check::optional_name(&source[kind]["name"], names::subdomain, &path.child("name"), errors);
            check::name(&source[kind]["key"], names::config_key, &path.child("key"), errors);
        }
    }
}

/// A variable of a file that another container writes, into a volume that is there for nothing else.
fn file_key_ref(reference: &Value, volumes: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check::name(&reference["key"], names::env_name, &path.child("key"), errors);
    volume::path_inside(&reference["path"], &path.child("path"), errors);
    let (name, path) = (text(&reference["volumeName"]), path.child("volumeName"));
    check::name(&reference["volumeName"], names::label, &path, errors);
    match items(volumes).iter().find(|volume| text(&volume["name"]) == name) {
        Some(volume) if is_set(&volume["emptyDir"]) => {}
        Some(_) => errors.push(FieldError::invalid(&path, name, "referenced volume must be of type emptyDir")),
        None if name.is_empty() => {}
        None => errors.push(FieldError::not_found(&path, name)),
    }
}

/// A `fieldRef`; `also` are the fields beside the metadata that the place allows.
pub(super) fn field_ref(reference: &Value, also: &[&str], path: &FieldPath<'_>, errors: &mut Errors) {
    if !check::required(&reference["apiVersion"], &path.child("apiVersion"), errors) {
        return;
    }
    let field_path = path.child("fieldPath");
    if !check::required(&reference["fieldPath"], &field_path, errors) {
        return;
    }
    let field = text(&reference["fieldPath"]);
    if let Some((base, subscript)) = subscripted(field) {
        let faults = match base {
            "metadata.annotations" => names::qualified_name(&subscript.to_lowercase()),
            "metadata.labels" => names::qualified_name(subscript),
            _ => vec![format!("error converting fieldPath: field label does not support subscript")],
        };
        check::faults(faults, field, &field_path, errors);
        return;
    }
    let known = [
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.phase",
        "status.podIP",
        "status.podIPs",
    ];
    if !known.contains(&field) {
        let why = format!("error converting fieldPath: field label not supported: {field}");
        errors.push(FieldError::invalid(&field_path, field, why));
        return;
    }
    let mut supported = vec!["metadata.name", "metadata.namespace", "metadata.uid"];
    supported.extend(also);
    supported.sort_unstable();
    if !supported.contains(&field) {
        errors.push(FieldError::not_supported(&field_path, field, &supported));
    }
}

/// `metadata.labels['app']` as its two halves.
fn subscripted(field: &str) -> Option<(&str, &str)> {
    let (base, rest) = field.split_once("['")?;
    Some((base, rest.strip_suffix("']")?))
}

pub(super) fn resource_field_ref(reference: &Value, for_volume: bool, path: &FieldPath<'_>, errors: &mut Errors) {
    if for_volume {
        check::required(&reference["containerName"], &path.child("containerName"), errors);
    }
    if !check::required(&reference["resource"], &path.child("resource"), errors) {
        return;
    }
    let supported = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = text(&reference["resource"]);
    let huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if !huge && !supported.contains(&resource) {
        errors.push(FieldError::not_supported(&path.child("resource"), resource, &supported));
    }
}

fn env_from(source: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check::optional_name(&source["prefix"], names::env_name, &path.child("prefix"), errors);
    let kinds = ["configMapRef", "secretRef"];
    let given = kinds.iter().filter(|kind| is_set(&source[**kind])).count();
    for kind in kinds {
        if is_set(&source[kind]) {
            check::name(&source[kind]["name"], names::subdomain, &path.child(kind).child("name"), errors);
        }
    }
    match given {
        0 => errors.push(FieldError::invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")),
        1 => {}
        _ => errors.push(FieldError::invalid(path, "", "may not have more than one field specified at a time")),
    }
}
