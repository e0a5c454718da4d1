//! One webhook of a configuration.

use std::time::Duration;

use knarr_api::policy::Conditions;
use serde_json::Value;

use crate::{
    json::{items, text},
    matching::Criteria,
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

/// A webhook, understood. What cannot be understood although it was once let through is an error of every request that
/// the webhook is for, and is never passed over.
#[derive(Debug)]
pub struct Hook {
    pub configuration: String,
    pub name: String,
    pub(in crate::webhook) target: Result<Target, String>,
    pub criteria: Criteria,
    pub conditions: Conditions,
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
        let seconds = webhook["timeoutSeconds"].as_u64().filter(|seconds| *seconds > 0);
        Self {
            configuration: configuration.to_owned(),
            name: text(&webhook["name"]).to_owned(),
            target: Target::parse(&webhook["clientConfig"]),
            criteria: Criteria::of_webhook(webhook),
            conditions: Conditions::compile(&webhook["matchConditions"], false),
            ignores_failure: webhook["failurePolicy"] == "Ignore",
            timeout: Duration::from_secs(seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS)),
            reinvoked: webhook["reinvocationPolicy"] == "IfNeeded",
            dry_runnable: matches!(text(&webhook["sideEffects"]), "None" | "NoneOnDryRun"),
            review: ReviewVersion::preferred(items(&webhook["admissionReviewVersions"]).iter().map(text)),
        }
    }
}
