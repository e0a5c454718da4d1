use std::collections::HashSet;

use serde_json::Value;

use super::{defaults::field_ref, env, projected};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    quantity::Quantity,
    strategy::{check, defaults::resources, rules::Errors},
    value::{Object, int, is_set, items, items_mut, object_at, set_default, text},
};

pub(super) type Volumes<'a> = HashSet<&'a str>;

const FILE_MODE: i64 = 0o644;

/// Every volume source, in the order in which upstream looks for them.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "flocker",
    "downwardAPI",
    "fc",
    "azureFile",
    "configMap",
    "vsphereVolume",
    "azureDisk",
    "storageos",
    "projected",
    "portworxVolume",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
    "quobyte",
    "photonPersistentDisk",
    "flexVolume",
];

pub(super) fn default(volume: &mut Object) {
    if !volume.iter().any(|(key, value)| key != "name" && is_set(value)) {
        set_default(volume, "emptyDir", Value::Object(Object::new()));
    }
    for (kind, source) in volume.iter_mut() {
        let Some(source) = source.as_object_mut() else { continue };
        match kind.as_str() {
            "hostPath" if source.get("type").is_none_or(Value::is_null) => {
                source.insert("type".into(), "".into());
            }
            "secret" | "configMap" => set_default(source, "defaultMode", FILE_MODE),
            "downwardAPI" => {
                set_default(source, "defaultMode", FILE_MODE);
                items_mut(source, "items").iter_mut().filter_map(Value::as_object_mut).for_each(field_ref);
            }
            "projected" => projected(source),
            "iscsi" => set_default(source, "iscsiInterface", "default"),
            "rbd" => {
                set_default(source, "pool", "rbd");
                set_default(source, "user", "admin");
                set_default(source, "keyring", "/etc/ceph/keyring");
            }
            "azureDisk" => {
                set_default(source, "cachingMode", "ReadWrite");
                set_default(source, "kind", "Shared");
                set_default(source, "fsType", "ext4");
                set_default(source, "readOnly", false);
            }
            "ephemeral" => {
                if let Some(template) = source.get_mut("volumeClaimTemplate").and_then(Value::as_object_mut) {
                    claim_template_default(template);
                }
            }
            "image" => {
                let policy = super::defaults::pull_policy(source.get("reference").map_or("", text));
                set_default(source, "pullPolicy", policy);
            }
            _ => {}
        }
    }
}

/// A claim inside a template has the defaults of a claim's spec.
pub(crate) fn claim_template_default(template: &mut Object) {
    if let Some(spec) = object_at(template, "spec") {
        set_default(spec, "volumeMode", "Filesystem");
        resources(spec);
    }
}

fn projected(source: &mut Object) {
    set_default(source, "defaultMode", FILE_MODE);
    for one in items_mut(source, "sources").iter_mut().filter_map(Value::as_object_mut) {
        if let Some(token) = one.get_mut("serviceAccountToken").and_then(Value::as_object_mut) {
            set_default(token, "expirationSeconds", 3600);
        }
        if let Some(downward) = one.get_mut("downwardAPI").and_then(Value::as_object_mut) {
            items_mut(downward, "items").iter_mut().filter_map(Value::as_object_mut).for_each(field_ref);
        }
    }
}

/// Checks the volumes and returns their names, which mounts must be among.
pub(super) fn validate_all<'a>(list: &'a Value, path: &FieldPath<'_>, errors: &mut Errors) -> Volumes<'a> {
    let mut volumes = HashSet::new();
    for (i, volume) in items(list).iter().enumerate() {
        let path = path.index(i);
        let name = text(&volume["name"]);
        check::name(&volume["name"], names::label, &path.child("name"), errors);
        if !volumes.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        let mut given = 0;
        for kind in SOURCES.iter().filter(|kind| is_set(&volume[**kind])) {
            // Upstream's errors call it so.
            let path = path.child(if *kind == "clusterTrustBundle" { "clusterTrustBundlePEM" } else { kind });
            given += 1;
            if given > 1 {
                errors.push(FieldError::forbidden(&path, "may not specify more than 1 volume type"));
            } else {
                source(kind, &volume[*kind], &path, errors);
            }
        }
        if given == 0 {
            errors.push(FieldError::required(&path, "must specify a volume type"));
        }
    }
    volumes
}

