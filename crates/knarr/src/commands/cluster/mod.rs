//! `knarr cluster`: clusters of several nodes on this machine. A node is `knarr server` or `knarr agent` as on any
//! other machine; what makes a machine of it is `knarr_local`.

mod access;
mod args;
mod create;
mod import;
mod launch;
mod list;
mod node;
mod select;

use anyhow::{Result, bail};
use knarr_local::{Cluster, Clusters, Node};

use crate::{datadir::DataDir, kubeconfig, say::say};

pub use args::ClusterCommand;
use args::{NamedArgs, PlaceArgs};

pub async fn run(command: ClusterCommand) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("knarr cluster makes namespaces, links and control groups and needs root: run it with sudo");
    }
    match command {
        ClusterCommand::Create(args) => create::run(args).await,
        ClusterCommand::List(args) => list::run(args),
        ClusterCommand::Start(args) => start(args).await,
        ClusterCommand::Stop(args) => stop(args).await,
        ClusterCommand::Delete(args) => delete(args).await,
        ClusterCommand::Import(args) => import::run(args).await,
        ClusterCommand::Node(command) => node::run(command).await,
    }
}

async fn start(NamedArgs { name, place }: NamedArgs) -> Result<()> {
    let clusters = clusters(&place)?;
    let mut cluster = select::cluster(&clusters, name.as_deref())?;
    let nodes = cluster.nodes()?;
    launch::start_stopped(&mut cluster, nodes).await
}

async fn stop(NamedArgs { name, place }: NamedArgs) -> Result<()> {
    let clusters = clusters(&place)?;
    let cluster = select::cluster(&clusters, name.as_deref())?;
    for stopped in launch::at_once(cluster.nodes()?, |node| node.stop()).await {
        stopped?;
    }
    say!("the cluster {0} is stopped; start it again with `knarr cluster start {0}`", cluster.name());
    Ok(())
}

async fn delete(NamedArgs { name, place }: NamedArgs) -> Result<()> {
    let clusters = clusters(&place)?;
    let cluster = select::cluster(&clusters, name.as_deref())?;
    remove(&clusters, &cluster)?;
    say!("the cluster {} is gone, and all that was made for it", cluster.name());
    Ok(())
}

/// Ends a cluster and removes everything of it, whatever state it is in.
fn remove(clusters: &Clusters, cluster: &Cluster) -> Result<()> {
    let own = access::own_kubeconfig(cluster);
    for path in cluster.record.kubeconfigs.iter().cloned().chain(kubeconfig::default_path()) {
        kubeconfig::remove_from(&path, &own)?;
    }
    Ok(clusters.delete(cluster)?)
}

fn clusters(place: &PlaceArgs) -> Result<Clusters> {
    // The same directory has the same name whichever way it was called: control groups are named by it.
    let root = DataDir::at(&place.clusters_dir)?.root().to_owned();
    Ok(Clusters::at(root, crate::agent::pods_group))
}

/// The node that the API server runs on.
fn is_server(cluster: &Cluster, node: &Node) -> bool {
    node.name == create::server_name(cluster.name())
}
