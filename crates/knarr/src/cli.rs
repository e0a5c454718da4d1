//! The command line: what can be typed, and nothing of what it does.

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};
use k8s_openapi::api::core::v1::Taint;

use knarr_api::cidr::{CidrError, Ipv4Cidr};
use knarr_controllers::AddressPool;
use knarr_net::Overlay;

use crate::{
    agent::{parse_label, parse_taint},
    ranges::SERVICE_CIDR,
};

use crate::commands::cluster::ClusterCommand;

/// Kubernetes in one program.
#[derive(Debug, Parser)]
#[command(name = "knarr", version = crate::version::SHORT, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// All that can be typed: Knarr's own commands, then those that kubectl has too.
pub fn full() -> clap::Command {
    Cli::command().subcommands(knarr_cli::commands())
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster: server and node in one process
    Up(UpArgs),
    /// Start a server that other machines join, with a node beside it, in the foreground
    Server(ServerArgs),
    /// Make this machine a node of a server's cluster, in the foreground
    Agent(AgentArgs),
    /// Make, list and revoke what machines join with
    #[command(subcommand)]
    Token(TokenCommand),
    /// Stop the process; running pods stay, and `knarr up` takes them back
    Down(DataArgs),
    /// Show what runs, and how it is
    Status(DataArgs),
    /// Stop all pods and remove everything that Knarr made on this host
    Reset(ResetArgs),
    /// Write all objects, and the keys and certificates that belong to them, into one file
    Backup(BackupArgs),
    /// Make a data directory from such a file
    Restore(RestoreArgs),
    /// Clusters of several nodes on this machine
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Import, list and remove images
    #[command(subcommand)]
    Image(ImageCommand),
    /// Show what this host offers, and what is lost where something is missing
    Check(CheckArgs),
    /// Print the version
    Version,
    /// The web server in the built-in demo image
    #[command(hide = true)]
    DemoApp(DemoAppArgs),
}

/// Where a cluster lives.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// Holds everything that the cluster keeps
    #[arg(long, value_name = "DIR", default_value = "/var/lib/knarr", env = "KNARR_DATA_DIR")]
    pub data_dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Merge the context `knarr` into this file instead of ~/.kube/config
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub control: ControlArgs,
    #[command(flatten)]
    pub node: NodeArgs,
    /// Return once the cluster is ready, and leave it running
    #[arg(long)]
    pub detach: bool,
}

#[derive(Clone, Debug, Args)]
pub struct ServerArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Merge the context `knarr` into this file; without it, DIR/admin.kubeconfig is the only one
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    #[command(flatten)]
    pub control: ControlArgs,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Clone, Debug, Args)]
pub struct AgentArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Where the server is, as https://HOST:6443
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// What `knarr token create` printed; needed once, to join
    #[arg(long, value_name = "T", env = "KNARR_TOKEN", hide_env_values = true, conflicts_with = "token_file")]
    pub token: Option<String>,
    /// A file with the token in it
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, and print what to type on the machine that is to join
    Create {
        #[command(flatten)]
        data: DataArgs,
        /// For how long it is good; 0s for ever
        #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_time)]
        ttl: Duration,
    },
    /// List the tokens, without what is secret of them
    List {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Make tokens useless; who has joined by them stays
    Revoke {
        #[command(flatten)]
        data: DataArgs,
        #[arg(required = true, value_name = "ID")]
        tokens: Vec<String>,
    },
}

/// What the server half is told.
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
    #[command(flatten)]
    pub auth: AuthArgs,
    #[command(flatten)]
    pub audit: AuditArgs,
    #[command(flatten)]
    pub datastore: DatastoreArgs,
}

/// What is written down of requests to the API. Both a policy and a place are needed; without them nothing is.
#[derive(Clone, Debug, Default, Args)]
pub struct AuditArgs {
    /// An audit.k8s.io/v1 Policy: which requests are logged, and how much of them
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    pub audit_policy_file: Option<PathBuf>,
    /// Where audit events go, one line of JSON each; - for standard output
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,
    /// Begin a new audit log when the old one has this many megabytes; 0 for 100
    #[arg(long, value_name = "MB", default_value_t = 0, requires = "audit_log_path")]
    pub audit_log_maxsize: u32,
    /// How many old audit logs are kept; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0, requires = "audit_log_path")]
    pub audit_log_maxbackup: u32,
    /// For how many days old audit logs are kept; 0 for ever
    #[arg(long, value_name = "DAYS", default_value_t = 0, requires = "audit_log_path")]
    pub audit_log_maxage: u32,
}

