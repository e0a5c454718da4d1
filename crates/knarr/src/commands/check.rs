//! `knarr check`: what this host offers, and what is lost where something is missing. Looks only.

use std::{
    fs::{self, File},
    io::Write,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::cli::CheckArgs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Works, with a loss.
    Degraded,
    /// `knarr up` refuses to start.
    Missing,
}

/// One line of the table.
struct Finding {
    what: &'static str,
    found: String,
    verdict: Verdict,
    lost: &'static str,
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

pub fn run(args: CheckArgs) -> Result<bool> {
    let CheckArgs { data, port } = args;
    let findings = [
        root(),
        kernel(),
        capability("CAP_SYS_ADMIN", CAP_SYS_ADMIN, Verdict::Missing, "no namespaces or mounts, so no pods"),
        capability("CAP_NET_ADMIN", CAP_NET_ADMIN, Verdict::Missing, "no pod network, no Services"),
        capability(
            "CAP_SYS_RESOURCE",
            CAP_SYS_RESOURCE,
            Verdict::Degraded,
            "out-of-memory scores are not lowered, limits not raised",
        ),
        cgroups(),
        filesystem("overlay", "images cannot be shared between containers"),
        present("network namespaces", "/proc/self/ns/net", Verdict::Missing, "no pod network"),
        present("user namespaces", "/proc/self/ns/user", Verdict::Degraded, "no pods with hostUsers: false"),
        present(
            "seccomp",
            "/proc/sys/kernel/seccomp/actions_avail",
            Verdict::Degraded,
            "system calls are not filtered",
        ),
        nftables(),
        free_port("port of the API server", port),
        free_port("port of the node", 10250),
        disk_sync(&data.data_dir),
    ];
    print(&findings);
    Ok(findings.iter().all(|finding| finding.verdict != Verdict::Missing))
}

fn print(findings: &[Finding]) {
    println!("  {:<24} {:<44} WITHOUT IT", "WHAT", "FOUND");
    for Finding { what, found, verdict, lost } in findings {
        let (mark, lost) = match verdict {
            Verdict::Good => ("✓", ""),
            Verdict::Degraded => ("!", *lost),
            Verdict::Missing => ("✗", *lost),
        };
        println!("{}", format!("{mark} {what:<24} {found:<44} {lost}").trim_end());
    }
}

fn finding(what: &'static str, found: impl Into<String>, verdict: Verdict, lost: &'static str) -> Finding {
    Finding { what, found: found.into(), verdict, lost }
}

fn root() -> Finding {
    let uid = rustix::process::geteuid();
    let verdict = if uid.is_root() { Verdict::Good } else { Verdict::Missing };
    finding("root", format!("user {}", uid.as_raw()), verdict, "containers need root: run with sudo")
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let verdict = if version >= (5, 10) { Verdict::Good } else { Verdict::Degraded };
    finding("kernel", release.trim(), verdict, "older than 5.10: not tested")
}

fn capability(name: &'static str, bit: u32, without: Verdict, lost: &'static str) -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0");
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap_or(0);
    let held = effective >> bit & 1 == 1;
    finding(name, if held { "held" } else { "not held" }, if held { Verdict::Good } else { without }, lost)
}

fn cgroups() -> Finding {
    let lost = "no resource limits and no clean ends: mount the cgroup filesystem";
    let root = Path::new("/sys/fs/cgroup");
    if let Ok(controllers) = fs::read_to_string(root.join("cgroup.controllers")) {
        return finding("cgroups", format!("v2: {}", controllers.trim()), Verdict::Good, lost);
    }
    let v1: Vec<&str> = ["cpu", "memory", "pids", "devices", "freezer"]
        .into_iter()
        .filter(|controller| root.join(controller).is_dir())
        .collect();
    let kind = if root.join("unified").is_dir() { "hybrid" } else { "v1" };
    let verdict = match v1.len() {
        5 => Verdict::Good,
        0 => Verdict::Missing,
        _ => Verdict::Degraded,
    };
    finding("cgroups", format!("{kind}: {}", v1.join(" ")), verdict, lost)
}

fn filesystem(name: &'static str, lost: &'static str) -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let there = known.lines().any(|line| line.split_whitespace().last() == Some(name));
    let (found, verdict) =
        if there { ("known to the kernel", Verdict::Good) } else { ("not known to the kernel", Verdict::Missing) };
    finding("overlayfs", found, verdict, lost)
}

fn present(what: &'static str, path: &str, without: Verdict, lost: &'static str) -> Finding {
    let there = Path::new(path).exists();
    finding(what, if there { "there" } else { "not there" }, if there { Verdict::Good } else { without }, lost)
}

fn nftables() -> Finding {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::NETLINK,
        rustix::net::SocketType::RAW,
        Some(rustix::net::netlink::NETFILTER),
    );
    let (found, verdict) = match socket {
        Ok(_) => ("netfilter answers".to_owned(), Verdict::Good),
        Err(error) => (error.to_string(), Verdict::Missing),
    };
    finding("nftables", found, verdict, "no Services: load the module nf_tables")
}

fn free_port(what: &'static str, port: u16) -> Finding {
    let (found, verdict) = match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Ok(_) => (format!("{port} is free"), Verdict::Good),
        Err(error) => (format!("{port}: {error}"), Verdict::Degraded),
    };
    finding(what, found, verdict, "taken (perhaps by Knarr itself): choose another")
}

/// The median of some syncs, because that is what each durable write waits for.
fn disk_sync(data_dir: &Path) -> Finding {
    const WHAT: &str = "disk sync";
    let lost = "slow: every write to the cluster waits for it";
    let dir: PathBuf = data_dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/")).to_owned();
    let probe = dir.join(format!(".knarr-check-{}", std::process::id()));
    let measured = measure_sync(&probe);
    let _ = fs::remove_file(&probe);
    match measured {
        Ok(median) => {
            let verdict = if median < Duration::from_millis(20) { Verdict::Good } else { Verdict::Degraded };
            finding(WHAT, format!("{:.1} ms in {}", median.as_secs_f64() * 1e3, dir.display()), verdict, lost)
        }
        Err(error) => finding(WHAT, format!("{}: {error}", dir.display()), Verdict::Missing, "nothing can be kept"),
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
