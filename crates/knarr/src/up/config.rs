//! What one start of a cluster is decided by: the command line, the host, and the usual ranges.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};

use crate::{
    cli::UpArgs,
    datadir::{DataDir, Running},
    record::Record,
};

pub const CLUSTER_DOMAIN: &str = "cluster.local";
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// The first address of the service range: the `kubernetes` Service.
pub const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Where pods find the cluster's DNS.
pub const CLUSTER_DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Everything that the parts are told.
#[derive(Clone, Debug)]
pub struct Config {
    pub data: DataDir,
    pub node_name: String,
    pub node_ip: IpAddr,
    pub port: u16,
    pub node_port: u16,
    /// Where the context is merged into; `None` where there is no home to find one in.
    pub kubeconfig: Option<PathBuf>,
    pub images: Option<PathBuf>,
    pub unsafe_sysctls: Vec<String>,
    /// What the data directory said of itself; `None` for a new one.
    pub record: Option<Record>,
}

impl Config {
    pub fn new(args: UpArgs) -> Result<Self> {
        let UpArgs { data, kubeconfig, port, node_port, node_name, node_ip, images, allowed_unsafe_sysctls, detach: _ } =
            args;
        if let Some(dir) = &images
            && let Err(error) = std::fs::read_dir(dir)
        {
            bail!("--images {}: {error}; name a directory of image archives", dir.display());
        }
        if port == node_port {
            bail!("--port and --node-port are both {port}; they must differ");
        }
        let data = DataDir::at(&data.data_dir)?;
        let record = data.record()?;
        let node_name = match (node_name, &record) {
            (Some(name), _) => name,
            (None, Some(record)) => record.node_name.clone(),
            (None, None) => host_name()?,
        };
        check_name(&node_name)?;
        Ok(Self {
            data,
            node_name,
            node_ip: node_ip.map_or_else(default_address, Ok)?,
            port,
            node_port,
            kubeconfig: kubeconfig.map(std::path::absolute).transpose()?.or_else(crate::kubeconfig::default_path),
            images,
            unsafe_sysctls: allowed_unsafe_sysctls,
            record,
        })
    }

    /// What the lock tells others.
    pub fn running(&self) -> Running {
        Running {
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            version: crate::version::SHORT.into(),
            port: Some(self.port),
        }
    }

    /// Where the API server is reached from this machine.
    pub fn server_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
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

/// The address that the host would use towards others. Connecting a datagram socket sends nothing.
fn default_address() -> Result<IpAddr> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot open a socket")?;
    let anywhere = SocketAddr::from((Ipv4Addr::new(203, 0, 113, 1), 9));
    match socket.connect(anywhere).and_then(|()| socket.local_addr()) {
        Ok(address) if !address.ip().is_loopback() && !address.ip().is_unspecified() => Ok(address.ip()),
        // A laptop without a network still has pods, and they reach their node here.
        _ => Ok(knarr_net::Config::new("", "", Ipv4Addr::UNSPECIFIED.into()).gateway().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

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
}
