//! Linux capabilities: names to bits and back, and giving up what a process should not keep.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
};

use crate::error::{Context, Result};

/// Every capability, at its number (`linux/capability.h`).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities, bit n for capability number n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capabilities(pub u64);

impl Capabilities {
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// The bit of a name, with or without `CAP_`, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES.iter().position(|n| *n == short).map(|bit| Self(1 << bit))
    }

    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name)
    }

    fn bits(self) -> impl Iterator<Item = CapabilitySet> {
        (0..64).filter(move |bit| self.0 & (1 << bit) != 0).map(|bit| CapabilitySet::from_bits_retain(1 << bit))
    }
}

/// What this process may still pass on: the host itself may lack some capabilities.
pub fn bounding() -> Capabilities {
    let present = (0..NAMES.len())
        .filter(|bit| capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << bit)).unwrap_or(false));
    Capabilities(present.fold(0, |set, bit| set | 1 << bit))
}

/// Limits what any later program of this process can ever have.
pub fn limit_bounding(keep: Capabilities) -> Result<()> {
    for capability in bounding().without(keep).bits() {
        remove_capability_from_bounding_set(capability).os("drop", format!("{capability:?} from the bounding set"))?;
    }
    Ok(())
}

/// Whether changing from root to another user keeps the permitted set, for [`set`] to cut down afterwards.
pub fn keep_across_setuid(keep: bool) -> Result<()> {
    set_keep_capabilities(keep).os("set", "the keep-capabilities flag")
}

/// Sets permitted and effective to `caps`, inheritable and ambient to `ambient`.
///
/// Inheritable stays empty otherwise: a file with inheritable capabilities must not raise a container's process
/// (CVE-2022-29162).
pub fn set(caps: Capabilities, ambient: Capabilities) -> Result<()> {
    let set = CapabilitySet::from_bits_retain(caps.0);
    let inheritable = CapabilitySet::from_bits_retain(ambient.0);
    let sets = CapabilitySets { effective: set, permitted: set, inheritable };
    set_capabilities(None, sets).os("set", "capabilities")?;
    for capability in ambient.bits() {
        configure_capability_in_ambient_set(capability, true)
            .os("raise", format!("{capability:?} in the ambient set"))?;
    }
    Ok(())
}

/// Puts every right that this process may have into force.
pub fn raise_permitted() -> Result<()> {
    let sets = capabilities(None).os("read", "capabilities")?;
    set_capabilities(None, CapabilitySets { effective: sets.permitted, ..sets }).os("raise", "capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_map_to_the_kernels_numbers() {
        for (name, bit) in [("CAP_CHOWN", 0), ("net_raw", 13), ("SYS_ADMIN", 21), ("CAP_CHECKPOINT_RESTORE", 40)] {
            assert_eq!(Capabilities::named(name), Some(Capabilities(1 << bit)), "{name}");
        }
        assert_eq!(Capabilities::named("CAP_FLY"), None);
        assert_eq!(Capabilities(1 << 13 | 1).names().collect::<Vec<_>>(), ["CHOWN", "NET_RAW"]);
    }
}
