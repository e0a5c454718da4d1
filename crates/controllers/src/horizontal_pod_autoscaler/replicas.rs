//! How many pods a metric calls for.
//! (<https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#algorithm-details>)
//!
//! A pod that is not ready, or that no metrics are known of, is counted in the direction that changes less: as idle
//! where there should be more pods, as fully used where there should be fewer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use knarr_api::quantity::Quantity;
use knarr_client::{
    lean::{Container, Pod},
    meta,
};

use crate::common::pods;

/// How long after its start a pod's use of the processor may be that of its start.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_secs(300);
/// A pod that is not ready this soon after its start has never been.
const INITIAL_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// What a pod was seen to use, in thousandths of the resource's unit, over a window that ended at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use {
    pub milli: i64,
    pub at: Timestamp,
    pub window: SignedDuration,
}

/// By the pod's name.
pub type Uses = BTreeMap<String, Use>;

/// How far off the target nothing is done yet.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    pub up: f64,
    pub down: f64,
}

impl Tolerance {
    fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What a metric should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Per cent of what the pods request.
    Utilization(i32),
    /// Thousandths of the unit, for each pod.
    AverageMilli(i64),
}

/// What is asked about a resource: of whole pods, or of one container in each.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub resource: &'a str,
    pub container: Option<&'a str>,
    pub target: Target,
    pub tolerance: Tolerance,
    pub current: i32,
    pub now: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    pub replicas: i32,
    /// What was seen: of the requests where the target is, and of a pod on the average.
    pub utilization: Option<i32>,
    pub average_milli: i64,
}

/// The pods that a metric is about, in the order in which they are sorted out.
#[derive(Default)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

/// How the use compares with the target; with the utilization and the average.
type Measured = (f64, Option<i32>, i64);

pub fn propose(question: Question<'_>, all: &[Arc<Pod>], mut uses: Uses) -> Result<Proposal, String> {
    let Question { resource, container, target, tolerance, current, now } = question;
    if all.is_empty() {
        return Err("no pods returned by selector while calculating replica count".into());
    }
    let Groups { ready, unready, missing, ignored } = group(all, &uses, resource, now);
    uses.retain(|name, _| !unready.contains(name) && !ignored.contains(name));
    if uses.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let requests = match target {
        Target::Utilization(_) => requests(all, resource, container)?,
        Target::AverageMilli(_) => BTreeMap::new(),
    };
    let measure = |uses: &Uses| match target {
        Target::Utilization(target) => utilization(uses, &requests, target),
        Target::AverageMilli(target) => Ok(average(uses, target)),
    };
    let (ratio, utilization, average_milli) = measure(&uses)?;
    let answer = |replicas| Ok(Proposal { replicas, utilization, average_milli });
    let up_with_unready = !unready.is_empty() && ratio > 1.0;
    if !up_with_unready && missing.is_empty() {
        return answer(if tolerance.covers(ratio) { current } else { times(ratio, ready) });
    }
    let full = |name: &str| match target {
        Target::Utilization(target) => requests.get(name).map_or(0, |own| own * i64::from(target.max(100)) / 100),
        Target::AverageMilli(target) => target,
    };
    let mut assume = |name: &String, milli| {
        uses.insert(name.clone(), Use { milli, at: now, window: SignedDuration::ZERO });
    };
    for name in &missing {
        if ratio < 1.0 {
            assume(name, full(name));
        } else if ratio > 1.0 {
            assume(name, 0);
        }
    }
    if up_with_unready {
        unready.iter().for_each(|name| assume(name, 0));
    }
    let (assumed, ..) = measure(&uses)?;
    if tolerance.covers(assumed) || (ratio < 1.0 && assumed > 1.0) || (ratio > 1.0 && assumed < 1.0) {
        return answer(current);
    }
    let replicas = times(assumed, uses.len());
    let turned = (assumed < 1.0 && replicas > current) || (assumed > 1.0 && replicas < current);
    answer(if turned { current } else { replicas })
}

fn times(ratio: f64, pods: usize) -> i32 {
    // The conversion saturates, and the autoscaler's own limit is below that anyway.
    (ratio * pods as f64).ceil() as i32
}

fn group(all: &[Arc<Pod>], uses: &Uses, resource: &str, now: Timestamp) -> Groups {
    let mut groups = Groups::default();
    for pod in all {
        let name = meta::name(&pod.metadata).to_owned();
        if pods::is_terminating(pod) || pods::phase(pod) == "Failed" {
            groups.ignored.insert(name);
        } else if pods::phase(pod) == "Pending" {
            groups.unready.insert(name);
        } else if let Some(found) = uses.get(&name) {
            match resource == "cpu" && !tells(pod, found, now) {
                true => drop(groups.unready.insert(name)),
                false => groups.ready += 1,
            }
        } else {
            groups.missing.insert(name);
        }
    }
    groups
}

/// Whether a pod's use of the processor says something about its work, rather than about its start.
fn tells(pod: &Pod, found: &Use, now: Timestamp) -> bool {
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(started)) = (pods::condition(pod, "Ready"), started) else { return false };
    let changed = ready.last_transition_time.as_ref().map_or(started.0, |time| time.0);
    if started.0 + CPU_INITIALIZATION > now {
        return ready.status != "False" && found.at >= changed + found.window;
    }
    ready.status != "False" || started.0 + INITIAL_READINESS <= changed
}

/// What each pod requests, in thousandths; an error where one does not say.
fn requests(all: &[Arc<Pod>], resource: &str, only: Option<&str>) -> Result<BTreeMap<String, i64>, String> {
    let mut requests = BTreeMap::new();
    for pod in all {
        let Some(spec) = &pod.spec else { continue };
        let milli = |quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity| {
            Quantity::or_zero(&quantity.0.as_str().into()).milli_value()
        };
        let of_pod = spec.resources.as_ref().and_then(|all| all.requests.as_ref()?.get(resource));
        if let (Some(whole), None) = (of_pod, only) {
            requests.insert(meta::name(&pod.metadata).to_owned(), milli(whole));
            continue;
        }
        let lasting = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(lasting));
        let mut sum = 0;
        for container in containers.filter(|container| only.is_none_or(|only| container.name == only)) {
            let own = container.resources.as_ref().and_then(|all| all.requests.as_ref()?.get(resource));
            let name = meta::name(&pod.metadata);
            sum += own.map(milli).ok_or_else(|| {
                format!("missing request for {resource} in container {} of Pod {name}", container.name)
            })?;
        }
        requests.insert(meta::name(&pod.metadata).to_owned(), sum);
    }
    Ok(requests)
}

fn utilization(uses: &Uses, requests: &BTreeMap<String, i64>, target: i32) -> Result<Measured, String> {
    let known = uses.iter().filter_map(|(name, used)| Some((used.milli, *requests.get(name)?)));
    let (used, requested, count) =
        known.fold((0, 0, 0), |(used, requested, count), (one, own)| (used + one, requested + own, count + 1));
    if requested == 0 {
        return Err("no metrics returned matched known pods".into());
    }
    let percent = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
    Ok((f64::from(percent) / f64::from(target), Some(percent), used / count))
}

fn average(uses: &Uses, target: i64) -> Measured {
    let count = i64::try_from(uses.len()).unwrap_or(i64::MAX).max(1);
    let average = uses.values().map(|used| used.milli).sum::<i64>() / count;
    (average as f64 / target as f64, None, average)
}
