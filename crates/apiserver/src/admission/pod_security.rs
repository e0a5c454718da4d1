use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::Value;

use super::pod_security_checks::violations;
use super::pod_security_config::PodSecurityConfig;
use super::pod_security_existing::on_existing_pods;
use super::pod_security_labels::{PREFIX, Policy, Standards, check_labels};
use super::{denied, is_main, is_of};
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation, Stored};
use crate::json::items;
use crate::{audit, builtin};

/// Holds the pods of a namespace to the Pod Security Standard that its labels name: `enforce` refuses, `audit` tells
/// the audit log, `warn` tells the client (<https://kubernetes.io/docs/concepts/security/pod-security-admission/>).
pub struct PodSecurity {
    lookup: Arc<dyn Lookup>,
    config: PodSecurityConfig,
}

/// What of a write is held to the standards: the specs of pods, and those that workloads will make pods of.
enum Subject<'a> {
    Pod(&'a Value),
    /// Only talked about: the pods are refused when they come.
    Template(&'a Value),
}

impl<'a> Subject<'a> {
    fn of(request: &'a AdmissionRequest<'_>) -> Option<Self> {
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return None;
        }
        let object = &request.object;
        if is_of(request, "", "pods") {
            let has_a_spec = matches!(request.subresource, "" | "ephemeralcontainers" | "resize");
            return has_a_spec.then_some(Self::Pod(&object["spec"]));
        }
        if !request.subresource.is_empty() {
            return None;
        }
        let holder = match (request.resource.group, request.resource.plural) {
            ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
            | ("batch", "jobs")
            | ("", "replicationcontrollers") => &object["spec"],
            ("batch", "cronjobs") => &object["spec"]["jobTemplate"]["spec"],
            ("", "podtemplates") => object,
            _ => return None,
        };
        holder.get("template").map(|template| Self::Template(&template["spec"]))
    }

    fn spec(&self) -> &'a Value {
        let (Self::Pod(spec) | Self::Template(spec)) = self;
        spec
    }
}

/// What the standards of a namespace make of a write.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    refusal: Option<String>,
    /// For the audit log: the rest of a key, and what it says.
    annotations: Vec<(&'static str, String)>,
}

impl PodSecurity {
    pub fn new(lookup: Arc<dyn Lookup>, config: PodSecurityConfig) -> Self {
        Self { lookup, config }
    }

    fn exemption(&self, request: &AdmissionRequest<'_>, subject: &Subject<'_>) -> Option<&'static str> {
        self.config.exemptions.of(request.namespace, request.user, subject.spec())
    }

    /// `None` where the namespace asks for nothing.
    fn standards(&self, namespace: &str) -> Option<Standards> {
        let defaults = &self.config.defaults;
        let stored = self.lookup.get(builtin::namespaces(), "", namespace)?;
        if defaults.are_none() && !speaks_of_security(&stored) {
            return None;
        }
        Some(Standards::of(&stored.value(), defaults)).filter(|standards| !standards.are_none())
    }
}

/// Most namespaces have no such label, and every pod's creation asks.
fn speaks_of_security(namespace: &Stored) -> bool {
    memchr::memmem::find(&namespace.json, PREFIX.as_bytes()).is_some()
}

/// An update is a moment to refuse a pod only where it brings another image or another container: everything else that
/// the standards look at stays as it was let in.
fn is_significant(pod: &Value, old: &Value) -> bool {
    let (new, old) = (&pod["spec"], &old["spec"]);
    let same = |list: &str| {
        let (new, old) = (items(&new[list]), items(&old[list]));
        new.len() == old.len() && new.iter().zip(old).all(|(new, old)| new["image"] == old["image"])
    };
    let key = "ephemeralContainers";
    let was_there = |container: &Value| {
        let same_name = items(&old[key]).iter().find(|old| old["name"] == container["name"]);
        same_name.is_some_and(|old| old["image"] == container["image"])
    };
    !(same("containers") && same("initContainers") && items(&new[key]).iter().all(was_there))
}

/// `None` where the policy is kept to.
fn broken(policy: Policy, spec: &Value) -> Option<String> {
    let found = violations(policy.level, policy.minor, spec);
    (!found.is_empty()).then(|| format!("PodSecurity \"{policy}\": {}", found.join(", ")))
}

fn judge(standards: &Standards, subject: &Subject<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    let spec = subject.spec();
    match &*standards.faults {
        [] => {}
        faults => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let all = faults.join(", ");
            let all = if faults.len() == 1 { all } else { format!("[{all}]") };
            verdict.annotations.push(("error", format!("Failed to parse policy: {all}")));
        }
    }
    if let Subject::Pod(_) = subject {
        verdict.annotations.push(("enforce-policy", standards.enforce.to_string()));
        verdict.refusal = broken(standards.enforce, spec).map(|what| format!("violates {what}"));
    }
    if let Some(what) = broken(standards.audit, spec) {
        verdict.annotations.push(("audit-violations", format!("would violate {what}")));
    }
    verdict
}

