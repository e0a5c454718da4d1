//! Requests and limits: the pod's quality of service, and what a container's cgroup is told.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use knarr_cri::v1::LinuxContainerResources;

type Amounts = BTreeMap<String, Quantity>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// An amount in thousandths; what cannot be read counts as nothing (the API server has checked it).
pub fn milli(amounts: Option<&Amounts>, resource: &str) -> i64 {
    let quantity = amounts.and_then(|amounts| amounts.get(resource));
    quantity
        .and_then(|quantity| quantity.0.parse::<knarr_api::quantity::Quantity>().ok())
        .map_or(0, |q| q.milli_value())
}

/// An amount in whole units, rounded up.
pub fn whole(amounts: Option<&Amounts>, resource: &str) -> i64 {
    let quantity = amounts.and_then(|amounts| amounts.get(resource));
    quantity.and_then(|quantity| quantity.0.parse::<knarr_api::quantity::Quantity>().ok()).map_or(0, |q| q.value())
}

/// The class as documented: Guaranteed where every container limits cpu and memory to what it requests,
/// BestEffort where none asks for anything.
pub fn class(pod: &Pod) -> QosClass {
    if let Some(name) = pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        match name {
            "Guaranteed" => return QosClass::Guaranteed,
            "BestEffort" => return QosClass::BestEffort,
            "Burstable" => return QosClass::Burstable,
            _ => {}
        }
    }
    let Some(spec) = &pod.spec else { return QosClass::BestEffort };
    let whole_pod = spec.resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some());
    let demands: Vec<Option<&ResourceRequirements>> = match whole_pod {
        Some(resources) => vec![Some(resources)],
        None => all_containers(spec).map(|container| container.resources.as_ref()).collect(),
    };
    let asks = |resources: &Option<&ResourceRequirements>| {
        ["cpu", "memory"].iter().any(|name| {
            resources.is_some_and(|r| milli(r.requests.as_ref(), name) > 0 || milli(r.limits.as_ref(), name) > 0)
        })
    };
    let guaranteed = |resources: &Option<&ResourceRequirements>| {
        ["cpu", "memory"].iter().all(|name| {
            resources.is_some_and(|r| {
                let limit = milli(r.limits.as_ref(), name);
                let requested = r.requests.as_ref().is_some_and(|requests| requests.contains_key(*name));
                limit > 0 && (!requested || milli(r.requests.as_ref(), name) == limit)
            })
        })
    };
    match () {
        () if !demands.iter().any(asks) => QosClass::BestEffort,
        () if demands.iter().all(guaranteed) => QosClass::Guaranteed,
        () => QosClass::Burstable,
    }
}

fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// Where a pod's cgroups lie, by class, as the kubelet's cgroupfs driver names them.
pub fn cgroup_parent(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    match class(pod) {
        QosClass::Guaranteed => format!("/kubepods/pod{uid}"),
        QosClass::Burstable => format!("/kubepods/burstable/pod{uid}"),
        QosClass::BestEffort => format!("/kubepods/besteffort/pod{uid}"),
    }
}

/// What a whole pod asks for of one resource, in thousandths: its containers and sidecars together or the
/// largest init container with the sidecars before it, whichever is more, plus the overhead.
pub fn pod_request_milli(pod: &Pod, resource: &str) -> i64 {
    let Some(spec) = &pod.spec else { return 0 };
    let overhead = milli(spec.overhead.as_ref(), resource);
    if let Some(requests) = spec.resources.as_ref().and_then(|r| r.requests.as_ref())
        && requests.contains_key(resource)
    {
        return milli(Some(requests), resource) + overhead;
    }
    let request = |container: &Container| {
        container.resources.as_ref().map_or(0, |r| match r.requests.as_ref() {
            Some(requests) if requests.contains_key(resource) => milli(Some(requests), resource),
            _ => milli(r.limits.as_ref(), resource),
        })
    };
    most_at_once(spec, request) + overhead
}

