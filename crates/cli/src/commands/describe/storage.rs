//! Volumes, claims and classes.

use serde_json::Value;

use super::{Page, labels_text, or_none, show, volumes};
use crate::{
    cx::{Cx, dig, dig_str, items},
    error::Result,
};

fn modes(list: &Value) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    items(list).map(short).collect::<Vec<_>>().join(",")
}

fn finalizers(page: &mut Page, object: &Value) {
    let list: Vec<String> = items(dig(object, "metadata.finalizers")).map(show).collect();
    page.field(0, "Finalizers", format_args!("[{}]", list.join(" ")));
}

pub fn volume(page: &mut Page, object: &Value) {
    page.name(object);
    page.labels_and_annotations(object);
    finalizers(page, object);
    let spec = &object["spec"];
    page.field(0, "StorageClass", dig_str(spec, "storageClassName"));
    if dig(object, "metadata.deletionTimestamp").is_null() {
        page.field(0, "Status", dig_str(object, "status.phase"));
    } else {
        page.field(0, "Status", "Terminating");
    }
    let claim = &spec["claimRef"];
    page.field(
        0,
        "Claim",
        match claim.is_object() {
            true => format!("{}/{}", dig_str(claim, "namespace"), dig_str(claim, "name")),
            false => String::new(),
        },
    );
    page.field(0, "Reclaim Policy", dig_str(spec, "persistentVolumeReclaimPolicy"));
    page.field(0, "Access Modes", modes(&spec["accessModes"]));
    page.some(0, "VolumeMode", &spec["volumeMode"]);
    page.field(0, "Capacity", show(dig(spec, "capacity.storage")));
    let terms: Vec<&Value> = items(dig(spec, "nodeAffinity.required.nodeSelectorTerms")).collect();
    if terms.is_empty() {
        page.line(0, "Node Affinity:\t<none>");
    } else {
        page.line(0, "Node Affinity:");
        page.line(1, "Required Terms:");
        for (at, term) in terms.iter().enumerate() {
            let lines: Vec<String> = items(&term["matchExpressions"])
                .map(|row| {
                    let values = items(&row["values"]).map(show).collect::<Vec<_>>().join(", ");
                    let list = if values.is_empty() { String::new() } else { format!(" [{values}]") };
                    format!("{} {}{list}", dig_str(row, "key"), dig_str(row, "operator").to_lowercase())
                })
                .collect();
            page.list(2, &format!("Term {at}"), &lines);
        }
    }
    page.field(0, "Message", dig_str(object, "status.message"));
    page.line(0, "Source:");
    volumes::volume_source(page, 2, spec);
}

pub async fn claim(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    page.names(object);
    let spec = &object["spec"];
    page.field(0, "StorageClass", dig_str(spec, "storageClassName"));
    let gone = !dig(object, "metadata.deletionTimestamp").is_null();
    page.field(0, "Status", if gone { "Terminating" } else { dig_str(object, "status.phase") });
    page.field(0, "Volume", dig_str(spec, "volumeName"));
    page.labels_and_annotations(object);
    finalizers(page, object);
    let bound = !dig_str(spec, "volumeName").is_empty();
    page.field(0, "Capacity", if bound { show(dig(object, "status.capacity.storage")) } else { String::new() });
    page.field(0, "Access Modes", if bound { modes(dig(object, "status.accessModes")) } else { String::new() });
    page.some(0, "VolumeMode", &spec["volumeMode"]);
    let source = &spec["dataSource"];
    if source.is_object() {
        page.line(0, "DataSource:");
        for (label, field) in [("APIGroup", "apiGroup"), ("Kind", "kind"), ("Name", "name")] {
            page.some(1, label, &source[field]);
        }
    }
    let list =
        cx.api().await?.get(&format!("/api/v1/namespaces/{}/pods", dig_str(object, "metadata.namespace"))).await?;
    let name = dig_str(object, "metadata.name");
    let users: Vec<String> = items(&list["items"])
        .filter(|pod| {
            items(dig(pod, "spec.volumes")).any(|volume| dig_str(volume, "persistentVolumeClaim.claimName") == name)
        })
        .map(|pod| dig_str(pod, "metadata.name").to_owned())
        .collect();
    page.list(0, "Used By", &users);
    page.timed_conditions(object, "LastProbeTime");
    Ok(())
}

pub fn storage_class(page: &mut Page, object: &Value) {
    page.name(object);
    let annotations = dig(object, "metadata.annotations");
    let default = annotations["storageclass.kubernetes.io/is-default-class"] == "true";
    page.field(0, "IsDefaultClass", if default { "Yes" } else { "No" });
    let text = match annotations.as_object() {
        Some(map) if map.contains_key(super::super::apply::LAST_APPLIED) => {
            let mut map = map.clone();
            map.remove(super::super::apply::LAST_APPLIED);
            let note = annotations[super::super::apply::LAST_APPLIED].as_str().unwrap_or_default();
            let rest = labels_text(&Value::Object(map), ",");
            let comma = if rest.is_empty() { "" } else { "," };
            format!("{}={note}{comma}{rest}", super::super::apply::LAST_APPLIED)
        }
        _ => labels_text(annotations, ","),
    };
    page.field(0, "Annotations", or_none(&text));
    page.field(0, "Provisioner", dig_str(object, "provisioner"));
    page.field(0, "Parameters", or_none(&labels_text(&object["parameters"], ",")));
    page.field(
        0,
        "AllowVolumeExpansion",
        match object["allowVolumeExpansion"].as_bool() {
            Some(true) => "True",
            Some(false) => "False",
            None => "<unset>",
        },
    );
    let options: Vec<String> = items(&object["mountOptions"]).map(|option| format!("  {}", show(option))).collect();
    if options.is_empty() {
        page.field(0, "MountOptions", "<none>");
    } else {
        page.line(0, "MountOptions:");
        options.iter().for_each(|option| page.line(0, option));
    }
    page.some(0, "ReclaimPolicy", &object["reclaimPolicy"]);
    page.some(0, "VolumeBindingMode", &object["volumeBindingMode"]);
}
