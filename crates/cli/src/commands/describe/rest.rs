//! Configuration, storage, rights, limits, and what no other file knows.

use std::collections::BTreeSet;

use knarr_api::quantity::Quantity;
use serde_json::{Map, Value};

use super::{Page, labels_text, or_none, show, time, volumes};
use crate::{
    cx::{Cx, dig, dig_str, items},
    error::Result,
};

pub fn config_map(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    page.line(0, "\nData\n====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        page.line(0, format_args!("{key}:\n----\n{}\n", show(value)));
    }
    page.line(0, "\nBinaryData\n====");
    for (key, value) in object["binaryData"].as_object().into_iter().flatten() {
        page.line(0, format_args!("{key}: {} bytes", decoded_length(value)));
    }
    page.line(0, "");
}

fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    text.len() / 4 * 3 - text.chars().rev().take_while(|c| *c == '=').count()
}

pub fn secret(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    page.line(0, format_args!("\nType:\t{}", dig_str(object, "type")));
    page.line(0, "\nData\n====");
    for (key, value) in object["data"].as_object().into_iter().flatten() {
        page.field(0, key, format_args!("{} bytes", decoded_length(value)));
    }
}

pub async fn service_account(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    page.names(object);
    page.labels_and_annotations(object);
    let names = |field: &str| items(&object[field]).map(|entry| dig_str(entry, "name").to_owned()).collect::<Vec<_>>();
    let path = format!("/api/v1/namespaces/{}/secrets", dig_str(object, "metadata.namespace"));
    let list = cx.api().await?.get(&path).await?;
    let tokens: Vec<String> = items(&list["items"])
        .filter(|secret| secret["type"] == "kubernetes.io/service-account-token")
        .filter(|secret| {
            dig(secret, "metadata.annotations")["kubernetes.io/service-account.name"]
                == dig_str(object, "metadata.name")
        })
        .map(|secret| dig_str(secret, "metadata.name").to_owned())
        .collect();
    page.list(0, "Image pull secrets", &names("imagePullSecrets"));
    for (label, list) in [("Mountable secrets", names("secrets")), ("Tokens", tokens)] {
        if !list.is_empty() {
            page.list(0, label, &list);
        }
    }
    Ok(())
}

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
    let conditions: Vec<&Value> = items(dig(object, "status.conditions")).collect();
    if !conditions.is_empty() {
        page.line(0, "Conditions:\n  Type\tStatus\tLastProbeTime\tLastTransitionTime\tReason\tMessage");
        page.line(1, "----\t------\t-----------------\t------------------\t------\t-------");
        for condition in conditions {
            page.line(
                1,
                format_args!(
                    "{} \t{} \t{} \t{} \t{} \t{}",
                    dig_str(condition, "type"),
                    dig_str(condition, "status"),
                    time(&condition["lastProbeTime"]),
                    time(&condition["lastTransitionTime"]),
                    dig_str(condition, "reason"),
                    dig_str(condition, "message")
                ),
            );
        }
    }
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

fn quota_rows(page: &mut Page, object: &Value, indent: &str) {
    let (hard, used) = (dig(object, "status.hard"), dig(object, "status.used"));
    for (name, amount) in hard.as_object().into_iter().flatten() {
        let used = match &used[name.as_str()] {
            Value::Null => "0".to_owned(),
            used => Quantity::from_value(used).map_or_else(|_| show(used), |quantity| quantity.to_string()),
        };
        page.line(0, format_args!("{indent}{name}\t{used}\t{}", show(amount)));
    }
}

