//! Which requests a webhook or a policy wants to hear of: `rules`, as upstream matches them.

use serde_json::Value;

use crate::{
    contract::Operation,
    json::{items, text},
};

/// What is asked of a rule.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub operation: Operation,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// Empty while it is still to be generated.
    pub name: &'a str,
    /// Empty for what lies in no namespace, namespaces themselves included.
    pub namespace: &'a str,
}

#[derive(Debug)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    scope: String,
    /// Empty: all. Webhooks have none.
    resource_names: Vec<String>,
}

fn strings(list: &Value) -> Vec<String> {
    items(list).iter().map(|one| text(one).to_owned()).collect()
}

fn names(list: &[String], value: &str) -> bool {
    list.iter().any(|one| one == "*" || one == value)
}

pub fn name_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

impl Rule {
    pub fn parse(rule: &Value) -> Self {
        let resources = items(&rule["resources"]).iter().map(|one| {
            let (resource, subresource) = text(one).split_once('/').unwrap_or((text(one), ""));
            (resource.to_owned(), subresource.to_owned())
        });
        Self {
            operations: strings(&rule["operations"]),
            groups: strings(&rule["apiGroups"]),
            versions: strings(&rule["apiVersions"]),
            resources: resources.collect(),
            scope: text(&rule["scope"]).to_owned(),
            resource_names: strings(&rule["resourceNames"]),
        }
    }

    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        let scope = match self.scope.as_str() {
            "Namespaced" => !asked.namespace.is_empty(),
            "Cluster" => asked.namespace.is_empty(),
            _ => true,
        };
        scope
            && names(&self.operations, name_of(asked.operation))
            && names(&self.groups, asked.group)
            && names(&self.versions, asked.version)
            && self.resources.iter().any(|(resource, subresource)| {
                (resource == "*" || resource == asked.resource)
                    && (subresource == "*" || subresource == asked.subresource)
            })
            && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| name == asked.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_match_as_upstreams_do() {
        let asked = |resource, subresource, namespace| Asked {
            operation: Operation::Create,
            group: "apps",
            version: "v1",
            resource,
            subresource,
            name: "d",
            namespace,
        };
        let rule = |resources: Value, scope: &str| {
            Rule::parse(&json!({"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["*"],
                "resources": resources, "scope": scope}))
        };
        let in_one = asked("deployments", "", "n");
        let scale = asked("deployments", "scale", "n");
        for (resources, scope, asked, expected) in [
            (json!(["deployments"]), "*", in_one, true),
            (json!(["deployments"]), "*", scale, false),
            (json!(["deployments/scale"]), "*", scale, true),
            (json!(["deployments/scale"]), "*", in_one, false),
            (json!(["deployments/*"]), "*", scale, true),
            (json!(["deployments/*"]), "*", in_one, true),
            (json!(["*"]), "*", in_one, true),
            (json!(["*"]), "*", scale, false),
            (json!(["*/*"]), "*", scale, true),
            (json!(["*/scale"]), "*", scale, true),
            (json!(["*/status"]), "*", scale, false),
            (json!(["*"]), "Namespaced", in_one, true),
            (json!(["*"]), "Cluster", in_one, false),
            (json!(["*"]), "Cluster", asked("deployments", "", ""), true),
            (json!(["*"]), "Namespaced", asked("deployments", "", ""), false),
        ] {
            assert_eq!(rule(resources.clone(), scope).matches(&asked), expected, "{resources} {scope} {asked:?}");
        }
        for (key, value) in [("operations", "DELETE"), ("apiGroups", ""), ("apiVersions", "v2")] {
            let mut other = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
            assert!(Rule::parse(&other).matches(&in_one));
            other[key] = json!([value]);
            assert!(!Rule::parse(&other).matches(&in_one), "{key}");
        }
        for (names, expected) in [(json!([]), true), (json!(["c", "d"]), true), (json!(["c"]), false)] {
            let named = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"],
                "resourceNames": names});
            assert_eq!(Rule::parse(&named).matches(&in_one), expected, "{named}");
        }
    }
}
