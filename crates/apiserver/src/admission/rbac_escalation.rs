use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::field::quote;
use knarr_api::status::ApiError;

use super::denied;
use crate::authz::{Rbac, Rule, is_master, uncovered};
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Attributes, Authorizer, Decision, Lookup, Operation};
use crate::json::text;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Nobody grants what they do not have: who writes a role must hold its rules already or have the verb
/// `escalate` on it; who writes a binding must hold the role's rules or have the verb `bind` on the role.
pub struct RbacEscalation {
    lookup: Arc<dyn Lookup>,
    authorizer: Arc<dyn Authorizer>,
    rbac: Arc<Rbac>,
}

impl RbacEscalation {
    pub fn new(lookup: Arc<dyn Lookup>, authorizer: Arc<dyn Authorizer>, rbac: Arc<Rbac>) -> Self {
        Self { lookup, authorizer, rbac }
    }

    async fn may(&self, request: &AdmissionRequest<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let attributes = Attributes {
            user: request.user,
            verb,
            namespace: request.namespace,
            group: GROUP,
            version: "v1",
            resource,
            subresource: "",
            name,
            field_selector: "",
            path: "",
            is_resource: true,
        };
        self.authorizer.authorize(&attributes).await == Decision::Allow
    }

    fn check_rules(&self, request: &AdmissionRequest<'_>, wanted: &[Rule]) -> Result<(), ApiError> {
        let owned = self.rbac.rules_for(request.user, request.namespace);
        let missing = uncovered(&owned, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let why = format!(
            "user {} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            quote(&request.user.name),
            quoted(&request.user.groups),
            compact(missing).join("\n")
        );
        Err(denied(request, why))
    }

    async fn check_role(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let same = |field: &str| request.old.is_some_and(|old| old[field] == request.object[field]);
        if same("rules") && same("aggregationRule") {
            return Ok(());
        }
        if self.may(request, "escalate", request.resource.plural, request.name).await {
            return Ok(());
        }
        let aggregates = !request.object["aggregationRule"].is_null();
        if aggregates && !same("aggregationRule") {
            // What an aggregation will yield is not known beforehand.
            let all = Rule {
                verbs: vec!["*".into()],
                api_groups: vec!["*".into()],
                resources: vec!["*".into()],
                ..Rule::default()
            };
            let paths = Rule { verbs: vec!["*".into()], non_resource_urls: vec!["*".into()], ..Rule::default() };
            return self.check_rules(request, &[all, paths]);
        }
        let wanted: Vec<Rule> = serde_json::from_value(request.object["rules"].clone()).unwrap_or_default();
        self.check_rules(request, &wanted)
    }

    async fn check_binding(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let same = |field: &str| request.old.is_some_and(|old| old[field] == request.object[field]);
        if same("subjects") && same("roleRef") {
            return Ok(());
        }
        let role = &request.object["roleRef"];
        let name = text(&role["name"]);
        let (resource, namespace) = match text(&role["kind"]) {
            "ClusterRole" => (builtin::cluster_roles(), ""),
            _ => (builtin::roles(), request.namespace),
        };
        if self.may(request, "bind", resource.plural, name).await {
            return Ok(());
        }
        let Some(found) = self.lookup.get(resource, namespace, name) else {
            return Err(ApiError::not_found(&resource.qualified_name(), name));
        };
        // The rules of an aggregation are those of the roles that it selects, whatever is written in it.
        let aggregated = (resource.plural == "clusterroles").then(|| self.rbac.aggregated_rules(name)).flatten();
        let written = || serde_json::from_value(found.value()["rules"].clone()).unwrap_or_default();
        let wanted: Vec<Rule> = aggregated.map_or_else(written, |rules| rules.to_vec());
        self.check_rules(request, &wanted)
    }
}

/// One rule for all verbs on the same thing, in a settled order, as upstream shows what is missing.
fn compact(parts: Vec<Rule>) -> Vec<String> {
    let mut rules: Vec<Rule> = Vec::new();
    for part in parts {
        let same = |rule: &&mut Rule| {
            (&rule.api_groups, &rule.resources, &rule.resource_names, &rule.non_resource_urls)
                == (&part.api_groups, &part.resources, &part.resource_names, &part.non_resource_urls)
        };
        match rules.iter_mut().find(same) {
            Some(rule) => rule.verbs.extend(part.verbs),
            None => rules.push(part),
        }
    }
    let mut described: Vec<String> = rules.iter().map(describe).collect();
    described.sort();
    described
}

/// A list of strings as Go shows it.
fn quoted(list: &[String]) -> String {
    format!("[{}]", list.iter().map(|item| quote(item)).collect::<Vec<_>>().join(" "))
}

fn describe(rule: &Rule) -> String {
    let lists = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = lists
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quoted(list)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

#[async_trait]
impl Admission for RbacEscalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let is_write = matches!(request.operation, Operation::Create | Operation::Update);
        if !is_write || request.resource.group != GROUP || is_master(request.user) {
            return Ok(());
        }
        match request.resource.plural {
            "roles" | "clusterroles" => self.check_role(request).await,
            "rolebindings" | "clusterrolebindings" => self.check_binding(request).await,
            _ => Ok(()),
        }
    }
}
