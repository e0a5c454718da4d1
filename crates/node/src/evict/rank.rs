//! Which pod goes first, and what it is told.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#pod-selection-for-kubelet-eviction>)

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use knarr_api::quantity::{Format, Quantity};

use super::{
    signal::{Observations, Signal},
    threshold::Threshold,
};
use crate::pod::qos;

/// What a container takes. Of the disk: its own files and its logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUse {
    pub name: String,
    pub memory_bytes: i64,
    pub disk_bytes: i64,
}

/// What a pod takes; of disks only what lies on the one that is short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    pub memory_bytes: i64,
    pub disk_bytes: i64,
    pub inodes: i64,
    pub processes: i64,
    pub containers: Vec<ContainerUse>,
}

/// A pod that runs, and may be ended.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub pod: Arc<Pod>,
    pub takes: Use,
}

impl Candidate {
    /// How much more it takes than it asked for.
    fn over(&self, signal: Signal) -> i64 {
        let request = |resource| qos::pod_request_milli(&self.pod, resource) / 1000;
        match signal.resource() {
            "memory" => self.takes.memory_bytes - request("memory"),
            "ephemeral-storage" => self.takes.disk_bytes - request("ephemeral-storage"),
            "inodes" => self.takes.inodes,
            _ => self.takes.processes,
        }
    }
}

/// Those that take more than they asked for, then by priority, then by how much more. Of processes nobody asks for a
/// number, so that there only priority and use count.
pub fn rank(signal: Signal, candidates: &mut [Candidate]) {
    candidates.sort_by_cached_key(|candidate| {
        let over = candidate.over(signal);
        let priority = candidate.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        (signal != Signal::PidAvailable && over <= 0, priority, Reverse(over))
    });
}

/// Static pods are started by nobody again, and what the cluster cannot do without is not ended by its nodes.
pub fn is_critical(pod: &Pod) -> bool {
    const SYSTEM_CRITICAL: i32 = 2_000_000_000;
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority);
    crate::pod::is_static(pod) || priority.is_some_and(|priority| priority >= SYSTEM_CRITICAL)
}

fn bytes(amount: i64) -> Quantity {
    Quantity::new(amount, Format::BinarySi)
}

