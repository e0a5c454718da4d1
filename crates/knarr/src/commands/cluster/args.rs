//! What can be typed after `knarr cluster`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use knarr_local::Range;

/// Where clusters are.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// Holds the clusters: a directory each, with one for each node in it
    #[arg(long, value_name = "DIR", default_value = "/var/lib/knarr/clusters", env = "KNARR_CLUSTERS_DIR")]
    pub clusters_dir: PathBuf,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ClusterCommand {
    /// Make a cluster, start it, and add the context `knarr-NAME` to the kubeconfig
    Create(CreateArgs),
    /// List the clusters on this machine, and how their nodes are
    List(ListArgs),
    /// Start the nodes that do not run: after `stop`, or after this machine was started again
    Start(NamedArgs),
    /// Cut the power of all nodes; what is on their disks stays
    Stop(NamedArgs),
    /// End a cluster and remove everything that was made for it
    Delete(NamedArgs),
    /// Import image archives (docker save, or an OCI layout as directory or tar) on every node that there is now
    Import(ImportArgs),
    /// Stop, start, pause, resume, add and remove single nodes
    #[command(subcommand)]
    Node(NodeCommand),
}

#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// Up to 40 lower-case letters, digits and '-'; the nodes are NAME-server, NAME-agent-1 and so on
    pub name: String,
    /// How many nodes, the server's own among them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=198))]
    pub nodes: u8,
    /// Merge the context into this file instead of ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Import every image archive in this directory on every node, at each start
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// The nodes' addresses [default: the first of 172.30.0.0/24, 172.30.1.0/24, ... that is free]
    #[arg(long, value_name = "CIDR")]
    pub network: Option<Range>,
    #[command(flatten)]
    pub server: ServerFlags,
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// What is handed on to `knarr server`.
#[derive(Clone, Debug, Args)]
pub struct ServerFlags {
    /// The addresses of Services of type LoadBalancer [default: .200 to .250 of the nodes' network]
    #[arg(long, value_name = "FROM-TO|CIDR")]
    pub load_balancer_pool: Option<String>,
    /// Where pods get their addresses from [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub pod_cidr: Option<String>,
    /// How long a node may say nothing before its pods are taken for lost; 5s at least [default: 40s]
    #[arg(long, value_name = "TIME")]
    pub node_monitor_grace_period: Option<String>,
    /// Whatever else `knarr server --help` lists, after `--`
    #[arg(last = true, value_name = "SERVER FLAGS")]
    pub further: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ListFormat {
    Json,
}

#[derive(Clone, Debug, Args)]
pub struct ListArgs {
    /// Print as JSON
    #[arg(long, short, value_name = "FORMAT")]
    pub output: Option<ListFormat>,
    #[command(flatten)]
    pub place: PlaceArgs,
}

#[derive(Clone, Debug, Args)]
pub struct NamedArgs {
    /// The cluster; may be left out where there is only one
    pub name: Option<String>,
    #[command(flatten)]
    pub place: PlaceArgs,
}

#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The cluster; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    #[command(flatten)]
    pub place: PlaceArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// Cut a node's power: all its processes end at once, and nobody is told
    Stop(NodeArgs),
    /// Start a stopped node again, with what is on its disk
    Start(NodeArgs),
    /// Make a node stand still, as a machine that hangs
    Pause(NodeArgs),
    /// Let a paused node go on
    Resume(NodeArgs),
    /// Add a node
    Add(AddArgs),
    /// Take a node out of its cluster for good
    Remove(NodeArgs),
}

#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The node: `bootcamp-agent-1`, or `agent-1` for short
    pub node: String,
    /// Its cluster; may be left out where the node's name says which, or where there is only one
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    #[command(flatten)]
    pub place: PlaceArgs,
}

#[derive(Clone, Debug, Args)]
pub struct AddArgs {
    /// The cluster; may be left out where there is only one
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    #[command(flatten)]
    pub place: PlaceArgs,
}
