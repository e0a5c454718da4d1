//! What of a machine its pods may have, and what happens before it runs out; named and written as the kubelet's options.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use knarr_node::{
    Budget, CpuOptions, CpuPolicy, CpuSet, Eviction, ImageGc, Levels, Machine, Reserved, Signal, parse_grace_periods,
    parse_reclaims, parse_thresholds,
};

use super::{parse_period, parse_time};

#[derive(Clone, Debug, Args)]
pub struct ResourceArgs {
    /// What is kept from pods for the system: cpu, memory, ephemeral-storage, pid
    #[arg(long, value_name = "RESOURCE=AMOUNT,...", default_value = "", hide_default_value = true)]
    pub system_reserved: Reserved,
    /// What is kept from pods for Knarr itself
    #[arg(long, value_name = "RESOURCE=AMOUNT,...", default_value = "", hide_default_value = true)]
    pub kube_reserved: Reserved,
    /// Which processors the system and Knarr have in any case, such as 0-1; in place of the cpu that the two above keep
    #[arg(long, value_name = "CPUS")]
    pub reserved_cpus: Option<CpuSet>,
    /// none, or static: containers of Guaranteed pods that ask for whole processors have them for themselves
    #[arg(long, value_name = "POLICY", default_value = "none")]
    pub cpu_manager_policy: CpuPolicy,
    /// None of upstream's is there yet
    #[arg(long, value_name = "OPTION=VALUE,...", hide = true, value_parser = no_cpu_option)]
    pub cpu_manager_policy_options: Option<String>,
    /// How processors and devices are brought together: none is the one policy there is
    #[arg(long, value_name = "POLICY", default_value = "none", value_parser = topology_policy)]
    pub topology_manager_policy: String,
    /// Pods are evicted at once while less than this is left [default: upstream's, but never more than 1Gi of a disk]
    #[arg(long, value_name = "SIGNAL<AMOUNT,...", value_parser = parse_thresholds)]
    pub eviction_hard: Option<Levels>,
    /// Pods are evicted while less than this has been left for a grace period
    #[arg(long, value_name = "SIGNAL<AMOUNT,...", value_parser = parse_thresholds, default_value = "", hide_default_value = true)]
    pub eviction_soft: Levels,
    /// The grace periods of --eviction-soft
    #[arg(long, value_name = "SIGNAL=TIME,...", value_parser = parse_grace_periods, default_value = "", hide_default_value = true)]
    pub eviction_soft_grace_period: BTreeMap<Signal, Duration>,
    /// How much more than a threshold has to be left before it counts as no longer met
    #[arg(long, value_name = "SIGNAL=AMOUNT,...", value_parser = parse_reclaims, default_value = "", hide_default_value = true)]
    pub eviction_minimum_reclaim: Levels,
    /// How long the node says that it is under pressure after it was last
    #[arg(long, value_name = "TIME", value_parser = parse_period, default_value = "5m")]
    pub eviction_pressure_transition_period: Duration,
    /// How many seconds a pod has to end in at most, where it is evicted for a soft threshold
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub eviction_max_pod_grace_period: u32,
    /// Unused images are removed once so many percent of their disk are in use; 100 for never
    #[arg(long, value_name = "PERCENT", default_value_t = 85)]
    pub image_gc_high_threshold: u8,
    /// Unused images are removed until so many percent of their disk are in use
    #[arg(long, value_name = "PERCENT", default_value_t = 80)]
    pub image_gc_low_threshold: u8,
    /// How long an image stays after it came, used or not
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "2m")]
    pub minimum_image_ttl_duration: Duration,
    /// How long an image stays that nothing uses; 0s for as long as there is room
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "0s")]
    pub image_maximum_gc_age: Duration,
}

impl ResourceArgs {
    /// Checks what does not depend on the machine.
    pub fn image_gc(&self) -> Result<ImageGc> {
        let settings = ImageGc {
            high_percent: self.image_gc_high_threshold,
            low_percent: self.image_gc_low_threshold,
            min_age: self.minimum_image_ttl_duration,
            max_age: self.image_maximum_gc_age,
        };
        settings.check()?;
        Ok(settings)
    }

    pub fn cpus(&self) -> Result<CpuOptions> {
        if self.reserved_cpus.as_ref().is_some_and(|cpus| cpus.0.is_empty()) {
            bail!("--reserved-cpus names no processor");
        }
        Ok(CpuOptions { policy: self.cpu_manager_policy, reserved: self.reserved_cpus.clone() })
    }

    pub fn eviction(&self, machine: &Machine) -> Result<Eviction> {
        let eviction = Eviction {
            hard: self.eviction_hard.clone().unwrap_or_else(|| knarr_node::default_hard(machine)),
            soft: self.eviction_soft.clone(),
            soft_grace: self.eviction_soft_grace_period.clone(),
            minimum_reclaim: self.eviction_minimum_reclaim.clone(),
            transition: self.eviction_pressure_transition_period,
            max_pod_grace: Duration::from_secs(self.eviction_max_pod_grace_period.into()),
        };
        eviction.check().context("--eviction-soft-grace-period")?;
        Ok(eviction)
    }

    pub fn budget(&self, machine: &Machine, eviction: &Eviction) -> Result<Budget> {
        let (mut system, mut kube) = (self.system_reserved, self.kube_reserved);
        if let Some(cpus) = &self.reserved_cpus {
            (system.cpu_milli, kube.cpu_milli) = (i64::try_from(cpus.0.len())? * 1000, 0);
        }
        let budget = Budget::new(machine, system, kube, eviction);
        budget.context("--system-reserved, --kube-reserved and --eviction-hard take more than there is")
    }
}

fn no_cpu_option(text: &str) -> Result<String, String> {
    match text {
        "" => Ok(String::new()),
        _ => Err(format!(
            "unsupported cpumanager option: {text:?}: the static policy packs processors, and has no options"
        )),
    }
}

fn topology_policy(text: &str) -> Result<String, String> {
    match text {
        "none" => Ok(text.to_owned()),
        _ => Err(format!("unknown policy: {text:?}: none is the one that is there")),
    }
}
