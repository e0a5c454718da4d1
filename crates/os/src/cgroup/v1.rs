//! Version 1: a tree per controller.

use std::{fs, io, path::Path};

use super::{Resources, Usage, Warning, keyed, layout::V1Layout, number, set, value_of};
use crate::error::{Context, OsError, Result};

pub(super) fn create(layout: &V1Layout, path: &Path, resources: &Resources) -> Result<()> {
    let mut wanted = vec!["cpu", "cpuacct", "memory", "pids", "devices"];
    if !resources.cpuset_cpus.is_empty() || !resources.cpuset_mems.is_empty() {
        wanted.push("cpuset");
    }
    if !resources.hugepages.is_empty() {
        wanted.push("hugetlb");
    }
    if layout.hierarchies.is_empty() {
        let why = io::Error::new(io::ErrorKind::NotFound, "no cgroup hierarchy is mounted below /sys/fs/cgroup");
        return Err(OsError::new("make the control group", path.display(), why));
    }
    for controller in wanted {
        let Some(root) = layout.controller(controller) else { continue };
        let directory = root.join(path);
        match controller {
            "cpuset" => create_cpuset(root, path)?,
            _ => fs::create_dir_all(&directory).os("make the control group", directory.display())?,
        }
    }
    Ok(())
}

/// A cpuset starts empty and takes no process until it has CPUs and memory nodes: each level copies its parent's.
fn create_cpuset(root: &Path, path: &Path) -> Result<()> {
    let mut at = root.to_owned();
    for part in path.components() {
        let parent = at.clone();
        at.push(part);
        fs::create_dir_all(&at).os("make the control group", at.display())?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = fs::read_to_string(at.join(file)).unwrap_or_default();
            if own.trim().is_empty() {
                let inherited = fs::read_to_string(parent.join(file)).os("read", parent.join(file).display())?;
                fs::write(at.join(file), inherited.trim()).os("set", at.join(file).display())?;
            }
        }
    }
    Ok(())
}

pub(super) fn update(layout: &V1Layout, path: &Path, resources: &Resources) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let group = |controller: &str| layout.controller(controller).map(|root| root.join(path)).filter(|p| p.is_dir());
    if let Some(cpu) = group("cpu") {
        if resources.cpu_shares > 0 {
            set(&cpu, "cpu.shares", resources.cpu_shares.to_string(), &mut warnings);
        }
        if resources.cpu_period_us > 0 {
            set(&cpu, "cpu.cfs_period_us", resources.cpu_period_us.to_string(), &mut warnings);
        }
        if resources.cpu_quota_us != 0 {
            set(&cpu, "cpu.cfs_quota_us", resources.cpu_quota_us.to_string(), &mut warnings);
        }
    }
    if let Some(memory) = group("memory") {
        update_memory(&memory, resources, &mut warnings);
    }
    if let Some(pids) = group("pids").filter(|_| resources.pids_limit != 0) {
        set(&pids, "pids.max", maximum(resources.pids_limit), &mut warnings);
    }
    if let Some(cpuset) = group("cpuset") {
        for (file, value) in [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)] {
            if !value.is_empty() {
                set(&cpuset, file, value, &mut warnings);
            }
        }
    }
    if let Some(hugetlb) = group("hugetlb") {
        for limit in &resources.hugepages {
            let file = format!("hugetlb.{}.limit_in_bytes", limit.page_size);
            set(&hugetlb, &file, limit.limit_bytes.to_string(), &mut warnings);
        }
    }
    if let (Some(devices), Some(extra)) = (group("devices"), &resources.devices) {
        set(&devices, "devices.deny", "a", &mut warnings);
        for rule in super::devices::DEFAULT.into_iter().chain(extra.iter().map(String::as_str)) {
            set(&devices, "devices.allow", rule, &mut warnings);
        }
    }
    warnings
}

/// The limit with swap may never be below the one without, so the order of the two writes depends on the direction.
fn update_memory(memory: &Path, resources: &Resources, warnings: &mut Vec<Warning>) {
    let limit = resources.memory_limit_bytes;
    if limit == 0 {
        return;
    }
    let swap_file = memory.join("memory.memsw.limit_in_bytes");
    // Kubernetes gives containers no swap unless it says otherwise.
    let swap = if resources.memory_swap_limit_bytes == 0 { limit } else { resources.memory_swap_limit_bytes };
    let raise = number(&memory.join("memory.limit_in_bytes")).is_some_and(|now| limit < 0 || limit as u64 > now);
    if raise && swap_file.exists() {
        set(memory, "memory.memsw.limit_in_bytes", swap.to_string(), warnings);
    }
    set(memory, "memory.limit_in_bytes", limit.to_string(), warnings);
    if !raise && swap_file.exists() {
        set(memory, "memory.memsw.limit_in_bytes", swap.to_string(), warnings);
    }
}

fn maximum(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

pub(super) fn oom_kills(layout: &V1Layout, path: &Path) -> u64 {
    let file = layout.controller("memory").map(|root| root.join(path).join("memory.oom_control"));
    file.and_then(|file| keyed(&file, "oom_kill")).unwrap_or(0)
}

pub(super) fn usage(layout: &V1Layout, path: &Path) -> Usage {
    let file = |controller: &str, name: &str| layout.controller(controller).map(|root| root.join(path).join(name));
    let memory = file("memory", "memory.usage_in_bytes").and_then(|f| number(&f));
    // Read once: the kernel adds up its counters of every processor for each reading.
    let stats = file("memory", "memory.stat").and_then(|f| fs::read_to_string(f).ok()).unwrap_or_default();
    let stat = |key: &str| value_of(&stats, key);
    let inactive = stat("total_inactive_file").unwrap_or(0);
    let cpu = file("cpu", "cpu.stat").and_then(|f| fs::read_to_string(f).ok()).unwrap_or_default();
    Usage {
        cpu_ns: file("cpuacct", "cpuacct.usage").and_then(|f| number(&f)),
        cpu_periods: value_of(&cpu, "nr_periods"),
        cpu_throttled_periods: value_of(&cpu, "nr_throttled"),
        memory_bytes: memory,
        // The kernel shows "no limit" as the largest page-aligned number.
        memory_limit_bytes: file("memory", "memory.limit_in_bytes").and_then(|f| number(&f)).filter(|l| *l < 1 << 62),
        working_set_bytes: memory.map(|m| m.saturating_sub(inactive)),
        rss_bytes: stat("total_rss"),
        cache_bytes: stat("total_cache"),
        page_faults: stat("total_pgfault"),
        major_page_faults: stat("total_pgmajfault"),
        swap_bytes: stat("total_swap"),
        processes: file("pids", "pids.current").and_then(|f| number(&f)),
    }
}
