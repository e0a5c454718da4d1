//! What the server half is told.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use knarr_api::cidr::Ipv4Cidr;
use knarr_apiserver::audit::LogConfig;
use knarr_controllers::AddressPool;

use super::datastore::DatastoreConfig;
use crate::{
    agent::NodeConfig,
    cli::{AuditArgs, AuthArgs, ControlArgs},
    datadir::DataDir,
};

#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub data: DataDir,
    /// The node in the server's own process.
    pub node_name: String,
    /// Where other machines reach the API server.
    pub address: IpAddr,
    pub port: u16,
    /// Further names and addresses that it is reached by.
    pub names: Vec<String>,
    pub node_monitor_grace: Duration,
    pub metric_resolution: Duration,
    pub autoscaler_period: Duration,
    /// The nodes serve Ingresses.
    pub ingress: bool,
    /// Keys for Secrets in a file of the user's; `None` for the one in the data directory.
    pub encryption_key_file: Option<PathBuf>,
    pub pod_cidr: Ipv4Cidr,
    pub load_balancer_pool: Option<AddressPool>,
    /// `None` where requests are not logged.
    pub audit: Option<AuditConfig>,
    /// What the administrator says of admission; `None` where nothing.
    pub admission_file: Option<PathBuf>,
    pub auth: AuthArgs,
    pub datastore: DatastoreConfig,
    /// A cluster was kept in the data directory before.
    pub is_known: bool,
}

/// Where it is said what is logged of requests, and where it is logged.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    pub policy_file: PathBuf,
    pub log: LogConfig,
}

impl AuditConfig {
    fn new(args: AuditArgs) -> Option<Self> {
        let AuditArgs { audit_policy_file, audit_log_path, audit_log_maxsize, audit_log_maxbackup, audit_log_maxage } =
            args;
        // The command line takes neither without the other.
        let (policy_file, path) = audit_policy_file.zip(audit_log_path)?;
        let log = LogConfig {
            path,
            max_size_bytes: u64::from(audit_log_maxsize) << 20,
            max_backups: audit_log_maxbackup as usize,
            max_age_days: audit_log_maxage,
        };
        Some(Self { policy_file, log })
    }
}

impl ServerConfig {
    pub fn new(node: &NodeConfig, args: ControlArgs) -> Result<Self> {
        let ControlArgs {
            port,
            tls_san,
            node_monitor_grace_period,
            metric_resolution,
            horizontal_pod_autoscaler_sync_period,
            encryption_key_file,
            pod_cidr,
            load_balancer_pool,
            admission_control_config_file,
            audit,
            auth,
            datastore,
        } = args;
        Ok(Self {
            data: node.data.clone(),
            node_name: node.name.clone(),
            address: node.ip,
            port,
            names: tls_san,
            node_monitor_grace: node_monitor_grace_period,
            metric_resolution,
            autoscaler_period: horizontal_pod_autoscaler_sync_period,
            ingress: node.ingress.is_on(),
            encryption_key_file,
            pod_cidr,
            load_balancer_pool,
            audit: AuditConfig::new(audit),
            admission_file: admission_control_config_file,
            auth,
            datastore: DatastoreConfig::new(datastore)?,
            is_known: node.record.is_some(),
        })
    }
}