/// Why a pod is ended, as its status says it, and the annotations of the event.
pub fn message(
    starved: &[Threshold],
    observed: &Observations,
    candidate: &Candidate,
) -> (String, BTreeMap<String, String>) {
    let Some(first) = starved.first() else { return Default::default() };
    let resource = first.signal.resource();
    let mut message = format!("The node was low on resource: {resource}. ");
    if let Some(seen) = observed.get(&first.signal) {
        let format = if matches!(resource, "inodes" | "pids") { Format::DecimalSi } else { Format::BinarySi };
        let (quantity, available) = (first.level.of(seen.capacity), Quantity::new(seen.available, format));
        message += &format!("Threshold quantity: {quantity}, available: {available}. ");
    }
    let mut annotations = BTreeMap::from([("starved_resource".to_owned(), resource.to_owned())]);
    let spec = candidate.pod.spec.as_ref();
    let whole = spec.and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get(resource));
    if let Some(request) = whole.filter(|_| resource == "memory") {
        let name = candidate.pod.metadata.name.clone().unwrap_or_default();
        let usage = bytes(candidate.takes.memory_bytes).to_string();
        message +=
            &format!("Pod {name} was using {usage}, request is {}, has larger consumption of {resource}. ", request.0);
        annotations.insert("offending_pod".to_owned(), name);
        annotations.insert("offending_pod_usage".to_owned(), usage);
    }
    let (mut names, mut usages) = (Vec::new(), Vec::new());
    for container in &candidate.takes.containers {
        let all = spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
        let Some(known) = all.into_iter().find(|known| known.name == container.name) else { continue };
        let requests = known.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let usage = match resource {
            "memory" => container.memory_bytes,
            "ephemeral-storage" => container.disk_bytes,
            _ => continue,
        };
        if usage > qos::whole(requests, resource) {
            let (name, usage) = (&container.name, bytes(usage));
            let request =
                requests.and_then(|requests| requests.get(resource)).map_or("0", |request| request.0.as_str());
            message += &format!(
                "Container {name} was using {usage}, request is {request}, has larger consumption of {resource}. "
            );
            names.push(name.clone());
            usages.push(usage.to_string());
        }
    }
    annotations.insert("offending_containers".to_owned(), names.join(","));
    annotations.insert("offending_containers_usage".to_owned(), usages.join(","));
    (message, annotations)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;
    use crate::evict::{signal::Observation, threshold::Level};

    const MI: i64 = 1 << 20;

    fn candidate(name: &str, spec: Value, takes: Use) -> Candidate {
        let mut spec = spec;
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": "a"}]);
        }
        let pod: Pod = from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        Candidate { pod: Arc::new(pod), takes }
    }

    fn asking(resource: &str, amount: &str, priority: i32) -> Value {
        json!({"priority": priority, "containers": [{"name": "a", "resources": {"requests": {resource: amount}}}]})
    }

    #[test]
    fn the_order_is_upstreams() {
        let memory = |mi: i64| Use { memory_bytes: mi * MI, ..Use::default() };
        let disk = |mi: i64| Use { disk_bytes: mi * MI, inodes: 1000 - mi, ..Use::default() };
        let processes = |count: i64| Use { processes: count, memory_bytes: -count, ..Use::default() };
        let rows: [(Signal, Vec<Candidate>, &str); 4] = [
            (
                Signal::MemoryAvailable,
                vec![
                    candidate("within", asking("memory", "900Mi", -5), memory(800)),
                    candidate("important", asking("memory", "1Mi", 10), memory(900)),
                    candidate("little", asking("memory", "90Mi", 0), memory(100)),
                    candidate("much", asking("memory", "1Mi", 0), memory(100)),
                ],
                "much little important within",
            ),
            (
                Signal::NodefsAvailable,
                vec![
                    candidate("within", asking("ephemeral-storage", "1Gi", 0), disk(800)),
                    candidate("over", asking("ephemeral-storage", "1Mi", 7), disk(2)),
                    candidate("free", json!({}), disk(1)),
                ],
                "free over within",
            ),
            (
                Signal::NodefsInodesFree,
                vec![candidate("few", json!({}), disk(900)), candidate("many", json!({}), disk(1))],
                "many few",
            ),
            (
                Signal::PidAvailable,
                vec![
                    candidate("few", json!({}), processes(2)),
                    candidate("none", json!({"priority": -1}), processes(0)),
                    candidate("many", json!({}), processes(9)),
                ],
                "none many few",
            ),
        ];
        for (signal, mut candidates, expected) in rows {
            rank(signal, &mut candidates);
            let names: Vec<_> = candidates.iter().filter_map(|one| one.pod.metadata.name.as_deref()).collect();
            assert_eq!(names.join(" "), expected, "{signal:?}");
        }
    }

    #[test]
    fn the_message_is_upstreams() {
        let container =
            |name: &str, memory, disk| ContainerUse { name: name.into(), memory_bytes: memory, disk_bytes: disk };
        let takes = Use {
            memory_bytes: 300 * MI,
            containers: vec![container("a", 200 * MI, 5 * MI), container("b", 100 * MI, 0), container("gone", MI, MI)],
            ..Use::default()
        };
        let spec = json!({"containers": [
            {"name": "a", "resources": {"requests": {"memory": "64Mi"}}},
            {"name": "b", "resources": {"requests": {"memory": "100Mi"}}},
        ]});
        let low = candidate("p", spec.clone(), takes.clone());
        let line = |signal| Threshold { signal, level: Level::Percent(50.0), grace: Duration::ZERO, reclaim: None };
        let observed =
            |signal, available, capacity| Observations::from([(signal, Observation { available, capacity })]);
        let memory =
            message(&[line(Signal::MemoryAvailable)], &observed(Signal::MemoryAvailable, 99 * MI, 400 * MI), &low);
        assert_eq!(
            memory.0,
            "The node was low on resource: memory. Threshold quantity: 200Mi, available: 99Mi. Container a was using \
             200Mi, request is 64Mi, has larger consumption of memory. "
        );
        let annotations =
            [("offending_containers", "a"), ("offending_containers_usage", "200Mi"), ("starved_resource", "memory")];
        assert_eq!(memory.1, annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let disk = message(&[line(Signal::NodefsAvailable)], &observed(Signal::NodefsAvailable, 3, 10), &low);
        assert_eq!(
            disk.0,
            "The node was low on resource: ephemeral-storage. Threshold quantity: 5, available: 3. Container a was \
             using 5Mi, request is 0, has larger consumption of ephemeral-storage. "
        );
        let pids = message(&[line(Signal::PidAvailable)], &observed(Signal::PidAvailable, 3, 2000), &low);
        assert_eq!(pids.0, "The node was low on resource: pids. Threshold quantity: 1k, available: 3. ");
        let mut whole = spec;
        whole["resources"] = json!({"requests": {"memory": "128Mi"}});
        let told = message(&[line(Signal::MemoryAvailable)], &Observations::new(), &candidate("p", whole, takes)).0;
        let pod = "Pod p was using 300Mi, request is 128Mi, has larger consumption of memory. ";
        assert!(told.contains(pod), "{told}");
    }
}