fn source(kind: &str, source: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    match kind {
        "emptyDir" if Quantity::or_zero(&source["sizeLimit"]).is_negative() => {
            let why = "SizeLimit field must be a valid resource quantity";
            errors.push(FieldError::forbidden(&path.child("sizeLimit"), why));
        }
        "hostPath" => host_path(source, path, errors),
        "secret" => {
            check::required(&source["secretName"], &path.child("secretName"), errors);
            files(source, path, errors);
        }
        "configMap" => {
            check::required(&source["name"], &path.child("name"), errors);
            files(source, path, errors);
        }
        "downwardAPI" => {
            mode(&source["defaultMode"], &path.child("defaultMode"), errors);
            downward_items(&source["items"], path, errors);
        }
        "projected" => projected::sources(source, path, errors),
        "persistentVolumeClaim" => {
            check::required(&source["claimName"], &path.child("claimName"), errors);
        }
        "nfs" => {
            check::required(&source["server"], &path.child("server"), errors);
            let path = path.child("path");
            if check::required(&source["path"], &path, errors) && !text(&source["path"]).starts_with('/') {
                errors.push(FieldError::invalid(&path, text(&source["path"]), "must be an absolute path"));
            }
        }
        "csi" => {
            crate::strategy::csi::driver_name(&source["driver"], &path.child("driver"), errors);
            if is_set(&source["nodePublishSecretRef"]) {
                let path = path.child("nodePublishSecretRef");
                check::required(&source["nodePublishSecretRef"]["name"], &path.child("name"), errors);
            }
        }
        "ephemeral" => {
            let path = path.child("volumeClaimTemplate");
            if check::required(&source["volumeClaimTemplate"], &path, errors) {
                let spec = &source["volumeClaimTemplate"]["spec"];
                crate::strategy::storage::validate_claim_spec(spec, &path.child("spec"), errors);
            }
        }
        "iscsi" => {
            check::required(&source["targetPortal"], &path.child("targetPortal"), errors);
            check::required(&source["iqn"], &path.child("iqn"), errors);
        }
        "image" => {
            check::required(&source["reference"], &path.child("reference"), errors);
            let policies = ["Always", "IfNotPresent", "Never"];
            check::optional_one_of(&source["pullPolicy"], &policies, &path.child("pullPolicy"), errors);
        }
        _ => {}
    }
}

/// A path of the host, absolute or not, that never climbs.
pub(crate) fn host_path(source: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if check::required(&source["path"], &path.child("path"), errors) {
        check::no_backsteps(text(&source["path"]), &path.child("path"), errors);
    }
    let kinds = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    check::optional_one_of(&source["type"], &kinds, &path.child("type"), errors);
}

pub(super) fn mode(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if is_set(value) && !(0..=0o777).contains(&int(value)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(FieldError::invalid(path, value.clone(), why));
    }
}

/// `defaultMode` and `items` of a Secret or ConfigMap volume.
pub(super) fn files(source: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    mode(&source["defaultMode"], &path.child("defaultMode"), errors);
    let list = path.child("items");
    for (i, item) in items(&source["items"]).iter().enumerate() {
        let path = list.index(i);
        check::required(&item["key"], &path.child("key"), errors);
        file_path(item, &path, errors);
    }
}

/// `path` and `mode` of one file inside a volume.
fn file_path(item: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    path_inside(&item["path"], &path.child("path"), errors);
    mode(&item["mode"], &path.child("mode"), errors);
}

/// Where a file is in a volume.
pub(super) fn path_inside(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if check::required(value, path, errors) {
        check::descending_path(text(value), path, errors);
        if text(value).starts_with("..") && !text(value).starts_with("../") {
            errors.push(FieldError::invalid(path, text(value), "must not start with '..'"));
        }
    }
}

pub(super) fn downward_items(list: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for (i, item) in items(list).iter().enumerate() {
        let path = path.index(i);
        file_path(item, &path, errors);
        match (is_set(&item["fieldRef"]), is_set(&item["resourceFieldRef"])) {
            (true, true) => {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(&path, "resource", why));
            }
            (true, false) => {
                let also = ["metadata.annotations", "metadata.labels"];
                env::field_ref(&item["fieldRef"], &also, &path.child("fieldRef"), errors);
            }
            (false, true) => {
                env::resource_field_ref(&item["resourceFieldRef"], true, &path.child("resourceFieldRef"), errors);
            }
            (false, false) => {
                errors.push(FieldError::required(
                    &path.child("fieldRef"),
                    "one of fieldRef and resourceFieldRef is required",
                ));
            }
        }
    }
}
