//! Selectors of nodes and of pods, made ready once so that matching is quick.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Written;
use knarr_api::selector::LabelSelector;

pub type Labels = BTreeMap<String, String>;

pub fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.matches(|key| labels.get(key).map(String::as_str))
}

/// A missing selector selects nothing, one that cannot be read neither (validation refuses it).
fn compile(selector: Option<&Written>) -> LabelSelector {
    let value = serde_json::to_value(selector).unwrap_or_default();
    LabelSelector::from_value(&value).unwrap_or_else(|_| LabelSelector::nothing())
}

/// One of the terms matches; a term without requirements matches nothing.
pub fn node_selector_matches(selector: &NodeSelector, name: &str, labels: &Labels) -> bool {
    selector.node_selector_terms.iter().any(|term| node_term_matches(term, name, labels))
}

pub fn node_term_matches(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    if expressions.clone().next().is_none() && fields.clone().next().is_none() {
        return false;
    }
    expressions.into_iter().all(|requirement| holds(requirement, labels.get(&requirement.key).map(String::as_str)))
        && fields.into_iter().all(|requirement| requirement.key == "metadata.name" && holds(requirement, Some(name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|one| one == value);
    let compare = |larger: bool| {
        let (Some(value), [bound]) = (value.and_then(|value| value.parse::<i64>().ok()), values) else { return false };
        bound.parse::<i64>().is_ok_and(|bound| if larger { value > bound } else { value < bound })
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(true),
        "Lt" => compare(false),
        _ => false,
    }
}

/// Which other pods a pod wants near, or far.
#[derive(Clone, Debug)]
pub struct PodTerm {
    pub topology_key: String,
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
        Self {
            topology_key: term.topology_key.clone(),
            selector: compile(selector.as_ref()),
            namespaces,
            namespace_selector,
        }
    }

    /// `labels_of` gives the labels of a namespace.
    pub fn selects(&self, namespace: &str, labels: &Labels, labels_of: &dyn Fn(&str) -> Labels) -> bool {
        let here = self.namespaces.iter().any(|one| one == namespace)
            || self.namespace_selector.as_ref().is_some_and(|s| s.is_empty() || matches(s, &labels_of(namespace)));
        here && matches(&self.selector, labels)
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
}

impl Spread {
    pub fn of(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        let mut selector = constraint.label_selector.clone();
        add_keys(&mut selector, constraint.match_label_keys.as_deref(), "In", labels);
        Self {
            topology_key: constraint.topology_key.clone(),
            max_skew: i64::from(constraint.max_skew),
            min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
            is_hard: constraint.when_unsatisfiable != "ScheduleAnyway",
            honors_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honors_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            selector: compile(selector.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn node_terms() {
        let labels: Labels = [("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "8".to_owned())].into();
        let term = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (term, expected) in [
            (term("zone", "In", &["a", "b"]), true),
            (term("zone", "NotIn", &["a"]), false),
            (term("disk", "NotIn", &["a"]), true),
            (term("zone", "Exists", &[]), true),
            (term("disk", "DoesNotExist", &[]), true),
            (term("cores", "Gt", &["4"]), true),
            (term("cores", "Lt", &["8"]), false),
            (term("zone", "Gt", &["4"]), false),
            (json!({}), false),
            (json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), true),
            (json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}), false),
        ] as [(Value, bool); 11]
        {
            let parsed: NodeSelectorTerm = serde_json::from_value(term.clone()).unwrap();
            assert_eq!(node_term_matches(&parsed, "n1", &labels), expected, "{term}");
        }
    }
}
