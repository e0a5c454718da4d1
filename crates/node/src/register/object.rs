//! The Node object: a pure function of the machine, the runtime's word and what the node said before.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
        NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, Time},
    },
};

use knarr_api::quantity::{Format, Quantity as Exact};
use knarr_cri::v1::{RuntimeCondition, StatusResponse};

use super::machine::Machine;
use crate::{
    devices::Count,
    evict::{Pressure, Pressures},
    pod::downward::Allocatable,
};

/// What the node says of itself at one moment.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub name: &'a str,
    pub ip: IpAddr,
    pub port: u16,
    pub max_pods: u32,
    pub machine: &'a Machine,
    pub allocatable: Allocatable,
    pub pressures: &'a Pressures,
    /// Name and version of the runtime.
    pub runtime: &'a str,
    /// What the runtime says of itself.
    pub standing: &'a Standing,
    pub images: &'a [ContainerImage],
    /// What an operator says that the machine has beside what can be measured.
    pub given: super::extended::Amounts,
    /// What device plugins say that it has.
    pub devices: BTreeMap<String, Count>,
    pub now: Timestamp,
}

/// What a runtime can do, and whether it can do anything at all.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Why the node cannot run pods, if it cannot.
    pub not_ready: Option<String>,
    pub handlers: Option<Vec<NodeRuntimeHandler>>,
    pub features: Option<NodeFeatures>,
}

impl Standing {
    /// From the runtime's status, in the kubelet's words.
    pub fn of(answer: StatusResponse) -> Self {
        let conditions = answer.status.unwrap_or_default().conditions;
        let failing = conditions.iter().find(|condition| !condition.status);
        let not_ready = failing.map(|condition| {
            let RuntimeCondition { r#type: kind, reason, message, .. } = condition;
            let what = match kind.as_str() {
                "NetworkReady" => "container runtime network not ready",
                _ => "container runtime not ready",
            };
            format!("{what}: {kind}=false reason:{reason} message:{message}")
        });
        let handlers = answer.runtime_handlers.into_iter().map(|handler| NodeRuntimeHandler {
            name: Some(handler.name),
            features: handler.features.map(|features| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
        });
        let handlers: Vec<_> = handlers.collect();
        let features = answer
            .features
            .map(|features| NodeFeatures { supplemental_groups_policy: Some(features.supplemental_groups_policy) });
        Self { not_ready, handlers: (!handlers.is_empty()).then_some(handlers), features }
    }
}

/// What a condition's change is called as an event.
pub fn event_reason(condition: &NodeCondition) -> Option<&'static str> {
    let holds = condition.status == "True";
    Some(match (condition.type_.as_str(), holds) {
        ("Ready", true) => "NodeReady",
        ("Ready", false) => "NodeNotReady",
        ("MemoryPressure", true) => "NodeHasInsufficientMemory",
        ("MemoryPressure", false) => "NodeHasSufficientMemory",
        ("DiskPressure", true) => "NodeHasDiskPressure",
        ("DiskPressure", false) => "NodeHasNoDiskPressure",
        ("PIDPressure", true) => "NodeHasInsufficientPID",
        ("PIDPressure", false) => "NodeHasSufficientPID",
        _ => return None,
    })
}

/// The conditions that are not as they were.
pub fn changed<'a>(before: Option<&NodeStatus>, after: &'a NodeStatus) -> Vec<&'a NodeCondition> {
    let old = before.and_then(|before| before.conditions.as_deref()).unwrap_or_default();
    let same = |new: &NodeCondition| old.iter().any(|old| old.type_ == new.type_ && old.status == new.status);
    after.conditions.iter().flatten().filter(|condition| !same(condition)).collect()
}

pub fn labels(name: &str, machine: &Machine, more: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own = [
        ("kubernetes.io/hostname", name),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", machine.architecture),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    own.chain(more.clone()).collect()
}

/// The object that is registered.
pub fn node(
    facts: &Facts<'_>,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    taints: &[Taint],
) -> Node {
    let attach = ("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned());
    let taints = (!taints.is_empty()).then(|| taints.to_vec());
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.to_owned()),
            labels: Some(labels.clone()),
            annotations: Some(annotations.clone().into_iter().chain([attach]).collect()),
            ..ObjectMeta::default()
        },
        spec: taints.map(|taints| NodeSpec { taints: Some(taints), ..NodeSpec::default() }),
        status: Some(status(facts, None)),
    }
}