fn scopes(page: &mut Page, object: &Value) {
    let scopes: Vec<String> = items(dig(object, "spec.scopes")).map(show).collect();
    if !scopes.is_empty() {
        page.field(0, "Scopes", scopes.join(", "));
        for scope in scopes {
            let about = match scope.as_str() {
                "Terminating" => {
                    "Matches all pods that have an active deadline. These pods have a limited lifespan on a node before being actively terminated by the system."
                }
                "NotTerminating" => {
                    "Matches all pods that do not have an active deadline. These pods usually include long running pods whose container command is not expected to terminate."
                }
                "BestEffort" => {
                    "Matches all pods that do not have resource requirements set. These pods have a best effort quality of service."
                }
                "NotBestEffort" => {
                    "Matches all pods that have at least one resource requirement set. These pods have a burstable or guaranteed quality of service."
                }
                _ => continue,
            };
            page.line(0, format_args!(" * {about}"));
        }
    }
}

pub fn quota(page: &mut Page, object: &Value) {
    page.names(object);
    scopes(page, object);
    page.line(0, "Resource\tUsed\tHard");
    page.line(0, "--------\t----\t----");
    quota_rows(page, object, "");
}

pub fn quota_in_namespace(page: &mut Page, object: &Value) {
    page.line(0, format_args!("  Name:\t{}", dig_str(object, "metadata.name")));
    page.line(0, "  Resource\tUsed\tHard");
    page.line(0, "  --------\t---\t---");
    quota_rows(page, object, "  ");
}

pub fn limit_range(page: &mut Page, object: &Value) {
    page.names(object);
    page.line(0, "Type\tResource\tMin\tMax\tDefault Request\tDefault Limit\tMax Limit/Request Ratio");
    page.line(0, "----\t--------\t---\t---\t---------------\t-------------\t-----------------------");
    limits(page, object, "");
}

pub fn limits(page: &mut Page, object: &Value, indent: &str) {
    const FIELDS: [&str; 5] = ["min", "max", "defaultRequest", "default", "maxLimitRequestRatio"];
    for row in items(dig(object, "spec.limits")) {
        let names: BTreeSet<&String> =
            FIELDS.iter().filter_map(|field| row[field].as_object()).flat_map(Map::keys).collect();
        for name in names {
            let cells = FIELDS.map(|field| match &row[field][name.as_str()] {
                Value::Null => "-".to_owned(),
                amount => show(amount),
            });
            page.line(0, format_args!("{indent}{}\t{name}\t{}", dig_str(row, "type"), cells.join("\t")));
        }
    }
}

pub fn priority_class(page: &mut Page, object: &Value) {
    page.name(object);
    page.field(0, "Value", show(&object["value"]));
    page.field(0, "GlobalDefault", object["globalDefault"] == true);
    page.field(0, "PreemptionPolicy", dig_str(object, "preemptionPolicy"));
    page.field(0, "Description", dig_str(object, "description"));
    page.field(0, "Annotations", or_none(&labels_text(dig(object, "metadata.annotations"), ",")));
}

pub fn role(page: &mut Page, object: &Value) {
    page.name(object);
    page.labels_and_annotations(object);
    page.line(0, "PolicyRule:");
    page.line(1, "Resources\tNon-Resource URLs\tResource Names\tVerbs");
    page.line(1, "---------\t-----------------\t--------------\t-----");
    let words = |list: &Value| items(list).map(show).collect::<Vec<_>>();
    // One row a resource; rules that say the same of one resource, whatever its name, are one.
    let mut rows: Vec<RuleRow> = Vec::new();
    for rule in items(&object["rules"]) {
        let (names, verbs) = (words(&rule["resourceNames"]), words(&rule["verbs"]));
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                let same = |row: &&mut RuleRow| row.name.is_empty() && row.group == group && row.resource == resource;
                match rows.iter_mut().find(same).filter(|_| names.is_empty()) {
                    Some(row) => {
                        let new: Vec<String> = verbs.iter().filter(|verb| !row.verbs.contains(verb)).cloned().collect();
                        row.verbs.extend(new);
                    }
                    None => {
                        let each = if names.is_empty() { vec![String::new()] } else { names.clone() };
                        rows.extend(each.into_iter().map(|name| RuleRow {
                            group: group.clone(),
                            resource: resource.clone(),
                            name,
                            verbs: verbs.clone(),
                            ..RuleRow::default()
                        }));
                    }
                }
            }
        }
        let urls = words(&rule["nonResourceURLs"]);
        rows.extend(urls.into_iter().map(|url| RuleRow { url, verbs: verbs.clone(), ..RuleRow::default() }));
    }
    rows.sort_by_key(RuleRow::order);
    for row in rows {
        let (plural, sub) = row.resource.split_once('/').unwrap_or((&row.resource, ""));
        let dot = if row.group.is_empty() { "" } else { "." };
        let slash = if sub.is_empty() { "" } else { "/" };
        let (group, url, name) = (&row.group, &row.url, &row.name);
        page.line(1, format_args!("{plural}{dot}{group}{slash}{sub}\t[{url}]\t[{name}]\t[{}]", row.verbs.join(" ")));
    }
}

