//! Room for an important pod by evicting less important ones.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/#preemption>)

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    around::Around,
    cluster::{Cluster, NodeInfo},
    filter::{Filters, Refusal},
    pod::PodInfo,
    terms,
};

/// Nodes that are tried out in full, at most.
const MAX_CANDIDATES: usize = 100;

#[derive(Debug)]
pub struct Preemption {
    pub node_name: String,
    /// To be evicted, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
}

/// Why evicting does not help, in upstream's words.
#[derive(Debug)]
pub struct Hopeless {
    pub why: String,
    /// Room is being made already on the node that was promised to the pod.
    pub keeps_nomination: bool,
}

/// The node where evicting hurts least.
pub fn find(
    pod: &PodInfo,
    cluster: &Cluster,
    refusals: &BTreeMap<usize, Refusal>,
    around: &dyn Around,
) -> Result<Preemption, Hopeless> {
    let hopeless = |why: String| Hopeless { why, keeps_nomination: false };
    if pod.never_preempts {
        return Err(hopeless("not eligible due to preemptionPolicy=Never.".to_owned()));
    }
    if is_room_being_made(pod, cluster) {
        let why = "not eligible due to a terminating pod on the nominated node.".to_owned();
        return Err(Hopeless { why, keeps_nomination: true });
    }
    let mut best: Option<(Cost, Preemption)> = None;
    // Nodes that were not looked at are none that evicting would help.
    let mut hopeless_nodes = cluster.existing_nodes() - refusals.len();
    let (mut without_victims, mut tried) = (0, 0);
    for (index, refusal) in refusals {
        if !refusal.resolvable {
            hopeless_nodes += 1;
            continue;
        }
        if tried == MAX_CANDIDATES && best.is_some() {
            break;
        }
        let node = &cluster.nodes[*index];
        let Some(Victims { pods, violations }) = victims(pod, node, cluster, around) else {
            without_victims += 1;
            continue;
        };
        tried += 1;
        let cost = cost(&pods, violations);
        if best.as_ref().is_none_or(|(other, _)| cost < *other) {
            best = Some((cost, Preemption { node_name: node.name.clone(), victims: pods }));
        }
    }
    if let Some((_, preemption)) = best {
        return Ok(preemption);
    }
    let counted = [
        (hopeless_nodes, "Preemption is not helpful for scheduling"),
        (without_victims, "No preemption victims found for incoming pod"),
    ];
    let mut parts: Vec<_> =
        counted.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    parts.sort();
    Err(hopeless(format!("0/{} nodes are available: {}.", cluster.existing_nodes(), parts.join(", "))))
}

/// Somebody was evicted for this pod already and has not gone yet; more need not go.
fn is_room_being_made(pod: &PodInfo, cluster: &Cluster) -> bool {
    let nominated = pod.object.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    nominated.and_then(|name| cluster.node(name)).is_some_and(|node| {
        let mut lower = node.pods.values().filter(|other| other.priority < pod.priority);
        lower.any(|other| other.object.metadata.deletion_timestamp.is_some())
    })
}

/// Budgets broken, highest priority of a victim, sum of priorities, number of victims: less is better; last, of the
/// most important the one that began latest.
type Cost = (usize, i32, i64, usize, Reverse<Option<Time>>);

fn cost(victims: &[Arc<PodInfo>], violations: usize) -> Cost {
    let highest = victims.iter().map(|victim| victim.priority).max().unwrap_or(i32::MIN);
    let sum = victims.iter().map(|victim| i64::from(victim.priority) - i64::from(i32::MIN)).sum();
    let most_important = victims.iter().filter(|victim| victim.priority == highest);
    let earliest = most_important.filter_map(|victim| started(victim)).min();
    (violations, highest, sum, victims.len(), Reverse(earliest))
}

fn started(pod: &PodInfo) -> Option<Time> {
    pod.object.status.as_ref().and_then(|status| status.start_time.clone())
}

struct Victims {
    pods: Vec<Arc<PodInfo>>,
    /// How many of them no budget lets go.
    violations: usize,
}

/// Takes all less important pods away, then puts back as many as fit: first those whose budget does not let them go,
/// of each kind the most important first. `None` where the pod does not fit even without any of them, or none has to
/// go.
fn victims(pod: &PodInfo, node: &NodeInfo, cluster: &Cluster, around: &dyn Around) -> Option<Victims> {
    let mut lower: Vec<_> = node.pods.values().filter(|other| other.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return None;
    }
    lower.sort_by_key(|other| (Reverse(other.priority), started(other)));
    let mut trial = node.clone();
    for other in &lower {
        trial.remove(&other.uid);
    }
    for promised in cluster.nominated(&node.name, pod) {
        trial.add(promised);
    }
    let fits = |trial: &NodeInfo, gone: &[Arc<PodInfo>]| {
        let gone = gone.iter().map(|other| &*other.uid).collect();
        Filters::without(pod, cluster, around, &gone).check(trial).is_ok()
    };
    let mut gone = lower.clone();
    if !fits(&trial, &gone) {
        return None;
    }
    let (guarded, free) = by_budget(lower, around);
    let mut violations = 0;
    for (other, is_guarded) in
        guarded.into_iter().map(|pod| (pod, true)).chain(free.into_iter().map(|pod| (pod, false)))
    {
        trial.add(&other);
        gone.retain(|one| one.uid != other.uid);
        if !fits(&trial, &gone) {
            trial.remove(&other.uid);
            gone.push(other);
            violations += usize::from(is_guarded);
        }
    }
    gone.sort_by_key(|other| (Reverse(other.priority), started(other)));
    (!gone.is_empty()).then_some(Victims { pods: gone, violations })
}

/// Those that a disruption budget protects, as far as it has nothing left to give, and the others.
fn by_budget(pods: Vec<Arc<PodInfo>>, around: &dyn Around) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut left: HashMap<(String, String), i32> = HashMap::new();
    pods.into_iter().partition(|pod| {
        let mut is_guarded = false;
        for budget in around.budgets(&pod.namespace) {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let status = budget.status.clone().unwrap_or_default();
            let is_granted = status.disrupted_pods.is_some_and(|granted| granted.contains_key(&pod.name));
            if is_granted
                || !selector.is_some_and(|selector| terms::matches(&terms::compile(Some(selector)), &pod.labels))
            {
                continue;
            }
            let key = (pod.namespace.clone(), budget.metadata.name.clone().unwrap_or_default());
            let left = left.entry(key).or_insert(status.disruptions_allowed.unwrap_or(0));
            *left -= 1;
            is_guarded |= *left < 0;
        }
        is_guarded
    })
}
