//! What all pod workers of a node share.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::{Container, Node, ObjectReference, Pod, PodSpec, Service};
use knarr_client::{Clock, Informer, Recorder, events};
use knarr_cri::{ImageService, RuntimeService, v1::LinuxContainerResources};
use tokio::sync::{Semaphore, watch};

use super::{
    admit::{Admitted, Offer},
    confine::Host,
    cri, qos,
    references::References,
    resize::Queue,
    status::EVICTED,
    users::UserBlocks,
};
use crate::{
    cpus::Cpus,
    csi::Csi,
    devices::Devices,
    dra::Claims,
    evict::{Eviction, Pressures},
    gc::ImageGc,
    images::records::PullRecords,
    probe::Tally,
    register,
    reserve::Budget,
};

pub struct Context {
    pub node_name: String,
    pub node_ips: Vec<String>,
    pub log_dir: PathBuf,
    pub pod_dir: PathBuf,
    pub host: Host,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// Whose servers pods with `dnsPolicy: Default` ask, where it is not the host's usual file.
    pub resolv_conf: Option<PathBuf>,
    pub client: kube::Client,
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
    /// The scheme of container IDs.
    pub runtime_name: String,
    pub recorder: Recorder,
    pub references: References,
    /// The drivers of volumes.
    pub csi: Arc<Csi>,
    pub services: Informer<Service>,
    pub node: Informer<Node>,
    pub budget: Budget,
    pub eviction: Eviction,
    pub image_gc: ImageGc,
    /// What the node is short of.
    pub pressures: watch::Sender<Pressures>,
    /// Its machine goes down, and its pods end.
    pub shutting_down: watch::Sender<bool>,
    pub memory_capacity: u64,
    pub max_pods: u32,
    /// How many processes each pod may have, where there is a limit.
    pub pod_pids: Option<i64>,
    /// Kernel parameters that pods may set beside the safe ones.
    pub unsafe_sysctls: Vec<String>,
    pub clock: Clock,
    pub admitted: Mutex<Admitted>,
    /// Resizes that wait for room.
    pub resizes: Queue,
    pub devices: Arc<Devices>,
    pub cpus: Arc<Cpus>,
    /// Which users pods have that do not have the host's.
    pub users: Arc<UserBlocks>,
    /// With which credentials images came here.
    pub records: PullRecords,
    /// What pods claim beside that.
    pub claims: Arc<Claims>,
    /// How many images are pulled at once.
    pub pulls: Semaphore,
    /// How many status updates are under way at once.
    pub writes: Semaphore,
    /// How probes went.
    pub probes: Arc<Tally>,
    /// Which pod a sandbox or container belongs to, for the runtime's events.
    pub owners: Mutex<HashMap<String, String>>,
    /// The API's objects for static pods, by the static pod's UID.
    pub mirrors: Mutex<HashMap<String, Arc<Pod>>>,
}

