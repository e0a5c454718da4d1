//! What webhooks cost and how often they say no, under upstream's names.

use std::{sync::atomic::AtomicU64, time::Duration};

use knarr_api::policy::Matched;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::{configuration::Hook, error::CallError};
use crate::{contract::Operation, matching::name_of};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Took {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    rejected: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    code: u32,
    rejected: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    name: String,
    r#type: &'static str,
    operation: &'static str,
    error_type: &'static str,
    rejection_code: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Opened {
    name: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Spared {
    name: String,
    kind: &'static str,
    r#type: &'static str,
    operation: &'static str,
}

/// Two of upstream's counters have no `_total` behind their names. A gauge is what is written under the name it has.
type Unsuffixed = Gauge<u64, AtomicU64>;

pub(crate) struct WebhookMetrics {
    durations: Family<Took, Histogram, fn() -> Histogram>,
    requests: Family<Asked, Counter>,
    rejections: Family<Refused, Unsuffixed>,
    opened: Family<Opened, Unsuffixed>,
    spared: Family<Spared, Counter>,
    unevaluated: Family<Spared, Counter>,
}

/// As the labels have it: which of the two kinds of webhook.
fn kind_of_hook(is_mutating: bool) -> &'static str {
    if is_mutating { "admit" } else { "validating" }
}

impl WebhookMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let durations: Family<Took, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new([0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0]));
        let name = "apiserver_admission_webhook_admission_duration_seconds";
        registry.register(name, "How long admission webhooks took", durations.clone());
        let requests = Family::default();
        registry.register("apiserver_admission_webhook_request", "Requests to admission webhooks", requests.clone());
        let rejections = Family::default();
        let name = "apiserver_admission_webhook_rejection_count";
        registry.register(name, "What admission webhooks kept from happening, and why", rejections.clone());
        let opened = Family::default();
        let name = "apiserver_admission_webhook_fail_open_count";
        registry.register(name, "Failures of admission webhooks that were passed over", opened.clone());
        let spared = Family::default();
        let name = "apiserver_admission_match_condition_exclusions";
        registry.register(name, "Requests that match conditions kept from webhooks", spared.clone());
        let unevaluated = Family::default();
        let name = "apiserver_admission_match_condition_evaluation_errors";
        registry.register(name, "Match conditions that could not be evaluated", unevaluated.clone());
        Self { durations, requests, rejections, opened, spared, unevaluated }
    }

    /// What the conditions of a webhook said of a request.
    pub(super) fn observe_conditions(&self, name: &str, is_mutating: bool, operation: Operation, matched: &Matched) {
        let (kind, operation) = (kind_of_hook(is_mutating), name_of(operation));
        let labels = Spared { name: name.to_owned(), kind: "webhook", r#type: kind, operation };
        if matched.failed > 0 {
            self.unevaluated.get_or_create(&labels).inc_by(matched.failed as u64);
        }
        if matched.matches == Ok(false) {
            self.spared.get_or_create(&labels).inc();
        }
    }

    /// One call and what came of it; a failure that is passed over rejects nothing.
    pub(super) fn observe(
        &self,
        hook: &Hook,
        is_mutating: bool,
        operation: Operation,
        took: Duration,
        error: Option<&CallError>,
    ) {
        let (name, operation) = (hook.name.clone(), name_of(operation));
        let r#type = kind_of_hook(is_mutating);
        let passed_over = matches!(error, Some(CallError::Calling { .. })) && hook.ignores_failure;
        let rejected = (error.is_some() && !passed_over).to_string();
        let code = u32::from(error.map_or(200, CallError::code));
        let labels = Took { name: name.clone(), r#type, operation, rejected: rejected.clone() };
        self.durations.get_or_create(&labels).observe(took.as_secs_f64());
        self.requests.get_or_create(&Asked { name: name.clone(), r#type, operation, code, rejected }).inc();
        match error {
            None => {}
            Some(_) if passed_over => {
                self.opened.get_or_create(&Opened { name, r#type }).inc();
            }
            Some(error) => {
                // Upstream counts all codes from 600 on as one.
                let (error_type, rejection_code) = (error.kind(), code.min(600));
                let labels = Refused { name, r#type, operation, error_type, rejection_code };
                self.rejections.get_or_create(&labels).inc();
            }
        }
    }
}
