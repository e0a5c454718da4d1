//! What of a machine is for its pods: what is kept for the system, for this program and as a margin before pods are
//! evicted is promised to nobody; and what is kept for the system and this program the kernel keeps from all pods
//! together.
//! (<https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/>)

use std::str::FromStr;

use knarr_api::quantity::{Format, Quantity, QuantityError};
use serde_json::{Map, Value};

use crate::{
    evict::{Eviction, Signal},
    pod::downward::Allocatable,
    register::Machine,
};

/// Amounts that pods do not get, of the four resources that can be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    pub pids: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReservedError {
    #[error("malformed pair, expect string=string: {0:?}")]
    Pair(String),
    #[error("cannot reserve {0:?} resource")]
    Resource(String),
    #[error("failed to parse quantity {amount:?} for {resource:?} resource")]
    Quantity { resource: String, amount: String, source: QuantityError },
    #[error("resource quantity for {resource:?} cannot be negative: {amount}")]
    Negative { resource: String, amount: String },
    #[error(
        "invalid Node Allocatable configuration. Resource {resource:?} has a reservation of {reserved} but capacity of \
         {capacity}. Expected capacity >= reservation."
    )]
    TooMuch { resource: &'static str, reserved: Quantity, capacity: Quantity },
}

/// `cpu=500m,memory=1Gi,ephemeral-storage=2Gi,pid=1000`
impl FromStr for Reserved {
    type Err = ReservedError;

    fn from_str(text: &str) -> Result<Self, ReservedError> {
        let mut reserved = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (resource, amount) = pair.split_once('=').ok_or_else(|| ReservedError::Pair(pair.to_owned()))?;
            let (resource, amount) = (resource.trim().to_owned(), amount.trim().to_owned());
            let place = match resource.as_str() {
                "cpu" => &mut reserved.cpu_milli,
                "memory" => &mut reserved.memory_bytes,
                "ephemeral-storage" => &mut reserved.ephemeral_bytes,
                "pid" => &mut reserved.pids,
                _ => return Err(ReservedError::Resource(resource)),
            };
            let quantity = match Quantity::from_str(&amount) {
                Ok(quantity) if quantity.is_negative() => return Err(ReservedError::Negative { resource, amount }),
                Ok(quantity) => quantity,
                Err(source) => return Err(ReservedError::Quantity { resource, amount, source }),
            };
            *place = if resource == "cpu" { quantity.milli_value() } else { quantity.value() };
        }
        Ok(reserved)
    }
}

impl Reserved {
    /// As a KubeletConfiguration has it.
    pub fn shown(&self) -> Value {
        let bytes = |amount| Quantity::new(amount, Format::BinarySi);
        let all = [
            ("cpu", Quantity::from_milli(self.cpu_milli, Format::DecimalSi)),
            ("memory", bytes(self.memory_bytes)),
            ("ephemeral-storage", bytes(self.ephemeral_bytes)),
            ("pid", Quantity::new(self.pids, Format::DecimalSi)),
        ];
        let given = all.into_iter().filter(|(_, amount)| !amount.is_zero());
        given.map(|(name, amount)| (name.to_owned(), amount.to_string().into())).collect::<Map<_, _>>().into()
    }

    fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            ephemeral_bytes: self.ephemeral_bytes.saturating_add(other.ephemeral_bytes),
            pids: self.pids.saturating_add(other.pids),
        }
    }
}

/// How a machine is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub system: Reserved,
    pub kube: Reserved,
    /// What pods may be promised.
    pub allocatable: Allocatable,
    /// What all pods together may use; the margin before evictions is theirs, or none would ever begin.
    pub pods: Reserved,
}

