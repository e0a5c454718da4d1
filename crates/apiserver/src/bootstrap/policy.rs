use serde_json::{Map, Value, json};

use super::cluster_roles::{CLUSTER_ROLES, NODE};
use super::controller_roles::CONTROLLER_ROLES;
use super::user_roles::{AGGREGATED, USER_ROLES};
use crate::authz::Rule;

/// A rule, written short: lists are separated by spaces, and the core group is written `core`.
#[derive(Clone, Copy)]
pub(super) struct Row {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    urls: &'static str,
}

pub(super) const fn rule(verbs: &'static str, groups: &'static str, resources: &'static str) -> Row {
    Row { verbs, groups, resources, names: "", urls: "" }
}

/// A rule for some objects only.
pub(super) const fn named(
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
) -> Row {
    Row { verbs, groups, resources, names, urls: "" }
}

/// A rule for paths that are no resources.
pub(super) const fn urls(verbs: &'static str, urls: &'static str) -> Row {
    Row { verbs, groups: "", resources: "", names: "", urls }
}

pub(super) const READ: &str = "get list watch";
pub(super) const WRITE: &str = "create delete deletecollection patch update";
pub(super) const READ_WRITE: &str = "create delete deletecollection get list patch update watch";
pub(super) const READ_UPDATE: &str = "get list patch update watch";
pub(super) const EVENTS: Row = rule("create patch update", "core events.k8s.io", "events");

/// A role's name and its rules.
pub(super) type RoleRow = (&'static str, &'static [Row]);

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    words.sort();
    words
}

impl Row {
    fn to_rule(self) -> Rule {
        let group = |word: String| if word == "core" { String::new() } else { word };
        let mut api_groups: Vec<String> = words(self.groups).into_iter().map(group).collect();
        api_groups.sort();
        Rule {
            api_groups,
            non_resource_urls: words(self.urls),
            resource_names: words(self.names),
            resources: words(self.resources),
            verbs: words(self.verbs),
        }
    }
}

pub(super) fn rules(rows: &[Row]) -> Vec<Rule> {
    rows.iter().map(|row| row.to_rule()).collect()
}

/// What every node's agent may do, beside what the Node authoriser decides by its pods.
pub fn node_rules() -> Vec<Rule> {
    rules(NODE)
}

/// Labels and annotations that mark an object as brought back at every start.
pub(super) fn default_metadata(name: &str, labels: &[(&str, &str)]) -> Value {
    let mut all = Map::new();
    all.insert("kubernetes.io/bootstrapping".into(), "rbac-defaults".into());
    all.extend(labels.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))));
    json!({
        "name": name,
        "labels": all,
        "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
    })
}

fn cluster_role(name: &str, labels: &[(&str, &str)], rows: &[Row]) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": default_metadata(name, labels),
        "rules": rules(rows),
    })
}

/// Every default ClusterRole.
pub(super) fn cluster_roles() -> Vec<Value> {
    let mut roles: Vec<Value> =
        CLUSTER_ROLES.iter().chain(CONTROLLER_ROLES).map(|(name, rows)| cluster_role(name, &[], rows)).collect();
    roles.push(cluster_role("system:node", &[], NODE));
    for (name, label, rows) in USER_ROLES {
        roles.push(cluster_role(name, &[(label, "true")], rows));
    }
    for (name, own_label, selected, parts) in AGGREGATED {
        let labels: Vec<(&str, &str)> = own_label.iter().map(|label| (*label, "true")).collect();
        // The rules are what the aggregation yields in a fresh cluster; authorisation computes them anew.
        let included = USER_ROLES.iter().filter(|(part, ..)| parts.contains(part));
        let rows: Vec<Row> = included.flat_map(|(.., rows)| rows.iter().copied()).collect();
        let mut role = cluster_role(name, &labels, &rows);
        role["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": { *selected: "true" } }] });
        roles.push(role);
    }
    roles
}
