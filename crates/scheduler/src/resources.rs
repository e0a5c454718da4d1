//! Amounts of resources as plain numbers: what a pod asks for, what a node has.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use knarr_api::quantity::Quantity;
use knarr_client::lean::{Container, PodSpec};

/// Counted for a container that asks for nothing, when scoring only (upstream's DefaultMilliCPURequest and
/// DefaultMemoryRequest): else a node could be filled with any number of such pods without looking fuller.
const DEFAULT_CPU_MILLI: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    /// Extended resources and huge pages, by name.
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    pub fn of(list: Option<&BTreeMap<String, Written>>) -> Self {
        let mut resources = Self::default();
        for (name, amount) in list.into_iter().flatten() {
            let Ok(amount) = amount.0.parse::<Quantity>() else { continue };
            match name.as_str() {
                "cpu" => resources.cpu_milli = amount.milli_value(),
                "memory" => resources.memory_bytes = amount.value(),
                "ephemeral-storage" => resources.ephemeral_bytes = amount.value(),
                "pods" => {}
                other => {
                    resources.others.insert(other.to_owned(), amount.value());
                }
            }
        }
        resources
    }

    pub fn add(&mut self, other: &Self) {
        self.cpu_milli += other.cpu_milli;
        self.memory_bytes += other.memory_bytes;
        self.ephemeral_bytes += other.ephemeral_bytes;
        for (name, amount) in &other.others {
            *self.others.entry(name.clone()).or_default() += amount;
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        self.cpu_milli -= other.cpu_milli;
        self.memory_bytes -= other.memory_bytes;
        self.ephemeral_bytes -= other.ephemeral_bytes;
        for (name, amount) in &other.others {
            *self.others.entry(name.clone()).or_default() -= amount;
        }
    }

    fn raise_to(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.max(other.cpu_milli);
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        self.ephemeral_bytes = self.ephemeral_bytes.max(other.ephemeral_bytes);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_default();
            *mine = (*mine).max(*amount);
        }
    }
}

/// What a pod needs of a node: its containers together, or its largest init container, with sidecars running
/// beside both; plus overhead. Requests of the pod as a whole take the place of the sums.
/// (<https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers>)
pub fn requests(spec: &PodSpec) -> Resources {
    total(spec, |container| Resources::of(container.resources.as_ref().and_then(|r| r.requests.as_ref())))
}

/// The same with defaults for containers that ask for nothing: (CPU in milli, memory in bytes).
pub fn requests_for_scoring(spec: &PodSpec) -> (i64, i64) {
    let total = total(spec, |container| {
        let asked = container.resources.as_ref().and_then(|r| r.requests.as_ref());
        let mut resources = Resources::of(asked);
        let names = |name| asked.is_some_and(|asked| asked.contains_key(name));
        if !names("cpu") {
            resources.cpu_milli = DEFAULT_CPU_MILLI;
        }
        if !names("memory") {
            resources.memory_bytes = DEFAULT_MEMORY_BYTES;
        }
        resources
    });
    (total.cpu_milli, total.memory_bytes)
}

fn total(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let asked = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&asked);
            sidecars.add(&asked);
            starting.raise_to(&sidecars);
        } else {
            let mut with_sidecars = sidecars.clone();
            with_sidecars.add(&asked);
            starting.raise_to(&with_sidecars);
        }
    }
    running.raise_to(&starting);
    let pod_level = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    if let Some(list) = pod_level {
        let whole = Resources::of(Some(list));
        if list.contains_key("cpu") {
            running.cpu_milli = whole.cpu_milli;
        }
        if list.contains_key("memory") {
            running.memory_bytes = whole.memory_bytes;
        }
        running.others.extend(whole.others);
    }
    running.add(&Resources::of(spec.overhead.as_ref()));
    running
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn pods_ask_for_the_larger_of_start_and_run() {
        let container = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        let sidecar =
            |cpu: &str| json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}});
        for (spec, expected) in [
            (json!({"containers": [container("100m"), container("1")]}), 1100),
            (json!({"containers": [container("100m")], "initContainers": [container("2"), container("1")]}), 2000),
            (json!({"containers": [container("1")], "initContainers": [sidecar("500m"), container("2")]}), 2500),
            (json!({"containers": [container("1")], "initContainers": [container("2"), sidecar("500m")]}), 2000),
            (json!({"containers": [container("1")], "overhead": {"cpu": "250m"}}), 1250),
            (json!({"containers": [container("1")], "resources": {"requests": {"cpu": "3"}}}), 3000),
            (json!({"containers": [{"name": "c"}]}), 0),
        ] as [(Value, i64); 7]
        {
            let parsed: PodSpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(requests(&parsed).cpu_milli, expected, "{spec}");
        }
        let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "a"}, container("1")]})).unwrap();
        assert_eq!(requests_for_scoring(&spec), (1100, 2 * DEFAULT_MEMORY_BYTES));
    }
}
