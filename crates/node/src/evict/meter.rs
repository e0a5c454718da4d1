//! What is left of the machine, as its kernel says.

use std::{io, path::Path};

use super::signal::{Observation, Observations, Signal};
use crate::register::{Load, Machine, Room, most_processes, processes};

/// Reads signals; may take a while.
pub trait Meter: Send + Sync {
    /// `node` lies on the node's file system, `images` on that of images where the runtime says so.
    fn observe(&self, node: &Path, images: Option<&Path>) -> io::Result<Observations>;
}

/// This machine.
pub struct Host {
    memory_bytes: u64,
}

impl Host {
    pub fn new(machine: &Machine) -> Self {
        Self { memory_bytes: machine.memory_bytes }
    }
}

impl Meter for Host {
    fn observe(&self, node: &Path, images: Option<&Path>) -> io::Result<Observations> {
        let of = |available: u64, capacity: u64| {
            let whole = |amount| i64::try_from(amount).unwrap_or(i64::MAX);
            Observation { available: whole(available), capacity: whole(capacity) }
        };
        // As documented: the capacity without the working set.
        let memory = self.memory_bytes.saturating_sub(Load::read()?.working_set_bytes);
        let mut observed = Observations::from([(Signal::MemoryAvailable, of(memory, self.memory_bytes))]);
        let mut disk = |path: &Path, bytes: Signal, inodes: Signal| -> io::Result<()> {
            let room = Room::of(path)?;
            observed.insert(bytes, of(room.available_bytes, room.capacity_bytes));
            if room.inodes > 0 {
                observed.insert(inodes, of(room.inodes_free, room.inodes));
            }
            Ok(())
        };
        disk(node, Signal::NodefsAvailable, Signal::NodefsInodesFree)?;
        disk(images.unwrap_or(node), Signal::ImagefsAvailable, Signal::ImagefsInodesFree)?;
        if let Some(now) = processes() {
            let most = most_processes();
            observed.insert(Signal::PidAvailable, of(most.saturating_sub(now), most));
        }
        Ok(observed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_observed() {
        let machine = Machine::read(Path::new("/")).unwrap();
        let observed = Host::new(&machine).observe(Path::new("/nowhere/yet"), None).unwrap();
        for signal in [Signal::MemoryAvailable, Signal::NodefsAvailable, Signal::ImagefsAvailable, Signal::PidAvailable]
        {
            let Observation { available, capacity } = observed[&signal];
            assert!(0 < available && available < capacity, "{signal:?}: {available} of {capacity}");
        }
        assert_eq!(observed[&Signal::NodefsAvailable].capacity, i64::try_from(machine.disk_bytes).unwrap());
    }
}
