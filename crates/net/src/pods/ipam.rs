//! Which pod has which address. Each allocation is one file, made before the address is used and removed after:
//! whatever happens in between, no address is given twice. Addresses are given in a circle, so that one is not
//! used again while peers may still talk to its former pod.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, OpenOptions},
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use knarr_cri::PortMapping;
use serde::{Deserialize, Serialize};

use crate::{
    Ipv4Cidr,
    error::{NetworkError, Result},
};

/// The file that says where the circle stands.
const NEXT: &str = "next";

/// One pod's attachment, as its file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub sandbox_id: String,
    /// `namespace/name` of the pod, for whoever reads the file.
    pub pod: String,
    #[serde(skip_deserializing, default = "unspecified")]
    pub ip: Ipv4Addr,
    #[serde(default)]
    pub host_ports: Vec<HostPort>,
}

fn unspecified() -> Ipv4Addr {
    Ipv4Addr::UNSPECIFIED
}

/// A port of the host that leads to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// `None`: each address of the host.
    pub host_ip: Option<Ipv4Addr>,
    pub host_port: u16,
    pub container_port: u16,
    /// The IP protocol's number.
    pub protocol: u8,
}

impl HostPort {
    /// `None` for what publishes nothing: no host port, or an address of the other family.
    pub fn of(mapping: &PortMapping) -> Option<Self> {
        let host_ip = match mapping.host_ip {
            None => None,
            Some(std::net::IpAddr::V4(ip)) => Some(ip).filter(|ip| !ip.is_unspecified()),
            Some(std::net::IpAddr::V6(_)) => return None,
        };
        (mapping.host_port != 0).then_some(Self {
            host_ip,
            host_port: mapping.host_port,
            container_port: mapping.container_port,
            protocol: crate::protocol_number(mapping.protocol)?,
        })
    }
}

/// The allocations of one node.
#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    /// What new pods are given addresses from; `None` until the cluster has given the node a range.
    range: Option<Ipv4Cidr>,
    leases: HashMap<String, Lease>,
    used: HashSet<Ipv4Addr>,
    next: u32,
}

impl Ipam {
    /// Reads the allocations that a former process left in `dir`.
    pub fn open(dir: PathBuf) -> Result<Self> {
        let record = |path: &Path| {
            let path = path.to_owned();
            move |source| NetworkError::Record { path, source }
        };
        fs::create_dir_all(&dir).map_err(record(&dir))?;
        let mut leases = HashMap::new();
        for entry in fs::read_dir(&dir).map_err(record(&dir))? {
            let path = entry.map_err(record(&dir))?.path();
            let Some(ip) = path.file_name().and_then(|name| name.to_str()?.parse::<Ipv4Addr>().ok()) else { continue };
            let content = fs::read(&path).map_err(record(&path))?;
            match serde_json::from_slice::<Lease>(&content) {
                Ok(lease) => drop(leases.insert(lease.sandbox_id.clone(), Lease { ip, ..lease })),
                // Cut short while it was written: the address was never handed out.
                Err(_) => fs::remove_file(&path).map_err(record(&path))?,
            }
        }
        let next =
            fs::read_to_string(dir.join(NEXT)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
        let used = leases.values().map(|lease: &Lease| lease.ip).collect();
        Ok(Self { dir, range: None, leases, used, next })
    }

    pub fn range(&self) -> Option<Ipv4Cidr> {
        self.range
    }

    /// From now on addresses come from this range; those given before stay.
    pub fn set_range(&mut self, range: Ipv4Cidr) {
        self.range = Some(range);
    }

    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values()
    }

    pub fn get(&self, sandbox_id: &str) -> Option<&Lease> {
        self.leases.get(sandbox_id)
    }

    /// Gives a sandbox an address; the one it has, if it has one.
    pub fn allocate(&mut self, sandbox_id: &str, pod: String, host_ports: Vec<HostPort>) -> Result<Lease> {
        if let Some(lease) = self.leases.get(sandbox_id) {
            return Ok(lease.clone());
        }
        let taken =
            |port: &&HostPort| self.leases.values().flat_map(|lease| &lease.host_ports).any(|other| clash(port, other));
        if let Some(port) = host_ports.iter().find(taken) {
            return Err(NetworkError::HostPortTaken { port: port.host_port });
        }
        let range = self.range.ok_or(NetworkError::NoRange)?;
        let ip = self.free_address(&range).ok_or(NetworkError::NoAddressLeft { range })?;
        let lease = Lease { sandbox_id: sandbox_id.to_owned(), pod, ip, host_ports };
        let path = self.path(ip);
        write_new(&path, &lease).map_err(|source| NetworkError::Record { path, source })?;
        // Only a hint: without it the circle starts at its beginning again.
        let _ = fs::write(self.dir.join(NEXT), self.next.to_string());
        self.used.insert(ip);
        self.leases.insert(sandbox_id.to_owned(), lease.clone());
        Ok(lease)
    }

