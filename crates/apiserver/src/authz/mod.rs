//! May they do it. Members of `system:masters` may do everything; nodes may do what concerns the pods bound to
//! them (the Node authoriser); everyone else what Roles and ClusterRoles grant (RBAC). Nothing is denied
//! explicitly: what nobody allows is forbidden.

mod covers;
mod index;
mod node;
mod node_graph;
mod rbac;
mod rule;

#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::field::quote;
use knarr_api::status::ApiError;

use crate::authn::MASTERS;
use crate::contract::{Attributes, Authorizer, Decision, Lookup, UserInfo};

pub use covers::uncovered;
pub use node::{NodeAuthorizer, node_name_of};
pub use rbac::Rbac;
pub use rule::Rule;

/// The refusal of a request, in upstream's words.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> ApiError {
    let Attributes { user, verb, namespace, group, resource, subresource, name, path, is_resource, .. } = attributes;
    let user = quote(&user.name);
    let mut why = if *is_resource {
        let slash = if subresource.is_empty() { "" } else { "/" };
        let place = match *namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {}", quote(namespace)),
        };
        let resource = quote(&format!("{resource}{slash}{subresource}"));
        format!("User {user} cannot {verb} resource {resource} in API group {} {place}", quote(group))
    } else {
        format!("User {user} cannot {verb} path {}", quote(path))
    };
    if !reason.is_empty() {
        why.push_str(": ");
        why.push_str(reason);
    }
    match (*is_resource, *group) {
        (false, _) => ApiError::forbidden("", "", why),
        (true, "") => ApiError::forbidden(resource, name, why),
        (true, group) => ApiError::forbidden(&format!("{resource}.{group}"), name, why),
    }
}

pub fn is_master(user: &UserInfo) -> bool {
    user.groups.iter().any(|group| group == MASTERS)
}

/// The authorisers of a cluster, in order.
pub struct ClusterAuthorizer {
    node: NodeAuthorizer,
    rbac: Arc<Rbac>,
}

impl ClusterAuthorizer {
    pub fn new(lookup: Arc<dyn Lookup>, rbac: Arc<Rbac>) -> Self {
        Self { node: NodeAuthorizer::new(lookup), rbac }
    }
}

#[async_trait]
impl Authorizer for ClusterAuthorizer {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if is_master(attributes.user) {
            return Decision::Allow;
        }
        let mut reasons = Vec::new();
        for decision in [self.node.decide(attributes), self.rbac.decide(attributes)] {
            match decision {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join(", "))
    }
}
