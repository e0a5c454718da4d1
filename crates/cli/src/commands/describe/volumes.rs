//! The volumes of pods.

use serde_json::Value;

use super::{Page, show};
use crate::cx::{dig, dig_str, items};

/// A kind of volume: its field, what it is called and explained as, and the fields that are shown.
type VolumeRow = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const VOLUMES: &[VolumeRow] = &[
    ("hostPath", "HostPath (bare host directory volume)", &[("Path", "path"), ("HostPathType", "type")]),
    (
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        &[("Medium", "medium"), ("SizeLimit", "sizeLimit")],
    ),
    ("secret", "Secret (a volume populated by a Secret)", &[("SecretName", "secretName"), ("Optional", "optional")]),
    ("configMap", "ConfigMap (a volume populated by a ConfigMap)", &[("Name", "name"), ("Optional", "optional")]),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &[("ClaimName", "claimName"), ("ReadOnly", "readOnly")],
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        &[("Server", "server"), ("Path", "path"), ("ReadOnly", "readOnly")],
    ),
    (
        "csi",
        "CSI (a Container Storage Interface (CSI) volume source)",
        &[("Driver", "driver"), ("FSType", "fsType"), ("ReadOnly", "readOnly")],
    ),
    ("local", "LocalVolume (a persistent volume backed by local storage on a node)", &[("Path", "path")]),
    ("image", "Image (a container image or OCI artifact)", &[("Reference", "reference"), ("PullPolicy", "pullPolicy")]),
];

pub fn volumes(page: &mut Page, level: usize, volumes: &Value) {
    if volumes.as_array().is_none_or(Vec::is_empty) {
        return page.field(level, "Volumes", "<none>");
    }
    page.line(level, "Volumes:");
    for volume in items(volumes) {
        page.line(level + 1, format_args!("{}:", dig_str(volume, "name")));
        volume_source(page, level + 2, volume);
    }
}

pub fn volume_source(page: &mut Page, level: usize, volume: &Value) {
    if let Some((field, title, rows)) = VOLUMES.iter().find(|(field, ..)| volume[field].is_object()) {
        page.field(level, "Type", title);
        for (label, path) in *rows {
            let value = &volume[field][path];
            let text = match (value, *label) {
                (Value::Null, "SizeLimit") => "<unset>".into(),
                (Value::Null, "Optional" | "ReadOnly") => "false".into(),
                (value, _) => show(value),
            };
            page.field(level, label, text);
        }
        return;
    }
    if volume["projected"].is_object() {
        return projected(page, level, &volume["projected"]);
    }
    if volume["downwardAPI"].is_object() {
        page.field(level, "Type", "DownwardAPI (a volume populated by information about the pod)");
        return downward(page, level, &volume["downwardAPI"]);
    }
    if volume["ephemeral"].is_object() {
        page.field(
            level,
            "Type",
            "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
        );
        let claim = dig(volume, "ephemeral.volumeClaimTemplate.spec");
        page.field(level, "StorageClass", dig_str(claim, "storageClassName"));
        return;
    }
    page.line(level, "<unknown>");
}

fn downward(page: &mut Page, level: usize, source: &Value) {
    page.line(level, "Items:");
    for item in items(&source["items"]) {
        let field = dig_str(item, "fieldRef.fieldPath");
        let text = if field.is_empty() { dig_str(item, "resourceFieldRef.resource") } else { field };
        page.line(level + 1, format_args!("{text} -> {}", dig_str(item, "path")));
    }
}

fn projected(page: &mut Page, level: usize, source: &Value) {
    page.field(level, "Type", "Projected (a volume that contains injected data from multiple sources)");
    for part in items(&source["sources"]) {
        if part["secret"].is_object() {
            page.field(level, "SecretName", dig_str(part, "secret.name"));
            page.field(level, "Optional", dig(part, "secret.optional") == true);
        } else if part["downwardAPI"].is_object() {
            page.field(level, "DownwardAPI", true);
        } else if part["configMap"].is_object() {
            page.field(level, "ConfigMapName", dig_str(part, "configMap.name"));
            page.field(level, "Optional", dig(part, "configMap.optional") == true);
        } else if part["serviceAccountToken"].is_object() {
            let seconds = dig(part, "serviceAccountToken.expirationSeconds").as_i64().unwrap_or(0);
            page.field(level, "TokenExpirationSeconds", seconds);
        }
    }
}
