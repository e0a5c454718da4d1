//! The signals that pressure is read from, and what each is called where.

use std::collections::{BTreeMap, BTreeSet};

use super::threshold::ThresholdError;

/// In the order in which upstream looks at them: memory first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    MemoryAvailable,
    /// What is left of the pods' part of memory, where some is kept from them.
    AllocatableMemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

use Signal::*;

const NAMES: [(Signal, &str); 7] = [
    (MemoryAvailable, "memory.available"),
    (AllocatableMemoryAvailable, "allocatableMemory.available"),
    (NodefsAvailable, "nodefs.available"),
    (NodefsInodesFree, "nodefs.inodesFree"),
    (ImagefsAvailable, "imagefs.available"),
    (ImagefsInodesFree, "imagefs.inodesFree"),
    (PidAvailable, "pid.available"),
];

impl Signal {
    /// One that may be set.
    pub fn named(name: &str) -> Result<Self, ThresholdError> {
        match name {
            "allocatableMemory.available" => {
                Err(ThresholdError::Follows("allocatableMemory.available", "memory.available"))
            }
            // Containers' writable layers lie beside the images.
            "containerfs.available" => Err(ThresholdError::Follows("containerfs.available", "imagefs.available")),
            "containerfs.inodesFree" => Err(ThresholdError::Follows("containerfs.inodesFree", "imagefs.inodesFree")),
            _ => {
                let known = NAMES.into_iter().find(|(_, known)| *known == name);
                known.map(|(signal, _)| signal).ok_or_else(|| ThresholdError::Signal(name.to_owned()))
            }
        }
    }

    pub fn name(self) -> &'static str {
        NAMES.into_iter().find(|(signal, _)| *signal == self).map_or("", |(_, name)| name)
    }

    /// What runs out.
    pub fn resource(self) -> &'static str {
        match self {
            MemoryAvailable | AllocatableMemoryAvailable => "memory",
            NodefsAvailable | ImagefsAvailable => "ephemeral-storage",
            NodefsInodesFree | ImagefsInodesFree => "inodes",
            PidAvailable => "pids",
        }
    }

    pub fn pressure(self) -> Pressure {
        match self {
            MemoryAvailable | AllocatableMemoryAvailable => Pressure::Memory,
            NodefsAvailable | NodefsInodesFree | ImagefsAvailable | ImagefsInodesFree => Pressure::Disk,
            PidAvailable => Pressure::Pid,
        }
    }
}

/// A condition of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    Memory,
    Disk,
    Pid,
}

pub type Pressures = BTreeSet<Pressure>;

impl Pressure {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// What is left of how much, in bytes, files or processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    pub available: i64,
    pub capacity: i64,
}

pub type Observations = BTreeMap<Signal, Observation>;
