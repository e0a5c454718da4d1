//! What makes the node's containers.

use std::path::PathBuf;

use clap::Args;
use knarr_cri_grpc::client::Endpoint;

#[derive(Clone, Debug, Args)]
pub struct EngineArgs {
    /// Run the pods by another CRI runtime, such as unix:///run/containerd/containerd.sock, in the network that its CNI
    /// plugins make [default: the built-in one]
    #[arg(long, value_name = "ENDPOINT", alias = "container-runtime-endpoint")]
    #[arg(conflicts_with_all = ["images", "registry_config_dir", "cri_socket", "cni_conf_dir"])]
    pub runtime: Option<Endpoint>,
    /// Let crictl and other CRI clients of root drive the built-in runtime by this socket
    #[arg(long, value_name = "PATH")]
    pub cri_socket: Option<PathBuf>,
    /// Let CNI plugins make the network of the built-in runtime's pods, by the first configuration in this directory
    #[arg(long, value_name = "DIR")]
    pub cni_conf_dir: Option<PathBuf>,
    /// Where the CNI plugins are
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin", requires = "cni_conf_dir")]
    pub cni_bin_dir: PathBuf,
}