impl Budget {
    pub fn new(
        machine: &Machine,
        system: Reserved,
        kube: Reserved,
        eviction: &Eviction,
    ) -> Result<Self, ReservedError> {
        let whole = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        let capacity = Reserved {
            cpu_milli: i64::from(machine.cpus) * 1000,
            memory_bytes: whole(machine.memory_bytes),
            ephemeral_bytes: whole(machine.disk_bytes),
            pids: whole(machine.pids),
        };
        let margin = |signal, capacity| eviction.hard.get(&signal).map_or(0, |level| level.of(capacity).value());
        let kept = system.plus(kube);
        let withheld = kept.plus(Reserved {
            memory_bytes: margin(Signal::MemoryAvailable, capacity.memory_bytes),
            ephemeral_bytes: margin(Signal::NodefsAvailable, capacity.ephemeral_bytes),
            ..Reserved::default()
        });
        let bytes = |amount| Quantity::new(amount, Format::BinarySi);
        let milli = |amount| Quantity::from_milli(amount, Format::DecimalSi);
        for (resource, reserved, capacity) in [
            ("cpu", milli(withheld.cpu_milli), milli(capacity.cpu_milli)),
            ("memory", bytes(withheld.memory_bytes), bytes(capacity.memory_bytes)),
            ("ephemeral-storage", bytes(withheld.ephemeral_bytes), bytes(capacity.ephemeral_bytes)),
            ("pid", Quantity::new(withheld.pids, Format::DecimalSi), Quantity::new(capacity.pids, Format::DecimalSi)),
        ] {
            if reserved > capacity {
                return Err(ReservedError::TooMuch { resource, reserved, capacity });
            }
        }
        Ok(Self {
            system,
            kube,
            allocatable: Allocatable {
                cpu_milli: capacity.cpu_milli - withheld.cpu_milli,
                memory_bytes: capacity.memory_bytes - withheld.memory_bytes,
                ephemeral_bytes: capacity.ephemeral_bytes - withheld.ephemeral_bytes,
            },
            pods: Reserved {
                cpu_milli: capacity.cpu_milli - kept.cpu_milli,
                memory_bytes: capacity.memory_bytes - kept.memory_bytes,
                ephemeral_bytes: capacity.ephemeral_bytes - kept.ephemeral_bytes,
                pids: capacity.pids - kept.pids,
            },
        })
    }

    /// Whether memory is kept from the pods, so that theirs can run out before the machine's.
    pub fn keeps_memory(&self) -> bool {
        self.system.memory_bytes + self.kube.memory_bytes > 0
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::evict;

    const GI: i64 = 1 << 30;

    fn machine() -> Machine {
        let (memory_bytes, disk_bytes) = (8 * GI as u64, 100 * GI as u64);
        Machine { cpus: 4, memory_bytes, disk_bytes, pids: 32_768, ..Machine::default() }
    }

    fn eviction(hard: &str) -> Eviction {
        Eviction {
            hard: evict::parse_thresholds(hard).unwrap(),
            soft: BTreeMap::new(),
            soft_grace: BTreeMap::new(),
            minimum_reclaim: BTreeMap::new(),
            transition: Duration::ZERO,
            max_pod_grace: Duration::ZERO,
        }
    }

    #[test]
    fn reservations_read_as_the_kubelets() {
        let good = Reserved { cpu_milli: 500, memory_bytes: GI, ephemeral_bytes: 2 * GI, pids: 1000 };
        assert_eq!("cpu=500m, memory=1Gi,ephemeral-storage=2Gi,pid=1000".parse(), Ok(good));
        assert_eq!("".parse(), Ok(Reserved::default()));
        let shown = r#"{"cpu":"500m","ephemeral-storage":"2Gi","memory":"1Gi","pid":"1k"}"#;
        assert_eq!(good.shown().to_string(), shown);
        for (text, expected) in [
            ("cpu", "malformed pair, expect string=string: \"cpu\""),
            ("gpu=1", "cannot reserve \"gpu\" resource"),
            ("memory=lots", "failed to parse quantity \"lots\" for \"memory\" resource"),
            ("memory=-1Gi", "resource quantity for \"memory\" cannot be negative: -1Gi"),
        ] {
            assert_eq!(text.parse::<Reserved>().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn pods_are_promised_less_than_they_may_use_and_that_is_less_than_there_is() {
        let (system, kube) = ("cpu=500m,memory=1Gi,pid=100".parse().unwrap(), "memory=1Gi".parse().unwrap());
        let budget = Budget::new(&machine(), system, kube, &eviction("memory.available<1Gi,nodefs.available<10%"));
        let budget = budget.unwrap();
        assert_eq!((budget.allocatable.cpu_milli, budget.allocatable.memory_bytes), (3500, 5 * GI));
        // A tenth in single precision is a little more than a tenth.
        assert!((90 * GI - budget.allocatable.ephemeral_bytes) < 1 << 10);
        assert_eq!((budget.pods.cpu_milli, budget.pods.memory_bytes, budget.pods.pids), (3500, 6 * GI, 32_668));
        assert!(budget.keeps_memory());
    }

    #[test]
    fn nobody_can_keep_more_than_there_is() {
        let system = "memory=8Gi".parse().unwrap();
        let error = Budget::new(&machine(), system, Reserved::default(), &eviction("memory.available<1Gi"));
        let told = "invalid Node Allocatable configuration. Resource \"memory\" has a reservation of 9Gi but capacity of \
                    8Gi. Expected capacity >= reservation.";
        assert_eq!(error.unwrap_err().to_string(), told);
    }
}
