//! Typed selectors to ones that match.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as Typed, ObjectMeta};
use knarr_api::selector::LabelSelector;

use crate::Error;

/// An empty selector would take everything, which for a workload is always a mistake: it selects nothing here, as a
/// workload without a spec does.
pub fn of_workload(selector: Option<&Typed>) -> Result<LabelSelector, Error> {
    let Some(selector) = selector else { return Ok(LabelSelector::nothing()) };
    let selector = of(selector)?;
    Ok(if selector.is_empty() { LabelSelector::nothing() } else { selector })
}

pub fn of(selector: &Typed) -> Result<LabelSelector, Error> {
    let wrong = |message: String| Error::Malformed { field: "selector", message };
    let value = serde_json::to_value(selector).map_err(|error| wrong(error.to_string()))?;
    LabelSelector::from_value(&value).map_err(|error| wrong(error.to_string()))
}

/// As a Service's selector is written: no labels select nothing.
pub fn map_matches(selector: &BTreeMap<String, String>, meta: &ObjectMeta) -> bool {
    !selector.is_empty() && is_subset(selector, meta)
}

pub fn is_subset(labels: &BTreeMap<String, String>, meta: &ObjectMeta) -> bool {
    labels.iter().all(|(key, value)| meta.labels.as_ref().and_then(|labels| labels.get(key)) == Some(value))
}

pub fn matches(selector: &LabelSelector, meta: &ObjectMeta) -> bool {
    selector.matches(|key| meta.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str))
}
