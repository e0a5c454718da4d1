//! Gives workloads as many pods as their use of processor and memory calls for.
//! (<https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/>)
//!
//! Metrics of pods, objects and other systems need somebody who serves `custom.metrics.k8s.io` or
//! `external.metrics.k8s.io`; nobody does yet, and an autoscaler that asks for one says so in its conditions.

mod ask;
mod behavior;
mod metrics;
mod replicas;
mod scale;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::autoscaling::v2::{
        HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition, HorizontalPodAutoscalerSpec,
        HorizontalPodAutoscalerStatus, MetricSpec, MetricStatus,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::Time},
};
use knarr_api::{quantity::Quantity as Amount, selector::LabelSelector};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, lean::Pod, meta, worker};

use crate::{Context, Error, common::selector};
use ask::{Found, Unable};
use behavior::{History, Limits};
use replicas::Tolerance;

pub const NAME: &str = "horizontal-pod-autoscaler";
const WORKERS: usize = 5;
/// How far off the target nothing is done yet, where the autoscaler does not say.
const TOLERANCE: f64 = 0.1;

const ABLE_TO_SCALE: &str = "AbleToScale";
const SCALING_ACTIVE: &str = "ScalingActive";
const SCALING_LIMITED: &str = "ScalingLimited";

/// What is remembered of an autoscaler between two looks.
#[derive(Default)]
struct Memory {
    uid: String,
    history: History,
    selector: String,
}

struct Controller {
    context: Context,
    period: Duration,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    memory: Mutex<BTreeMap<ObjectKey, Memory>>,
}

/// Looks at each autoscaler once a `period`.
pub async fn run(context: Context, period: Duration) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        autoscalers: context.informers.of(),
        pods: context.informers.of(),
        period,
        memory: Mutex::default(),
        context,
    });
    if !(controller.autoscalers.synced().await && controller.pods.synced().await) {
        return;
    }
    // Its own status is no news to it.
    controller.autoscalers.feed(&queue, |change| {
        let latest = change.latest();
        let is_news = change.is_deletion() || change.old.as_ref().is_none_or(|old| old.spec != latest.spec);
        is_news.then(|| ObjectKey::of(&**latest))
    });
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

