use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1::Taint;
use knarr_client::{Clock, Informers};
use knarr_cri::{ImageService, RuntimeService, StreamService};
use tokio_util::sync::CancellationToken;

use crate::{cpus::CpuOptions, evict::Eviction, gc::ImageGc, register::Machine, reserve::Budget, shutdown::Periods};

/// All that an agent is told; it reads no environment and no file to find out more.
pub struct Config {
    pub node_name: String,
    /// The address that the Node reports as `InternalIP`, and that `hostNetwork` pods have.
    pub node_ip: IpAddr,
    /// Labels beside those that every node has (`kubernetes.io/hostname`, `os`, `arch`).
    pub labels: BTreeMap<String, String>,
    /// Put on the Node when it is registered, and never again.
    pub taints: Vec<Taint>,
    /// Tells this machine from every other; on the Node as the annotation [`knarr_client::meta::MACHINE`].
    pub machine_identity: String,
    /// Container logs lie in `logs/` and static pods in `manifests/` below it.
    pub data_dir: PathBuf,
    /// One folder for each pod, by UID, with its volumes and its `/etc/hosts`.
    pub pod_dir: PathBuf,
    /// The volumes of claims, which outlive pods.
    pub volume_dir: PathBuf,
    /// What plugins know as `/var/lib/kubelet`: they register in `plugins_registry` below it.
    pub kubelet_dir: PathBuf,
    /// Where device plugins register.
    pub device_plugin_dir: PathBuf,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
    /// A `resolv.conf` for pods with `dnsPolicy: Default`; without one, the host's.
    pub resolv_conf: Option<PathBuf>,
    pub machine: Machine,
    /// How the machine is divided.
    pub budget: Budget,
    /// Which processors containers run on.
    pub cpus: CpuOptions,
    /// When pods have to go.
    pub eviction: Eviction,
    /// How long pods may take to end before the machine goes down.
    pub shutdown: Periods,
    /// The machine goes down: pods end, and the agent after them.
    pub power_off: CancellationToken,
    /// When images have to go.
    pub image_gc: ImageGc,
    pub max_pods: u32,
    /// How many processes each pod may have; without one, as many as the node.
    pub pod_pids: Option<i64>,
    /// Kernel parameters of a pod's own namespaces that pods may set although they are not known to be safe; names, or
    /// beginnings that end in `*`.
    pub unsafe_sysctls: Vec<String>,
    /// Its client acts as `system:node:NAME`; what the agent watches ends with it.
    pub informers: Informers,
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
    pub streams: Arc<dyn StreamService>,
    /// Where the agent serves logs, exec, attach and port-forward; 10250 by custom, 0 for any free port.
    pub listen: std::net::SocketAddr,
    /// Must ask for client certificates of the cluster's CA without insisting on one
    /// (`allow_unauthenticated`), so that a client without gets a 401 and not a broken handshake.
    pub tls: Arc<rustls::ServerConfig>,
    pub clock: Clock,
}
