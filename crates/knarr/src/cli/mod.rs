//! The command line: what can be typed, and nothing of what it does.

mod control;
mod engine;
mod keeping;
mod node;
mod resources;
mod users;

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::commands::cluster::ClusterCommand;

pub use control::ControlArgs;
pub use engine::EngineArgs;
pub use keeping::{AuditArgs, Datastore, DatastoreArgs};
pub use node::{IngressArgs, NodeArgs, RegistryArgs};
pub use resources::ResourceArgs;
pub use users::AuthArgs;

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
    Down(DownArgs),
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
    /// Pull, import, export, list and remove images
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

#[derive(Clone, Debug, Args)]
pub struct DownArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// End this node's pods first, critical ones last, as before the machine goes down
    #[arg(long)]
    pub pods: bool,
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
    /// Pull images from registries
    Pull {
        #[command(flatten)]
        data: DataArgs,
        #[command(flatten)]
        registries: RegistryArgs,
        /// A file with names and passwords of registries, as `docker login` and `podman login` write it
        #[arg(long, value_name = "FILE")]
        docker_config: Option<PathBuf>,
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Write images to an archive that `knarr image import`, docker load, podman and skopeo read
    Export {
        #[command(flatten)]
        data: DataArgs,
        /// The archive to make
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Remove the pulled images that no container uses; imported ones stay until they are removed by name
    Prune {
        #[command(flatten)]
        data: DataArgs,
    },
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::full().debug_assert();
    }
}
