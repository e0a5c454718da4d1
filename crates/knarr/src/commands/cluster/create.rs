//! `knarr cluster create`

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use knarr_local::{Cluster, Node, State};

use super::{
    access,
    args::{CreateArgs, ServerFlags},
    launch,
};
use crate::{
    kubeconfig,
    say::say,
    start::{self, progress::Progress},
};

const NETWORK: &str = "network";
/// Where an agent finds its token, as the node sees it.
const TOKEN: &str = "/etc/knarr/token";
const MAX_NAME: usize = 40;

pub fn server_name(cluster: &str) -> String {
    format!("{cluster}-server")
}

pub async fn run(args: CreateArgs) -> Result<()> {
    let CreateArgs { name, nodes, kubeconfig, images, network, server, place } = args;
    check_name(&name)?;
    let images = images.map(|dir| fs::canonicalize(&dir).with_context(|| format!("--images {}", dir.display())));
    let images = images.transpose()?;
    let kubeconfig = kubeconfig.map(std::path::absolute).transpose()?.or_else(kubeconfig::default_path);
    let clusters = super::clusters(&place)?;
    if let Some(there) = clusters.get(&name)? {
        return Err(exists(&there));
    }
    let agents: Vec<String> = (1..nodes).map(|number| agent_name(&name, number.into())).collect();
    let steps = [NETWORK.to_owned(), server_name(&name)].into_iter().chain(agents.clone());
    let progress = Progress::new(&steps.collect::<Vec<_>>());
    let mut cluster = match clusters.create(&name, network, images) {
        Ok(cluster) => cluster,
        Err(error) => {
            // What was made of it by then is noted in its directory.
            clusters.get(&name)?.map(|begun| super::remove(&clusters, &begun)).transpose()?;
            return Err(error.into());
        }
    };
    progress.ready(NETWORK);
    let made = tokio::select! {
        made = make(&mut cluster, &server, agents, kubeconfig.as_deref(), &progress) => made,
        () = progress.animate() => Ok(String::new()),
        () = start::interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    match made {
        Ok(next) => announce(&cluster, nodes, &progress, &next),
        Err(error) => {
            super::remove(&clusters, &cluster).context("what was made of the cluster could not be removed")?;
            Err(error)
        }
    }
}

/// Makes the nodes and starts them; gives the command to type next.
async fn make(
    cluster: &mut Cluster,
    flags: &ServerFlags,
    agents: Vec<String>,
    kubeconfig: Option<&Path>,
    progress: &Progress,
) -> Result<String> {
    let since = Timestamp::now();
    let name = server_name(cluster.name());
    let server = cluster.add_node(&name, |address, data| server_arguments(cluster, &name, flags, address, data))?;
    let mut started = launch::power_on(vec![server]).await?;
    let access = launch::wait_for_api(cluster, &started[0]).await?;
    let next = merge_context(cluster, kubeconfig)?;
    if !agents.is_empty() {
        let token = access.token().await?;
        let agents = agents.iter().map(|name| add_agent(cluster, name, &token));
        started.extend(launch::power_on(agents.collect::<Result<_>>()?).await?);
    }
    launch::wait_until_ready(&access, &started, since, progress).await?;
    Ok(next)
}

fn announce(cluster: &Cluster, nodes: u8, progress: &Progress, next: &str) -> Result<()> {
    let (name, seconds) = (cluster.name(), progress.elapsed().as_secs_f64());
    let nodes = if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") };
    say!("\ncluster {name} ready in {seconds:.2} s: {nodes} in {}\n\n  {next}\n", cluster.record.range);
    if !Cluster::finds_name_servers() {
        say!("note: this host's name server is on its loopback address, so pods find no names of the world\n");
    }
    for chain in knarr_net::forwarding_obstacles().unwrap_or_default() {
        let bridge = &cluster.record.bridge;
        say!(
            "note: the host's firewall ({chain}) drops forwarded packets, so nodes may not reach the world; accept those \
             from and to {bridge} there (with Docker: iptables -I DOCKER-USER -i {bridge} -j ACCEPT, and the same with \
             -o)\n"
        );
    }
    Ok(())
}

/// What a node of a number beyond the server's is called.
pub fn agent_name(cluster: &str, number: u32) -> String {
    format!("{cluster}-agent-{number}")
}

/// Makes an agent's node, with the token that it joins by.
pub fn add_agent(cluster: &Cluster, name: &str, token: &str) -> Result<Node> {
    let node = cluster.add_node(name, |address, data| agent_arguments(cluster, name, address, data))?;
    let path = node.root().join(TOKEN.trim_start_matches('/'));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path.parent().unwrap_or(&path))?;
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create(true).truncate(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, token.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(node)
}

fn server_arguments(cluster: &Cluster, name: &str, flags: &ServerFlags, address: Ipv4Addr, data: &Path) -> Vec<String> {
    let ServerFlags { load_balancer_pool, pod_cidr, node_monitor_grace_period, further } = flags;
    let pool = load_balancer_pool.clone().unwrap_or_else(|| cluster.record.range.pool());
    let mut words = vec!["server".to_owned(), "--port".to_owned(), access::PORT.to_string()];
    words.extend(["--load-balancer-pool".to_owned(), pool]);
    for (flag, value) in [("--pod-cidr", pod_cidr), ("--node-monitor-grace-period", node_monitor_grace_period)] {
        words.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    words.extend(node_arguments(cluster, name, address, data));
    words.extend(further.iter().cloned());
    words
}

fn agent_arguments(cluster: &Cluster, name: &str, address: Ipv4Addr, data: &Path) -> Vec<String> {
    let mut words = vec!["agent".to_owned(), "--server".to_owned(), access::server_url(cluster)];
    words.extend(["--token-file".to_owned(), TOKEN.to_owned()]);
    words.extend(node_arguments(cluster, name, address, data));
    words
}

fn node_arguments(cluster: &Cluster, name: &str, address: Ipv4Addr, data: &Path) -> Vec<String> {
    let images = cluster.record.images.as_ref().map(|dir| ("--images", dir.display().to_string()));
    let flags = [
        ("--data-dir", data.display().to_string()),
        ("--node-name", name.to_owned()),
        ("--node-ip", address.to_string()),
    ];
    flags.into_iter().chain(images).flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
}

/// Merges the context into the user's file; gives the command to type next.
fn merge_context(cluster: &mut Cluster, kubeconfig: Option<&Path>) -> Result<String> {
    let by_own_file = format!("kubectl --kubeconfig {} get nodes", access::own_kubeconfig(cluster).display());
    let Some(path) = kubeconfig else { return Ok(by_own_file) };
    // Noted first, so that a deletion finds it in any case.
    cluster.record.kubeconfigs.insert(path.to_owned());
    cluster.write()?;
    let context = match access::merge_into(cluster, path) {
        Ok(true) => String::new(),
        Ok(false) => format!(" --context {}", access::context_name(cluster.name())),
        // The cluster is fine without it, and the administrator's own file is there.
        Err(error) => return Ok(format!("{by_own_file}\n\nnote: {error:#}")),
    };
    if kubeconfig::default_path().as_deref() == Some(path) {
        return Ok(format!("kubectl{context} get nodes"));
    }
    Ok(format!("kubectl --kubeconfig {}{context} get nodes", path.display()))
}

fn exists(cluster: &Cluster) -> anyhow::Error {
    let name = cluster.name();
    let stopped = |node: &Node| node.state().is_ok_and(|state| state == State::Stopped);
    let start = match cluster.nodes() {
        Ok(nodes) if nodes.iter().any(stopped) => {
            format!("`knarr cluster start {name}` starts what is stopped of it, ")
        }
        _ => String::new(),
    };
    anyhow::anyhow!("there is a cluster {name} already: {start}`knarr cluster delete {name}` removes it")
}

/// The name becomes part of the nodes' names, which are host names.
fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if name.len() > MAX_NAME || !name.chars().all(allowed) || !edge(name.chars().next()) || !edge(name.chars().last()) {
        bail!(
            "{name:?} cannot be a cluster's name: it takes up to {MAX_NAME} lower-case letters, digits and '-', and begins \
             and ends with a letter or digit"
        );
    }
    Ok(())
}

/// Higher than any that is there, so that a new node is not taken for a removed one.
pub fn next_agent_number(cluster: &Cluster) -> Result<u32> {
    let prefix = format!("{}-agent-", cluster.name());
    let taken = cluster.nodes()?.into_iter().filter_map(|node| node.name.strip_prefix(&prefix)?.parse::<u32>().ok());
    Ok(taken.max().unwrap_or(0) + 1)
}

#[cfg(test)]
mod tests {
    use knarr_local::Clusters;

    use super::*;

    #[test]
    fn names() {
        for (name, good) in [
            ("bootcamp", true),
            ("team-2", true),
            ("", false),
            ("-a", false),
            ("a.b", false),
            ("a/b", false),
            ("..", false),
            (&*"x".repeat(41), false),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name:?}");
        }
    }

    #[test]
    fn numbers_are_not_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let clusters = Clusters::at(dir.path().to_owned(), |data| data.to_owned());
        fs::create_dir_all(dir.path().join("c/c-agent-7")).unwrap();
        fs::create_dir_all(dir.path().join("c/c-server")).unwrap();
        assert_eq!(next_agent_number(&clusters.get("c").unwrap().unwrap()).unwrap(), 8);
    }
}