fn note(key: &str, value: impl Into<String>) {
    audit::annotate(&format!("{PREFIX}{key}"), value);
}

#[async_trait]
impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        if is_main(request, "", "namespaces") {
            return check_labels(request);
        }
        let Some(subject) = Subject::of(request) else { return Ok(()) };
        if let Some(by) = self.exemption(request, &subject) {
            note("exempt", by);
            return Ok(());
        }
        let Some(standards) = self.standards(request.namespace) else {
            if let Subject::Pod(_) = subject {
                note("enforce-policy", Policy::PRIVILEGED.to_string());
            }
            return Ok(());
        };
        if is_unchanged_pod(request, &subject) {
            return Ok(());
        }
        let Verdict { refusal, annotations } = judge(&standards, &subject);
        for (key, value) in annotations {
            note(key, value);
        }
        refusal.map_or(Ok(()), |why| Err(denied(request, why)))
    }

    fn remarks(&self, request: &AdmissionRequest<'_>) -> Vec<String> {
        if is_main(request, "", "namespaces") {
            return on_existing_pods(&*self.lookup, &self.config, request);
        }
        let Some(subject) = Subject::of(request).filter(|subject| self.exemption(request, subject).is_none()) else {
            return Vec::new();
        };
        let Some(standards) = self.standards(request.namespace) else { return Vec::new() };
        if is_unchanged_pod(request, &subject) {
            return Vec::new();
        }
        broken(standards.warn, subject.spec()).map(|what| format!("would violate {what}")).into_iter().collect()
    }
}

fn is_unchanged_pod(request: &AdmissionRequest<'_>, subject: &Subject<'_>) -> bool {
    matches!(subject, Subject::Pod(_)) && request.old.is_some_and(|old| !is_significant(&request.object, old))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_are_refused_and_templates_only_talked_about() {
        let namespace = |labels: &[(&str, &str)]| {
            let labels: serde_json::Map<_, _> =
                labels.iter().map(|(key, value)| (format!("{PREFIX}{key}"), json!(value))).collect();
            Standards::of(&json!({ "metadata": { "labels": labels } }), &Standards::default())
        };
        let spec = json!({ "hostNetwork": true, "containers": [] });
        let why = |policy: &str| format!("PodSecurity \"{policy}\": host namespaces (hostNetwork=true)");
        let enforce = || ("enforce-policy", "baseline:latest".to_owned());
        let rows = [
            (
                "enforce",
                namespace(&[("enforce", "baseline")]),
                Some(format!("violates {}", why("baseline:latest"))),
                vec![enforce()],
            ),
            (
                "enforce and audit",
                namespace(&[("enforce", "baseline"), ("audit", "baseline"), ("audit-version", "v1.30")]),
                Some(format!("violates {}", why("baseline:latest"))),
                vec![enforce(), ("audit-violations", format!("would violate {}", why("baseline:v1.30")))],
            ),
            (
                "audit",
                namespace(&[("audit", "baseline")]),
                None,
                vec![
                    ("enforce-policy", "privileged:latest".to_owned()),
                    ("audit-violations", format!("would violate {}", why("baseline:latest"))),
                ],
            ),
            (
                "nonsense",
                namespace(&[("audit", "tight"), ("warn-version", "x")]),
                None,
                vec![
                    (
                        "error",
                        "Failed to parse policy: [metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"tight\": \
                         must be one of privileged, baseline, restricted, \
                         metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"x\": \
                         must be \"latest\" or \"v1.x\"]"
                            .to_owned(),
                    ),
                    ("enforce-policy", "privileged:latest".to_owned()),
                ],
            ),
        ];
        for (what, standards, refusal, annotations) in rows {
            let of_template = annotations.iter().filter(|(key, _)| *key != "enforce-policy").cloned().collect();
            assert_eq!(judge(&standards, &Subject::Pod(&spec)), Verdict { refusal, annotations }, "{what}");
            let verdict = Verdict { refusal: None, annotations: of_template };
            assert_eq!(judge(&standards, &Subject::Template(&spec)), verdict, "{what}, a template");
        }
    }

    #[test]
    fn another_image_or_container_is_looked_at() {
        let pod = |spec: Value| json!({ "spec": spec });
        let one = json!({ "containers": [{ "name": "a", "image": "x:1" }] });
        let rows = [
            ("the same", one.clone(), false),
            ("a toleration", json!({ "containers": [{ "name": "a", "image": "x:1" }], "tolerations": [{}] }), false),
            ("an image", json!({ "containers": [{ "name": "a", "image": "x:2" }] }), true),
            (
                "an ephemeral container",
                json!({ "containers": [{ "name": "a", "image": "x:1" }], "ephemeralContainers": [{ "name": "e", "image": "x" }] }),
                true,
            ),
            (
                "an init container",
                json!({ "containers": [{ "name": "a", "image": "x:1" }], "initContainers": [{ "name": "e", "image": "x" }] }),
                true,
            ),
        ];
        for (what, new, expected) in rows {
            assert_eq!(is_significant(&pod(new), &pod(one.clone())), expected, "{what}");
        }
    }
}
