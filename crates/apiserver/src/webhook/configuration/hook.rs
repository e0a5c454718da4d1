//! One webhook of a configuration.

use std::time::Duration;

use knarr_api::selector::LabelSelector;
use serde_json::Value;

use super::rule::{Asked, Rule};
use crate::{
    contract::Operation,
    json::{items, text},
    webhook::target::Target,
};

const DEFAULT_TIMEOUT_SECONDS: u64 = 10;

/// The form of AdmissionReview or ConversionReview that both sides understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVersion {
    V1,
    V1beta1,
}

impl ReviewVersion {
    /// The first of a list that is known here.
    pub fn preferred<'a>(versions: impl Iterator<Item = &'a str>) -> Option<Self> {
        versions.into_iter().find_map(|version| match version {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }
}

/// Which of the two selectors of a webhook; they are read when it is, and an error is told when it counts.
pub type Selected<'a> = Result<&'a LabelSelector, &'a str>;

/// A webhook, understood. What cannot be understood although it was once let through is an error of every request that
/// the webhook is for, and is never passed over.
#[derive(Debug)]
pub struct Hook {
    pub configuration: String,
    pub name: String,
    pub(in crate::webhook) target: Result<Target, String>,
    rules: Vec<Rule>,
    /// `matchPolicy` is `Exact`.
    pub exact: bool,
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
    /// `failurePolicy` is `Ignore`.
    pub ignores_failure: bool,
    pub timeout: Duration,
    /// `reinvocationPolicy` is `IfNeeded`.
    pub reinvoked: bool,
    /// True where a dry run is without consequences.
    pub dry_runnable: bool,
    pub review: Option<ReviewVersion>,
}

impl Hook {
    pub fn parse(configuration: &str, webhook: &Value) -> Self {
        let selector = |key: &str| LabelSelector::from_value(&webhook[key]).map_err(|error| format!("{key}: {error}"));
        let seconds = webhook["timeoutSeconds"].as_u64().filter(|seconds| *seconds > 0);
        Self {
            configuration: configuration.to_owned(),
            name: text(&webhook["name"]).to_owned(),
            target: Target::parse(&webhook["clientConfig"]),
            rules: items(&webhook["rules"]).iter().map(Rule::parse).collect(),
            exact: webhook["matchPolicy"] == "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            ignores_failure: webhook["failurePolicy"] == "Ignore",
            timeout: Duration::from_secs(seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS)),
            reinvoked: webhook["reinvocationPolicy"] == "IfNeeded",
            dry_runnable: matches!(text(&webhook["sideEffects"]), "None" | "NoneOnDryRun"),
            review: ReviewVersion::preferred(items(&webhook["admissionReviewVersions"]).iter().map(text)),
        }
    }

    pub fn namespaces(&self) -> Selected<'_> {
        self.namespaces.as_ref().map_err(String::as_str)
    }

    pub fn objects(&self) -> Selected<'_> {
        self.objects.as_ref().map_err(String::as_str)
    }

    /// True where no rule wants to hear of the operation at all, whatever it is done to.
    pub fn wants(&self, asked: &Asked<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(asked))
    }

    /// The first of several equivalent resources that a rule names; earlier rules count first.
    pub fn first<'a, T>(&self, candidates: &'a [T], asked: impl Fn(&'a T) -> Asked<'a>) -> Option<&'a T> {
        self.rules.iter().find_map(|rule| candidates.iter().find(|candidate| rule.matches(&asked(candidate))))
    }

    /// The operation as a review names it.
    pub fn operation(operation: Operation) -> &'static str {
        super::rule::name_of(operation)
    }
}