/// One look at an autoscaler: what its status becomes.
struct Look<'a> {
    hpa: &'a HorizontalPodAutoscaler,
    spec: &'a HorizontalPodAutoscalerSpec,
    status: HorizontalPodAutoscalerStatus,
    now: Timestamp,
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(hpa) = self.autoscalers.get(&key.namespace, &key.name) else {
            self.memory().remove(&key);
            return Ok(Outcome::Done);
        };
        let spec = &hpa.spec;
        let now = self.context.clock.now();
        let mut look = Look { hpa: &hpa, spec, status: hpa.status.clone().unwrap_or_default(), now };
        self.look(&key, &mut look).await;
        if hpa.status.as_ref() != Some(&look.status) {
            let changed = HorizontalPodAutoscaler { status: Some(look.status), ..(*hpa).clone() };
            let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
            written.map_err(Error::api("writing the status"))?;
        }
        Ok(Outcome::After(self.period))
    }

    async fn look(&self, key: &ObjectKey, look: &mut Look<'_>) {
        let client = &self.context.client;
        let target = match scale::get(client, &key.namespace, &look.spec.scale_target_ref).await {
            Ok(target) => target,
            Err(error) => {
                self.warn(look.hpa, "FailedGetScale", &error);
                let message = format!("the HPA controller was unable to get the target's current scale: {error}");
                return look.set(ABLE_TO_SCALE, false, "FailedGetScale", &message);
            }
        };
        let able = "the HPA controller was able to get the target's current scale";
        look.set(ABLE_TO_SCALE, true, "SucceededGetScale", able);
        let current = target.replicas;
        self.with_memory(key, look.hpa, |memory| memory.history.begin(current, look.now));
        look.status.current_replicas = Some(current);
        let Some((wanted, reason)) = self.wanted(key, look, &target).await else { return };
        if wanted != current {
            if let Err(error) = target.set(client, wanted).await {
                let message = format!("New size: {wanted}; reason: {reason}; error: {error}");
                self.warn(look.hpa, "FailedRescale", &message);
                let message = format!("the HPA controller was unable to update the target scale: {error}");
                return look.set(ABLE_TO_SCALE, false, "FailedUpdateScale", &message);
            }
            let message = format!("the HPA controller was able to update the target scale to {wanted}");
            look.set(ABLE_TO_SCALE, true, "SucceededRescale", &message);
            let message = format!("New size: {wanted}; reason: {reason}");
            self.context.recorder.normal(look.hpa, "SuccessfulRescale", message);
            self.with_memory(key, look.hpa, |memory| memory.history.scaled(current, wanted, look.now));
            look.status.last_scale_time = Some(Time(look.now));
        }
        look.status.desired_replicas = wanted;
    }

    /// How many pods there should be, and why; `None` where that cannot be told, which the conditions then say.
    async fn wanted(&self, key: &ObjectKey, look: &mut Look<'_>, target: &scale::Target) -> Option<(i32, String)> {
        let (current, min, max) = (target.replicas, look.spec.min_replicas.unwrap_or(1), look.spec.max_replicas);
        look.status.current_metrics = None;
        if current == 0 && min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            look.set(SCALING_ACTIVE, false, "ScalingDisabled", message);
            return Some((0, String::new()));
        }
        if current > max {
            return Some((max, "Current number of replicas above Spec.MaxReplicas".into()));
        }
        if current < min {
            return Some((min, "Current number of replicas below Spec.MinReplicas".into()));
        }
        let (called_for, metric) = match self.by_metrics(key, look, target).await {
            Ok(found) => found,
            Err(error) => {
                self.warn(look.hpa, "FailedComputeMetricsReplicas", &error);
                return None;
            }
        };
        let reason = match called_for {
            more if more > current => format!("{metric} above target"),
            fewer if fewer < current => "All metrics below target".into(),
            _ => String::new(),
        };
        let limits = Limits { min, max, behavior: look.spec.behavior.as_ref() };
        let now = look.now;
        let decision =
            self.with_memory(key, look.hpa, |memory| memory.history.decide(limits, current, called_for, now));
        look.set(ABLE_TO_SCALE, true, decision.able_to_scale.0, decision.able_to_scale.1);
        let (reason_limited, message) = decision.scaling_limited;
        look.set(SCALING_LIMITED, decision.is_limited, reason_limited, message);
        Some((decision.replicas, reason))
    }

    /// The most pods that any metric calls for, and that metric. Metrics that cannot be had are passed over, unless
    /// what is left would take pods away.
    async fn by_metrics(
        &self,
        key: &ObjectKey,
        look: &mut Look<'_>,
        target: &scale::Target,
    ) -> Result<(i32, String), String> {
        let wanted = self.selector(key, look, &target.selector)?;
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selector::matches(&wanted, &pod.metadata));
        let specs: &[MetricSpec] = look.spec.metrics.as_deref().unwrap_or_default();
        let found = metrics::of_pods(&self.context.client, &key.namespace, &target.selector).await;
        let mut statuses = Vec::new();
        let mut best: Option<(i32, String)> = None;
        let mut failures: Vec<(&'static str, String, String)> = Vec::new();
        for metric in specs {
            match ask::by_metric(look, metric, target.replicas, &pods, &found) {
                Ok(Found { replicas, name, status }) => {
                    statuses.push(status);
                    if best.as_ref().is_none_or(|(most, _)| replicas > *most) {
                        best = Some((replicas, name));
                    }
                }
                Err(Unable { reason, message, summary }) => {
                    self.warn(look.hpa, reason, &message);
                    statuses.push(MetricStatus::default());
                    failures.push((reason, message, summary));
                }
            }
        }
        look.status.current_metrics = Some(statuses);
        if let Some((reason, message, summary)) = failures.first() {
            let count = failures.len();
            if best.as_ref().is_none_or(|(replicas, _)| *replicas < target.replicas) {
                let message = format!("the HPA was unable to compute the replica count: {message}");
                look.set(SCALING_ACTIVE, false, reason, &message);
                let all = specs.len();
                return Err(format!("invalid metrics ({count} invalid out of {all}), first error is: {summary}"));
            }
        }
        let (replicas, name) = best.ok_or_else(|| "no metrics are given".to_owned())?;
        let message = format!("the HPA was able to successfully calculate a replica count from {name}");
        look.set(SCALING_ACTIVE, true, "ValidMetricFound", &message);
        Ok((replicas, name))
    }

    /// The target's selector; refused where pods of it are another autoscaler's as well, since they would fight.
    fn selector(&self, key: &ObjectKey, look: &mut Look<'_>, text: &str) -> Result<LabelSelector, String> {
        if text.is_empty() {
            self.warn(look.hpa, "SelectorRequired", "selector is required");
            look.set(SCALING_ACTIVE, false, "InvalidSelector", "the HPA target's scale is missing a selector");
            return Err("selector is required".into());
        }
        let mut refuse = |reason: &'static str, message: String| {
            self.warn(look.hpa, reason, &message);
            look.set(SCALING_ACTIVE, false, reason, &message);
            message
        };
        let own = LabelSelector::parse(text).map_err(|error| {
            let message = format!("couldn't convert selector into a corresponding internal selector object: {error}");
            refuse("InvalidSelector", message)
        })?;
        let others: Vec<(String, LabelSelector)> = {
            let mut memory = self.memory();
            if let Some(memory) = memory.get_mut(key) {
                memory.selector = text.to_owned();
            }
            let others = memory.iter().filter(|(other, _)| *other != key && other.namespace == key.namespace);
            others.filter_map(|(other, memory)| Some((other.to_string(), parsed(&memory.selector)?))).collect()
        };
        if others.is_empty() {
            return Ok(own);
        }
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selector::matches(&own, &pod.metadata));
        let shares = |other: &LabelSelector| pods.iter().any(|pod| selector::matches(other, &pod.metadata));
        let mut sharing: Vec<String> =
            others.into_iter().filter(|(_, other)| shares(other)).map(|(name, _)| name).collect();
        if sharing.is_empty() {
            return Ok(own);
        }
        sharing.push(key.to_string());
        sharing.sort();
        let names = sharing.join(" ");
        let message = format!("pods by selector {text} are controlled by multiple HPAs: [{names}]");
        Err(refuse("AmbiguousSelector", message))
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of this very autoscaler, and not of an earlier one of its name.
    fn with_memory<T>(&self, key: &ObjectKey, hpa: &HorizontalPodAutoscaler, work: impl FnOnce(&mut Memory) -> T) -> T {
        let (mut memory, uid) = (self.memory(), meta::uid(&hpa.metadata));
        let own = memory.entry(key.clone()).or_default();
        if own.uid != uid {
            *own = Memory { uid: uid.to_owned(), ..Memory::default() };
        }
        work(own)
    }

    fn warn(&self, hpa: &HorizontalPodAutoscaler, reason: &str, message: &str) {
        self.context.recorder.warning(hpa, reason, message);
    }
}

