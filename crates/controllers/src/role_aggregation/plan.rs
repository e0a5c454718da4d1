//! Which rules an aggregation has. Pure.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use knarr_api::selector::LabelSelector;
use serde_json::to_value;

/// The rules that are to be written, each once, by the names of the roles they come from; `None` where the role has
/// them already or is no aggregation.
pub fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut others: Vec<&Arc<ClusterRole>> =
        all.iter().filter(|other| other.metadata.name != role.metadata.name).collect();
    others.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        // One that cannot be read selects nothing; the API lets none be written.
        let Some(selector) = to_value(selector).ok().and_then(|value| LabelSelector::from_value(&value).ok()) else {
            continue;
        };
        let is_selected =
            |other: &&&Arc<ClusterRole>| selector.matches_value(&to_value(&other.metadata.labels).unwrap_or_default());
        for rule in others.iter().filter(is_selected).flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    (rules != role.rules.as_deref().unwrap_or_default()).then_some(rules)
}