/// The status as it is now; `before` supplies transition times.
pub fn status(facts: &Facts<'_>, before: Option<&NodeStatus>) -> NodeStatus {
    let machine = facts.machine;
    let kibi = |bytes: u64| Quantity(format!("{}Ki", bytes / 1024));
    let amounts = |cpu: Quantity, memory: Quantity, storage: Quantity, devices: fn(&Count) -> usize| {
        let own = [
            ("cpu".to_owned(), cpu),
            ("memory".to_owned(), memory),
            ("ephemeral-storage".to_owned(), storage),
            ("pods".to_owned(), Quantity(facts.max_pods.to_string())),
            // None are given to pods yet, and who asks for some is told so when it is to be scheduled.
            ("hugepages-1Gi".to_owned(), Quantity("0".to_owned())),
            ("hugepages-2Mi".to_owned(), Quantity("0".to_owned())),
        ];
        let devices = facts.devices.iter().map(|(name, count)| (name.clone(), Quantity(devices(count).to_string())));
        facts.given.clone().into_iter().chain(devices).chain(own).collect::<BTreeMap<_, _>>()
    };
    let whole = Quantity(machine.cpus.to_string());
    let capacity = amounts(whole, kibi(machine.memory_bytes), kibi(machine.disk_bytes), |count| count.all);
    let Allocatable { cpu_milli, memory_bytes, ephemeral_bytes } = facts.allocatable;
    let cpu = Exact::from_milli(cpu_milli, Format::DecimalSi).to_string();
    let (memory, storage) = (kibi(memory_bytes.unsigned_abs()), Quantity(ephemeral_bytes.to_string()));
    let allocatable = amounts(Quantity(cpu), memory, storage, |count| count.healthy);
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    NodeStatus {
        addresses: Some(vec![address("InternalIP", facts.ip.to_string()), address("Hostname", facts.name.to_owned())]),
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        conditions: Some(conditions(facts, before)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(facts.port) }),
        }),
        images: Some(facts.images.to_vec()),
        features: facts.standing.features.clone(),
        runtime_handlers: facts.standing.handlers.clone(),
        node_info: Some(NodeSystemInfo {
            architecture: machine.architecture.to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: facts.runtime.to_owned(),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: knarr_api::version::GIT_VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}

fn conditions(facts: &Facts<'_>, before: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let pressure = |pressure: Pressure, bad: (&'static str, &'static str), good: (&'static str, &'static str)| {
        let holds = facts.pressures.contains(&pressure);
        let (reason, message) = if holds { bad } else { good };
        (pressure.name(), holds, reason, message.to_owned())
    };
    let ready = match &facts.standing.not_ready {
        None => ("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(why) => ("Ready", false, "KubeletNotReady", why.clone()),
    };
    let all = [
        pressure(
            Pressure::Memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            Pressure::Disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            Pressure::Pid,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ];
    let known = before.and_then(|before| before.conditions.as_deref()).unwrap_or_default();
    let make = |(kind, holds, reason, message): (&str, bool, &str, String)| {
        let status = if holds { "True" } else { "False" };
        let same = known.iter().find(|condition| condition.type_ == kind && condition.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(Time(facts.now)),
            last_transition_time: same.and_then(|same| same.last_transition_time.clone()).or(Some(Time(facts.now))),
        }
    };
    all.into_iter().map(make).collect()
}

/// Whether two statuses say the same but for when they were said.
pub fn same(one: &NodeStatus, other: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
            condition.last_transition_time = None;
        }
        serde_json::to_value(status).unwrap_or_default()
    };
    let (one, other) = (timeless(one), timeless(other));
    // Fields that others add (attached volumes, taints of the network) are none of ours.
    one.as_object().is_some_and(|ours| {
        ours.iter().all(|(key, value)| match (key.as_str(), other.get(key)) {
            ("conditions", Some(theirs)) => contains_all(value, theirs),
            (_, theirs) => theirs == Some(value) || theirs.is_none() && value.as_array().is_some_and(Vec::is_empty),
        })
    })
}

fn contains_all(ours: &serde_json::Value, theirs: &serde_json::Value) -> bool {
    let theirs = theirs.as_array().map_or(&[][..], Vec::as_slice);
    ours.as_array().is_some_and(|ours| ours.iter().all(|condition| theirs.contains(condition)))
}
