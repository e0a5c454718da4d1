//! `knarr cluster list`: what the kernel says of the nodes, whether or not their API answers.

use anyhow::Result;
use knarr_local::{Cluster, Node, State};
use serde_json::{Value, json};

use super::{
    access,
    args::{ListArgs, ListFormat},
    is_server,
};
use crate::{datadir::DataDir, say::say};

const COLUMNS: [&str; 5] = ["CLUSTER", "NODE", "ROLE", "ADDRESS", "STATE"];

pub fn run(ListArgs { output, place }: ListArgs) -> Result<()> {
    let clusters = super::clusters(&place)?;
    let all = clusters.list()?;
    if let Some(ListFormat::Json) = output {
        let described = all.iter().map(describe).collect::<Result<Vec<_>>>()?;
        say!("{:#}", Value::Array(described));
        return Ok(());
    }
    if all.is_empty() {
        say!("there is no cluster in {}; make one with `knarr cluster create NAME`", clusters.root().display());
        return Ok(());
    }
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for cluster in &all {
        let nodes = cluster.nodes()?;
        if nodes.is_empty() {
            rows.push([cluster.name(), "", "", "", "unfinished"].map(str::to_owned));
        }
        for node in &nodes {
            let address = node.record()?.map(|record| record.address.to_string()).unwrap_or_default();
            let cells = [cluster.name(), &node.name, role(cluster, node), &address, state(node)?.0];
            rows.push(cells.map(str::to_owned));
        }
    }
    print(&rows);
    Ok(())
}

fn describe(cluster: &Cluster) -> Result<Value> {
    let nodes = cluster.nodes()?.into_iter().map(|node| {
        let (state, pid) = state(&node)?;
        let address = node.record()?.map(|record| record.address);
        Ok(json!({"name": node.name, "role": role(cluster, &node), "address": address, "state": state, "pid": pid,
            "dataDirectory": node.data_dir(), "log": node.log()}))
    });
    Ok(json!({
        "name": cluster.name(),
        "network": cluster.record.range,
        "bridge": cluster.record.bridge,
        "server": access::server_url(cluster),
        "kubeconfig": access::own_kubeconfig(cluster),
        "context": access::context_name(cluster.name()),
        "nodes": nodes.collect::<Result<Vec<_>>>()?,
    }))
}

fn role(cluster: &Cluster, node: &Node) -> &'static str {
    if is_server(cluster, node) { "server" } else { "agent" }
}

/// In a word, and process 1 as this host numbers it. A node whose program does not hold its data directory is about to
/// start it, for the first time or again.
fn state(node: &Node) -> Result<(&'static str, Option<i32>)> {
    Ok(match node.state()? {
        State::Stopped => ("stopped", None),
        State::Paused { pid } => ("paused", Some(pid)),
        State::Running { pid } => match DataDir::at(&node.data_dir())?.running() {
            Ok(None) => ("starting", Some(pid)),
            _ => ("running", Some(pid)),
        },
    })
}

fn print(rows: &[[String; 5]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}   "));
        say!("{}", cells.collect::<String>().trim_end());
    }
}
