//! What the groups that sandboxes lie in weigh and may use. A caller that sorts its sandboxes into parents (a kubelet
//! has one for each class of service) wants a parent to weigh as much as what is in it: left at the kernel's default,
//! three sandboxes that asked for nothing would get as much as three others that asked for half the machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use knarr_os::cgroup::Resources;

use crate::{config::Limits, runtime::EmbeddedRuntime};

/// The shares of one whole CPU, and the bounds that the kernel keeps.
const CPU: u64 = 1024;
const LEAST: u64 = 2;
const MOST: u64 = 262_144;

/// The shares that each group from `root` down to the sandboxes' parents should have, given each sandbox's group and
/// its shares. The root and the groups directly in it hold all there is and weigh as much as the machine, or what of it
/// is theirs, for which they compete with the rest of the host; below them only the proportions count.
fn shares<'a>(root: &Path, sandboxes: impl Iterator<Item = (&'a Path, u64)>, machine: u64) -> BTreeMap<PathBuf, u64> {
    let machine = machine.clamp(LEAST, MOST);
    let mut wanted = BTreeMap::from([(root.to_owned(), machine)]);
    for (group, shares) in sandboxes {
        let parents = group.ancestors().skip(1).take_while(|parent| *parent != root && parent.starts_with(root));
        for parent in parents {
            if parent.parent() == Some(root) {
                wanted.insert(parent.to_owned(), machine);
            } else {
                let sum = wanted.entry(parent.to_owned()).or_default();
                *sum = (*sum + shares).clamp(LEAST, MOST);
            }
        }
    }
    wanted
}

impl EmbeddedRuntime {
    /// Brings the weights to what the sandboxes that are there ask for; writes only those that changed.
    pub(crate) fn weigh(&self) {
        let root = self.config.cgroup("");
        let cpus = || std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64);
        let limits = self.config.limits;
        let machine = if limits.cpu_shares > 0 { limits.cpu_shares } else { cpus() * CPU };
        let wanted = {
            let state = self.state();
            let alive = state.sandboxes.values().filter(|sandbox| sandbox.meta.ready);
            let asked = alive.map(|sandbox| {
                let resources = sandbox.config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
                let shares = resources.map_or(0, |resources| u64::try_from(resources.cpu_shares).unwrap_or(0));
                (sandbox.meta.cgroup.as_path(), shares)
            });
            shares(&root, asked, machine)
        };
        let mut written = self.weights();
        let mut postponed = Vec::new();
        for (group, cpu_shares) in &wanted {
            if written.get(group) == Some(cpu_shares) {
                continue;
            }
            let mut resources = Resources { cpu_shares: *cpu_shares, ..Resources::default() };
            if group.parent() == Some(root.as_path()) && !self.bound(group, &mut resources) {
                postponed.push(group.clone());
            }
            for warning in self.cgroups.update(group, &resources) {
                tracing::warn!(group = %group.display(), warning = warning.line(), "a group's weight or limit is not in force");
            }
        }
        *written = wanted;
        // What is not written down is tried again.
        written.retain(|group, _| !postponed.contains(group));
    }

    /// Adds what all sandboxes together may use, to a group that holds them; false where that has to wait.
    fn bound(&self, group: &Path, resources: &mut Resources) -> bool {
        let Limits { memory_bytes, pids, .. } = self.config.limits;
        resources.pids_limit = pids;
        // The kernel would end processes to make it hold.
        let used = self.cgroups.usage(group).working_set_bytes.unwrap_or(0);
        if memory_bytes > 0 && used > memory_bytes.unsigned_abs() {
            let group = group.display();
            tracing::warn!(%group, used, memory_bytes, "sandboxes use more memory than they may, and are not bounded");
            return false;
        }
        resources.memory_limit_bytes = memory_bytes;
        resources.memory_swap_limit_bytes = -1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_weighs_as_much_as_what_is_in_it() {
        let sandboxes =
            [("k/pods/a", 512), ("k/pods/burst/b", 100), ("k/pods/burst/c", 300), ("k/pods/best/d", 2), ("k/e", 7)];
        let found = shares(Path::new("k"), sandboxes.iter().map(|(path, shares)| (Path::new(path), *shares)), 4 * CPU);
        let expected = [("k", 4096), ("k/pods", 4096), ("k/pods/best", 2), ("k/pods/burst", 400)];
        let expected = expected.map(|(path, shares)| (PathBuf::from(path), shares));
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn weights_stay_within_what_the_kernel_takes() {
        let sandboxes = [("k/p/x/a", 262_144), ("k/p/x/b", 262_144), ("k/p/y/c", 0)];
        let found =
            shares(Path::new("k"), sandboxes.iter().map(|(path, shares)| (Path::new(path), *shares)), 1000 * CPU);
        assert_eq!((found[Path::new("k/p/x")], found[Path::new("k/p/y")], found[Path::new("k")]), (MOST, LEAST, MOST));
    }
}
