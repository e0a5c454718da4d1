//! What a webhook, a policy or a binding says about which requests it is for.

use knarr_api::selector::LabelSelector;
use serde_json::Value;

use super::rule::{Asked, Rule};
use crate::json::items;

/// A selector is read with what it stands in, and an error is told when it counts.
pub type Selected<'a> = Result<&'a LabelSelector, &'a str>;

#[derive(Debug)]
pub struct Criteria {
    /// `None`: everything that is not excluded.
    rules: Option<Vec<Rule>>,
    excluded: Vec<Rule>,
    /// `matchPolicy` is `Exact`.
    pub exact: bool,
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
}

/// The first of several equivalent resources that a rule names; earlier rules count first.
fn first<'a, T>(rules: &[Rule], candidates: &'a [T], asked: impl Fn(&'a T) -> Asked<'a>) -> Option<&'a T> {
    rules.iter().find_map(|rule| candidates.iter().find(|candidate| rule.matches(&asked(candidate))))
}

impl Criteria {
    /// Those of a webhook; without rules it is for nothing.
    pub fn of_webhook(webhook: &Value) -> Self {
        Self { rules: Some(rules(&webhook["rules"])), ..Self::selectors(webhook) }
    }

    /// A `MatchResources` of a policy or a binding; without rules it is for everything.
    pub fn of_resources(resources: &Value) -> Self {
        let named = rules(&resources["resourceRules"]);
        let rules = (!named.is_empty()).then_some(named);
        Self { rules, excluded: self::rules(&resources["excludeResourceRules"]), ..Self::selectors(resources) }
    }

    fn selectors(said: &Value) -> Self {
        let selector = |key: &str| LabelSelector::from_value(&said[key]).map_err(|error| format!("{key}: {error}"));
        Self {
            rules: None,
            excluded: Vec::new(),
            exact: said["matchPolicy"] == "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    pub fn namespaces(&self) -> Selected<'_> {
        self.namespaces.as_ref().map_err(String::as_str)
    }

    pub fn objects(&self) -> Selected<'_> {
        self.objects.as_ref().map_err(String::as_str)
    }

    /// True where the resource is named as the client names it.
    pub fn wants(&self, asked: &Asked<'_>) -> bool {
        self.rules.as_ref().is_none_or(|rules| rules.iter().any(|rule| rule.matches(asked)))
    }

    pub fn first<'a, T>(&self, candidates: &'a [T], asked: impl Fn(&'a T) -> Asked<'a>) -> Option<&'a T> {
        first(self.rules.as_deref().unwrap_or_default(), candidates, asked)
    }

    /// True for a criterion that excludes anything; most do not.
    pub fn has_exclusions(&self) -> bool {
        !self.excluded.is_empty()
    }

    pub fn excludes<'a, T>(&self, candidates: &'a [T], asked: impl Fn(&'a T) -> Asked<'a>) -> bool {
        first(&self.excluded, candidates, asked).is_some()
    }
}

fn rules(list: &Value) -> Vec<Rule> {
    items(list).iter().map(Rule::parse).collect()
}
