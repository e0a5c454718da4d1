//! What the kernel offers, and what of it this process may use.

use std::{fs, path::Path};

use super::{
    Finding,
    Verdict::{Degraded, Missing},
};

/// The bits of `capabilities(7)`.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;
const TESTED: (u32, u32) = (5, 10);
const NAMESPACES: [&str; 5] = ["net", "pid", "mnt", "ipc", "uts"];

pub fn findings() -> Vec<Finding> {
    vec![
        root(),
        capability(
            "CAP_SYS_ADMIN",
            CAP_SYS_ADMIN,
            Missing,
            "no containers: run as root, or the outer container --privileged",
        ),
        capability(
            "CAP_NET_ADMIN",
            CAP_NET_ADMIN,
            Missing,
            "no pod network: run as root, or the outer container --privileged",
        ),
        capability(
            "CAP_SYS_RESOURCE",
            CAP_SYS_RESOURCE,
            Degraded,
            "when memory runs out the kernel picks its victim without knowing pods' QoS: grant it where that matters",
        ),
        kernel(),
        cgroups(),
        overlayfs(),
        namespaces(),
        seccomp(),
        nftables(),
    ]
}

fn root() -> Finding {
    let user = rustix::process::geteuid();
    Finding::of("root", format!("user {}", user.as_raw()), user.is_root(), Missing, "no containers: run with sudo")
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let known = version(&release) >= TESTED;
    Finding::of(
        "kernel",
        release.trim(),
        known,
        Degraded,
        "older than 5.10 is not tested: upgrade where something fails",
    )
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.trim().parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn capability(name: &'static str, bit: u32, without: super::Verdict, lost: &'static str) -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("0");
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap_or(0);
    let held = effective >> bit & 1 == 1;
    Finding::of(name, if held { "held" } else { "not held" }, held, without, lost)
}

fn cgroups() -> Finding {
    let root = Path::new("/sys/fs/cgroup");
    let unified = fs::read_to_string(root.join("cgroup.controllers")).ok();
    let (kind, needed) = match &unified {
        Some(_) => ("v2", &["cpu", "memory", "pids"][..]),
        None if root.join("unified").is_dir() => ("v1 with v2 beside it", &["cpu", "memory", "pids", "devices"][..]),
        None => ("v1", &["cpu", "memory", "pids", "devices"][..]),
    };
    let there = |controller: &&str| match &unified {
        Some(controllers) => controllers.split_whitespace().any(|name| name == *controller),
        None => root.join(controller).is_dir(),
    };
    let (found, lacking): (Vec<&str>, Vec<&str>) = needed.iter().copied().partition(there);
    if found.is_empty() {
        return Finding::of("cgroups", "none mounted", false, Missing, "no pods: mount cgroup2 at /sys/fs/cgroup");
    }
    let without = if lacking.is_empty() { String::new() } else { format!(", without {}", lacking.join(" ")) };
    let lost = "limits of what is missing are not kept: enable it on the kernel's command line (cgroup_enable=)";
    Finding::of("cgroups", format!("{kind}: {}{without}", found.join(" ")), lacking.is_empty(), Degraded, lost)
}

fn overlayfs() -> Finding {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let there = known.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    let found = if there { "known to the kernel" } else { "not known to the kernel" };
    Finding::of("overlayfs", found, there, Missing, "no containers: modprobe overlay")
}

fn namespaces() -> Finding {
    let lacking: Vec<&str> =
        NAMESPACES.into_iter().filter(|kind| !Path::new("/proc/self/ns").join(kind).exists()).collect();
    let found = if lacking.is_empty() { NAMESPACES.join(" ") } else { format!("none of kind {}", lacking.join(" ")) };
    Finding::of("namespaces", found, lacking.is_empty(), Missing, "no pods: a kernel with CONFIG_NAMESPACES is needed")
}

fn seccomp() -> Finding {
    let there =
        fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").is_ok_and(|actions| actions.contains("errno"));
    let found = if there { "filters" } else { "no filters" };
    let lost = "containers may use every system call: a kernel with CONFIG_SECCOMP_FILTER is needed";
    Finding::of("seccomp", found, there, Degraded, lost)
}

fn nftables() -> Finding {
    let socket = rustix::net::socket(
        rustix::net::AddressFamily::NETLINK,
        rustix::net::SocketType::RAW,
        Some(rustix::net::netlink::NETFILTER),
    );
    let found = socket.as_ref().map_or_else(ToString::to_string, |_| "netfilter answers".into());
    Finding::of("nftables", found, socket.is_ok(), Missing, "no Services: modprobe nf_tables")
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn kernel_versions() {
        for (release, expected) in
            [("6.18.44-fc\n", (6, 18)), ("5.4", (5, 4)), ("5.10-rc1", (5, 10)), ("weird", (0, 0)), ("", (0, 0))]
        {
            assert_eq!(version(release), expected, "{release:?}");
        }
    }
}
