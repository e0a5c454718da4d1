//! What the runtime has of one pod, in the planner's terms.

use std::collections::BTreeMap;

use jiff::Timestamp;
use knarr_cri::{
    RuntimeService,
    v1::{
        Container, ContainerFilter, ContainerState, ContainerStatus, ContainerStatusRequest, LinuxContainerResources,
        ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxFilter, PodSandboxState,
        PodSandboxStatusRequest, Signal,
    },
};

use super::labels;

/// A pod's sandbox; only the newest one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub ips: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Created,
    Running,
    Exited,
    /// The runtime lost track of it; it counts as failed.
    Unknown,
}

/// One run of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    pub id: String,
    pub name: String,
    pub sandbox_id: String,
    pub restart_count: u32,
    pub phase: Phase,
    pub created_at: Timestamp,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_id: String,
    /// Of the container's spec when it was made.
    pub hash: String,
    pub log_path: String,
    pub user: Option<(i64, i64, Vec<i64>)>,
    /// What asks it to end, in the API's terms, where that is not the runtime's choice.
    pub stop_signal: Option<String>,
    /// What the runtime says it may use.
    pub resources: Option<LinuxContainerResources>,
}

impl Instance {
    pub fn running(&self) -> bool {
        self.phase == Phase::Running
    }

    pub fn ended(&self) -> bool {
        matches!(self.phase, Phase::Exited | Phase::Unknown)
    }

    /// The exit code, and 137 where nobody knows.
    pub fn code(&self) -> i32 {
        if self.phase == Phase::Unknown { 137 } else { self.exit_code }
    }
}

/// Everything the runtime lists under one pod UID.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    pub sandbox: Option<Sandbox>,
    /// Older sandboxes, which are only waiting to be removed.
    pub stale_sandboxes: Vec<String>,
    /// By container name, the newest run first.
    pub containers: BTreeMap<String, Vec<Instance>>,
}

impl Observed {
    /// The newest run of a container, in whichever sandbox.
    pub fn newest(&self, name: &str) -> Option<&Instance> {
        self.containers.get(name)?.first()
    }

    /// The newest run of a container in the present sandbox.
    pub fn current(&self, name: &str) -> Option<&Instance> {
        let sandbox = self.sandbox.as_ref()?;
        self.newest(name).filter(|instance| instance.sandbox_id == sandbox.id)
    }

    pub fn running(&self) -> impl Iterator<Item = &Instance> {
        self.containers.values().flatten().filter(|instance| instance.running())
    }

    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.containers.values().flatten()
    }

    pub fn is_empty(&self) -> bool {
        self.sandbox.is_none() && self.stale_sandboxes.is_empty() && self.containers.is_empty()
    }
}

/// Asks the runtime about one pod.
pub async fn observe(runtime: &dyn RuntimeService, uid: &str) -> knarr_cri::Result<Observed> {
    let selector = BTreeMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
    let filter = PodSandboxFilter { label_selector: selector.clone(), ..Default::default() };
    let mut sandboxes = runtime.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) }).await?.items;
    sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((attempt(sandbox), sandbox.created_at)));
    let mut observed = Observed::default();
    for sandbox in sandboxes {
        if observed.sandbox.is_some() {
            observed.stale_sandboxes.push(sandbox.id);
        } else {
            observed.sandbox = Some(describe_sandbox(runtime, &sandbox).await?);
        }
    }
    let filter = ContainerFilter { label_selector: selector, ..Default::default() };
    let containers = runtime.list_containers(ListContainersRequest { filter: Some(filter) }).await?.containers;
    for container in containers {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let status = match runtime.container_status(request).await {
            Ok(response) => response.status.unwrap_or_default(),
            // Removed between the two calls.
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        let instance = instance(&container, status);
        observed.containers.entry(instance.name.clone()).or_default().push(instance);
    }
    for runs in observed.containers.values_mut() {
        runs.sort_by_key(|run| std::cmp::Reverse((run.restart_count, run.created_at)));
    }
    Ok(observed)
}

fn attempt(sandbox: &PodSandbox) -> u32 {
    sandbox.metadata.as_ref().map_or(0, |metadata| metadata.attempt)
}

async fn describe_sandbox(runtime: &dyn RuntimeService, sandbox: &PodSandbox) -> knarr_cri::Result<Sandbox> {
    let mut seen = Sandbox {
        id: sandbox.id.clone(),
        attempt: attempt(sandbox),
        ready: sandbox.state == PodSandboxState::SandboxReady as i32,
        ips: Vec::new(),
    };
    if seen.ready {
        let request = PodSandboxStatusRequest { pod_sandbox_id: seen.id.clone(), verbose: false };
        match runtime.pod_sandbox_status(request).await {
            Ok(response) => {
                let network = response.status.and_then(|status| status.network).unwrap_or_default();
                let others = network.additional_ips.into_iter().map(|more| more.ip);
                seen.ips = std::iter::once(network.ip).chain(others).filter(|ip| !ip.is_empty()).collect();
            }
            Err(error) if error.is_not_found() => seen.ready = false,
            Err(error) => return Err(error),
        }
    }
    Ok(seen)
}

fn instance(container: &Container, status: ContainerStatus) -> Instance {
    let stop_signal = stop_signal(status.stop_signal());
    let name = container.labels.get(labels::CONTAINER_NAME).cloned();
    let metadata = status.metadata.unwrap_or_default();
    let restart_count = container.annotations.get(labels::RESTART_COUNT).and_then(|count| count.parse().ok());
    let user = status.user.and_then(|user| user.linux);
    Instance {
        id: container.id.clone(),
        name: name.unwrap_or(metadata.name),
        sandbox_id: container.pod_sandbox_id.clone(),
        restart_count: restart_count.unwrap_or(metadata.attempt),
        phase: match ContainerState::try_from(status.state) {
            Ok(ContainerState::ContainerCreated) => Phase::Created,
            Ok(ContainerState::ContainerRunning) => Phase::Running,
            Ok(ContainerState::ContainerExited) => Phase::Exited,
            Ok(ContainerState::ContainerUnknown) | Err(_) => Phase::Unknown,
        },
        created_at: nanoseconds(status.created_at),
        started_at: nanoseconds(status.started_at),
        finished_at: nanoseconds(status.finished_at),
        exit_code: status.exit_code,
        reason: status.reason,
        message: status.message,
        image: status.image.map(|spec| first_of(spec.user_specified_image, spec.image)).unwrap_or_default(),
        image_id: first_of(status.image_ref, status.image_id),
        hash: container.annotations.get(labels::HASH).cloned().unwrap_or_default(),
        log_path: status.log_path,
        resources: status.resources.and_then(|resources| resources.linux),
        stop_signal,
        user: user.map(|user| (user.uid, user.gid, user.supplemental_groups)),
    }
}

/// CRI has the names without their signs.
fn stop_signal(signal: Signal) -> Option<String> {
    let name = signal.as_str_name().replace("PLUS", "+").replace("MINUS", "-");
    (signal != Signal::RuntimeDefault).then_some(name)
}

fn first_of(first: String, second: String) -> String {
    if first.is_empty() { second } else { first }
}

fn nanoseconds(value: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(value)).unwrap_or(Timestamp::UNIX_EPOCH)
}
