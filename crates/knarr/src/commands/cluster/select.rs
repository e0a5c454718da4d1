//! Which cluster and which node somebody means.

use anyhow::{Context, Result, bail};
use knarr_local::{Cluster, Clusters, Node};

/// The cluster of this name, or the only one.
pub fn cluster(clusters: &Clusters, name: Option<&str>) -> Result<Cluster> {
    if let Some(name) = name {
        let found = clusters.get(name)?;
        return found.with_context(|| {
            format!("there is no cluster {name} in {}; see `knarr cluster list`", clusters.root().display())
        });
    }
    let mut all = clusters.list()?;
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => bail!("there are several clusters: name one of them; see `knarr cluster list`"),
        (None, _) => {
            bail!("there is no cluster in {}; make one with `knarr cluster create NAME`", clusters.root().display())
        }
    }
}

/// The node of this name, whole or without its cluster's. A whole name says which cluster is meant.
pub fn node(clusters: &Clusters, cluster: Option<&str>, name: &str) -> Result<(Cluster, Node)> {
    let candidates = match cluster {
        Some(cluster) => vec![self::cluster(clusters, Some(cluster))?],
        None => clusters.list()?,
    };
    let mut matching = Vec::new();
    for cluster in candidates {
        for node in cluster.nodes()? {
            if node.name == name {
                return Ok((cluster, node));
            }
            if node.name.strip_prefix(cluster.name()).is_some_and(|rest| rest.strip_prefix('-') == Some(name)) {
                matching.push((cluster.clone(), node));
            }
        }
    }
    match (matching.pop(), matching.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => {
            bail!("several clusters have a node {name}: say which with --cluster, or by its whole name")
        }
        (None, _) => bail!("there is no node {name}; see `knarr cluster list`"),
    }
}