/// What a whole pod may take of one resource, in thousandths: `None` where one of its containers has no limit, and
/// the pod as a whole has none either.
pub fn pod_limit_milli(spec: &PodSpec, resource: &str) -> Option<i64> {
    let overhead = milli(spec.overhead.as_ref(), resource);
    let whole = milli(spec.resources.as_ref().and_then(|r| r.limits.as_ref()), resource);
    if whole > 0 {
        return Some(whole + overhead);
    }
    let limit = |container: &Container| milli(container.resources.as_ref().and_then(|r| r.limits.as_ref()), resource);
    let bounded = all_containers(spec).all(|container| limit(container) > 0);
    bounded.then(|| most_at_once(spec, limit) + overhead)
}

/// Init containers run one after the other beside the sidecars that were started before them, and the others only then.
fn most_at_once(spec: &PodSpec, amount: impl Fn(&Container) -> i64) -> i64 {
    let (mut sidecars, mut peak) = (0, 0);
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars += amount(container);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + amount(container));
        }
    }
    let steady: i64 = spec.containers.iter().map(&amount).sum::<i64>() + sidecars;
    steady.max(peak)
}

/// The kernel's numbers for one container.
pub fn container_resources(pod: &Pod, container: &Container, memory_capacity: u64) -> LinuxContainerResources {
    const PERIOD_US: i64 = 100_000;
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let cpu_limit = milli(limits, "cpu");
    let asked = requests.is_some_and(|requests| requests.contains_key("cpu"));
    let cpu_request = if asked { milli(requests, "cpu") } else { cpu_limit };
    LinuxContainerResources {
        cpu_period: PERIOD_US,
        // The kernel accepts no quota below one millisecond.
        cpu_quota: if cpu_limit > 0 { (cpu_limit * PERIOD_US / 1000).max(1000) } else { 0 },
        cpu_shares: (cpu_request * 1024 / 1000).clamp(2, 262_144),
        memory_limit_in_bytes: whole(limits, "memory"),
        oom_score_adj: oom_score_adj(pod, requests, memory_capacity),
        ..LinuxContainerResources::default()
    }
}

/// Guaranteed pods go last, best-effort pods first, and in between the more a container asked for the later.
fn oom_score_adj(pod: &Pod, requests: Option<&Amounts>, memory_capacity: u64) -> i64 {
    const NODE_CRITICAL: i32 = 2_000_000_000;
    let critical = pod.spec.as_ref().and_then(|spec| spec.priority).is_some_and(|priority| priority >= NODE_CRITICAL);
    match class(pod) {
        _ if critical => -997,
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = i128::from(whole(requests, "memory"));
            let share = 1000 * request / i128::from(memory_capacity.max(1));
            (1000 - i64::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod limits {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn a_pods_limit_is_what_may_run_at_once() {
        let one =
            |name: &str, memory: i64| json!({"name": name, "resources": {"limits": {"memory": memory.to_string()}}});
        let sidecar = |memory: i64| {
            let mut sidecar = one("s", memory);
            sidecar["restartPolicy"] = json!("Always");
            sidecar
        };
        let rows: [(Value, Option<i64>); 7] = [
            (json!({"containers": [one("a", 3), one("b", 4)]}), Some(7)),
            (json!({"containers": [one("a", 3), {"name": "b"}]}), None),
            (json!({"initContainers": [one("i", 9), one("j", 2)], "containers": [one("a", 3), one("b", 4)]}), Some(9)),
            (json!({"initContainers": [{"name": "i"}], "containers": [one("a", 3)]}), None),
            (json!({"initContainers": [sidecar(5), one("i", 9)], "containers": [one("a", 3)]}), Some(14)),
            (json!({"overhead": {"memory": "10"}, "containers": [one("a", 3)]}), Some(13)),
            (
                json!({"resources": {"limits": {"memory": "20"}}, "containers": [{"name": "a"}], "overhead": {"memory": "1"}}),
                Some(21),
            ),
        ];
        for (spec, expected) in rows {
            let shown = spec.to_string();
            let spec: PodSpec = from_value(spec).unwrap();
            assert_eq!(pod_limit_milli(&spec, "memory"), expected.map(|bytes| bytes * 1000), "{shown}");
        }
    }
}
