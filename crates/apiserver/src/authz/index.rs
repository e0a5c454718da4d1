use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use knarr_api::selector::LabelSelector;
use serde_json::Value;

use super::Rule;
use crate::builtin;
use crate::contract::{Lookup, UserInfo};
use crate::derived::Derived;
use crate::tokens::service_account_user;

/// A Role or ClusterRole, as far as authorisation goes.
pub(super) struct Role {
    namespace: String,
    name: String,
    rules: Arc<[Rule]>,
    labels: Value,
    /// Not empty where the role is an aggregation: its rules are those of the roles that one of these selects.
    aggregates: Vec<LabelSelector>,
}

/// A RoleBinding or ClusterRoleBinding.
pub(super) struct Binding {
    namespace: String,
    name: String,
    role_is_cluster_role: bool,
    role: String,
    users: Vec<String>,
    groups: Vec<String>,
}

/// What one binding grants: rules, or the reason why there are none.
#[derive(Clone)]
pub(super) struct Grant {
    pub rules: Result<Arc<[Rule]>, Arc<str>>,
    /// For the reason of a decision: `ClusterRoleBinding "x" of ClusterRole "y"`.
    pub origin: Arc<str>,
}

#[derive(Default)]
struct Subjects {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

/// Grants by subject, for the cluster and for each namespace.
#[derive(Default)]
pub(super) struct Index {
    cluster: Subjects,
    namespaces: HashMap<String, Subjects>,
    /// The rules of ClusterRoles that are aggregations.
    aggregated: HashMap<String, Arc<[Rule]>>,
}

impl Subjects {
    fn add(&mut self, binding: &Binding, grant: &Grant) {
        for user in &binding.users {
            self.users.entry(user.clone()).or_default().push(grant.clone());
        }
        for group in &binding.groups {
            self.groups.entry(group.clone()).or_default().push(grant.clone());
        }
    }

    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Grant> {
        let by_name = self.users.get(&user.name).into_iter().flatten();
        by_name.chain(user.groups.iter().filter_map(|group| self.groups.get(group)).flatten())
    }
}

impl Index {
    pub(super) fn aggregated(&self, name: &str) -> Option<&Arc<[Rule]>> {
        self.aggregated.get(name)
    }

    /// All grants to a user that hold in a namespace; in none but the cluster's where it is empty.
    pub(super) fn grants<'a>(&'a self, user: &'a UserInfo, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let local = (!namespace.is_empty()).then(|| self.namespaces.get(namespace)).flatten();
        self.cluster.of(user).chain(local.into_iter().flat_map(|subjects| subjects.of(user)))
    }
}

/// The objects that an index is made of.
pub(super) struct Sources {
    cluster_roles: Derived<Role>,
    cluster_bindings: Derived<Binding>,
    roles: Derived<Role>,
    bindings: Derived<Binding>,
}

impl Sources {
    pub(super) fn new() -> Self {
        Self {
            cluster_roles: Derived::new(builtin::cluster_roles(), "", role),
            cluster_bindings: Derived::new(builtin::cluster_role_bindings(), "", binding),
            roles: Derived::new(builtin::roles(), "", role),
            bindings: Derived::new(builtin::role_bindings(), "", binding),
        }
    }

    /// A number that changes whenever one of the sources does.
    pub(super) fn generations(lookup: &dyn Lookup) -> [u64; 4] {
        [builtin::cluster_roles(), builtin::cluster_role_bindings(), builtin::roles(), builtin::role_bindings()]
            .map(|resource| lookup.generation(resource))
    }

    pub(super) fn index(&mut self, lookup: &dyn Lookup) -> Index {
        self.cluster_roles.refresh(lookup);
        self.cluster_bindings.refresh(lookup);
        self.roles.refresh(lookup);
        self.bindings.refresh(lookup);

        let cluster_roles: HashMap<&str, &Role> = self.cluster_roles.iter().map(|r| (r.name.as_str(), &**r)).collect();
        let roles: HashMap<(&str, &str), &Role> =
            self.roles.iter().map(|r| ((r.namespace.as_str(), r.name.as_str()), &**r)).collect();
        let grant = |binding: &Binding| {
            let kind = if binding.role_is_cluster_role { "ClusterRole" } else { "Role" };
            let found = match binding.role_is_cluster_role {
                true => cluster_roles.get(binding.role.as_str()),
                false => roles.get(&(binding.namespace.as_str(), binding.role.as_str())),
            };
            let missing =
                || Arc::from(format!("{}.rbac.authorization.k8s.io {:?} not found", kind.to_lowercase(), binding.role));
            let rules = found.map(|role| effective_rules(role, &cluster_roles)).ok_or_else(missing);
            let origin = match binding.namespace.as_str() {
                "" => format!("ClusterRoleBinding {:?} of {kind} {:?}", binding.name, binding.role),
                namespace => {
                    format!("RoleBinding \"{}/{namespace}\" of {kind} {:?}", binding.name, binding.role)
                }
            };
            Grant { rules, origin: origin.into() }
        };

        let mut index = Index::default();
        for role in cluster_roles.values().filter(|role| !role.aggregates.is_empty()) {
            index.aggregated.insert(role.name.clone(), effective_rules(role, &cluster_roles));
        }
        for binding in self.cluster_bindings.iter() {
            index.cluster.add(binding, &grant(binding));
        }
        for binding in self.bindings.iter() {
            index.namespaces.entry(binding.namespace.clone()).or_default().add(binding, &grant(binding));
        }
        index
    }
}

/// An aggregation is resolved here and not only by a controller that copies rules around: so it holds at once.
fn effective_rules(role: &Role, all: &HashMap<&str, &Role>) -> Arc<[Rule]> {
    if role.aggregates.is_empty() {
        return role.rules.clone();
    }
    let mut rules = Vec::new();
    let mut seen = HashSet::from([role.name.as_str()]);
    let mut queue = vec![role];
    while let Some(next) = queue.pop() {
        if next.aggregates.is_empty() {
            rules.extend(next.rules.iter().cloned());
            continue;
        }
        let selected = all.values().filter(|other| next.aggregates.iter().any(|s| s.matches_value(&other.labels)));
        for other in selected {
            if seen.insert(&other.name) {
                queue.push(other);
            }
        }
    }
    rules.into()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn role(object: &Value) -> Option<Role> {
    let metadata = &object["metadata"];
    let rules: Vec<Rule> = match &object["rules"] {
        Value::Null => Vec::new(),
        rules => serde_json::from_value(rules.clone()).ok()?,
    };
    let selectors = object["aggregationRule"]["clusterRoleSelectors"].as_array();
    let aggregates = selectors.into_iter().flatten().filter_map(|s| LabelSelector::from_value(s).ok()).collect();
    Some(Role {
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
        rules: rules.into(),
        labels: metadata["labels"].clone(),
        aggregates,
    })
}

fn binding(object: &Value) -> Option<Binding> {
    let metadata = &object["metadata"];
    let mut binding = Binding {
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
        role_is_cluster_role: object["roleRef"]["kind"] == "ClusterRole",
        role: text(&object["roleRef"]["name"]),
        users: Vec::new(),
        groups: Vec::new(),
    };
    for subject in object["subjects"].as_array().into_iter().flatten() {
        let name = text(&subject["name"]);
        match subject["kind"].as_str() {
            Some("User") => binding.users.push(name),
            Some("Group") => binding.groups.push(name),
            Some("ServiceAccount") => {
                let namespace = subject["namespace"].as_str().unwrap_or(&binding.namespace);
                binding.users.push(service_account_user(namespace, &name));
            }
            _ => {}
        }
    }
    Some(binding)
}
