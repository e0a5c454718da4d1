//! Selectors of pods, made ready once so that matching is quick.

use k8s_openapi::api::core::v1::{PodAffinityTerm, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Written;
pub use knarr_api::placement::Labels;
use knarr_api::selector::LabelSelector;

use crate::{around::Around, tally::Question};

pub fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.matches(|key| labels.get(key).map(String::as_str))
}

/// A missing selector selects nothing, one that cannot be read neither (validation refuses it).
pub fn compile(selector: Option<&Written>) -> LabelSelector {
    let value = serde_json::to_value(selector).unwrap_or_default();
    LabelSelector::from_value(&value).unwrap_or_else(|_| LabelSelector::nothing())
}

/// Which other pods a pod wants near, or far.
#[derive(Clone, Debug)]
pub struct PodTerm {
    pub topology_key: String,
    /// Its question where the namespaces are known by name, else nothing that could be kept.
    pub question: Option<Question>,
    selector: LabelSelector,
    /// Namespaces by name; none, and no selector of namespaces, means the pod's own.
    namespaces: Vec<String>,
    /// Selects namespaces by label; an empty selector is all.
    namespace_selector: Option<LabelSelector>,
}

impl PodTerm {
    pub fn of(term: &PodAffinityTerm, namespace: &str, labels: &Labels) -> Self {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        let namespace_selector = term.namespace_selector.as_ref().map(|selector| compile(Some(selector)));
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.push(namespace.to_owned());
        }
        let mut selector = term.label_selector.clone();
        add_keys(&mut selector, term.match_label_keys.as_deref(), "In", labels);
        add_keys(&mut selector, term.mismatch_label_keys.as_deref(), "NotIn", labels);
        let selector = compile(selector.as_ref());
        let named = || Question::new(namespaces.clone(), vec![selector.clone()], false);
        Self {
            topology_key: term.topology_key.clone(),
            question: namespace_selector.is_none().then(named),
            selector,
            namespaces,
            namespace_selector,
        }
    }

    /// All of the term as text: equal for pods alike.
    pub fn key(&self) -> String {
        let Self { topology_key, question: _, selector, namespaces, namespace_selector } = self;
        let by_label = namespace_selector.as_ref().map(ToString::to_string);
        format!("{topology_key} {selector} {namespaces:?} {by_label:?}")
    }

    pub fn selects(&self, namespace: &str, labels: &Labels, around: &dyn Around) -> bool {
        let is_selected =
            |selector: &LabelSelector| selector.is_empty() || matches(selector, &around.namespace_labels(namespace));
        matches(&self.selector, labels)
            && (self.namespaces.iter().any(|one| one == namespace)
                || self.namespace_selector.as_ref().is_some_and(is_selected))
    }
}

/// `matchLabelKeys`: the pod's own values of these labels become part of the selector.
fn add_keys(selector: &mut Option<Written>, keys: Option<&[String]>, operator: &str, labels: &Labels) {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement as Requirement;
    for key in keys.into_iter().flatten() {
        let (Some(selector), Some(value)) = (selector.as_mut(), labels.get(key)) else { continue };
        let requirement =
            Requirement { key: key.clone(), operator: operator.to_owned(), values: Some(vec![value.clone()]) };
        let known = selector.match_expressions.get_or_insert_default();
        // The API server writes the same into the object when the pod is made.
        if !known.contains(&requirement) {
            known.push(requirement);
        }
    }
}

/// How evenly pods are to be spread over the values of a node label.
#[derive(Clone, Debug)]
pub struct Spread {
    pub topology_key: String,
    pub max_skew: i64,
    pub min_domains: i64,
    pub is_hard: bool,
    pub honors_affinity: bool,
    pub honors_taints: bool,
    pub selector: LabelSelector,
    pub question: Question,
}

impl Spread {
    pub fn of(constraint: &TopologySpreadConstraint, namespace: &str, labels: &Labels) -> Self {
        let mut selector = constraint.label_selector.clone();
        add_keys(&mut selector, constraint.match_label_keys.as_deref(), "In", labels);
        let selector = compile(selector.as_ref());
        Self {
            topology_key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
            is_hard: constraint.when_unsatisfiable != "ScheduleAnyway",
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            question: Question::new(vec![namespace.to_owned()], vec![selector.clone()], true),
            selector,
        }
    }
}
