//! From what was observed to what is to be done: pure, and with no memory but [`Seen`].

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use knarr_api::quantity::{Format, Quantity};

use super::{
    signal::{Observations, Pressure, Pressures},
    threshold::Threshold,
};

/// What earlier looks found; thresholds by their place in the list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Since when a threshold has been met without a break.
    met_since: BTreeMap<usize, Timestamp>,
    /// Met for longer than their grace, and not over yet.
    starved: BTreeSet<usize>,
    /// When there was last reason for a condition.
    pressed_at: BTreeMap<Pressure, Timestamp>,
}

/// What follows from a look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The node's conditions.
    pub pressures: Pressures,
    /// What has to be done something about, memory first.
    pub starved: Vec<Threshold>,
}

impl Seen {
    /// Takes a look in. `transition` is how long a condition holds after the last reason for it.
    pub fn look(
        &mut self,
        thresholds: &[Threshold],
        observed: &Observations,
        transition: Duration,
        now: Timestamp,
    ) -> Plan {
        let met = |(place, threshold): &(usize, &Threshold)| {
            is_met(threshold, observed, false) || self.starved.contains(place) && is_met(threshold, observed, true)
        };
        let met: Vec<(usize, &Threshold)> = thresholds.iter().enumerate().filter(met).collect();
        let since = |place| self.met_since.get(&place).copied().unwrap_or(now);
        let met_since: BTreeMap<usize, Timestamp> = met.iter().map(|(place, _)| (*place, since(*place))).collect();
        self.pressed_at.extend(met.iter().map(|(_, threshold)| (threshold.signal.pressure(), now)));
        self.pressed_at.retain(|_, at| *at == now || elapsed(*at, now) < transition);
        let ripe = |(place, threshold): &&(usize, &Threshold)| elapsed(met_since[place], now) >= threshold.grace;
        let starved: Vec<(usize, &Threshold)> = met.iter().filter(ripe).copied().collect();
        self.starved = starved.iter().map(|(place, _)| *place).collect();
        self.met_since = met_since;
        let mut starved: Vec<Threshold> = starved.into_iter().map(|(_, threshold)| *threshold).collect();
        starved.sort_by_key(|threshold| (threshold.signal, threshold.grace));
        Plan { pressures: self.pressed_at.keys().copied().collect(), starved }
    }
}

/// Whether too little is left; of one that is to be relieved, too little to be done with it.
fn is_met(threshold: &Threshold, observed: &Observations, relieving: bool) -> bool {
    let Some(seen) = observed.get(&threshold.signal) else { return false };
    let more = threshold.reclaim.filter(|_| relieving).map_or(Quantity::ZERO, |level| level.of(seen.capacity));
    threshold.level.of(seen.capacity) + more > Quantity::new(seen.available, Format::DecimalSi)
}

/// Whether all is well again, also for what is to be relieved.
pub fn is_relieved(thresholds: &[Threshold], observed: &Observations) -> bool {
    !thresholds.iter().any(|threshold| is_met(threshold, observed, true))
}

