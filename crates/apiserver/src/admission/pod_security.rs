use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::Value;

use super::pod_security_checks::violations;
use super::pod_security_labels::{PREFIX, Policy, check_labels};
use super::{denied, is_main, is_of};
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation, Stored};

/// So many pods of a namespace are looked at when its labels change (upstream's bound).
const MAX_PODS_LOOKED_AT: usize = 3000;

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

    /// A namespace that becomes stricter keeps the pods it has, and whoever made it so is told of them.
    fn warn_of_pods(&self, request: &AdmissionRequest<'_>) -> Vec<String> {
        let enforce = Policy::of(&request.object, "enforce");
        if request.old.is_none_or(|old| Policy::of(old, "enforce") == enforce) {
            return Vec::new();
        }
        let pods = self.lookup.list(builtin::pods(), request.name);
        // The pods of one Deployment break the same rules, and are told of together.
        let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in pods.iter().take(MAX_PODS_LOOKED_AT) {
            let found = violations(enforce.level, enforce.minor, &pod.value()["spec"]);
            let reasons = found.iter().map(|violation| violation.split(" (").next().unwrap_or_default());
            let reasons = reasons.collect::<Vec<_>>().join(", ");
            if !reasons.is_empty() {
                by_reason.entry(reasons).or_default().push(pod.name().to_owned());
            }
        }
        if by_reason.is_empty() {
            return Vec::new();
        }
        let name = request.name;
        let head =
            format!("existing pods in namespace {name:?} violate the new PodSecurity enforce level \"{enforce}\"");
        let lines = by_reason.iter().map(|(reasons, pods)| match pods.as_slice() {
            [one] => format!("{one}: {reasons}"),
            [one, _] => format!("{one} (and 1 other pod): {reasons}"),
            [one, others @ ..] => format!("{one} (and {} other pods): {reasons}", others.len()),
            [] => reasons.clone(),
        });
        std::iter::once(head).chain(lines).collect()
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

fn describe(policy: &Policy, violations: &[String]) -> String {
    format!("violates PodSecurity \"{policy}\": {}", violations.join(", "))
}

#[async_trait]
impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        if is_main(request, "", "namespaces") && request.operation == Operation::Update {
            let warnings = self.warn_of_pods(request);
            request.warnings.extend(warnings);
            return Ok(());
        }
        let Some(namespace) = self.namespace(request.namespace) else { return Ok(()) };
        let Some((spec, _)) = Self::subject(request) else { return Ok(()) };
        let warn = Policy::of(&namespace, "warn");
        let found = violations(warn.level, warn.minor, spec);
        if !found.is_empty() {
            let warning = format!("would {}", describe(&warn, &found).replacen("violates", "violate", 1));
            request.warnings.push(warning);
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        if is_main(request, "", "namespaces") {
            return check_labels(request);
        }
        let Some(namespace) = self.namespace(request.namespace) else { return Ok(()) };
        let Some((spec, true)) = Self::subject(request) else { return Ok(()) };
        let enforce = Policy::of(&namespace, "enforce");
        let found = violations(enforce.level, enforce.minor, spec);
        if found.is_empty() { Ok(()) } else { Err(denied(request, describe(&enforce, &found))) }
    }
}
