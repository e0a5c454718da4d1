//! Whether this node takes a pod. The scheduler has asked the same before; the node asks again, because pods
//! may be bound past the scheduler and because it alone knows what it has promised.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::Pod;
use knarr_api::placement::node_selector_matches;

use super::{confine::Host, qos::pod_request_milli, refuse, status::Verdict};

/// What the pods that were taken ask for, by UID.
#[derive(Debug, Default)]
pub struct Admitted {
    pods: HashMap<String, Request>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    cpu_milli: i64,
    memory_milli: i64,
    ephemeral_milli: i64,
}

impl Request {
    pub fn of(pod: &Pod) -> Self {
        Self {
            cpu_milli: pod_request_milli(pod, "cpu"),
            memory_milli: pod_request_milli(pod, "memory"),
            ephemeral_milli: pod_request_milli(pod, "ephemeral-storage"),
        }
    }
}

/// What there is to give.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    pub pods: u32,
    pub node_name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub unsafe_sysctls: &'a [String],
    pub host: &'a Host,
}

impl Admitted {
    /// Takes the pod in, or says why not. A pod that runs already is taken in whatever it asks for.
    pub fn admit(&mut self, pod: &Pod, offer: &Offer<'_>, runs_already: bool) -> Result<(), Verdict> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let request = Request::of(pod);
        if !runs_already {
            refuse::check(pod, offer.unsafe_sysctls, offer.host)?;
            self.check(&uid, request, pod, offer)?;
        }
        self.pods.insert(uid, request);
        Ok(())
    }

    pub fn release(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    fn check(&self, uid: &str, request: Request, pod: &Pod, offer: &Offer<'_>) -> Result<(), Verdict> {
        let others = || self.pods.iter().filter(|(other, _)| *other != uid).map(|(_, request)| request);
        let used_pods = others().count();
        if used_pods + 1 > offer.pods as usize {
            return Err(out_of("pods", 1, used_pods as i64, i64::from(offer.pods)));
        }
        let sum = |part: fn(&Request) -> i64| others().map(part).sum::<i64>();
        // In the units that the message has: thousandths for cpu, whole bytes for the rest.
        let checks = [
            ("cpu", request.cpu_milli, sum(|r| r.cpu_milli), offer.cpu_milli),
            ("memory", request.memory_milli / 1000, sum(|r| r.memory_milli) / 1000, offer.memory_bytes),
            (
                "ephemeral-storage",
                request.ephemeral_milli / 1000,
                sum(|r| r.ephemeral_milli) / 1000,
                offer.ephemeral_bytes,
            ),
        ];
        for (resource, requested, used, capacity) in checks {
            if requested > 0 && used + requested > capacity {
                return Err(out_of(resource, requested, used, capacity));
            }
        }
        if !matches_node(pod, offer) {
            return Err(Verdict {
                reason: "NodeAffinity".to_owned(),
                message:
                    "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
                        .to_owned(),
            });
        }
        Ok(())
    }
}

fn out_of(resource: &str, requested: i64, used: i64, capacity: i64) -> Verdict {
    Verdict {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Pod was rejected: Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

/// `nodeSelector` and the required node affinity.
fn matches_node(pod: &Pod, offer: &Offer<'_>) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selector = spec.node_selector.iter().flatten();
    if !selector.into_iter().all(|(key, value)| offer.labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| node_selector_matches(required, offer.node_name, offer.labels))
}
