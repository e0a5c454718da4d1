use std::collections::BTreeMap;

/// Limits of a group, as CRI's `LinuxContainerResources` gives them: zero, or nothing, means "not set".
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Resources {
    pub cpu_shares: u64,
    /// Microseconds of CPU time in each period; negative for no limit.
    pub cpu_quota_us: i64,
    pub cpu_period_us: u64,
    /// Negative for no limit.
    pub memory_limit_bytes: i64,
    /// Memory and swap together, as CRI counts; negative for no limit.
    pub memory_swap_limit_bytes: i64,
    pub pids_limit: i64,
    pub cpuset_cpus: String,
    pub cpuset_mems: String,
    pub hugepages: Vec<HugepageLimit>,
    /// Files of version 2 to write as they are.
    pub unified: BTreeMap<String, String>,
    /// All processes of the group end when one must for want of memory (version 2 only).
    pub oom_group: bool,
    /// The devices the group may use are the default ones and these; `None` leaves devices alone.
    pub devices: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HugepageLimit {
    /// As the kernel names it: `2MB`, `1GB`.
    pub page_size: String,
    pub limit_bytes: u64,
}

impl Resources {
    /// CPU weight of version 2 (1 to 10000) for shares of version 1 (2 to 262144). This is the quadratic mapping that
    /// runc and crun use since 2025: 1024 shares, the default of one CPU, become the default weight of 100.
    pub fn cpu_weight(&self) -> u64 {
        match self.cpu_shares {
            0 => 0,
            shares if shares <= 2 => 1,
            shares if shares >= 262_144 => 10_000,
            shares => {
                let log = (shares as f64).log2();
                let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
                (10f64.powf(exponent)).ceil() as u64
            }
        }
    }
}
