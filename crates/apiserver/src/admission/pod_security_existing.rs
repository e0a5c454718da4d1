//! What a namespace is told of the pods that it has already, when it becomes stricter.

use std::collections::BTreeMap;

use super::pod_security_checks::{Level, violations};
use super::pod_security_config::PodSecurityConfig;
use super::pod_security_labels::Standards;
use crate::builtin;
use crate::contract::{AdmissionRequest, Lookup, Operation};

/// So many pods of a namespace are looked at when its labels change (upstream's bound).
const MAX_PODS_LOOKED_AT: usize = 3000;

/// A namespace that becomes stricter keeps the pods it has, and whoever made it so is told of them.
pub(super) fn on_existing_pods(
    lookup: &dyn Lookup,
    config: &PodSecurityConfig,
    request: &AdmissionRequest<'_>,
) -> Vec<String> {
    let PodSecurityConfig { defaults, exemptions } = config;
    let standards = Standards::of(&request.object, defaults);
    if exemptions.namespace(request.name) && matches!(request.operation, Operation::Create | Operation::Update) {
        if [defaults, &Standards::default()].iter().any(|nothing_new| standards.is_like(nothing_new)) {
            return Vec::new();
        }
        let (name, said) = (request.name, standards.of_labels(&request.object));
        return vec![format!(
            "namespace {name:?} is exempt from Pod Security, and the policy ({said}) will be ignored"
        )];
    }
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update) else { return Vec::new() };
    let (old, enforce) = (Standards::of(old, defaults).enforce, standards.enforce);
    let is_relaxed = enforce.minor == old.minor && enforce.level <= old.level;
    if is_relaxed || enforce.level == Level::Privileged {
        return Vec::new();
    }
    let pods = lookup.list(builtin::pods(), request.name);
    // The pods of one Deployment break the same rules, and are told of together.
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in pods.iter().take(MAX_PODS_LOOKED_AT) {
        let spec = &pod.value()["spec"];
        if exemptions.runtime_class(spec) {
            continue;
        }
        let found = violations(enforce.level, enforce.minor, spec);
        let reasons = found.iter().map(|violation| violation.split(" (").next().unwrap_or_default());
        let reasons = reasons.collect::<Vec<_>>().join(", ");
        if !reasons.is_empty() {
            by_reason.entry(reasons).or_default().push(pod.name().to_owned());
        }
    }
    let mut remarks = Vec::new();
    if pods.len() > MAX_PODS_LOOKED_AT {
        let all = pods.len();
        remarks.push(format!(
            "new PodSecurity enforce level only checked against the first {MAX_PODS_LOOKED_AT} of {all} existing pods"
        ));
    }
    if !by_reason.is_empty() {
        let name = request.name;
        remarks.push(format!(
            "existing pods in namespace {name:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = by_reason.iter().map(|(reasons, pods)| line(reasons, pods)).collect();
    lines.sort_unstable();
    remarks.append(&mut lines);
    remarks
}

/// Of the pods that break the same rules the first is named, and the others are counted.
fn line(reasons: &str, pods: &[String]) -> String {
    let first = pods.iter().min().map_or("", String::as_str);
    match pods.len() {
        1 => format!("{first}: {reasons}"),
        2 => format!("{first} (and 1 other pod): {reasons}"),
        all => format!("{first} (and {} other pods): {reasons}", all - 1),
    }
}
