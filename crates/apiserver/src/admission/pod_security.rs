use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::Value;

use super::pod_security_checks::{Level, violations};
use super::{denied, is_of};
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation, Stored};
use crate::json::text;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// Holds the pods of a namespace to the Pod Security Standard that its labels name: `enforce` refuses, `warn`
/// tells the client (<https://kubernetes.io/docs/concepts/security/pod-security-admission/>).
pub struct PodSecurity {
    lookup: Arc<dyn Lookup>,
}

impl PodSecurity {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    fn namespace(&self, name: &str) -> Option<Value> {
        let stored = self.lookup.get(builtin::namespaces(), "", name)?;
        speaks_of_security(&stored).then(|| stored.value())
    }

    /// The spec that is to be checked: a pod's, or that of a workload's template, which is only warned about.
    fn subject<'a>(request: &'a AdmissionRequest<'_>) -> Option<(&'a Value, bool)> {
        let is_write = matches!(request.operation, Operation::Create | Operation::Update);
        if !is_write || !matches!(request.subresource, "" | "ephemeralcontainers") {
            return None;
        }
        let object = &request.object;
        if is_of(request, "", "pods") {
            // An update that leaves the spec alone is not the moment to refuse.
            let same = request.old.is_some_and(|old| old["spec"] == object["spec"]);
            return (!same).then_some((&object["spec"], true));
        }
        let template = match (request.resource.group, request.resource.plural) {
            ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
            | ("batch", "jobs")
            | ("", "replicationcontrollers") => &object["spec"]["template"]["spec"],
            ("batch", "cronjobs") => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
            _ => return None,
        };
        Some((template, false))
    }
}

/// Most namespaces have no such label, and every pod's creation asks.
fn speaks_of_security(namespace: &Stored) -> bool {
    let needle = PREFIX.as_bytes();
    namespace.json.windows(needle.len()).any(|window| window == needle)
}

fn level(namespace: &Value, mode: &str) -> Level {
    match text(&namespace["metadata"]["labels"][format!("{PREFIX}{mode}")]) {
        "" => Level::Privileged,
        word => Level::parse(word),
    }
}

fn describe(level: Level, violations: &[String]) -> String {
    format!("violates PodSecurity \"{}:latest\": {}", level.as_str(), violations.join(", "))
}

#[async_trait]
impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let Some(namespace) = self.namespace(request.namespace) else { return Ok(()) };
        let Some((spec, _)) = Self::subject(request) else { return Ok(()) };
        let warn = level(&namespace, "warn");
        let found = violations(warn, spec);
        if !found.is_empty() {
            let warning = format!("would {}", describe(warn, &found).replacen("violates", "violate", 1));
            request.warnings.push(warning);
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let Some(namespace) = self.namespace(request.namespace) else { return Ok(()) };
        let Some((spec, true)) = Self::subject(request) else { return Ok(()) };
        let enforce = level(&namespace, "enforce");
        let found = violations(enforce, spec);
        if found.is_empty() { Ok(()) } else { Err(denied(request, describe(enforce, &found))) }
    }
}
