//! What must hold before anything is made: each failure says what is wrong and what to do.

use std::{fs, io::ErrorKind, net::Ipv4Addr, path::Path};

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;

use super::config::Config;

pub fn check(config: &Config) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("knarr up makes containers and needs root: run it with sudo");
    }
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.lines().any(|line| line.ends_with("overlay")) {
        bail!("the kernel has no overlayfs, which containers need: try `modprobe overlay`, then `knarr check`");
    }
    let cgroups = Path::new("/sys/fs/cgroup");
    if !cgroups.join("cgroup.controllers").exists() && !cgroups.join("memory").is_dir() {
        bail!("no cgroups are mounted at /sys/fs/cgroup, which pods need: mount them, then try `knarr check`");
    }
    // Both ports are tried at once, so that a user hears of both before anything is made.
    let taken: Vec<u16> = [config.port, config.node_port].into_iter().filter(|port| is_taken(*port)).collect();
    if !taken.is_empty() && config.data.running().is_none() {
        bail!("{}", port_message(&taken));
    }
    Ok(())
}

fn is_taken(port: u16) -> bool {
    let bound = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    matches!(bound, Err(error) if error.kind() == ErrorKind::AddrInUse)
}

fn port_message(ports: &[u16]) -> String {
    let names: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!(
        "port {} is taken by another program: stop it, or choose others with --port and --node-port",
        names.join(" and "),
    )
}

pub async fn bind(port: u16, flag: &str) -> Result<TcpListener> {
    let bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
    bound.with_context(|| format!("cannot listen on port {port}; choose another with {flag}"))
}
