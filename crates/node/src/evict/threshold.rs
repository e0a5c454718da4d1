//! What counts as too little, in the kubelet's notation: `memory.available<100Mi,nodefs.available<10%`.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-thresholds>)

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use knarr_api::quantity::{Format, Quantity, QuantityError};

use super::signal::Signal;
use crate::register::Machine;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("malformed pair, expect string{separator}string: {pair:?}")]
    Pair { pair: String, separator: char },
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    #[error("eviction signal {0} cannot be set: it follows {1}")]
    Follows(&'static str, &'static str),
    #[error("{signal}: {text:?} is no amount and no percentage")]
    Level { signal: &'static str, text: String, source: QuantityError },
    #[error("eviction percentage {signal} must be within 0% and 100%: {text}")]
    Percentage { signal: &'static str, text: String },
    #[error("eviction threshold {signal} must be positive: {text}")]
    NotPositive { signal: &'static str, text: String },
    #[error("{signal}: {text:?} is no time such as 30s or 1m30s, or a negative one")]
    Grace { signal: &'static str, text: String },
    #[error("grace period must be specified for the soft eviction threshold {0}")]
    NoGrace(&'static str),
}

/// An amount, or a share of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    Amount(Quantity),
    /// Single precision, as upstream's: the bytes that it makes stand in messages.
    Percent(f32),
}

impl Level {
    pub fn of(self, capacity: i64) -> Quantity {
        match self {
            Self::Amount(amount) => amount,
            Self::Percent(percent) => {
                Quantity::new((capacity as f64 * f64::from(percent / 100.0)) as i64, Format::BinarySi)
            }
        }
    }

    fn parse(signal: Signal, text: &str) -> Result<Self, ThresholdError> {
        let (signal, owned) = (signal.name(), || text.to_owned());
        let level = |source| ThresholdError::Level { signal, text: owned(), source };
        let Some(percent) = text.strip_suffix('%') else {
            let amount = Quantity::from_str(text).map_err(level)?;
            return Ok(Self::Amount(amount));
        };
        let percent: f32 = percent.parse().map_err(|_| level(QuantityError::Format))?;
        match (0.0..=100.0).contains(&percent) {
            true => Ok(Self::Percent(percent)),
            false => Err(ThresholdError::Percentage { signal, text: owned() }),
        }
    }

    fn is_positive(self) -> bool {
        match self {
            Self::Amount(amount) => amount > Quantity::ZERO,
            Self::Percent(percent) => percent > 0.0,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Amount(amount) => amount.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A level for each of some signals.
pub type Levels = BTreeMap<Signal, Level>;

/// `SIGNAL<LEVEL,...`; 0% and 100% turn a threshold off.
pub fn parse_thresholds(text: &str) -> Result<Levels, ThresholdError> {
    let mut levels = Levels::new();
    for (signal, text) in pairs(text, '<')? {
        let level = Level::parse(signal, text)?;
        match level {
            Level::Percent(0.0 | 100.0) => {}
            level if level.is_positive() => _ = levels.insert(signal, level),
            _ => return Err(ThresholdError::NotPositive { signal: signal.name(), text: text.to_owned() }),
        }
    }
    Ok(levels)
}

/// `SIGNAL=LEVEL,...`
pub fn parse_reclaims(text: &str) -> Result<Levels, ThresholdError> {
    let mut levels = Levels::new();
    for (signal, text) in pairs(text, '=')? {
        match Level::parse(signal, text)? {
            Level::Amount(amount) if amount.is_negative() => {
                return Err(ThresholdError::NotPositive { signal: signal.name(), text: text.to_owned() });
            }
            level => _ = levels.insert(signal, level),
        }
    }
    Ok(levels)
}

/// `SIGNAL=TIME,...`
pub fn parse_grace_periods(text: &str) -> Result<BTreeMap<Signal, Duration>, ThresholdError> {
    let grace = |(signal, text): (Signal, &str)| {
        let error = || ThresholdError::Grace { signal: signal.name(), text: text.to_owned() };
        let span: jiff::SignedDuration = text.parse().map_err(|_| error())?;
        Ok((signal, Duration::try_from(span).map_err(|_| error())?))
    };
    pairs(text, '=')?.into_iter().map(grace).collect()
}

fn pairs(text: &str, separator: char) -> Result<Vec<(Signal, &str)>, ThresholdError> {
    let all = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    all.map(|pair| {
        let parts = pair.split_once(separator);
        let (name, value) = parts.ok_or_else(|| ThresholdError::Pair { pair: pair.to_owned(), separator })?;
        Ok((Signal::named(name.trim())?, value.trim()))
    })
    .collect()
}

/// What the eviction options say, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    pub hard: Levels,
    pub soft: Levels,
    pub soft_grace: BTreeMap<Signal, Duration>,
    pub minimum_reclaim: Levels,
    /// How long the node stays under a pressure that is no longer seen.
    pub transition: Duration,
    /// What a pod may have at most to end in, where a soft threshold is met.
    pub max_pod_grace: Duration,
}

/// One line of what the node watches for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub level: Level,
    /// How long it has to be met first; nothing for a hard one.
    pub grace: Duration,
    /// How much more there has to be before it is over.
    pub reclaim: Option<Level>,
}

impl Threshold {
    pub fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

impl Eviction {
    pub fn check(&self) -> Result<(), ThresholdError> {
        match self.soft.keys().find(|signal| !self.soft_grace.contains_key(signal)) {
            Some(signal) => Err(ThresholdError::NoGrace(signal.name())),
            None => Ok(()),
        }
    }

    /// All thresholds; what must be left of memory must also be left of the pods' part of it.
    pub fn thresholds(&self) -> Vec<Threshold> {
        let line = |signal: Signal, level: Level, grace: Duration| {
            let reclaim = self.minimum_reclaim.get(&signal).copied();
            Threshold { signal, level, grace, reclaim }
        };
        let hard = self.hard.iter().map(|(signal, level)| line(*signal, *level, Duration::ZERO));
        let soft = self
            .soft
            .iter()
            .map(|(signal, level)| line(*signal, *level, self.soft_grace.get(signal).copied().unwrap_or_default()));
        let mut all: Vec<Threshold> = hard.chain(soft).collect();
        let memory = self.hard.get(&Signal::MemoryAvailable);
        all.extend(memory.map(|level| Threshold {
            signal: Signal::AllocatableMemoryAvailable,
            ..line(Signal::MemoryAvailable, *level, Duration::ZERO)
        }));
        all
    }
}

/// Upstream's, but for disks never more than a gigabyte: most of a large disk may be full of what is none of the
/// pods' business. And for processes, where upstream has none, a twentieth.
pub fn default_hard(machine: &Machine) -> Levels {
    const DISK_MOST: i64 = 1 << 30;
    let disk = |percent: f32| {
        let most = Quantity::new(DISK_MOST, Format::BinarySi);
        let level = Level::Percent(percent);
        if level.of(i64::try_from(machine.disk_bytes).unwrap_or(i64::MAX)) > most { Level::Amount(most) } else { level }
    };
    Levels::from([
        (Signal::MemoryAvailable, Level::Amount(Quantity::new(100 << 20, Format::BinarySi))),
        (Signal::NodefsAvailable, disk(10.0)),
        (Signal::NodefsInodesFree, Level::Percent(5.0)),
        (Signal::ImagefsAvailable, disk(15.0)),
        (Signal::ImagefsInodesFree, Level::Percent(5.0)),
        (Signal::PidAvailable, Level::Percent(5.0)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_read_as_the_kubelets() {
        let shown = |levels: Levels| {
            levels.iter().map(|(signal, level)| format!("{}<{level}", signal.name())).collect::<Vec<_>>().join(",")
        };
        for (text, expected) in [
            ("", ""),
            ("memory.available<1.5Gi", "memory.available<1536Mi"),
            ("nodefs.available<10%, imagefs.inodesFree<5%", "nodefs.available<10%,imagefs.inodesFree<5%"),
            ("nodefs.available<0%,imagefs.available<100%", ""),
            ("pid.available<1k", "pid.available<1k"),
        ] {
            assert_eq!(parse_thresholds(text).map(shown), Ok(expected.to_owned()), "{text}");
        }
        for (text, expected) in [
            ("memory.available=1Gi", "malformed pair, expect string<string: \"memory.available=1Gi\""),
            ("swap.available<1Gi", "unsupported eviction signal swap.available"),
            (
                "allocatableMemory.available<1Gi",
                "eviction signal allocatableMemory.available cannot be set: it follows memory.available",
            ),
            ("memory.available<0", "eviction threshold memory.available must be positive: 0"),
            ("memory.available<-1%", "eviction percentage memory.available must be within 0% and 100%: -1%"),
            ("memory.available<101%", "eviction percentage memory.available must be within 0% and 100%: 101%"),
            ("memory.available<much", "memory.available: \"much\" is no amount and no percentage"),
        ] {
            assert_eq!(parse_thresholds(text).unwrap_err().to_string(), expected, "{text}");
        }
        assert!(parse_reclaims("memory.available=0,nodefs.available=1%").is_ok());
        assert!(parse_reclaims("memory.available=-1").is_err());
        let grace = parse_grace_periods("memory.available=1m30s").unwrap();
        assert_eq!(grace, BTreeMap::from([(Signal::MemoryAvailable, Duration::from_secs(90))]));
        assert!(parse_grace_periods("memory.available=-1s").is_err());
    }

    #[test]
    fn a_soft_threshold_has_a_grace_period_and_memory_counts_twice() {
        let mut eviction = Eviction {
            hard: parse_thresholds("memory.available<1Gi").unwrap(),
            soft: parse_thresholds("memory.available<2Gi").unwrap(),
            soft_grace: BTreeMap::new(),
            minimum_reclaim: parse_reclaims("memory.available=1Mi").unwrap(),
            transition: Duration::ZERO,
            max_pod_grace: Duration::ZERO,
        };
        let error = eviction.check().unwrap_err().to_string();
        assert_eq!(error, "grace period must be specified for the soft eviction threshold memory.available");
        eviction.soft_grace = parse_grace_periods("memory.available=1m").unwrap();
        eviction.check().unwrap();
        let all = eviction.thresholds();
        let told: Vec<_> = all.iter().map(|line| (line.signal, line.level.to_string(), line.grace.as_secs())).collect();
        let line = |signal, level: &str, grace| (signal, level.to_owned(), grace);
        let expected = [
            line(Signal::MemoryAvailable, "1Gi", 0),
            line(Signal::MemoryAvailable, "2Gi", 60),
            line(Signal::AllocatableMemoryAvailable, "1Gi", 0),
        ];
        assert_eq!(told, expected);
        assert!(all.iter().all(|line| line.reclaim.is_some()));
    }

    #[test]
    fn a_large_disk_need_not_be_a_tenth_empty() {
        for (disk, expected) in [(4_u64 << 30, ["10%", "15%"]), (8 << 30, ["10%", "1Gi"]), (1 << 40, ["1Gi", "1Gi"])] {
            let levels = default_hard(&Machine { disk_bytes: disk, ..Machine::default() });
            let told = [Signal::NodefsAvailable, Signal::ImagefsAvailable].map(|signal| levels[&signal].to_string());
            assert_eq!(told, expected);
        }
    }
}
