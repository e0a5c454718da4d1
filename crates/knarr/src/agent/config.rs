//! What the node half is told: from the command line, the host, and what the data directory noted before.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Taint;
use knarr_api::{cidr::Ipv4Cidr, meta::names};
use knarr_cri_grpc::client::Endpoint;
use knarr_net::Overlay;
use knarr_node::Periods;

use crate::{
    cli::{EngineArgs, IngressArgs, NodeArgs, ResourceArgs},
    datadir::{DataDir, Running},
    record::Record,
};

/// Everything that a node is told.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub data: DataDir,
    pub name: String,
    pub ip: IpAddr,
    pub port: u16,
    pub images: Option<PathBuf>,
    /// What says how registries are reached.
    pub registries: PathBuf,
    pub unsafe_sysctls: Vec<String>,
    pub resources: ResourceArgs,
    /// How long pods may take to end before the machine goes down.
    pub shutdown: Periods,
    /// Where device plugins register.
    pub device_plugin_dir: PathBuf,
    pub max_pods: u32,
    /// How many processes each pod may have, where there is a limit.
    pub pod_pids: Option<i64>,
    /// What pods resolve names by that are not the cluster's; the host's file where none is named.
    pub resolv_conf: Option<PathBuf>,
    /// Where plugins find the node.
    pub kubelet_dir: PathBuf,
    pub labels: BTreeMap<String, String>,
    /// Put on the Node when it is registered for the first time.
    pub taints: Vec<Taint>,
    pub engine: EngineArgs,
    pub ingress: IngressArgs,
    pub overlay: Overlay,
    /// The range of all pods; an agent hears of it from the cluster.
    pub pod_cidr: Option<Ipv4Cidr>,
    /// What the data directory said of itself; `None` for a new one.
    pub record: Option<Record>,
}

impl NodeConfig {
    /// `server` is where an agent's server is; its own address is the one that it has towards it.
    pub fn new(data: DataDir, args: NodeArgs, server: Option<&str>) -> Result<Self> {
        let NodeArgs {
            node_port,
            node_name,
            node_ip,
            images,
            node_labels,
            node_taints,
            overlay,
            allowed_unsafe_sysctls,
            device_plugin_dir,
            max_pods,
            pod_pids_limit,
            resolv_conf,
            shutdown,
            kubelet_dir,
            registries,
            resources,
            engine,
            ingress,
        } = args;
        if let Some(dir) = &images
            && let Err(error) = std::fs::read_dir(dir)
        {
            bail!("--images {}: {error}; name a directory of image archives", dir.display());
        }
        if let Some(path) = &resolv_conf
            && let Err(error) = std::fs::read(path)
        {
            bail!("--resolv-conf {}: {error}; name a file as resolv.conf(5) has it", path.display());
        }
        let record = data.record()?;
        let name = match (node_name, &record) {
            (Some(name), _) => name,
            (None, Some(record)) => record.node_name.clone(),
            (None, None) => host_name()?,
        };
        check_name(&name)?;
        let has_pods = std::fs::read_dir(super::pod_dir(data.root())).is_ok_and(|mut pods| pods.next().is_some());
        if let Some(record) = record.as_ref().filter(|_| has_pods) {
            check_runtime(record.runtime.as_deref(), engine.runtime.as_ref())?;
        }
        Ok(Self {
            device_plugin_dir: match device_plugin_dir {
                Some(dir) => std::path::absolute(dir)?,
                None => data.root().join("node/device-plugins"),
            },
            data,
            name,
            ip: node_ip.map_or_else(|| default_address(server), Ok)?,
            port: node_port,
            images,
            registries: registries.directory()?,
            unsafe_sysctls: allowed_unsafe_sysctls,
            resources,
            shutdown: shutdown.periods()?,
            max_pods,
            pod_pids: (pod_pids_limit > 0).then_some(pod_pids_limit),
            resolv_conf,
            kubelet_dir: std::path::absolute(kubelet_dir).context("--kubelet-dir names no path")?,
            labels: node_labels.into_iter().collect(),
            taints: node_taints,
            engine,
            ingress,
            overlay,
            pod_cidr: None,
            record,
        })
    }

    /// What the data directory says of this node.
    pub fn new_record(&self) -> Record {
        let mut record = Record::new(&self.name, self.engine.runtime.as_ref());
        record.kubelet_dir = Some(self.kubelet_dir.clone());
        record
    }

    /// What the lock tells others of a process that serves an API at `port`, or is the agent of the server at `server`.
    pub fn running(&self, port: Option<u16>, server: Option<String>) -> Running {
        Running {
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            version: crate::version::SHORT.into(),
            port,
            server,
            pid_namespace: knarr_os::lock::own_pid_namespace(),
            ends_pods_within: Some(self.shutdown.all),
        }
    }

