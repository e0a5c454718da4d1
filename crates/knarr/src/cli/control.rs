//! What the server half is told.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use knarr_api::cidr::{CidrError, Ipv4Cidr};
use knarr_controllers::AddressPool;

use super::{
    keeping::{AuditArgs, DatastoreArgs},
    parse_period, parse_time,
    users::AuthArgs,
};
use crate::ranges::SERVICE_CIDR;

#[derive(Clone, Debug, Args)]
pub struct ControlArgs {
    /// The API server's port
    #[arg(long, default_value_t = 6443, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// Further names and addresses that the API server is reached by
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub tls_san: Vec<String>,
    /// How long a node may say nothing before its pods are taken for lost; 5s at least
    #[arg(long, value_name = "TIME", default_value = "40s", value_parser = parse_grace)]
    pub node_monitor_grace_period: Duration,
    /// How often nodes are asked what their pods use
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_period)]
    pub metric_resolution: Duration,
    /// How often autoscalers look at what pods use
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_period)]
    pub horizontal_pod_autoscaler_sync_period: Duration,
    /// Encrypt Secrets with the first key in this file, and read those of the others (each 32 bytes in base64, one a
    /// line) [default: a key made at the first start, in the data directory]
    #[arg(long, value_name = "FILE")]
    pub encryption_key_file: Option<PathBuf>,
    /// The range of all pods' addresses, of which each node gets a /24
    #[arg(long, value_name = "CIDR", default_value = "10.244.0.0/16", value_parser = parse_pod_cidr)]
    pub pod_cidr: Ipv4Cidr,
    /// Addresses for Services of type LoadBalancer: FROM-TO or a CIDR, several with commas between them [default: none;
    /// they get the nodes' addresses]
    #[arg(long, value_name = "RANGE,...")]
    pub load_balancer_pool: Option<AddressPool>,
    /// An apiserver.config.k8s.io/v1 AdmissionConfiguration: what PodSecurity asks for where a namespace says nothing, and
    /// whom it exempts
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
    #[command(flatten)]
    pub auth: AuthArgs,
    #[command(flatten)]
    pub audit: AuditArgs,
    #[command(flatten)]
    pub datastore: DatastoreArgs,
}

/// The range of all pods must not be that of the Services, and hold at least one node's.
fn parse_pod_cidr(text: &str) -> Result<Ipv4Cidr, String> {
    let parse = |text: &str| text.parse::<Ipv4Cidr>().map_err(|error: CidrError| error.to_string());
    let (range, services) = (parse(text)?, parse(SERVICE_CIDR)?);
    if range.overlaps(&services) {
        return Err(format!("{range} overlaps {services}, the addresses of Services"));
    }
    if range.prefix() > 28 {
        return Err(format!("{range} has room for too few pods; a /28 is the least"));
    }
    Ok(range)
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    let grace = parse_time(text)?;
    if grace < Duration::from_secs(5) {
        return Err("nodes cannot be told from dead ones in less than 5s".to_owned());
    }
    Ok(grace)
}
