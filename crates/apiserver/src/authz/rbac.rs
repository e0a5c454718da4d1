use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;

use super::Rule;
use super::index::{Index, Sources};
use crate::contract::{Attributes, Authorizer, Decision, Lookup, UserInfo};

/// Role-based access control (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/>) over the Roles
/// and bindings in the watch cache. Grants are indexed by subject, and indexed anew only after a change.
pub struct Rbac {
    lookup: Arc<dyn Lookup>,
    current: ArcSwapOption<([u64; 4], Index)>,
    sources: Mutex<Sources>,
}

impl Rbac {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup, current: ArcSwapOption::empty(), sources: Mutex::new(Sources::new()) }
    }

    fn index(&self) -> Arc<([u64; 4], Index)> {
        let generations = Sources::generations(&*self.lookup);
        let is_current = |found: &Arc<([u64; 4], Index)>| found.0 == generations;
        if let Some(found) = self.current.load_full().filter(is_current) {
            return found;
        }
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        // Another request may have indexed the same change while this one waited.
        if let Some(found) = self.current.load_full().filter(is_current) {
            return found;
        }
        let fresh = Arc::new((generations, sources.index(&*self.lookup)));
        self.current.store(Some(fresh.clone()));
        fresh
    }

    pub fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        let index = self.index();
        let mut problems: Vec<&str> = Vec::new();
        for grant in index.1.grants(attributes.user, attributes.namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => return Decision::Allow,
                Ok(_) => {}
                Err(problem) => problems.push(problem),
            }
        }
        Decision::NoOpinion(match problems.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// Why a request is allowed, in upstream's words; for access reviews.
    pub fn explain(&self, attributes: &Attributes<'_>) -> Option<String> {
        let index = self.index();
        let granting = |rules: &Arc<[Rule]>| rules.iter().any(|rule| rule.allows(attributes));
        let found = index
            .1
            .grants(attributes.user, attributes.namespace)
            .find(|grant| grant.rules.as_ref().is_ok_and(granting))?;
        Some(format!("RBAC: allowed by {} to {}", found.origin, describe(attributes.user)))
    }

    /// What a ClusterRole grants that is an aggregation; `None` for all others, whose rules are their own.
    pub fn aggregated_rules(&self, name: &str) -> Option<Arc<[Rule]>> {
        self.index().1.aggregated(name).cloned()
    }

    /// Every rule that holds for a user in a namespace (the cluster's own where it is empty).
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let index = self.index();
        let granted = index.1.grants(user, namespace).filter_map(|grant| grant.rules.as_ref().ok());
        granted.flat_map(|rules| rules.iter().cloned()).collect()
    }
}

fn describe(user: &UserInfo) -> String {
    match crate::tokens::split_service_account_user(&user.name) {
        Some((namespace, name)) => format!("ServiceAccount \"{name}/{namespace}\""),
        None => format!("User {:?}", user.name),
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.decide(attributes)
    }
}
