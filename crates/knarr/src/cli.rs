//! The command line: what can be typed, and nothing of what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Kubernetes in one program.
#[derive(Debug, Parser)]
#[command(name = "knarr", version = crate::version::SHORT, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster: server and node in one process
    Up(UpArgs),
    /// Stop the process; running pods stay, and `knarr up` takes them back
    Down(DataArgs),
    /// Show what runs, and how it is
    Status(DataArgs),
    /// Stop all pods and remove everything that Knarr made on this host
    Reset(ResetArgs),
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
    /// The API server's port
    #[arg(long, default_value_t = 6443, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
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
    /// Kernel parameters that pods may set beside the safe ones, such as net.core.somaxconn or net.ipv4.*
    #[arg(long, value_name = "NAME,...", value_delimiter = ',')]
    pub allowed_unsafe_sysctls: Vec<String>,
    /// Return once the cluster is ready, and leave it running
    #[arg(long)]
    pub detach: bool,
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
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
