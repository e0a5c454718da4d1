//! What the node half is told.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::core::v1::Taint;

use knarr_net::Overlay;
use knarr_node::Periods;

use super::{EngineArgs, ResourceArgs, parse_time};
use crate::agent::{parse_label, parse_taint};

#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The node's own port, for logs and exec
    #[arg(long, default_value_t = 10250, value_parser = clap::value_parser!(u16).range(1..))]
    pub node_port: u16,
    /// The node's name [default: the host's name]
    #[arg(long, value_name = "N")]
    pub node_name: Option<String>,
    /// The node's address [default: that of the default route]
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<std::net::IpAddr>,
    /// Import every image archive in this directory at start
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Labels that the node has
    #[arg(long, value_name = "K=V,...", value_delimiter = ',', value_parser = parse_label)]
    pub node_labels: Vec<(String, String)>,
    /// Taints that the node is registered with
    #[arg(long, value_name = "K=V:EFFECT,...", value_delimiter = ',', value_parser = parse_taint)]
    pub node_taints: Vec<Taint>,
    /// The way to other nodes' pods: auto (plain routes to neighbours, VXLAN to others), routes or vxlan; the same on
    /// all nodes
    #[arg(long, value_name = "WAY", default_value = "auto")]
    pub overlay: Overlay,
    /// Kernel parameters that pods may set beside the safe ones, such as net.core.somaxconn or net.ipv4.*
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Where device plugins register, for plugins that are no pods; pods find theirs by mounting
    /// /var/lib/kubelet/device-plugins in any case [default: node/device-plugins in the data directory]
    #[arg(long, value_name = "DIR")]
    pub device_plugin_dir: Option<PathBuf>,
    /// How many pods the node takes
    #[arg(long, value_name = "N", default_value_t = 110)]
    pub max_pods: u32,
    /// How many processes each pod may have; -1 for as many as the node has
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub pod_pids_limit: i64,
    /// The name servers of pods with dnsPolicy Default, and of the cluster's DNS for all other names [default:
    /// /etc/resolv.conf, or systemd-resolved's where that leads to it]
    #[arg(long, value_name = "FILE")]
    pub resolv_conf: Option<PathBuf>,
    /// Where plugins for devices and volumes find the node: they register in plugins_registry below it
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_dir: PathBuf,
    #[command(flatten)]
    pub shutdown: ShutdownArgs,
    #[command(flatten)]
    pub registries: RegistryArgs,
    #[command(flatten)]
    pub resources: ResourceArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
    #[command(flatten)]
    pub ingress: IngressArgs,
}

/// How long pods may take to end before the machine goes down (`knarr down --pods`, or the signal PWR).
#[derive(Clone, Copy, Debug, Args)]
pub struct ShutdownArgs {
    /// How long all pods together may take to end before the machine goes down
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "30s")]
    pub shutdown_grace_period: Duration,
    /// The part of it that is kept for critical pods, which end last
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "10s")]
    pub shutdown_grace_period_critical_pods: Duration,
}

impl ShutdownArgs {
    pub fn periods(self) -> anyhow::Result<Periods> {
        let periods = Periods::new(self.shutdown_grace_period, self.shutdown_grace_period_critical_pods);
        periods.context("--shutdown-grace-period-critical-pods")
    }
}

/// How registries are reached.
#[derive(Clone, Debug, Args)]
pub struct RegistryArgs {
    /// A directory of HOST/hosts.toml files as containerd reads them: mirrors, certificates and headers of registries
    /// [default: /etc/knarr/certs.d]
    #[arg(long, value_name = "DIR")]
    pub registry_config_dir: Option<PathBuf>,
}

impl RegistryArgs {
    /// One that is named has to be there; the usual one need not.
    pub fn directory(self) -> anyhow::Result<PathBuf> {
        let Some(dir) = self.registry_config_dir else { return Ok("/etc/knarr/certs.d".into()) };
        match std::fs::read_dir(&dir) {
            Ok(_) => Ok(dir),
            Err(error) => anyhow::bail!(
                "--registry-config-dir {}: {error}; name a directory of HOST/hosts.toml files",
                dir.display()
            ),
        }
    }
}

/// Where a node answers for Ingresses, once there is one.
#[derive(Clone, Copy, Debug, Args)]
pub struct IngressArgs {
    /// The node's port for Ingresses by HTTP; 0 for none
    #[arg(long, value_name = "PORT", default_value_t = 80)]
    pub ingress_http_port: u16,
    /// The node's port for Ingresses by HTTPS; 0 for none
    #[arg(long, value_name = "PORT", default_value_t = 443)]
    pub ingress_https_port: u16,
}

impl IngressArgs {
    pub fn is_on(self) -> bool {
        self.ingress_http_port != 0 || self.ingress_https_port != 0
    }
}
