//! Whether this node takes a pod. The scheduler has asked the same before; the node asks again, because pods
//! may be bound past the scheduler and because it alone knows what it has promised.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::{
    api::core::v1::{Pod, Taint},
    apimachinery::pkg::api::resource::Quantity,
};
use knarr_api::placement::{tolerates, wants_node};

use super::{
    confine::Host,
    demand::Demand,
    qos::{QosClass, class},
    refuse,
    status::{EVICTED, Verdict},
};
use crate::evict::{Pressure, Pressures, is_critical};

/// What a verdict's message begins with in a pod's status, and not in its event.
pub const REJECTED: &str = "Pod was rejected: ";

/// What the pods that were taken ask for, by UID.
#[derive(Debug, Default)]
pub struct Admitted {
    pods: HashMap<String, Demand>,
}

/// What there is to give, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    pub pods: u32,
    /// What the Node says that pods may have; huge pages and extended resources are only there.
    pub allocatable: &'a BTreeMap<String, Quantity>,
    pub node_name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
    pub taints: &'a [Taint],
    pub unsafe_sysctls: &'a [String],
    pub host: &'a Host,
    /// What the node is short of.
    pub pressures: &'a Pressures,
    pub is_shutting_down: bool,
}

impl Admitted {
    /// Takes the pod in, or says why not. A pod that runs already is taken in whatever it asks for.
    pub fn admit(&mut self, pod: &Pod, offer: &Offer<'_>, runs_already: bool) -> Result<(), Verdict> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let demand = Demand::of(pod);
        if !runs_already {
            if offer.is_shutting_down {
                let message = format!("{REJECTED}Pod was rejected as the node is shutting down.");
                return Err(Verdict { reason: "NodeShutdown".to_owned(), message });
            }
            spared(pod, offer.pressures)?;
            refuse::check(pod, offer.unsafe_sysctls, offer.host)?;
            self.has_room(&uid, &demand, offer)?;
            self.suits(&uid, &demand, pod, offer)?;
        }
        self.pods.insert(uid, demand);
        Ok(())
    }

    /// Lets a pod have other amounts than it was taken with, or says what there is too little of.
    pub fn resize(&mut self, pod: &Pod, offer: &Offer<'_>) -> Result<(), Verdict> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let demand = Demand::of(pod);
        self.has_room(&uid, &demand, offer)?;
        self.pods.insert(uid, demand);
        Ok(())
    }

    pub fn release(&mut self, uid: &str) {
        self.pods.remove(uid);
    }

    fn others(&self, uid: &str) -> impl Iterator<Item = &Demand> {
        self.pods.iter().filter(move |(other, _)| *other != uid).map(|(_, demand)| demand)
    }

    fn has_room(&self, uid: &str, demand: &Demand, offer: &Offer<'_>) -> Result<(), Verdict> {
        let used_pods = self.others(uid).count();
        if used_pods + 1 > offer.pods as usize {
            return Err(out_of("pods", 1, used_pods as i64, i64::from(offer.pods)));
        }
        for (resource, requested) in &demand.amounts {
            let Some(capacity) = capacity(resource, offer) else { continue };
            let used = self.others(uid).map(|other| other.amount(resource)).sum::<i64>();
            if *requested > 0 && used + requested > capacity {
                return Err(out_of(resource, *requested, used, capacity));
            }
        }
        Ok(())
    }

