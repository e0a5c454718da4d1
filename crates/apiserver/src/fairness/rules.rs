//! Which requests a FlowSchema is about
//! (<https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#flowschema>).

use serde::Deserialize;

use crate::{contract::UserInfo, route::RequestInfo, tokens::split_service_account_user};

const ALL: &str = "*";

/// The spec of a FlowSchema, as far as requests are told apart by it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SchemaSpec {
    pub matching_precedence: i64,
    pub priority_level_configuration: Named,
    pub distinguisher_method: Option<Method>,
    pub rules: Vec<PolicyRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    pub name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Method {
    #[serde(rename = "type")]
    pub kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind")]
enum Subject {
    User {
        user: Named,
    },
    Group {
        group: Named,
    },
    ServiceAccount {
        #[serde(rename = "serviceAccount")]
        account: Account,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

impl PolicyRule {
    pub fn covers(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(user)) {
            return false;
        }
        match info.is_resource {
            true => self.resource_rules.iter().any(|rule| rule.covers(info)),
            false => self.non_resource_rules.iter().any(|rule| rule.covers(info)),
        }
    }
}

impl Subject {
    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::User { user: named } => named.name == ALL || named.name == user.name,
            Self::Group { group } => group.name == ALL || user.groups.contains(&group.name),
            Self::ServiceAccount { account } => split_service_account_user(&user.name).is_some_and(|(space, name)| {
                space == account.namespace && (account.name == ALL || name == account.name)
            }),
        }
    }
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|one| one == ALL || one == value)
}

impl ResourceRule {
    fn covers(&self, info: &RequestInfo) -> bool {
        let RequestInfo { verb, group, resource, subresource, namespace, .. } = info;
        let is_named = |one: &String| match one.split_once('/') {
            _ if one == ALL => true,
            Some((main, sub)) => main == resource && sub == subresource,
            None => one == resource && subresource.is_empty(),
        };
        has(&self.verbs, verb)
            && has(&self.api_groups, group)
            && self.resources.iter().any(is_named)
            && if namespace.is_empty() { self.cluster_scope } else { has(&self.namespaces, namespace) }
    }
}

impl PathRule {
    /// A path covers what lies below it, whether or not it ends in `/*`.
    fn covers(&self, info: &RequestInfo) -> bool {
        let is_below = |url: &String| {
            let base = url.trim_end_matches('*').trim_end_matches('/');
            info.path.strip_prefix(base).is_some_and(|rest| rest.starts_with('/'))
        };
        let covers = |url: &String| url == ALL || *url == info.path || is_below(url);
        has(&self.verbs, info.verb) && self.urls.iter().any(covers)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{route::Query, testing::user};

    fn rule(subject: Value, resources: Value, paths: Value) -> PolicyRule {
        let rule = json!({"subjects": [subject], "resourceRules": resources, "nonResourceRules": paths});
        serde_json::from_value(rule).unwrap()
    }

    fn request(line: &str) -> RequestInfo {
        let (method, path) = line.split_once(' ').unwrap();
        RequestInfo::parse(&method.parse().unwrap(), path, &Query::default())
    }

    #[test]
    fn subjects_are_users_groups_and_accounts() {
        let all = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
        let account = |name: &str| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}});
        let named = |kind: &str, name: &str| json!({"kind": kind, (kind.to_lowercase()): {"name": name}});
        let rows = [
            (named("User", "u"), user("u", &[]), true),
            (named("User", "*"), user("v", &[]), true),
            (named("User", "u"), user("v", &["u"]), false),
            (named("Group", "g"), user("v", &["f", "g"]), true),
            (named("Group", "*"), user("v", &[]), true),
            (named("Group", "g"), user("g", &[]), false),
            (account("a"), user("system:serviceaccount:kube-system:a", &[]), true),
            (account("*"), user("system:serviceaccount:kube-system:b", &[]), true),
            (account("a"), user("system:serviceaccount:kube-system:b", &[]), false),
            (account("*"), user("system:serviceaccount:kube-systems:a", &[]), false),
            (account("*"), user("kube-system:a", &[]), false),
        ];
        for (subject, who, expected) in rows {
            let covers = rule(subject.clone(), json!([]), all.clone()).covers(&who, &request("GET /x"));
            assert_eq!(covers, expected, "{subject} {who:?}");
        }
    }

    #[test]
    fn rules_are_about_resources_or_about_paths() {
        let who = json!({"kind": "User", "user": {"name": "*"}});
        let resources = |verbs: Value, groups: Value, resources: Value, namespaces: Value, cluster: bool| {
            let one = json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "namespaces": namespaces,
                             "clusterScope": cluster});
            rule(who.clone(), json!([one]), json!([]))
        };
        let paths = |url: &str| rule(who.clone(), json!([]), json!([{"verbs": ["get"], "nonResourceURLs": [url]}]));
        let pods =
            |namespaces: Value, cluster| resources(json!(["get"]), json!([""]), json!(["pods"]), namespaces, cluster);
        let (pod, deployment) = ("GET /api/v1/namespaces/n/pods/p", "GET /apis/apps/v1/namespaces/n/deployments/d");
        let rows = [
            (pods(json!(["n"]), false), pod, true),
            (pods(json!(["*"]), false), pod, true),
            (pods(json!(["m"]), true), pod, false),
            (pods(json!(["n"]), false), deployment, false),
            (pods(json!(["n"]), false), "GET /api/v1/namespaces/n/pods/p/status", false),
            (pods(json!(["n"]), false), "PUT /api/v1/namespaces/n/pods/p", false),
            (resources(json!(["*"]), json!(["*"]), json!(["*"]), json!(["*"]), false), "GET /api/v1/nodes/n", false),
            (resources(json!(["*"]), json!(["*"]), json!(["*"]), json!([]), true), "GET /api/v1/nodes/n", true),
            (resources(json!(["*"]), json!([""]), json!(["pods/status"]), json!(["*"]), true), pod, false),
            (
                resources(json!(["*"]), json!([""]), json!(["pods/status"]), json!(["*"]), true),
                "PUT /api/v1/namespaces/n/pods/p/status",
                true,
            ),
            (resources(json!(["get"]), json!(["apps"]), json!(["deployments"]), json!(["n"]), false), deployment, true),
            (resources(json!(["*"]), json!(["*"]), json!(["*"]), json!(["*"]), true), "GET /version", false),
            (paths("*"), "GET /version", true),
            (paths("*"), pod, false),
            (paths("/healthz"), "GET /healthz", true),
            (paths("/healthz"), "GET /healthz/ping", true),
            (paths("/healthz"), "GET /healthzz", false),
            (paths("/openapi/*"), "GET /openapi/v3", true),
            (paths("/openapi/*"), "GET /openapiv3", false),
            (paths("/version"), "POST /version", false),
        ];
        for (rule, line, expected) in rows {
            assert_eq!(rule.covers(&user("u", &[]), &request(line)), expected, "{line} {rule:?}");
        }
    }
}
