//! What policies cost and what came of them, under upstream's names.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Validated {
    policy: String,
    policy_binding: String,
    error_type: &'static str,
    enforcement_action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Mutated {
    policy: String,
    policy_binding: String,
    error_type: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

pub(crate) struct PolicyMetrics {
    validated: Family<Validated, Counter>,
    validations: Durations<Validated>,
    mutated: Family<Mutated, Counter>,
    mutations: Durations<Mutated>,
}

fn seconds() -> Histogram {
    Histogram::new([0.000_000_5, 0.001, 0.01, 0.1, 1.0])
}

impl PolicyMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            validated: Family::default(),
            validations: Family::new_with_constructor(seconds),
            mutated: Family::default(),
            mutations: Family::new_with_constructor(seconds),
        };
        let name = "apiserver_validating_admission_policy_check";
        registry.register(name, "What validating admission policies did about requests", metrics.validated.clone());
        let name = "apiserver_validating_admission_policy_check_duration_seconds";
        registry.register(name, "How long their expressions took", metrics.validations.clone());
        let name = "apiserver_mutating_admission_policy_check";
        registry.register(name, "What mutating admission policies did to objects", metrics.mutated.clone());
        let name = "apiserver_mutating_admission_policy_check_duration_seconds";
        registry.register(name, "How long their expressions took", metrics.mutations.clone());
        metrics
    }

    pub(super) fn validated(
        &self,
        policy: &str,
        binding: &str,
        error_type: &'static str,
        enforcement_action: &'static str,
        took: Duration,
    ) {
        let (policy, policy_binding) = (policy.to_owned(), binding.to_owned());
        let labels = Validated { policy, policy_binding, error_type, enforcement_action };
        self.validated.get_or_create(&labels).inc();
        self.validations.get_or_create(&labels).observe(took.as_secs_f64());
    }

    pub(super) fn mutated(&self, policy: &str, binding: &str, error_type: &'static str, took: Duration) {
        let labels = Mutated { policy: policy.to_owned(), policy_binding: binding.to_owned(), error_type };
        self.mutated.get_or_create(&labels).inc();
        self.mutations.get_or_create(&labels).observe(took.as_secs_f64());
    }
}
