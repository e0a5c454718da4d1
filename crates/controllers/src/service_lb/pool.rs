//! The addresses that Services of type LoadBalancer are given.

use std::{net::Ipv4Addr, str::FromStr, sync::Arc};

use knarr_api::cidr::Ipv4Cidr;

/// Ranges of addresses, in the order in which they are given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// First and last of each.
    ranges: Arc<[(u32, u32)]>,
    text: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no range of IPv4 addresses; write a pool like 192.168.1.240-192.168.1.250 or 192.168.1.240/28")]
pub struct PoolError {
    text: String,
}

impl AddressPool {
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&ip.into()))
    }

    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last).map(Ipv4Addr::from)
    }
}

impl std::fmt::Display for AddressPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for AddressPool {
    type Err = PoolError;

    /// `FROM-TO` or `ADDRESS/PREFIX`; several with commas between them.
    fn from_str(text: &str) -> Result<Self, PoolError> {
        let ranges: Result<_, _> = text.split(',').map(|part| range(part.trim()).ok_or(part)).collect();
        let ranges = ranges.map_err(|part| PoolError { text: part.trim().to_owned() })?;
        Ok(Self { ranges, text: text.into() })
    }
}

fn range(text: &str) -> Option<(u32, u32)> {
    if let Some((first, last)) = text.split_once('-') {
        let parse = |ip: &str| ip.trim().parse::<Ipv4Addr>().ok().map(u32::from);
        return Some((parse(first)?, parse(last)?)).filter(|(first, last)| first <= last);
    }
    let cidr: Ipv4Cidr = text.parse().ok()?;
    let (first, last) = (u32::from(cidr.first()), u32::from(cidr.last()));
    // The first and the last address of a network are its own name and everybody's; old devices heed that.
    Some(if cidr.prefix() < 31 { (first + 1, last - 1) } else { (first, last) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_parse() {
        for (text, expected) in [
            ("10.0.0.8-10.0.0.10", Some(vec!["10.0.0.8", "10.0.0.9", "10.0.0.10"])),
            ("10.0.0.8/30", Some(vec!["10.0.0.9", "10.0.0.10"])),
            ("10.0.0.8/32, 10.0.0.7 - 10.0.0.7", Some(vec!["10.0.0.8", "10.0.0.7"])),
            ("10.0.0.9-10.0.0.8", None),
            ("10.0.0.9", None),
            ("", None),
            ("10.0.0.8/30,", None),
        ] {
            let found = text.parse::<AddressPool>().ok();
            let found = found.map(|pool| pool.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>());
            assert_eq!(found, expected.map(|list| list.into_iter().map(str::to_owned).collect()), "{text:?}");
        }
        let pool: AddressPool = "10.0.0.8-10.0.0.10".parse().unwrap();
        assert!(pool.contains([10, 0, 0, 10].into()) && !pool.contains([10, 0, 0, 11].into()));
    }
}
