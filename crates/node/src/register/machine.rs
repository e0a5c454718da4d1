//! What the machine is and has.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

/// Read once, when the agent starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub cpus: u32,
    pub memory_bytes: u64,
    pub disk_bytes: u64,
    /// How many processes and threads there can be.
    pub pids: u64,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
    /// As Go names it: `amd64`, `arm64`.
    pub architecture: &'static str,
}

/// What is free of a file system, and of how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub available_bytes: u64,
    pub capacity_bytes: u64,
    /// Both are nothing where the file system makes them as it needs them.
    pub inodes_free: u64,
    pub inodes: u64,
    pub device: u64,
}

impl Machine {
    /// `data_dir` tells which file system the pods live on.
    pub fn read(data_dir: &Path) -> io::Result<Self> {
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpus = fs::read_to_string("/proc/cpuinfo")?.lines().filter(|line| line.starts_with("processor")).count();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let uname = rustix::system::uname();
        let machine_id = line("/etc/machine-id");
        let uuid = line("/sys/class/dmi/id/product_uuid");
        Ok(Self {
            cpus: u32::try_from(cpus).unwrap_or(1).max(1),
            memory_bytes: meminfo("MemTotal")?,
            disk_bytes: Room::of(data_dir)?.capacity_bytes,
            pids: most_processes(),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: uname.release().to_string_lossy().into_owned(),
            os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                "x86" => "386",
                other => other,
            },
        })
    }
}

impl Room {
    /// Of the file system that a folder, or its nearest existing parent, lies on.
    pub fn of(path: &Path) -> io::Result<Self> {
        let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let stat = rustix::fs::statvfs(existing)?;
        Ok(Self {
            available_bytes: stat.f_bavail * stat.f_frsize,
            capacity_bytes: stat.f_blocks * stat.f_frsize,
            inodes_free: stat.f_ffree,
            inodes: stat.f_files,
            device: fs::metadata(existing)?.dev(),
        })
    }
}

/// The lesser of the kernel's two limits.
pub fn most_processes() -> u64 {
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
    limits.into_iter().filter_map(read).min().unwrap_or(u64::MAX)
}

/// How many processes and threads there are now.
pub fn processes() -> Option<u64> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    load.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()
}

/// What the whole machine uses at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Processor time since the machine started, of all processors together.
    pub cpu_ns: u64,
    /// All memory in use, with the page cache.
    pub memory_bytes: u64,
    /// The same without the part of the page cache that the kernel could drop at once.
    pub working_set_bytes: u64,
    pub available_bytes: u64,
    pub rss_bytes: u64,
    pub swap_bytes: u64,
    pub started_at_s: i64,
}

impl Load {
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/stat")?, &fs::read_to_string("/proc/meminfo")?))
    }

    fn parse(stat: &str, meminfo: &str) -> Self {
        let memory = |key: &str| meminfo_line(meminfo, key).unwrap_or(0);
        let numbers = |key: &str| -> Vec<u64> {
            let line = stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            line.unwrap_or_default().split_whitespace().map_while(|word| word.parse().ok()).collect()
        };
        // user nice system idle iowait irq softirq steal, in hundredths of a second (proc_stat(5)): what was worked.
        let times = numbers("cpu");
        let worked: u64 = [0, 1, 2, 5, 6].iter().filter_map(|index| times.get(*index)).sum();
        let used = memory("MemTotal").saturating_sub(memory("MemFree"));
        Self {
            cpu_ns: worked * 10_000_000,
            memory_bytes: used,
            working_set_bytes: used.saturating_sub(memory("Inactive(file)")),
            available_bytes: memory("MemAvailable"),
            rss_bytes: memory("AnonPages"),
            swap_bytes: memory("SwapTotal").saturating_sub(memory("SwapFree")),
            started_at_s: numbers("btime").first().and_then(|time| i64::try_from(*time).ok()).unwrap_or(0),
        }
    }
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(key: &str) -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    meminfo_line(&text, key).ok_or_else(|| io::Error::other(format!("/proc/meminfo has no {key}")))
}

fn meminfo_line(text: &str, key: &str) -> Option<u64> {
    let kilobytes = |line: &str| line.strip_prefix(key)?.strip_prefix(':')?.split_whitespace().next()?.parse().ok();
    text.lines().find_map(kilobytes).map(|kilobytes: u64| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::Load;

    #[test]
    fn the_load_is_what_was_worked_and_what_cannot_be_dropped() {
        let stat = "cpu  100 10 40 9000 500 5 15 3 0 0\ncpu0 1 1 1 1\nbtime 1700000000\n";
        let meminfo = "MemTotal: 1000 kB\nMemFree: 200 kB\nMemAvailable: 600 kB\nInactive(file): 300 kB\nAnonPages: 50 kB\nSwapTotal: 10 kB\nSwapFree: 4 kB\n";
        let expected = Load {
            cpu_ns: 1_700_000_000,
            memory_bytes: 800 * 1024,
            working_set_bytes: 500 * 1024,
            available_bytes: 600 * 1024,
            rss_bytes: 50 * 1024,
            swap_bytes: 6 * 1024,
            started_at_s: 1_700_000_000,
        };
        assert_eq!(Load::parse(stat, meminfo), expected);
    }
}