/// A clock that was set back has not run.
fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::evict::{
        signal::{Observation, Signal},
        threshold::{Eviction, Level, parse_grace_periods, parse_reclaims, parse_thresholds},
    };

    fn eviction() -> Eviction {
        Eviction {
            hard: parse_thresholds("memory.available<100,nodefs.available<10%").unwrap(),
            soft: parse_thresholds("memory.available<200").unwrap(),
            soft_grace: parse_grace_periods("memory.available=30s").unwrap(),
            minimum_reclaim: parse_reclaims("memory.available=50").unwrap(),
            transition: Duration::from_secs(60),
            max_pod_grace: Duration::ZERO,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn observed(memory: i64, disk: i64) -> Observations {
        let of = |available| Observation { available, capacity: 1000 };
        Observations::from([(Signal::MemoryAvailable, of(memory)), (Signal::NodefsAvailable, of(disk))])
    }

    /// Each row is a moment: the second, what is left of memory and disk, the conditions, and what is starved.
    #[test]
    fn pressure_comes_at_once_and_goes_slowly() {
        let eviction = eviction();
        let (thresholds, mut seen) = (eviction.thresholds(), Seen::default());
        for (second, memory, disk, conditions, starved) in [
            (0, 500, 500, "", ""),
            (10, 199, 500, "Memory", ""),
            (20, 500, 500, "Memory", ""),
            // The grace begins anew after a break.
            (30, 199, 500, "Memory", ""),
            (50, 199, 500, "Memory", ""),
            (60, 199, 500, "Memory", "memory.available<200"),
            // More than the threshold, but not as much more as is to be reclaimed.
            (70, 249, 500, "Memory", "memory.available<200"),
            (80, 250, 500, "Memory", ""),
            (90, 249, 500, "Memory", ""),
            // A hard one has no grace, and memory goes before disks.
            (100, 99, 99, "Memory Disk", "memory.available<100 nodefs.available<10%"),
            (110, 260, 100, "Memory Disk", ""),
            (159, 260, 100, "Memory Disk", ""),
            (160, 260, 100, "", ""),
        ] {
            let plan = seen.look(&thresholds, &observed(memory, disk), eviction.transition, at(second));
            let told: Vec<_> = plan.pressures.iter().map(|pressure| format!("{pressure:?}")).collect();
            assert_eq!(told.join(" "), conditions, "conditions at {second}");
            let told = plan.starved.iter().map(|line| format!("{}<{}", line.signal.name(), line.level));
            assert_eq!(told.collect::<Vec<_>>().join(" "), starved, "starved at {second}");
        }
    }

    #[test]
    fn what_was_not_observed_is_no_pressure() {
        let eviction = eviction();
        let plan = Seen::default().look(&eviction.thresholds(), &Observations::new(), eviction.transition, at(0));
        assert_eq!(plan, Plan::default());
    }

    proptest! {
        /// Whatever is observed: what is starved is a condition; a hard threshold that is met is starved at once; a
        /// soft one never before its grace; and a condition never ends before its transition does.
        #[test]
        fn laws_of_pressure(looks in prop::collection::vec((1_i64..40, 0_i64..400, 0_i64..400), 1..60)) {
            let eviction = eviction();
            let thresholds = eviction.thresholds();
            let (mut seen, mut now, mut reason, mut soft_since) = (Seen::default(), 0, None, None);
            for (pause, memory, disk) in looks {
                now += pause;
                let plan = seen.look(&thresholds, &observed(memory, disk), eviction.transition, at(now));
                for line in &plan.starved {
                    prop_assert!(plan.pressures.contains(&line.signal.pressure()));
                }
                let has = |signal, hard| plan.starved.iter().any(|line| line.signal == signal && line.is_hard() == hard);
                prop_assert!(memory >= 100 || has(Signal::MemoryAvailable, true));
                prop_assert!(disk >= 100 || has(Signal::NodefsAvailable, true));
                if has(Signal::MemoryAvailable, false) {
                    prop_assert!(soft_since.is_some_and(|since| now - since >= 30) , "{} {:?}", now, soft_since);
                }
                if memory < 200 {
                    soft_since = soft_since.or(Some(now));
                    reason = Some(now);
                } else if !has(Signal::MemoryAvailable, false) {
                    soft_since = None;
                }
                let held = reason.is_some_and(|reason| now - reason < 60);
                prop_assert!(!held || plan.pressures.contains(&Pressure::Memory));
            }
        }
    }

    #[test]
    fn a_level_is_of_the_capacity_that_is_observed() {
        let line = Threshold {
            signal: Signal::NodefsAvailable,
            level: Level::Percent(50.0),
            grace: Duration::ZERO,
            reclaim: None,
        };
        let seen = |available, capacity| Observations::from([(line.signal, Observation { available, capacity })]);
        assert!(is_relieved(&[line], &seen(500, 1000)));
        assert!(!is_relieved(&[line], &seen(499, 1000)));
        assert!(is_relieved(&[line], &seen(499, 998)));
    }
}
