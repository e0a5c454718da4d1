//! What must hold before anything is made: each failure says what is wrong and what to do.

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;

use crate::{agent::NodeConfig, host_ports};

/// `ports` are those that will be listened on, with the flags that choose them.
pub fn check(config: &NodeConfig, ports: &[(u16, &str)]) -> Result<()> {
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.ends_with("overlay")) {
        bail!("the kernel has no overlayfs, which containers need: try `modprobe overlay`, then `knarr check`");
    }
    let cgroups = Path::new("/sys/fs/cgroup");
    if !cgroups.join("cgroup.controllers").exists() && !cgroups.join("memory").is_dir() {
        bail!("no cgroups are mounted at /sys/fs/cgroup, which pods need: mount them, then try `knarr check`");
    }
    config.data.check_free()?;
    check_ports(ports)?;
    knarr_net::check_host(config.data.root())?;
    Ok(())
}

/// Containers, mounts and networks are root's; said before anything else, for all the rest follows from it.
pub fn check_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a node makes containers and needs root: run it with sudo");
    }
    Ok(())
}

/// All ports are tried at once, so that a user hears of all.
fn check_ports(ports: &[(u16, &str)]) -> Result<()> {
    if let [(one, flag), (other, other_flag)] = ports
        && one == other
    {
        bail!("{flag} and {other_flag} are both {one}; they must differ");
    }
    let taken = ports.iter().filter_map(|(port, flag)| {
        let owner = host_ports::taken_by(*port)?;
        Some(format!("port {port} is taken by {owner}: stop it, or choose another port with {flag}"))
    });
    let taken: Vec<String> = taken.collect();
    if taken.is_empty() { Ok(()) } else { bail!("{}", taken.join("; ")) }
}

pub async fn bind(port: u16, flag: &str) -> Result<TcpListener> {
    let bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    bound.with_context(|| format!("cannot listen on port {port}; choose another with {flag}"))
}
