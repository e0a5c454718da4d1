//! What a namespace's status says about its deletion. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::common::discovery::Served;

const FINALIZER: &str = "kubernetes";

/// What is left of one resource.
#[derive(Debug, Default)]
pub struct Remaining {
    pub count: usize,
    pub names: Vec<String>,
    /// Finalizer to number of objects that have it.
    pub finalizers: BTreeMap<String, usize>,
}

/// What stands in the way of letting the namespace go.
#[derive(Debug, Default)]
pub struct Findings {
    pub discovery_failure: Option<String>,
    pub content_failures: Vec<String>,
    pub remaining: Vec<(Served, Remaining)>,
}

impl Findings {
    pub fn is_empty(&self) -> bool {
        self.discovery_failure.is_none() && self.content_failures.is_empty() && self.remaining.is_empty()
    }
}

/// What is said of group versions whose server does not tell what it serves.
pub fn unknown(stale: &[String]) -> Option<String> {
    let each: Vec<String> = stale.iter().map(|one| format!("{one}: stale GroupVersion discovery: {one}")).collect();
    (!stale.is_empty()).then(|| {
        format!(
            "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
            stale.len(),
            each.join(", ")
        )
    })
}

pub fn is_ours(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
    namespace.metadata.deletion_timestamp.is_some() && finalizers.into_iter().any(|finalizer| finalizer == FINALIZER)
}

pub fn without_our_finalizer(namespace: &Namespace) -> Namespace {
    let mut namespace = namespace.clone();
    if let Some(finalizers) = namespace.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
        finalizers.retain(|finalizer| finalizer != FINALIZER);
    }
    namespace
}

/// The status to write; `None` where it is so already. The first look writes nothing if all is gone at once.
pub fn status(namespace: &Namespace, findings: &Findings, now: Timestamp) -> Option<NamespaceStatus> {
    let before = namespace.status.clone().unwrap_or_default();
    if findings.is_empty() && before.conditions.is_none() {
        return None;
    }
    let mut status = before.clone();
    status.phase = Some("Terminating".to_owned());
    for (kind, problem, all_well) in conditions(findings) {
        set(&mut status, kind, problem, all_well, now);
    }
    (status != before).then_some(status)
}

type Problem = Option<(&'static str, String)>;

/// (condition, reason and message of what is wrong, reason and message where nothing is), as upstream words them.
fn conditions(findings: &Findings) -> [(&'static str, Problem, (&'static str, &'static str)); 5] {
    let resources = |parts: Vec<String>| parts.join(", ");
    // The core group has no name, and its dot stays.
    let counts = findings.remaining.iter().map(|(served, remaining)| {
        format!("{}.{} has {} resource instances", served.plural, served.group, remaining.count)
    });
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, count) in findings.remaining.iter().flat_map(|(_, remaining)| &remaining.finalizers) {
        *finalizers.entry(name).or_default() += count;
    }
    let holders = finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
    let left = (!findings.remaining.is_empty())
        .then(|| ("SomeResourcesRemain", format!("Some resources are remaining: {}", resources(counts.collect()))));
    let held = (!finalizers.is_empty()).then(|| {
        (
            "SomeFinalizersRemain",
            format!("Some content in the namespace has finalizers remaining: {}", resources(holders.collect())),
        )
    });
    let discovery = findings.discovery_failure.clone().map(|message| ("DiscoveryFailed", message));
    let content = (!findings.content_failures.is_empty()).then(|| {
        let failures = findings.content_failures.join(", ");
        (
            "ContentDeletionFailed",
            format!("Failed to delete all resource types, {} remaining: {failures}", findings.content_failures.len()),
        )
    });
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            discovery,
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        (
            "NamespaceDeletionContentFailure",
            content,
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        ("NamespaceContentRemaining", left, ("ContentRemoved", "All content successfully removed")),
        (
            "NamespaceFinalizersRemaining",
            held,
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ]
}

fn set(status: &mut NamespaceStatus, kind: &str, problem: Problem, all_well: (&str, &str), now: Timestamp) {
    let truth = if problem.is_some() { "True" } else { "False" };
    let (reason, message) = match problem {
        Some((reason, message)) => (reason.to_owned(), message),
        None => (all_well.0.to_owned(), all_well.1.to_owned()),
    };
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().position(|condition| condition.type_ == kind);
    let since = known
        .map(|at| &conditions[at])
        .filter(|known| known.status == truth)
        .and_then(|known| known.last_transition_time.clone());
    let new = NamespaceCondition {
        type_: kind.to_owned(),
        status: truth.to_owned(),
        reason: Some(reason),
        message: Some(message),
        last_transition_time: since.or(Some(Time(now))),
    };
    match known {
        Some(at) => conditions[at] = new,
        None => conditions.push(new),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn says_what_is_left_and_when_nothing_is() {
        let mut namespace: Namespace = serde_json::from_value(json!({
            "metadata": {"name": "n", "deletionTimestamp": "2024-01-01T00:00:00Z"}, "spec": {"finalizers": ["kubernetes", "other"]},
        }))
        .unwrap();
        let now: Timestamp = "2024-01-01T00:00:05Z".parse().unwrap();
        assert!(is_ours(&namespace));
        assert_eq!(status(&namespace, &Findings::default(), now), None, "nothing to tell about what went at once");
        let served = Served {
            group: "apps".into(),
            version: "v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
            namespaced: true,
            verbs: vec![],
        };
        let remaining = Remaining { count: 2, names: vec![], finalizers: [("hold".to_owned(), 1)].into() };
        let findings = Findings { remaining: vec![(served, remaining)], ..Findings::default() };
        namespace.status = status(&namespace, &findings, now);
        let message = |namespace: &Namespace, kind: &str| {
            let status = namespace.status.clone().unwrap();
            let condition = status.conditions.unwrap().into_iter().find(|condition| condition.type_ == kind).unwrap();
            format!("{} {}", condition.status, condition.message.unwrap())
        };
        assert_eq!(
            message(&namespace, "NamespaceContentRemaining"),
            "True Some resources are remaining: deployments.apps has 2 resource instances"
        );
        assert_eq!(
            message(&namespace, "NamespaceFinalizersRemaining"),
            "True Some content in the namespace has finalizers remaining: hold in 1 resource instances"
        );
        assert_eq!(status(&namespace, &findings, now), None, "unchanged");
        namespace.status = status(&namespace, &Findings::default(), now);
        assert_eq!(message(&namespace, "NamespaceContentRemaining"), "False All content successfully removed");
        assert_eq!(without_our_finalizer(&namespace).spec.unwrap().finalizers.unwrap(), ["other"]);
    }
}