    /// Everything but amounts, in upstream's order.
    fn suits(&self, uid: &str, demand: &Demand, pod: &Pod, offer: &Offer<'_>) -> Result<(), Verdict> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        // Once a pod has begun, what its node is called or shuns is for others to act on.
        let begun = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if !begun && !wants_node(spec, offer.node_name, offer.labels) {
            return Err(failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
        }
        let taken = |port| self.others(uid).flat_map(|other| &other.host_ports).any(|other| other.conflicts_with(port));
        if demand.host_ports.iter().any(taken) {
            return Err(failed("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
        }
        let tolerations = spec.tolerations.as_deref().unwrap_or_default();
        let mut ending = offer.taints.iter().filter(|taint| taint.effect == "NoExecute");
        if !begun && !super::is_static(pod) && ending.any(|taint| !tolerates(tolerations, taint)) {
            return Err(failed("TaintToleration", "node(s) had taints that the pod didn't tolerate"));
        }
        Ok(())
    }
}

/// How much there is of a resource, in the units of a [`Demand`]. `None` for one that this node does not know, which may
/// be the cluster's as a whole.
pub fn capacity(resource: &str, offer: &Offer<'_>) -> Option<i64> {
    match resource {
        "cpu" => Some(offer.cpu_milli),
        "memory" => Some(offer.memory_bytes),
        "ephemeral-storage" => Some(offer.ephemeral_bytes),
        _ => {
            let known =
                offer.allocatable.contains_key(resource).then(|| super::qos::whole(Some(offer.allocatable), resource));
            known.or_else(|| resource.starts_with("hugepages-").then_some(0))
        }
    }
}

/// A node that is short of something takes in what the cluster cannot do without, and one that is short of memory alone
/// also what says how much it needs, or that it puts up with that.
fn spared(pod: &Pod, pressures: &Pressures) -> Result<(), Verdict> {
    let memory_alone = pressures.iter().all(|pressure| *pressure == Pressure::Memory);
    let taint =
        || Taint { key: "node.kubernetes.io/memory-pressure".into(), effect: "NoSchedule".into(), ..Taint::default() };
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let modest = || class(pod) != QosClass::BestEffort || tolerates(tolerations, &taint());
    if pressures.is_empty() || is_critical(pod) || memory_alone && modest() {
        return Ok(());
    }
    let names: Vec<_> = pressures.iter().map(|pressure| pressure.name()).collect();
    let message = format!("{REJECTED}The node had condition: [{}]. ", names.join(" "));
    Err(Verdict { reason: EVICTED.to_owned(), message })
}

fn failed(predicate: &str, why: &str) -> Verdict {
    let message = format!("{REJECTED}Predicate {predicate} failed: {why}");
    Verdict { reason: predicate.to_owned(), message }
}

fn out_of(resource: &str, requested: i64, used: i64, capacity: i64) -> Verdict {
    Verdict {
        reason: format!("OutOf{resource}"),
        message: format!(
            "{REJECTED}Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn pod(uid: &str, spec: &Value, status: Value) -> Pod {
        let mut spec = spec.clone();
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": "a"}]);
        }
        from_value(json!({"metadata": {"uid": uid, "name": uid}, "spec": spec, "status": status})).unwrap()
    }

    /// A machine without anything of its own.
    fn host() -> Host {
        Host::look(std::path::Path::new("/nonexistent"))
    }

    fn asking(resource: &str, amount: &str) -> Value {
        json!({"containers": [{"name": "a", "resources": {"requests": {resource: amount}}}]})
    }

    fn on_port(port: i32, ip: &str, protocol: &str) -> Value {
        json!({"containers": [{"name": "a", "ports": [
            {"containerPort": 80, "hostPort": port, "hostIP": ip, "protocol": protocol}]}]})
    }

    #[test]
    fn pods_bound_past_the_scheduler_are_refused_in_upstreams_words() {
        let allocatable: BTreeMap<String, Quantity> =
            from_value(json!({"example.com/berth": "2", "cpu": "9", "hugepages-2Mi": "4Mi"})).unwrap();
        let taints: Vec<Taint> =
            from_value(json!([{"key": "a", "effect": "NoSchedule"}, {"key": "b", "effect": "NoExecute"}])).unwrap();
        let (labels, host, none) = (BTreeMap::new(), host(), Pressures::new());
        let offer = |taints| Offer {
            cpu_milli: 4000,
            memory_bytes: 1 << 30,
            ephemeral_bytes: 1 << 30,
            pods: 3,
            allocatable: &allocatable,
            node_name: "n",
            labels: &labels,
            taints,
            unsafe_sysctls: &[],
            host: &host,
            pressures: &none,
            is_shutting_down: false,
        };
        let tolerant = json!({"tolerations": [{"key": "b", "operator": "Exists"}]});
        let out = |resource: &str, numbers: (i64, i64, i64)| {
            let (requested, used, capacity) = numbers;
            format!(
                "OutOf{resource}: Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
            )
        };
        let ports = "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
            .to_owned();
        let taint =
            "TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
                .to_owned();
        let affinity =
            "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector".to_owned();
        let rows: [(Value, Value, bool, String); 16] = [
            (json!({}), json!({}), false, String::new()),
            (json!({}), json!({}), true, taint),
            (json!({}), tolerant, true, String::new()),
            (asking("cpu", "3"), asking("cpu", "2"), false, out("cpu", (2000, 3000, 4000))),
            (asking("example.com/berth", "1"), asking("example.com/berth", "1"), false, String::new()),
            (
                asking("example.com/berth", "1"),
                asking("example.com/berth", "2"),
                false,
                out("example.com/berth", (2, 1, 2)),
            ),
            (json!({}), asking("example.com/elsewhere", "1"), false, String::new()),
            (json!({}), asking("hugepages-1Gi", "1Gi"), false, out("hugepages-1Gi", (1 << 30, 0, 0))),
            (json!({}), asking("hugepages-2Mi", "4Mi"), false, String::new()),
            (on_port(80, "", "TCP"), on_port(80, "", "TCP"), false, ports.clone()),
            (on_port(80, "", "TCP"), on_port(80, "192.0.2.1", "TCP"), false, ports.clone()),
            (on_port(80, "192.0.2.2", "TCP"), on_port(80, "192.0.2.1", "TCP"), false, String::new()),
            (on_port(80, "", "TCP"), on_port(80, "", "UDP"), false, String::new()),
            (on_port(80, "", "TCP"), on_port(81, "", "TCP"), false, String::new()),
            (on_port(80, "192.0.2.2", "TCP"), on_port(80, "0.0.0.0", "TCP"), false, ports),
            (json!({}), json!({"nodeSelector": {"zone": "b"}}), false, affinity),
        ];
        for (there, new, tainted, expected) in rows {
            let mut admitted = Admitted::default();
            let offer = offer(if tainted { &taints } else { &[] });
            admitted.admit(&pod("old", &there, json!({})), &offer, true).unwrap();
            let answer = admitted.admit(&pod("new", &new, json!({})), &offer, false);
            let told = answer.err().map(|verdict| {
                format!("{}: {}", verdict.reason, verdict.message.strip_prefix("Pod was rejected: ").unwrap())
            });
            assert_eq!(told.unwrap_or_default(), expected, "{new} beside {there}");
        }
    }

    #[test]
    fn a_pod_that_has_begun_stays_on_a_node_that_shuns_it_by_now() {
        let taints: Vec<Taint> = from_value(json!([{"key": "b", "effect": "NoExecute"}])).unwrap();
        let (host, none) = (host(), Pressures::new());
        let offer = Offer {
            cpu_milli: 0,
            memory_bytes: 0,
            ephemeral_bytes: 0,
            pods: 3,
            allocatable: &BTreeMap::new(),
            node_name: "n",
            labels: &BTreeMap::new(),
            taints: &taints,
            unsafe_sysctls: &[],
            host: &host,
            pressures: &none,
            is_shutting_down: false,
        };
        let begun = pod("p", &json!({"nodeSelector": {"zone": "b"}}), json!({"startTime": "2026-01-01T00:00:00Z"}));
        Admitted::default().admit(&begun, &offer, false).unwrap();

        let ending = Offer { is_shutting_down: true, ..offer };
        let refused = Admitted::default().admit(&begun, &ending, false).unwrap_err();
        assert_eq!(
            (&*refused.reason, refused.cause()),
            ("NodeShutdown", "Pod was rejected as the node is shutting down.")
        );
        Admitted::default().admit(&begun, &ending, true).unwrap();
    }

    #[test]
    fn a_node_that_is_short_of_something_takes_in_what_it_must() {
        let (memory, disk) = (Pressures::from([Pressure::Memory]), Pressures::from([Pressure::Disk]));
        let both = Pressures::from([Pressure::Memory, Pressure::Disk]);
        let modest = asking("memory", "1Mi");
        let tolerant = json!({"tolerations": [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]});
        let critical = json!({"priority": 2_000_001_000});
        for (pressures, spec, expected) in [
            (&Pressures::new(), &json!({}), ""),
            (&memory, &json!({}), "[MemoryPressure]"),
            (&memory, &modest, ""),
            (&memory, &tolerant, ""),
            (&disk, &modest, "[DiskPressure]"),
            (&both, &tolerant, "[MemoryPressure DiskPressure]"),
            (&both, &critical, ""),
        ] {
            let told = spared(&pod("p", spec, json!({})), pressures).err();
            let expected = (!expected.is_empty()).then(|| Verdict {
                reason: "Evicted".to_owned(),
                message: format!("Pod was rejected: The node had condition: {expected}. "),
            });
            assert_eq!(told, expected, "{spec} under {pressures:?}");
        }
    }
}
