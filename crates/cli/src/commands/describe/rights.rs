//! Roles and their bindings.

use serde_json::Value;

use super::{Page, show};
use crate::cx::{dig_str, items};

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