fn parsed(selector: &str) -> Option<LabelSelector> {
    LabelSelector::parse(selector).ok().filter(|_| !selector.is_empty())
}

impl Look<'_> {
    /// Sets a condition; its time is that of the last change of its status.
    fn set(&mut self, kind: &str, is_true: bool, reason: &str, message: &str) {
        let status = if is_true { "True" } else { "False" };
        let conditions = self.status.conditions.get_or_insert_default();
        let known = conditions.iter().position(|condition| condition.type_ == kind);
        let since = known.filter(|at| conditions[*at].status == status);
        let since = since.and_then(|at| conditions[at].last_transition_time.clone());
        let condition = HorizontalPodAutoscalerCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: since.or(Some(Time(self.now))),
        };
        match known {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
    }

    fn tolerance(&self) -> Tolerance {
        let behavior = self.spec.behavior.as_ref();
        let of = |rules: Option<&HPAScalingRules>| {
            let own = rules.and_then(|rules| rules.tolerance.as_ref());
            own.map_or(TOLERANCE, |quantity| milli(quantity) as f64 / 1000.0)
        };
        Tolerance {
            up: of(behavior.and_then(|behavior| behavior.scale_up.as_ref())),
            down: of(behavior.and_then(|behavior| behavior.scale_down.as_ref())),
        }
    }
}

fn milli(quantity: &Quantity) -> i64 {
    Amount::or_zero(&quantity.0.as_str().into()).milli_value()
}