impl Context {
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    pub fn owners(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn admitted(&self) -> MutexGuard<'_, Admitted> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what a pod was taken in with.
    pub fn release(&self, uid: &str) {
        self.admitted().release(uid);
        self.resizes.leave(uid);
        self.resizes.wake();
    }

    /// What this node has to give, as it is now.
    pub fn with_offer<T>(&self, look: impl FnOnce(&Offer<'_>) -> T) -> T {
        let node = self.node.get("", &self.node_name);
        let none = (BTreeMap::new(), BTreeMap::new());
        let node = node.as_deref();
        let status = node.and_then(|node| node.status.as_ref());
        let mut allocatable = Cow::Borrowed(status.and_then(|status| status.allocatable.as_ref()).unwrap_or(&none.0));
        // Devices are not counted here, but given one by one.
        for resource in self.devices.resources() {
            allocatable.to_mut().remove(&resource);
        }
        look(&Offer {
            cpu_milli: self.budget.allocatable.cpu_milli,
            memory_bytes: self.budget.allocatable.memory_bytes,
            ephemeral_bytes: self.budget.allocatable.ephemeral_bytes,
            pods: self.max_pods,
            allocatable: &allocatable,
            node_name: &self.node_name,
            labels: node.and_then(|node| node.metadata.labels.as_ref()).unwrap_or(&none.1),
            taints: node.and_then(|node| node.spec.as_ref()?.taints.as_deref()).unwrap_or_default(),
            unsafe_sysctls: &self.unsafe_sysctls,
            host: &self.host,
            pressures: &self.pressures.borrow(),
            is_shutting_down: *self.shutting_down.borrow(),
        })
    }

    /// What a container may take, as the kernel counts.
    pub fn container_resources(&self, pod: &Pod, container: &Container) -> LinuxContainerResources {
        let mut resources = qos::container_resources(pod, container, self.memory_capacity);
        self.cpus.confine(pod.metadata.uid.as_deref().unwrap_or_default(), &container.name, &mut resources);
        resources
    }

    /// What a whole pod may take.
    pub fn sandbox_resources(&self, pod: &Pod, spec: &PodSpec) -> LinuxContainerResources {
        let mut resources = cri::sandbox_resources(pod, spec, self.pod_pids);
        if self.cpus.has_own(pod.metadata.uid.as_deref().unwrap_or_default()) {
            resources.cpu_quota = -1;
        }
        resources
    }

    pub fn set_mirrors(&self, mirrors: HashMap<String, Arc<Pod>>) {
        *self.mirrors.lock().unwrap_or_else(PoisonError::into_inner) = mirrors;
    }

    pub fn mirror(&self, uid: &str) -> Option<Arc<Pod>> {
        self.mirrors.lock().unwrap_or_else(PoisonError::into_inner).get(uid).cloned()
    }

    /// Where a pod's logs lie.
    pub fn log_folder(&self, pod: &Pod) -> PathBuf {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let meta = &pod.metadata;
        let folder = super::cri::log_folder(&text(&meta.namespace), &text(&meta.name), &text(&meta.uid));
        self.log_dir.join(folder)
    }

    pub fn normal(&self, pod: &Pod, reason: &str, message: impl Into<String>) {
        self.recorder.record(reference(pod, None), events::EventType::Normal, reason, message.into());
    }

    pub fn warning(&self, pod: &Pod, reason: &str, message: impl Into<String>) {
        self.recorder.record(reference(pod, None), events::EventType::Warning, reason, message.into());
    }

    pub fn evicted(&self, pod: &Pod, message: String, annotations: BTreeMap<String, String>) {
        let kind = events::EventType::Warning;
        self.recorder.record_annotated(reference(pod, None), kind, EVICTED, message, annotations);
    }

    pub fn node_warning(&self, reason: &str, message: String) {
        self.recorder.record(register::reference(&self.node_name), events::EventType::Warning, reason, message);
    }

    pub fn node_normal(&self, reason: &str, message: &str) {
        let message = message.to_owned();
        self.recorder.record(register::reference(&self.node_name), events::EventType::Normal, reason, message);
    }

    /// About one container: `kubectl describe` shows which by the field path.
    pub fn container_event(&self, pod: &Pod, field: &str, kind: events::EventType, reason: &str, message: String) {
        self.recorder.record(reference(pod, Some(field)), kind, reason, message);
    }
}

fn reference(pod: &Pod, field: Option<&str>) -> ObjectReference {
    ObjectReference { field_path: field.map(str::to_owned), ..events::reference(pod) }
}

/// The field path of a container, as events name it.
pub fn field_path(entry: &super::containers::Entry) -> String {
    use super::containers::Role;
    let list = match entry.role {
        Role::Init | Role::Sidecar => "initContainers",
        Role::App => "containers",
        Role::Ephemeral => "ephemeralContainers",
    };
    format!("spec.{list}{{{}}}", entry.name())
}

/// `NAME_NAMESPACE(UID)`, as messages name a pod.
pub fn full_name(pod: &Pod) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let meta = &pod.metadata;
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}
