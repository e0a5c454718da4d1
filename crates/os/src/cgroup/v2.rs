//! Version 2: one tree, in which a parent hands controllers down and then holds no processes of its own.

use std::{fs, path::Path};

use super::{Resources, Usage, Warning, keyed, number, set, value_of};
use crate::error::{Context, Result};

const CONTROLLERS: [&str; 6] = ["cpu", "memory", "pids", "cpuset", "io", "hugetlb"];

pub(super) fn create(root: &Path, path: &Path) -> Result<()> {
    let directory = root.join(path);
    fs::create_dir_all(&directory).os("make the control group", directory.display())?;
    let mut at = root.to_owned();
    for part in path.components() {
        hand_down(&at);
        at.push(part);
    }
    Ok(())
}

/// Each controller on its own: one that the host lacks must not keep the others away. What cannot be handed down
/// shows as a warning where a limit that needs it is set.
fn hand_down(directory: &Path) {
    let enabled = fs::read_to_string(directory.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in CONTROLLERS {
        if !enabled.split_whitespace().any(|e| e == controller) {
            let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
}

pub(super) fn update(root: &Path, path: &Path, resources: &Resources) -> Vec<Warning> {
    let group = root.join(path);
    let mut warnings = Vec::new();
    if resources.cpu_shares > 0 {
        set(&group, "cpu.weight", resources.cpu_weight().to_string(), &mut warnings);
    }
    if resources.cpu_quota_us != 0 || resources.cpu_period_us > 0 {
        let period = if resources.cpu_period_us > 0 { resources.cpu_period_us } else { 100_000 };
        let quota = if resources.cpu_quota_us > 0 { resources.cpu_quota_us.to_string() } else { "max".to_owned() };
        set(&group, "cpu.max", format!("{quota} {period}"), &mut warnings);
    }
    if resources.memory_limit_bytes != 0 {
        set(&group, "memory.max", maximum(resources.memory_limit_bytes), &mut warnings);
        if group.join("memory.swap.max").exists() {
            // Version 2 counts swap alone, CRI memory and swap together.
            let swap = match resources.memory_swap_limit_bytes {
                0 => 0,
                limit if limit < 0 => -1,
                limit => (limit - resources.memory_limit_bytes).max(0),
            };
            set(&group, "memory.swap.max", maximum(swap), &mut warnings);
        }
    }
    if resources.oom_group {
        set(&group, "memory.oom.group", "1", &mut warnings);
    }
    if resources.pids_limit != 0 {
        set(&group, "pids.max", maximum(resources.pids_limit), &mut warnings);
    }
    for (file, value) in [("cpuset.cpus", &resources.cpuset_cpus), ("cpuset.mems", &resources.cpuset_mems)] {
        if !value.is_empty() {
            set(&group, file, value, &mut warnings);
        }
    }
    for limit in &resources.hugepages {
        set(&group, &format!("hugetlb.{}.max", limit.page_size), limit.limit_bytes.to_string(), &mut warnings);
    }
    for (file, value) in &resources.unified {
        // A name with a slash would write elsewhere.
        if !file.contains('/') {
            set(&group, file, value, &mut warnings);
        }
    }
    if let Some(rules) = &resources.devices
        && let Err(e) = super::devices::attach(&group, rules)
    {
        warnings.push(e);
    }
    warnings
}

fn maximum(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

pub(super) fn oom_kills(root: &Path, path: &Path) -> u64 {
    keyed(&root.join(path).join("memory.events"), "oom_kill").unwrap_or(0)
}

pub(super) fn usage(root: &Path, path: &Path) -> Usage {
    let group = root.join(path);
    let memory = number(&group.join("memory.current"));
    // Read once: the kernel adds up its counters of every processor for each reading.
    let stats = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let stat = |key: &str| value_of(&stats, key);
    let cpu = fs::read_to_string(group.join("cpu.stat")).unwrap_or_default();
    Usage {
        cpu_ns: value_of(&cpu, "usage_usec").map(|us| us * 1000),
        cpu_periods: value_of(&cpu, "nr_periods"),
        cpu_throttled_periods: value_of(&cpu, "nr_throttled"),
        memory_bytes: memory,
        memory_limit_bytes: number(&group.join("memory.max")),
        working_set_bytes: memory.map(|m| m.saturating_sub(stat("inactive_file").unwrap_or(0))),
        rss_bytes: stat("anon"),
        cache_bytes: stat("file"),
        page_faults: stat("pgfault"),
        major_page_faults: stat("pgmajfault"),
        swap_bytes: number(&group.join("memory.swap.current")),
        processes: number(&group.join("pids.current")),
    }
}
