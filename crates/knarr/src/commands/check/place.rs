//! What of this host is free for a cluster: ports, the network, and the place where its data lies.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Finding,
    Verdict::{Degraded, Missing},
};
use crate::{
    datadir::{DataDir, Running},
    host_ports,
};

/// Slower than any disk of today should be.
const SLOW_SYNC: Duration = Duration::from_millis(20);
/// What images and logs of a small cluster want; the store keeps its last 16 MiB free itself.
const ROOM_BYTES: u64 = 2 << 30;
const LEAST_ROOM_BYTES: u64 = 64 << 20;
/// `f_type` of `statfs(2)` where an overlay cannot have its writable layer.
const UNFIT: [(u64, &str); 4] =
    [(0x794c_7630, "overlayfs"), (0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB")];

pub fn findings(data: &DataDir, port: u16, node_port: u16) -> Vec<Finding> {
    let running = data.running().ok().flatten();
    let near = nearest(data.root());
    vec![
        port_finding(
            "API server's port",
            port,
            running.as_ref(),
            "no API there: stop it, or choose another with --port",
        ),
        port_finding(
            "node's port",
            node_port,
            running.as_ref(),
            "no logs, exec and port-forward: stop it, or choose another with --node-port",
        ),
        pod_network(data.root()),
        firewall(),
        balancers(),
        file_system(&near),
        room(&near),
        disk_sync(&near),
    ]
}

/// The directory, or the one that it will be made in.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn port_finding(what: &'static str, port: u16, running: Option<&Running>, lost: &'static str) -> Finding {
    let owner = host_ports::taken_by(port);
    let own = running.is_some_and(|r| owner.as_ref().is_some_and(|o| o.ends_with(&format!("(process {})", r.pid))));
    let found = match &owner {
        None => format!("{port} is free"),
        Some(_) if own => format!("{port} is this cluster's"),
        Some(owner) => format!("{port} is taken by {owner}"),
    };
    Finding::of(what, found, own || owner.is_none(), Missing, lost)
}

fn pod_network(data_dir: &Path) -> Finding {
    let free = knarr_net::check_host(data_dir);
    let found = match &free {
        Ok(()) => "this host's is free".to_owned(),
        Err(knarr_net::NetworkError::HostTaken { owner }) => format!("that of the cluster in {owner}"),
        Err(error) => error.to_string(),
    };
    Finding::of("pod network", found, free.is_ok(), Missing, "a host has one: use that cluster, or `knarr reset` it")
}

fn firewall() -> Finding {
    let lost = "pods may not reach each other or the world: accept 10.244.0.0/16 there (Docker: in DOCKER-USER)";
    match knarr_net::forwarding_obstacles() {
        Ok(chains) if chains.is_empty() => Finding::of("firewall", "lets pods' packets pass", true, Degraded, lost),
        Ok(chains) => Finding::of("firewall", format!("{} drops", chains.join(", ")), false, Degraded, lost),
        Err(error) => Finding::of("firewall", error.to_string(), false, Degraded, "not known: run as root"),
    }
}

fn balancers() -> Finding {
    let lost = "load balancers' addresses are not answered for there: sysctl -w net.ipv4.conf.{all,LINK}.arp_ignore=0";
    match knarr_net::silent_uplinks() {
        Ok(links) if links.is_empty() => Finding::of("load balancers", "every link answers ARP", true, Degraded, lost),
        Ok(links) => {
            Finding::of("load balancers", format!("arp_ignore on {}", links.join(", ")), false, Degraded, lost)
        }
        Err(error) => Finding::of("load balancers", error.to_string(), false, Degraded, "not known: run as root"),
    }
}

fn file_system(dir: &Path) -> Finding {
    let kind = rustix::fs::statfs(dir).map(|stat| stat.f_type as u64).unwrap_or(0);
    let unfit = UNFIT.iter().find(|(magic, _)| *magic == kind & 0xffff_ffff);
    let found = match unfit {
        Some((_, name)) => format!("{} is on {name}", dir.display()),
        None => format!("{} can hold containers", dir.display()),
    };
    let lost = "no containers: choose a --data-dir on a local disk, or mount a volume there";
    Finding::of("data directory", found, unfit.is_none(), Missing, lost)
}

fn room(dir: &Path) -> Finding {
    let free = rustix::fs::statvfs(dir).map(|stat| stat.f_bavail * stat.f_frsize).unwrap_or(0);
    let without = if free < LEAST_ROOM_BYTES { Missing } else { Degraded };
    let lost = "writes are refused when it is full: make room, or choose another --data-dir";
    Finding::of("disk space", format!("{:.1} GB free", free as f64 / 1e9), free >= ROOM_BYTES, without, lost)
}

/// The median of some syncs, because that is what each durable write waits for.
fn disk_sync(dir: &Path) -> Finding {
    let probe = dir.join(format!(".knarr-check-{}", std::process::id()));
    let measured = measure_sync(&probe);
    let _ = fs::remove_file(&probe);
    match measured {
        Ok(median) => {
            let lost = "every write to the cluster waits for it: choose a --data-dir on a faster disk";
            let found = format!("{:.1} ms", median.as_secs_f64() * 1e3);
            Finding::of("disk sync", found, median < SLOW_SYNC, Degraded, lost)
        }
        Err(error) => Finding::of("disk sync", error.to_string(), false, Missing, "nothing can be kept: run as root"),
    }
}

fn measure_sync(probe: &Path) -> std::io::Result<Duration> {
    let mut file = File::create_new(probe)?;
    let mut taken = Vec::new();
    for _ in 0..15 {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        taken.push(start.elapsed());
    }
    taken.sort();
    Ok(taken[taken.len() / 2])
}
