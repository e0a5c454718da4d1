//! Pods and containers in CRI terms: what the runtime is asked to make.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use knarr_cri::v1::{
    CdiDevice, ContainerConfig, ContainerMetadata, DnsConfig, ImageSpec, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, LinuxPodSandboxConfig, Mount, PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol,
    Signal, UserNamespace,
};

use super::{confine::Host, containers::Entry, expand::expand, labels, qos, security};
use crate::devices::Given;

/// The folder below `logs/` that holds a pod's logs, named as log collectors expect.
pub fn log_folder(namespace: &str, name: &str, uid: &str) -> String {
    format!("{namespace}_{name}_{uid}")
}

/// Who a pod is: the labels of everything that is made for it.
pub fn identity(pod: &Pod) -> BTreeMap<String, String> {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    BTreeMap::from([
        (labels::POD_NAME.to_owned(), text(&meta.name)),
        (labels::POD_NAMESPACE.to_owned(), text(&meta.namespace)),
        (labels::POD_UID.to_owned(), text(&meta.uid)),
    ])
}

pub struct Surroundings<'a> {
    pub hostname: &'a str,
    pub dns: DnsConfig,
    pub log_directory: &'a Path,
    pub resources: LinuxContainerResources,
    /// The pod's own, if it has any.
    pub users: Option<UserNamespace>,
}

pub fn sandbox(pod: &Pod, spec: &PodSpec, attempt: u32, around: &Surroundings<'_>) -> PodSandboxConfig {
    let meta = &pod.metadata;
    let mut all_labels = meta.labels.clone().unwrap_or_default();
    all_labels.extend(identity(pod));
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            attempt,
        }),
        hostname: around.hostname.to_owned(),
        log_directory: around.log_directory.to_string_lossy().into_owned(),
        dns_config: Some(around.dns.clone()),
        port_mappings: port_mappings(spec),
        labels: all_labels,
        annotations: meta.annotations.clone().unwrap_or_default(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: qos::cgroup_parent(pod),
            security_context: Some(security::sandbox(spec, around.users.as_ref())),
            sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
            overhead: None,
            resources: Some(around.resources.clone()),
        }),
        windows: None,
    }
}

/// What the whole pod may take: the sum of its containers' limits or what its init containers need before, whichever is
/// more, and the overhead; only where every container has a limit, or the pod as a whole.
pub fn sandbox_resources(pod: &Pod, spec: &PodSpec, pids: Option<i64>) -> LinuxContainerResources {
    const PERIOD_US: i64 = 100_000;
    let cpu_limit = qos::pod_limit_milli(spec, "cpu");
    LinuxContainerResources {
        cpu_period: PERIOD_US,
        cpu_quota: cpu_limit.map_or(0, |limit| (limit * PERIOD_US / 1000).max(1000)),
        cpu_shares: (qos::pod_request_milli(pod, "cpu") * 1024 / 1000).clamp(2, 262_144),
        memory_limit_in_bytes: qos::pod_limit_milli(spec, "memory").map_or(0, |limit| limit / 1000),
        unified: pids.map(|most| ("pids.max".to_owned(), most.to_string())).into_iter().collect(),
        ..LinuxContainerResources::default()
    }
}

fn port_mappings(spec: &PodSpec) -> Vec<PortMapping> {
    if spec.host_network == Some(true) {
        return Vec::new();
    }
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = sidecars.chain(&spec.containers).flat_map(|container| container.ports.iter().flatten());
    let published = ports.filter_map(|port| Some((port, port.host_port.filter(|host_port| *host_port > 0)?)));
    published
        .map(|(port, host_port)| PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => Protocol::Udp,
                Some("SCTP") => Protocol::Sctp,
                _ => Protocol::Tcp,
            } as i32,
            container_port: port.container_port,
            host_port,
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// `lifecycle.stopSignal`, whose names CRI has without signs.
fn stop_signal(container: &Container) -> Signal {
    let name = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let name = name.map(|name| name.replace('+', "PLUS").replace('-', "MINUS"));
    name.and_then(|name| Signal::from_str_name(&name)).unwrap_or(Signal::RuntimeDefault)
}

/// Everything about one container that had to be looked up.
pub struct Ingredients<'a> {
    pub restart_count: u32,
    pub image_reference: &'a str,
    pub image: Option<&'a knarr_cri::v1::Image>,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    /// By the names that drivers gave them.
    pub cdi_devices: Vec<String>,
    /// By device plugins.
    pub given: Given,
    /// Of the container whose processes an ephemeral one sees.
    pub target_id: Option<&'a str>,
    pub resources: LinuxContainerResources,
    pub grace_seconds: i64,
    pub host: &'a Host,
    pub users: Option<&'a UserNamespace>,
}

pub fn container(
    pod: &Pod,
    spec: &PodSpec,
    entry: &Entry,
    ingredients: Ingredients<'_>,
) -> Result<ContainerConfig, security::SecurityError> {
    let Ingredients {
        restart_count,
        image_reference,
        image,
        env,
        mut mounts,
        cdi_devices,
        given,
        target_id,
        resources,
        grace_seconds,
        host,
        users,
    } = ingredients;
    let own = &entry.spec;
    let mut all_labels = identity(pod);
    all_labels.insert(labels::CONTAINER_NAME.to_owned(), own.name.clone());
    let text = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    let own_annotations = [
        (labels::HASH.to_owned(), entry.hash()),
        (labels::RESTART_COUNT.to_owned(), restart_count.to_string()),
        (labels::TERMINATION_MESSAGE_PATH.to_owned(), text(&own.termination_message_path, "/dev/termination-log")),
        (labels::TERMINATION_MESSAGE_POLICY.to_owned(), text(&own.termination_message_policy, "File")),
        (labels::GRACE_PERIOD.to_owned(), grace_seconds.to_string()),
    ];
    // What the pod says of itself comes later, and counts.
    let env: Vec<_> = given.envs.into_iter().chain(env).collect();
    mounts.extend(given.mounts);
    if let Some(users) = users {
        for mount in &mut mounts {
            (mount.uid_mappings, mount.gid_mappings) = (users.uids.clone(), users.gids.clone());
        }
    }
    let known = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expanded = |list: &Option<Vec<String>>| list.iter().flatten().map(|text| expand(text, &known)).collect();
    let (command, args) = (expanded(&own.command), expanded(&own.args));
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: own.name.clone(), attempt: restart_count }),
        image: Some(ImageSpec {
            image: image_reference.to_owned(),
            user_specified_image: entry.image().to_owned(),
            ..ImageSpec::default()
        }),
        command,
        args,
        working_dir: own.working_dir.clone().unwrap_or_default(),
        envs: env.into_iter().map(|(key, value)| KeyValue { key, value }).collect(),
        mounts,
        devices: given.devices,
        cdi_devices: cdi_devices.into_iter().map(|name| CdiDevice { name }).chain(given.cdi_devices).collect(),
        labels: all_labels,
        annotations: given.annotations.into_iter().chain(own_annotations).collect(),
        log_path: format!("{}/{restart_count}.log", own.name),
        stdin: own.stdin == Some(true),
        stdin_once: own.stdin_once == Some(true),
        tty: own.tty == Some(true),
        stop_signal: stop_signal(own) as i32,
        linux: Some(LinuxContainerConfig {
            resources: Some(resources),
            security_context: Some(security::container(spec, entry, image, target_id, host, users)?),
        }),
        ..ContainerConfig::default()
    })
}
