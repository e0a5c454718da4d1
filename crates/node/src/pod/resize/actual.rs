//! What a container really has, in the API's terms: its status tells what is in force, not what was promised.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

use crate::pod::{demand::Demand, observe::Instance, qos};

/// The promised amounts, but for those that the kernel has others of.
pub fn resources(pod: &Pod, container: &Container, run: &Instance) -> Option<ResourceRequirements> {
    let mut amounts = container.resources.clone();
    let Some(present) = run.resources.as_ref().filter(|_| run.running()) else { return amounts };
    // The rest of what follows from these depends on the machine, and is not looked at.
    let promised = qos::container_resources(pod, container, 1);
    let mut set = |list: fn(&mut ResourceRequirements) -> &mut Option<BTreeMap<String, Quantity>>,
                   name: &str,
                   amount: Option<String>| {
        let list = list(amounts.get_or_insert_default());
        match amount {
            Some(amount) => _ = list.get_or_insert_default().insert(name.to_owned(), Quantity(amount)),
            None => _ = list.as_mut().and_then(|list| list.remove(name)),
        }
    };
    // A container with processors of its own has all of their time, which is its limit.
    let has_own = !present.cpuset_cpus.is_empty() && present.cpu_quota <= 0;
    if present.cpu_quota != promised.cpu_quota && !has_own {
        let period = present.cpu_period.max(1);
        let milli = (present.cpu_quota > 0).then(|| cores(present.cpu_quota * 1000 / period));
        set(|amounts| &mut amounts.limits, "cpu", milli);
    }
    if present.cpu_shares != promised.cpu_shares {
        let milli = (present.cpu_shares > 2).then(|| cores((present.cpu_shares * 1000 + 1023) / 1024));
        set(|amounts| &mut amounts.requests, "cpu", milli);
    }
    if present.memory_limit_in_bytes != promised.memory_limit_in_bytes {
        let bytes = (present.memory_limit_in_bytes > 0).then(|| binary(present.memory_limit_in_bytes));
        set(|amounts| &mut amounts.limits, "memory", bytes);
    }
    amounts
}

/// What a node set aside for a pod as a whole.
pub fn requests_of_pod(pod: &Pod) -> Option<BTreeMap<String, Quantity>> {
    let text = |name: &str, amount: i64| match name {
        "cpu" => cores(amount),
        "memory" | "ephemeral-storage" => binary(amount),
        _ if name.starts_with("hugepages-") => binary(amount),
        _ => amount.to_string(),
    };
    let asked = Demand::of(pod).amounts.into_iter().filter(|(_, amount)| *amount > 0);
    let amounts: BTreeMap<_, _> = asked.map(|(name, amount)| (name.clone(), Quantity(text(&name, amount)))).collect();
    (!amounts.is_empty()).then_some(amounts)
}

fn cores(milli: i64) -> String {
    if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") }
}

fn binary(bytes: i64) -> String {
    let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    let fitting = units.into_iter().find(|(unit, _)| bytes % unit == 0);
    fitting.map_or_else(|| bytes.to_string(), |(unit, suffix)| format!("{}{suffix}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};
    use knarr_cri::v1::LinuxContainerResources;

    use super::*;
    use crate::pod::observe::{Instance, Phase};

    #[test]
    fn the_status_tells_what_the_kernel_has() {
        let amounts = json!({"requests": {"cpu": "500m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}});
        let pod: Pod =
            from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "a", "resources": amounts}]}})).unwrap();
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let promised = qos::container_resources(&pod, container, 1);
        let more = LinuxContainerResources { cpu_quota: 150_000, memory_limit_in_bytes: 128 << 20, ..promised.clone() };
        let none =
            LinuxContainerResources { cpu_quota: 0, cpu_shares: 2, memory_limit_in_bytes: 0, ..promised.clone() };
        for (present, running, expected) in [
            (promised.clone(), true, amounts.clone()),
            (
                more.clone(),
                true,
                json!({"requests": amounts["requests"], "limits": {"cpu": "1500m", "memory": "128Mi"}}),
            ),
            (none, true, json!({"requests": {"memory": "32Mi"}, "limits": {}})),
            (more, false, amounts.clone()),
        ] {
            let phase = if running { Phase::Running } else { Phase::Exited };
            let run = Instance { phase, resources: Some(present), ..Instance::default() };
            let told = k8s_openapi::serde_json::to_value(resources(&pod, container, &run)).unwrap();
            assert_eq!(told, expected);
        }
    }
}