    /// Tells this node from every other, also from those that were cloned from the same disk, and is the same when a
    /// machine joins anew after a reset.
    pub fn machine_identity(&self) -> String {
        use sha2::{Digest, Sha256};
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut digest = Sha256::new();
        for part in [read("/etc/machine-id"), read("/sys/class/dmi/id/product_uuid")] {
            digest.update(part.trim());
            digest.update([0]);
        }
        digest.update(self.data.root().as_os_str().as_encoded_bytes());
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// `key=value`, for `--node-labels`.
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = parse_pair(text)?;
    if knarr_apiserver::admission::is_forbidden_to_nodes(&key) {
        return Err(format!(
            "no node may give itself the label {key}, which decides what may run where: set it by `kubectl label node`"
        ));
    }
    Ok((key, value))
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label reads KEY=VALUE")?;
    let faults = [names::qualified_name(key), names::label_value(value)].concat();
    match faults.first() {
        Some(fault) => Err(format!("{text:?} cannot be a label: {fault}")),
        None => Ok((key.to_owned(), value.to_owned())),
    }
}

/// `key=value:effect` or `key:effect`, for `--node-taints`.
pub fn parse_taint(text: &str) -> Result<Taint, String> {
    let (rest, effect) = text.rsplit_once(':').ok_or("a taint reads KEY[=VALUE]:EFFECT")?;
    if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
        return Err(format!("{effect:?} is no effect of a taint: NoSchedule, PreferNoSchedule or NoExecute"));
    }
    let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
    let (key, value) = parse_pair(&format!("{key}={value}"))?;
    Ok(Taint { key, value: Some(value).filter(|value| !value.is_empty()), effect: effect.to_owned(), time_added: None })
}

fn host_name() -> Result<String> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().context("the host's name is not UTF-8; give --node-name")?;
    Ok(name.to_lowercase())
}

/// A node's name is a label on everything it runs, so it is checked before anything is made.
fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if name.len() > 63 || !name.chars().all(allowed) || !edge(name.chars().next()) || !edge(name.chars().last()) {
        bail!(
            "{name:?} cannot be a node's name: it takes up to 63 lower-case letters, digits, '-' and '.', and begins and \
             ends with a letter or digit; give --node-name"
        );
    }
    Ok(())
}

/// Pods that one runtime has are none that another could end.
fn check_runtime(before: Option<&str>, now: Option<&Endpoint>) -> Result<()> {
    let now = now.map(Endpoint::to_string);
    if before == now.as_deref() {
        return Ok(());
    }
    let name = |runtime: Option<&str>| runtime.map_or("the built-in runtime".to_owned(), str::to_owned);
    bail!(
        "the pods of this data directory are run by {}, and {} would not find them: keep --runtime as it was, or begin \
         anew after `knarr reset`",
        name(before),
        name(now.as_deref())
    );
}

/// The address that the host would use towards its server, or towards others. Connecting a datagram socket sends
/// nothing.
fn default_address(server: Option<&str>) -> Result<IpAddr> {
    let server_ip = server.and_then(|url| {
        let url: http::Uri = url.parse().ok()?;
        url.host()?.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok()
    });
    let peer = SocketAddr::from((server_ip.unwrap_or(Ipv4Addr::new(203, 0, 113, 1).into()), 9));
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = std::net::UdpSocket::bind((any, 0)).context("cannot open a socket")?;
    match (socket.connect(peer).and_then(|()| socket.local_addr()), server) {
        (Ok(address), Some(_)) if !address.ip().is_unspecified() => Ok(address.ip()),
        (Ok(address), None) if !address.ip().is_loopback() && !address.ip().is_unspecified() => Ok(address.ip()),
        (_, Some(server)) => bail!("this machine has no address by which {server} could reach it; give --node-ip"),
        // A laptop without a network still has pods, and they reach their node here.
        (_, None) => Ok(knarr_net::Config::new("", "", Ipv4Addr::UNSPECIFIED.into()).gateway().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names() {
        let rows = [
            ("node-1", true),
            ("a.b", true),
            ("", false),
            ("-a", false),
            ("a-", false),
            ("UPPER", false),
            ("under_score", false),
            (&*"x".repeat(64), false),
        ];
        for (name, good) in rows {
            assert_eq!(check_name(name).is_ok(), good, "{name:?}");
        }
    }

    #[test]
    fn labels_and_taints() {
        let label = parse_label("topology.kubernetes.io/zone=a").unwrap();
        assert_eq!(label, ("topology.kubernetes.io/zone".to_owned(), "a".to_owned()));
        for bad in ["zone", "=a", "a b=c", "a=b c", "node-role.kubernetes.io/db=a"] {
            assert!(parse_label(bad).is_err(), "{bad}");
        }
        let taint = |text: &str| parse_taint(text).map(|taint| (taint.key, taint.value, taint.effect));
        let owned =
            |key: &str, value: Option<&str>, effect: &str| (key.into(), value.map(str::to_owned), effect.into());
        assert_eq!(taint("gpu=yes:NoSchedule"), Ok(owned("gpu", Some("yes"), "NoSchedule")));
        assert_eq!(taint("gpu:NoExecute"), Ok(owned("gpu", None, "NoExecute")));
        for bad in ["gpu", "gpu=yes", "gpu:Never", ":NoSchedule"] {
            assert!(parse_taint(bad).is_err(), "{bad}");
        }
    }
}