    /// Takes a sandbox's address back; the caller has undone what was made for it.
    pub fn release(&mut self, sandbox_id: &str) -> Result<()> {
        let Some(lease) = self.leases.get(sandbox_id) else { return Ok(()) };
        let path = self.path(lease.ip);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(NetworkError::Record { path, source });
            }
            _ => {}
        }
        self.used.remove(&lease.ip);
        self.leases.remove(sandbox_id);
        Ok(())
    }

    /// The next free address of the circle. The first is the network's, the second the gateway's, the last is for
    /// broadcasts.
    fn free_address(&mut self, range: &Ipv4Cidr) -> Option<Ipv4Addr> {
        let size = u32::from(range.last()) - u32::from(range.first());
        let usable = size.checked_sub(2)?;
        for step in 0..usable {
            let offset = 2 + (self.next + step) % usable;
            let Some(ip) = range.nth(offset) else { continue };
            if !self.used.contains(&ip) {
                self.next = (offset - 1) % usable;
                return Some(ip);
            }
        }
        None
    }

    fn path(&self, ip: Ipv4Addr) -> PathBuf {
        self.dir.join(ip.to_string())
    }
}

fn clash(a: &HostPort, b: &HostPort) -> bool {
    let same_address = a.host_ip.is_none() || b.host_ip.is_none() || a.host_ip == b.host_ip;
    a.host_port == b.host_port && a.protocol == b.protocol && same_address
}

fn write_new(path: &Path, lease: &Lease) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(&serde_json::to_vec(lease)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(dir: &Path) -> Ipam {
        let mut ipam = Ipam::open(dir.to_owned()).unwrap();
        ipam.set_range("10.9.0.0/29".parse().unwrap());
        ipam
    }

    fn take(ipam: &mut Ipam, sandbox: &str) -> u8 {
        ipam.allocate(sandbox, format!("default/{sandbox}"), Vec::new()).unwrap().ip.octets()[3]
    }

    #[test]
    fn addresses_go_round_and_survive() {
        let dir = tempfile::tempdir().unwrap();
        let mut ipam = open(dir.path());
        assert_eq!([take(&mut ipam, "a"), take(&mut ipam, "b"), take(&mut ipam, "a")], [2, 3, 2]);
        ipam.release("a").unwrap();
        assert_eq!(take(&mut ipam, "c"), 4, "a freed address is not used at once");
        drop(ipam);

        let mut ipam = open(dir.path());
        assert_eq!(ipam.get("b").unwrap().ip, Ipv4Addr::new(10, 9, 0, 3));
        assert_eq!([take(&mut ipam, "d"), take(&mut ipam, "e"), take(&mut ipam, "f")], [5, 6, 2]);
        let error = ipam.allocate("g", String::new(), Vec::new()).unwrap_err();
        assert!(matches!(error, NetworkError::NoAddressLeft { .. }), "{error}");
        ipam.release("e").unwrap();
        assert_eq!(take(&mut ipam, "g"), 6);
        ipam.release("never").unwrap();
    }

    #[test]
    fn nothing_is_given_before_there_is_a_range_and_a_new_range_leaves_what_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let mut ipam = Ipam::open(dir.path().to_owned()).unwrap();
        let error = ipam.allocate("a", String::new(), Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "cni plugin not initialized");
        ipam.set_range("10.9.0.0/29".parse().unwrap());
        assert_eq!(take(&mut ipam, "a"), 2);
        ipam.set_range("10.9.1.0/29".parse().unwrap());
        assert_eq!(ipam.get("a").unwrap().ip, Ipv4Addr::new(10, 9, 0, 2));
        take(&mut ipam, "b");
        assert_eq!(ipam.get("b").unwrap().ip.octets()[2], 1);
    }

    #[test]
    fn a_file_cut_short_is_no_allocation() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("10.9.0.2"), b"{\"sandbox_id\":\"a").unwrap();
        let mut ipam = open(dir.path());
        assert_eq!(ipam.leases().count(), 0);
        assert_eq!(take(&mut ipam, "a"), 2);
    }

    #[test]
    fn host_ports_clash_as_sockets_do() {
        let dir = tempfile::tempdir().unwrap();
        let mut ipam = open(dir.path());
        let port = |host_ip: Option<[u8; 4]>, host_port, protocol| HostPort {
            host_ip: host_ip.map(Ipv4Addr::from),
            host_port,
            container_port: 80,
            protocol,
        };
        let mut ask = |sandbox: &str, port| ipam.allocate(sandbox, String::new(), vec![port]).is_ok();
        let rows = [
            ("a", port(Some([1, 1, 1, 1]), 80, 6), true),
            ("b", port(Some([1, 1, 1, 2]), 80, 6), true),
            ("c", port(None, 80, 6), false),
            ("d", port(None, 80, 17), true),
            ("e", port(Some([1, 1, 1, 1]), 80, 17), false),
        ];
        for (sandbox, port, expected) in rows {
            assert_eq!(ask(sandbox, port), expected, "{port:?}");
        }
    }
}