/// Whom the API server knows beside its own certificates and tokens; the options of kube-apiserver.
#[derive(Clone, Debug, Args)]
pub struct AuthArgs {
    /// Users by tokens: a CSV file with token, user name, user uid and, in quotes, groups
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// The OpenID Connect provider whose ID tokens are taken (https)
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    pub oidc_issuer_url: Option<String>,
    /// Whom ID tokens must be for
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    pub oidc_client_id: Option<String>,
    /// The claim that is the user's name
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    pub oidc_username_claim: String,
    /// What is put before users' names; - for nothing [default: the provider's URL and #, nothing where the claim is email]
    #[arg(long, value_name = "PREFIX", requires = "oidc_issuer_url", allow_hyphen_values = true)]
    pub oidc_username_prefix: Option<String>,
    /// The claim that lists the user's groups
    #[arg(long, value_name = "CLAIM", requires = "oidc_issuer_url")]
    pub oidc_groups_claim: Option<String>,
    /// What is put before groups' names
    #[arg(long, value_name = "PREFIX", requires = "oidc_groups_claim")]
    pub oidc_groups_prefix: Option<String>,
    /// A claim that ID tokens must have, with its value; may be given several times
    #[arg(long, value_name = "CLAIM=VALUE", requires = "oidc_issuer_url", value_parser = parse_claim)]
    pub oidc_required_claim: Vec<(String, String)>,
    /// Authorities that the provider's certificate may be of [default: those that the host trusts]
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url")]
    pub oidc_ca_file: Option<PathBuf>,
    /// How ID tokens may be signed: RS, PS or ES with 256 or 384, RS512, PS512
    #[arg(long, value_name = "ALG,...", value_delimiter = ',', default_value = "RS256")]
    pub oidc_signing_algs: Vec<String>,
    /// Authorities of front proxies, whose word is taken for who asks [default: the one in the data directory]
    #[arg(long, value_name = "FILE")]
    pub requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of front proxies [default: any of those authorities']
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', requires = "requestheader_client_ca_file")]
    pub requestheader_allowed_names: Vec<String>,
    /// Headers of front proxies with the user's name
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "X-Remote-User")]
    pub requestheader_username_headers: Vec<String>,
    /// Headers of front proxies with the user's uid
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "X-Remote-Uid")]
    pub requestheader_uid_headers: Vec<String>,
    /// Headers of front proxies with the user's groups
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "X-Remote-Group")]
    pub requestheader_group_headers: Vec<String>,
    /// What front proxies' headers with more about the user begin with
    #[arg(long, value_name = "PREFIX,...", value_delimiter = ',', default_value = "X-Remote-Extra-")]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

fn parse_claim(text: &str) -> Result<(String, String), String> {
    let (claim, value) = text.split_once('=').ok_or("a required claim reads CLAIM=VALUE")?;
    Ok((claim.trim().to_owned(), value.trim().to_owned()))
}

/// Where the cluster's objects are kept.
#[derive(Clone, Debug, Args)]
pub struct DatastoreArgs {
    /// Keep the cluster's objects in the data directory, or in an etcd of yours: `embedded`, or
    /// `etcd=https://HOST:2379,...` with its endpoints
    #[arg(long, value_name = "STORE", default_value = "embedded", value_parser = parse_datastore)]
    pub datastore: Datastore,
    /// The authorities that etcd's certificates are from, in PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// The client certificate for etcd, in PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_certfile: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE")]
    pub etcd_keyfile: Option<PathBuf>,
    /// What all keys in etcd begin with [default: /registry]
    #[arg(long, value_name = "PREFIX")]
    pub etcd_prefix: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datastore {
    Embedded,
    /// The endpoints.
    Etcd(Vec<String>),
}

fn parse_datastore(text: &str) -> Result<Datastore, String> {
    match text.split_once('=') {
        None if text == "embedded" => Ok(Datastore::Embedded),
        Some(("etcd", endpoints)) => Ok(Datastore::Etcd(endpoints.split(',').map(str::to_owned).collect())),
        _ => Err("a datastore reads embedded, or etcd=https://HOST:2379,...".to_owned()),
    }
}

/// What the node half is told.
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
    #[command(flatten)]
    pub ingress: IngressArgs,
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

/// A time as people write it: `40s`, `24h`, `1h30m`.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text.parse().map_err(|_| "a time reads 40s, 30m or 24h")?;
    Duration::try_from(span).map_err(|_| "a time cannot be negative".to_owned())
}

/// A period of nothing would be work without an end.
fn parse_period(text: &str) -> Result<Duration, String> {
    let period = parse_time(text)?;
    if period.is_zero() { Err("a period must be longer than 0s".to_owned()) } else { Ok(period) }
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

#[derive(Clone, Debug, Args)]
pub struct ResetArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// The file to make; it will hold the cluster's private keys, and only its owner may read it
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub data: DataArgs,
    /// The file with the keys for Secrets, where a server that does not run was told one
    #[arg(long, value_name = "FILE")]
    pub encryption_key_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// What `knarr backup` made
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The data directory to make; an empty or a new one
    #[arg(long, value_name = "DIR", env = "KNARR_DATA_DIR")]
    pub data_dir: PathBuf,
}

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// The API server's port
    #[arg(long, default_value_t = 6443, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// The node's own port
    #[arg(long, default_value_t = 10250, value_parser = clap::value_parser!(u16).range(1..))]
    pub node_port: u16,
}

#[derive(Clone, Debug, Subcommand)]
pub enum ImageCommand {
    /// Import archives (docker save, or an OCI layout as directory or tar)
    Import {
        #[command(flatten)]
        data: DataArgs,
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List the images on this node
    Ls {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Remove images by name or id
    Rm {
        #[command(flatten)]
        data: DataArgs,
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

#[derive(Clone, Debug, Args)]
pub struct DemoAppArgs {
    /// The port to listen on
    #[arg(long, default_value_t = 8080, env = "PORT")]
    pub port: u16,
}

#[cfg(test)]
mod tests {
    #[test]
    fn datastores() {
        use super::{Datastore::*, parse_datastore};
        let two = Etcd(vec!["https://a:2379".into(), "https://b:2379".into()]);
        for (text, expected) in [
            ("embedded", Some(Embedded)),
            ("etcd=https://a:2379,https://b:2379", Some(two)),
            ("etcd", None),
            ("sqlite=/x", None),
        ] {
            assert_eq!(parse_datastore(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::full().debug_assert();
    }
}
