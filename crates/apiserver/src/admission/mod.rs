//! What is made of a write before it is stored: the built-in admission plugins. Each has its name and its words
//! from upstream (<https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/>), looks at
//! one thing, and knows the rest of the cluster through the watch cache only.

mod certificates;
mod default_class;
mod default_tolerations;
mod device_admin;
mod limit_ranger;
mod namespace_lifecycle;
mod node_labels;
mod node_restriction;
mod pod_security;
mod pod_security_checks;
mod pod_security_config;
mod pod_security_existing;
mod pod_security_labels;
#[cfg(test)]
mod pod_security_tests;
mod priority;
#[cfg(test)]
mod quota_tests;
mod rbac_escalation;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage;
mod taint_nodes;
mod token_secret;
mod trust_bundles;

#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use knarr_api::status::ApiError;

use crate::Env;
use crate::authz::Rbac;
use crate::contract::{Admission, AdmissionRequest, Authorizer, Lookup, Operation};
use crate::json;
use crate::tokens::TokenReviewer;

pub use certificates::CertificateRequests;
pub use default_class::{DefaultIngressClass, DefaultStorageClass};
pub use default_tolerations::DefaultTolerationSeconds;
pub use device_admin::DeviceAdminAccess;
pub use limit_ranger::LimitRanger;
pub use namespace_lifecycle::NamespaceLifecycle;
pub use node_labels::is_forbidden as is_forbidden_to_nodes;
pub use node_restriction::{NodeRestriction, check_token_request};
pub use pod_security::PodSecurity;
pub use pod_security_config::{ConfigError, PodSecurityConfig};
pub use priority::Priority;
pub use rbac_escalation::RbacEscalation;
pub use resource_quota::ResourceQuota;
pub use runtime_class::RuntimeClass;
pub use service_account::ServiceAccount;
pub use storage::{ClaimResize, InUseProtection};
pub use taint_nodes::TaintNodesByCondition;
pub use token_secret::TokenSecrets;
pub use trust_bundles::TrustBundles;

/// All plugins, in the order they run in: what fills in comes before what checks, and quota comes last.
pub fn plugins(
    lookup: &Arc<dyn Lookup>,
    authorizer: &Arc<dyn Authorizer>,
    rbac: &Arc<Rbac>,
    tokens: &Arc<TokenReviewer>,
    pod_security: PodSecurityConfig,
    env: &Env,
) -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(NamespaceLifecycle::new(lookup.clone())),
        Arc::new(ServiceAccount::new(lookup.clone(), env.clone())),
        Arc::new(NodeRestriction::new(lookup.clone())),
        Arc::new(TaintNodesByCondition),
        Arc::new(Priority::new(lookup.clone())),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(RuntimeClass::new(lookup.clone())),
        Arc::new(DefaultStorageClass::new(lookup.clone())),
        Arc::new(InUseProtection),
        Arc::new(ClaimResize::new(lookup.clone())),
        Arc::new(DefaultIngressClass::new(lookup.clone())),
        Arc::new(DeviceAdminAccess::new(lookup.clone())),
        Arc::new(PodSecurity::new(lookup.clone(), pod_security)),
        Arc::new(LimitRanger::new(lookup.clone())),
        Arc::new(TokenSecrets::new(lookup.clone(), tokens.clone(), env.clone())),
        Arc::new(CertificateRequests::new(authorizer.clone())),
        Arc::new(TrustBundles::new(authorizer.clone())),
        Arc::new(RbacEscalation::new(lookup.clone(), authorizer.clone(), rbac.clone())),
        Arc::new(ResourceQuota::new(lookup.clone())),
    ]
}

/// A plugin's refusal, named as well as can be while a name is still to be generated.
pub(crate) fn denied(request: &AdmissionRequest<'_>, why: impl std::fmt::Display) -> ApiError {
    let metadata = &request.object["metadata"];
    let candidates = [request.name, json::text(&metadata["name"]), json::text(&metadata["generateName"])];
    let name = candidates.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown");
    ApiError::forbidden(&request.resource.qualified_name(), name, why)
}

/// True where a request is about the resource itself and not one of its subresources.
fn is_main(request: &AdmissionRequest<'_>, group: &str, plural: &str) -> bool {
    request.subresource.is_empty() && is_of(request, group, plural)
}

fn is_of(request: &AdmissionRequest<'_>, group: &str, plural: &str) -> bool {
    request.resource.plural == plural && request.resource.group == group
}

fn is_pod_creation(request: &AdmissionRequest<'_>) -> bool {
    request.operation == Operation::Create && is_main(request, "", "pods")
}
