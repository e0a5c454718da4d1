//! Who may do what: roles, their bindings, service accounts and their tokens.

use clap::{Arg, Command};
use serde_json::{Value, json};

use super::{generator, pairs};
use crate::{
    cx::{Cx, dig_str},
    error::Result,
    fail,
    flags::{list, text},
};

fn subjects() -> [Arg; 4] {
    [
        text("clusterrole", "The ClusterRole that is granted"),
        list("subject-user", "A user").long("user"),
        list("group", "A group"),
        list("serviceaccount", "A service account, as NAMESPACE:NAME"),
    ]
}

fn rules() -> [Arg; 3] {
    [
        list("verb", "What may be done"),
        list("resource", "With which resources"),
        list("resource-name", "With which objects of these"),
    ]
}

pub fn commands() -> [Command; 6] {
    let more = [
        list("non-resource-url", "Which paths"),
        text("aggregation-rule", "KEY=VALUE of the roles that it takes together"),
    ];
    let role = text("role", "The Role that is granted");
    [
        generator("role", "Create a role", rules().into()),
        generator("clusterrole", "Create a cluster role", rules().into_iter().chain(more).collect()),
        generator("rolebinding", "Create a role binding", subjects().into_iter().chain([role]).collect()),
        generator("clusterrolebinding", "Create a cluster role binding", subjects().into()),
        generator("serviceaccount", "Create a service account", vec![]).visible_alias("sa"),
        generator(
            "token",
            "Request a service account token",
            vec![
                text("audience", "Who may take it"),
                text("duration", "How long it holds"),
                text("bound-object-kind", "Pod, Secret or Node"),
                text("bound-object-name", "Its name"),
                text("bound-object-uid", "Its uid"),
            ],
        ),
    ]
}

pub async fn role(cx: &Cx, kind: &str, name: &str) -> Result<Value> {
    let kind = if kind == "role" { "Role" } else { "ClusterRole" };
    let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
    if let Some(rule) = cx.flags.some("aggregation-rule") {
        let labels = pairs(&rule.split(',').collect::<Vec<_>>())?;
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        object["rules"] = Value::Null;
        return Ok(object);
    }
    let verbs = cx.flags.list("verb");
    if verbs.is_empty() {
        return Err(fail!("at least one verb must be specified"));
    }
    let (resources, urls) = (cx.flags.list("resource"), cx.flags.list("non-resource-url"));
    if resources.is_empty() && urls.is_empty() {
        return Err(fail!("at least one resource must be specified"));
    }
    // Resources of one group share a rule, in the order in which the groups were named.
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for word in resources {
        let (word, sub) = word.split_once('/').map_or((word, None), |(word, sub)| (word, Some(sub)));
        let (plural, group) = match word {
            "*" => ("*".into(), "*".into()),
            word => {
                let found = cx.discovery().await?.find(word)?;
                (found.plural.clone(), found.group.clone())
            }
        };
        let plural = sub.map_or_else(|| plural.clone(), |sub| format!("{plural}/{sub}"));
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, list)) => list.push(plural),
            None => groups.push((group, vec![plural])),
        }
    }
    groups.sort();
    let names = cx.flags.list("resource-name");
    let mut rules: Vec<Value> = Vec::new();
    for (group, resources) in groups {
        let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
        if !names.is_empty() {
            rule["resourceNames"] = names.clone().into();
        }
        rules.push(rule);
    }
    if !urls.is_empty() {
        rules.push(json!({"nonResourceURLs": urls, "verbs": verbs}));
    }
    object["rules"] = rules.into();
    Ok(object)
}

pub fn binding(cx: &Cx, kind: &str, name: &str) -> Result<Value> {
    let (role, cluster_role) = (cx.flags.some("role"), cx.flags.some("clusterrole"));
    let role = match (role, cluster_role) {
        (Some(role), None) => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}),
        (None, Some(role)) => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}),
        _ => return Err(fail!("exactly one of clusterrole or role must be specified")),
    };
    let mut subjects = Vec::new();
    for (flag, kind) in [("subject-user", "User"), ("group", "Group")] {
        subjects.extend(
            cx.flags
                .list(flag)
                .iter()
                .map(|name| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})),
        );
    }
    for account in cx.flags.list("serviceaccount") {
        let (namespace, name) =
            account.split_once(':').ok_or_else(|| fail!("serviceaccount must be <namespace>:<name>"))?;
        subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    let kind = if kind == "rolebinding" { "RoleBinding" } else { "ClusterRoleBinding" };
    let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "roleRef": role});
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    Ok(object)
}

pub async fn token(cx: &Cx, name: &str) -> Result<()> {
    let mut spec = json!({});
    if let Some(audience) = cx.flags.some("audience") {
        spec["audiences"] = json!([audience]);
    }
    if let Some(seconds) = cx.flags.seconds("duration")?.filter(|seconds| *seconds > 0.0) {
        spec["expirationSeconds"] = (seconds as i64).into();
    }
    if let Some(kind) = cx.flags.some("bound-object-kind") {
        let bound = cx.flags.required("bound-object-name")?;
        spec["boundObjectRef"] = json!({"apiVersion": "v1", "kind": kind, "name": bound});
        if let Some(uid) = cx.flags.some("bound-object-uid") {
            spec["boundObjectRef"]["uid"] = uid.into();
        }
    }
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{name}/token", cx.namespace().await?);
    let answer =
        cx.api().await?.post(&path, &request).await.map_err(|error| error.prefixed("failed to create token"))?;
    match cx.flags.some("output") {
        None => crate::say!("{}", dig_str(&answer, "status.token")),
        Some(_) => crate::output::Printer::new(cx, crate::output::Format::of(cx)?).object(&answer),
    }
}
