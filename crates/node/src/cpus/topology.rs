//! How a machine's processors belong together, and which of them go to a container: whole NUMA nodes and sockets first,
//! then whole cores, then threads; of what is broken already before of what is whole. So does upstream
//! (`cpumanager/cpu_assignment.go`, packed).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use super::set::CpuSet;

/// Where one processor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub numa: u32,
    pub socket: u32,
    /// Numbered for each socket anew.
    pub core: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology(pub BTreeMap<u32, Place>);

type Cpus = BTreeSet<u32>;

/// What of the machine a processor is a part of, by number.
type Unit = fn(Place) -> (u32, u32);

impl Topology {
    /// `sys` is `/sys/devices/system`.
    pub fn read(sys: &Path) -> io::Result<Self> {
        let set = |path: &Path| -> io::Result<CpuSet> {
            fs::read_to_string(path)?.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        };
        let mut places = BTreeMap::new();
        for cpu in set(&sys.join("cpu/online"))?.0 {
            let number = |file: &str| -> u32 {
                let path = sys.join(format!("cpu/cpu{cpu}/topology/{file}"));
                fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
            };
            let place = Place { numa: 0, socket: number("physical_package_id"), core: number("core_id") };
            places.insert(cpu, place);
        }
        // A kernel without NUMA has no such folder.
        for entry in fs::read_dir(sys.join("node")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(numa) = name.strip_prefix("node").and_then(|number| number.parse().ok()) else { continue };
            for cpu in set(&entry.path().join("cpulist"))?.0 {
                places.entry(cpu).and_modify(|place| place.numa = numa);
            }
        }
        Ok(Self(places))
    }

    pub fn all(&self) -> Cpus {
        self.0.keys().copied().collect()
    }

    /// So many of those that are free, if there are.
    pub fn take(&self, free: &Cpus, count: usize) -> Option<Cpus> {
        if free.len() < count {
            return None;
        }
        let mut taken = Cpus::new();
        let mut free = free.clone();
        let numa = |place: Place| (place.numa, 0);
        let socket = |place: Place| (place.socket, 0);
        let core = |place: Place| (place.socket, place.core);
        // A socket may have several NUMA nodes, and the other way round: the greater unit comes first.
        let units = |unit: Unit| self.0.values().map(|place| unit(*place)).collect::<BTreeSet<_>>();
        let (greater, smaller): (Unit, Unit) =
            if units(socket).len() >= units(numa).len() { (numa, socket) } else { (socket, numa) };
        for unit in [greater, smaller, core] {
            for whole in self.whole(&free, unit, smaller) {
                if whole.len() <= count - taken.len() {
                    free = &free - &whole;
                    taken.extend(whole);
                }
            }
        }
        let rest = self.sorted(&free, core, smaller).into_iter().flatten();
        taken.extend(rest.take(count - taken.len()));
        Some(taken)
    }

    /// The units of which all is free.
    fn whole(&self, free: &Cpus, unit: Unit, around: Unit) -> Vec<Cpus> {
        let size = |cpus: &Cpus| {
            let first = cpus.first().map(|cpu| unit(self.0[cpu]));
            self.0.values().filter(|place| Some(unit(**place)) == first).count()
        };
        self.sorted(free, unit, around).into_iter().filter(|cpus| cpus.len() == size(cpus)).collect()
    }

    /// What is free, by unit: the fewer are free around it and of it, the earlier.
    fn sorted(&self, free: &Cpus, unit: Unit, around: Unit) -> Vec<Cpus> {
        let mut found: BTreeMap<(u32, u32), Cpus> = BTreeMap::new();
        let mut room: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for (cpu, place) in self.0.iter().filter(|(cpu, _)| free.contains(cpu)) {
            found.entry(unit(*place)).or_default().insert(*cpu);
            *room.entry(around(*place)).or_default() += 1;
        }
        let mut units: Vec<Cpus> = found.into_values().collect();
        units.sort_by_key(|cpus| {
            let around = cpus.first().map(|cpu| around(self.0[cpu]));
            (around.and_then(|around| room.get(&around).copied()), around, cpus.len(), cpus.first().copied())
        });
        units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads of a core are half the machine apart, as Linux numbers them.
    fn machine(sockets: u32, cores: u32) -> Topology {
        let all = sockets * cores;
        let place = |cpu: u32| Place { numa: cpu % all / cores, socket: cpu % all / cores, core: cpu % cores };
        Topology((0..2 * all).map(|cpu| (cpu, place(cpu))).collect())
    }

    #[test]
    fn what_belongs_together_goes_together() {
        let (one, two) = (machine(1, 4), machine(2, 4));
        for (topology, free, count, expected) in [
            (&one, "0-7", 1, Some("0")),
            (&one, "0-7", 2, Some("0,4")),
            (&one, "0-7", 3, Some("0-1,4")),
            (&one, "0-7", 8, Some("0-7")),
            // A core that is broken already goes before a whole one.
            (&one, "1-7", 1, Some("4")),
            (&one, "1-7", 2, Some("1,5")),
            (&one, "1-3,5-7", 8, None),
            // A whole socket, also where the other is numbered lower.
            (&two, "0-15", 8, Some("0-3,8-11")),
            (&two, "1-15", 8, Some("4-7,12-15")),
            // The fuller socket is filled up first.
            (&two, "2-15", 2, Some("2,10")),
            (&two, "0-5,8-13", 2, Some("4,12")),
            (&two, "0-15", 10, Some("0-4,8-12")),
        ] {
            let free = free.parse::<CpuSet>().unwrap().0;
            let taken = topology.take(&free, count).map(|cpus| CpuSet(cpus).to_string());
            assert_eq!(taken.as_deref(), expected, "{count} of {}", CpuSet(free));
        }
    }

    #[test]
    fn a_machine_is_read_from_sys() {
        let sys = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = sys.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("cpu/online", "0-1,3\n");
        for (cpu, socket, core) in [(0, 0, 0), (1, 0, 1), (3, 1, 0)] {
            write(&format!("cpu/cpu{cpu}/topology/physical_package_id"), &format!("{socket}\n"));
            write(&format!("cpu/cpu{cpu}/topology/core_id"), &format!("{core}\n"));
        }
        write("node/node0/cpulist", "0-1\n");
        write("node/node1/cpulist", "2-3\n");
        let place = |numa, socket, core| Place { numa, socket, core };
        let expected = BTreeMap::from([(0, place(0, 0, 0)), (1, place(0, 0, 1)), (3, place(1, 1, 0))]);
        assert_eq!(Topology::read(sys.path()).unwrap().0, expected);
    }
}