/// What may be done with one resource, or with one path.
#[derive(Default)]
struct RuleRow {
    group: String,
    resource: String,
    name: String,
    url: String,
    verbs: Vec<String>,
}

impl RuleRow {
    /// Rules are sorted as Go prints them, field by field.
    fn order(&self) -> String {
        let Self { group, resource, name, url, verbs } = self;
        format!("[{}],[{group}],[{resource}],[{name}],[{url}],", verbs.join(" "))
    }
}

pub fn binding(page: &mut Page, object: &Value) {
    page.name(object);
    page.labels_and_annotations(object);
    page.line(0, "Role:");
    page.field(1, "Kind", dig_str(object, "roleRef.kind"));
    page.field(1, "Name", dig_str(object, "roleRef.name"));
    page.line(0, "Subjects:");
    page.line(1, "Kind\tName\tNamespace");
    page.line(1, "----\t----\t---------");
    for subject in items(&object["subjects"]) {
        page.line(
            1,
            format_args!(
                "{}\t{}\t{}",
                dig_str(subject, "kind"),
                dig_str(subject, "name"),
                dig_str(subject, "namespace")
            ),
        );
    }
}

/// Whatever the object says, field by field.
pub fn anything(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["annotations", "managedFields", "name", "namespace", "labels"] {
            metadata.remove(field);
        }
    }
    if let Some(map) = object.as_object() {
        content(page, 0, map);
    }
}

fn content(page: &mut Page, level: usize, map: &Map<String, Value>) {
    for (field, value) in map {
        let label = words(field);
        match value {
            Value::Object(inner) => {
                page.line(level, format_args!("{label}:"));
                content(page, level + 1, inner);
            }
            Value::Array(list) => {
                page.line(level, format_args!("{label}:"));
                for item in list {
                    match item {
                        Value::Object(inner) => content(page, level + 1, inner),
                        other => page.line(level + 1, crate::output::template::shown(other)),
                    }
                }
            }
            other => page.field(level, &label, crate::output::template::shown(other)),
        }
    }
}

/// `creationTimestamp` becomes `Creation Timestamp`, `apiVersion` `API Version`.
fn words(field: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let chars: Vec<char> = field.chars().collect();
    for (at, &c) in chars.iter().enumerate() {
        let begins = c.is_uppercase()
            && (at == 0 || !chars[at - 1].is_uppercase() || chars.get(at + 1).is_some_and(|n| n.is_lowercase()));
        if parts.is_empty() || begins {
            parts.push(String::new());
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    let shown = |part: &String| {
        let upper = part.to_uppercase();
        match upper.as_str() {
            "API" | "URL" | "UID" | "OSB" | "GUID" => upper,
            _ => upper.chars().take(1).chain(part.chars().skip(1)).collect(),
        }
    };
    parts.iter().map(shown).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_become_words() {
        for (field, expected) in [
            ("creationTimestamp", "Creation Timestamp"),
            ("apiVersion", "API Version"),
            ("uid", "UID"),
            ("kind", "Kind"),
        ] {
            assert_eq!(words(field), expected);
        }
    }
}
