//! The network that the tests run in, and what the host looks like before and after.

use std::{collections::BTreeSet, env, fs, os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::command::{run, succeed};

const MARK: &str = "KNARR_TEST_NETWORK";
pub const OUTSIDE: &str = "knarr-test-outside";

/// The cluster host's address, and the outside's.
pub const HOST_IP: &str = "10.99.0.1";
pub const OUTSIDE_IP: &str = "10.99.0.2";
/// Where local clusters take their nodes' addresses from.
const LOCAL_NODES: &str = "172.30.0.0/16";

/// Runs this program again in namespaces of its own, unless that has happened.
pub fn enter() -> Result<()> {
    if env::var_os(MARK).is_some() {
        return build();
    }
    if fs::metadata("/proc/self/ns/net").is_err() || succeed(Command::new("id").arg("-u"))?.trim() != "0" {
        bail!("the end-to-end tests need root: they make network namespaces and containers");
    }
    let mut again = Command::new("unshare");
    again.args(["--net", "--mount", "--propagation", "private", "--"]).arg(env::current_exe()?);
    Err(again.args(env::args_os().skip(1)).env(MARK, "1").exec()).context("cannot run unshare (util-linux)")
}

fn ip(line: &str) -> Result<String> {
    succeed(Command::new("ip").args(line.split(' ')))
}

fn build() -> Result<()> {
    // `ip netns` keeps its names under /run/netns; here that is a directory of this run alone.
    fs::create_dir_all("/run/netns")?;
    succeed(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run/netns"]))?;
    ip("link set lo up")?;
    ip(&format!("netns add {OUTSIDE}"))?;
    ip(&format!("link add uplink type veth peer name eth0 netns {OUTSIDE}"))?;
    // The kernel would give it one of its own a second later, which would look like something left behind.
    let _ = fs::write("/proc/sys/net/ipv6/conf/uplink/disable_ipv6", "1");
    ip(&format!("addr add {HOST_IP}/24 dev uplink"))?;
    ip("link set uplink up")?;
    ip(&format!("-n {OUTSIDE} addr add {OUTSIDE_IP}/24 dev eth0"))?;
    ip(&format!("-n {OUTSIDE} link set eth0 up"))?;
    ip(&format!("-n {OUTSIDE} link set lo up"))?;
    ip(&format!("route add default via {OUTSIDE_IP}"))?;
    // The outside knows the way to the nodes of local clusters, as a router of theirs would.
    ip(&format!("-n {OUTSIDE} route add {LOCAL_NODES} via {HOST_IP}"))?;
    Ok(())
}

/// A program that runs outside the cluster's host.
pub fn outside(program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", OUTSIDE, program]);
    command
}

/// True where a file below a directory has this text in it.
pub fn holds(dir: &Path, text: &str) -> Result<bool> {
    let said = run(Command::new("grep").args(["-rqaF", "-e", text]).arg(dir))?;
    match said.code {
        0 | 1 => Ok(said.code == 0),
        _ => bail!("grep in {}: {}", dir.display(), said.all()),
    }
}

/// What Knarr could leave behind: links, rules, mounts, cgroups, network sysctls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint(BTreeSet<String>);

impl Footprint {
    pub fn take() -> Result<Self> {
        let mut lines = BTreeSet::new();
        let mut note = |kind: &str, text: &str| {
            lines.extend(text.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("{kind}: {line}")));
        };
        let links = ip("-o link show")?;
        let names: String =
            links.lines().filter_map(|line| line.split(": ").nth(1)).map(|n| format!("{n}\n")).collect();
        note("link", &names);
        note("address", &addresses(&ip("-o addr show")?));
        note("route", &ip("route show table all")?);
        note("rules", &succeed(Command::new("nft").args(["list", "ruleset"]))?);
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let points: String =
            mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| format!("{point}\n")).collect();
        note("mount", &points);
        for sysctl in ["ip_forward", "conf/all/route_localnet", "conf/all/rp_filter", "conf/lo/route_localnet"] {
            let value = fs::read_to_string(format!("/proc/sys/net/ipv4/{sysctl}")).unwrap_or_default();
            note("sysctl", &format!("{sysctl}={}", value.trim()));
        }
        cgroups("/sys/fs/cgroup".as_ref(), 0, &mut lines);
        Ok(Self(lines))
    }

    /// Without the control groups of other clusters than the one with this digest.
    pub fn of_one(mut self, digest: &str) -> Self {
        let own = format!("/knarr-{digest}");
        self.0.retain(|line| !line.starts_with("cgroup: ") || !line.contains("/knarr-") || line.contains(&own));
        self
    }

    /// What `after` has and this has not, and the other way round.
    pub fn difference(&self, after: &Self) -> Vec<String> {
        let gone = self.0.difference(&after.0).map(|line| format!("- {line}"));
        gone.chain(after.0.difference(&self.0).map(|line| format!("+ {line}"))).collect()
    }
}

/// Addresses without their remaining lifetimes.
fn addresses(text: &str) -> String {
    text.lines().map(|line| line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" ") + "\n").collect()
}

fn cgroups(dir: &std::path::Path, depth: u32, lines: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        lines.insert(format!("cgroup: {}", entry.path().display()));
        if depth < 6 {
            cgroups(&entry.path(), depth + 1, lines);
        }
    }
}
