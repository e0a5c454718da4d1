//! Ranges of either family's addresses, as Services get theirs from, in the terms of upstream's allocators
//! (<https://kubernetes.io/docs/reference/networking/virtual-ips/#service-ip-static-sub-range>).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// What the IPAddress of a Service's address is labelled with: its family, and who allocated it.
pub const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
pub const MANAGED_BY_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
pub const ALLOCATOR: &str = "ipallocator.k8s.io";

/// A wider range of IPv6 addresses than this prefix length gives is not handed out of, as upstream has it.
const WIDEST_IPV6: u8 = 64;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address range such as 10.96.0.0/16")]
pub struct RangeError(String);

/// The addresses that Services get: a network without its first and, for IPv4, its last address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    network: u128,
    prefix: u8,
    is_v4: bool,
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let wrong = || RangeError(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > if address.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        let mut range = Self { network: number(address), prefix, is_v4: address.is_ipv4() };
        range.network &= !range.host_mask();
        Ok(range)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address(self.network), self.prefix)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

impl AddressRange {
    fn host_mask(&self) -> u128 {
        let host_bits = if self.is_v4 { 32 - u32::from(self.prefix) } else { 128 - u32::from(self.prefix) };
        if host_bits == 128 { u128::MAX } else { (1 << host_bits) - 1 }
    }

    fn address(&self, number: u128) -> IpAddr {
        match self.is_v4 {
            // The upper bits are zero by construction.
            true => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            false => Ipv6Addr::from(number).into(),
        }
    }

    pub fn is_ipv4(&self) -> bool {
        self.is_v4
    }

    /// How many addresses can be handed out.
    pub fn size(&self) -> u128 {
        let all = self.host_mask();
        if self.is_v4 { all.saturating_sub(1) } else { all }
    }

    /// False for what is too wide for upstream's allocator.
    pub fn can_be_given_out(&self) -> bool {
        self.is_v4 || self.prefix >= WIDEST_IPV6
    }

    /// The address at an offset, starting from 0.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        (offset < self.size()).then(|| self.address(self.network + 1 + offset))
    }

    /// The address of the `kubernetes` Service.
    pub fn first(&self) -> IpAddr {
        self.address(self.network + 1)
    }

    /// Whether the address can be one of this range; the network's own address and its broadcast address cannot.
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        address.is_ipv4() == self.is_v4 && number > self.network && number - self.network - 1 < self.size()
    }

    /// True where every address of the other lies in this network.
    pub fn covers(&self, other: &Self) -> bool {
        self.is_v4 == other.is_v4 && self.prefix <= other.prefix && other.network & !self.host_mask() == self.network
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// How many addresses at the lower end are left to those who choose theirs (KEP-3070).
    pub fn static_size(&self) -> u128 {
        let size = self.size();
        if size <= 16 { 0 } else { (size / 16).clamp(16, 256) }
    }

    /// An address that is not taken: a random one above the static part, else one within it.
    pub fn pick(&self, random: u64, is_taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let (size, fixed) = (self.size(), self.static_size());
        let dynamic = size - fixed;
        if dynamic == 0 {
            return None;
        }
        let start = u128::from(random) % dynamic;
        let upper = (0..dynamic).map(|i| fixed + (start + i) % dynamic);
        upper.chain(0..fixed).filter_map(|offset| self.nth(offset)).find(|address| !is_taken(*address))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_know_their_addresses() {
        for (text, first, size, fixed) in [
            ("10.96.0.0/16", "10.96.0.1", 65534, 256),
            ("10.96.0.7/16", "10.96.0.1", 65534, 256),
            ("10.0.0.0/24", "10.0.0.1", 254, 16),
            ("10.0.0.0/28", "10.0.0.1", 14, 0),
            ("10.0.0.0/30", "10.0.0.1", 2, 0),
            ("10.0.0.0/8", "10.0.0.1", (1 << 24) - 2, 256),
            ("fd00::/108", "fd00::1", (1 << 20) - 1, 256),
            ("fd00::/64", "fd00::1", (1 << 64) - 1, 256),
        ] {
            let range = range(text);
            assert_eq!((range.first(), range.size(), range.static_size()), (ip(first), size, fixed), "{text}");
            assert!(range.contains(range.first()));
            assert_eq!(range.nth(range.size()), None);
            assert!(range.contains(range.nth(range.size() - 1).unwrap()));
        }
        for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129", ""] {
            assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
        }
        for empty in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/128"] {
            assert_eq!((range(empty).size(), range(empty).pick(7, |_| false)), (0, None), "{empty}");
        }
        let range = range("10.96.0.0/16");
        for (address, expected) in [
            ("10.96.0.0", false),
            ("10.96.0.1", true),
            ("10.96.255.254", true),
            ("10.96.255.255", false),
            ("10.97.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(range.contains(ip(address)), expected, "{address}");
        }
    }

    #[test]
    fn ranges_know_each_other() {
        for (one, other, covers, overlaps) in [
            ("10.0.0.0/8", "10.96.0.0/16", true, true),
            ("10.96.0.0/16", "10.0.0.0/8", false, true),
            ("10.96.0.0/16", "10.96.0.0/16", true, true),
            ("10.96.0.0/16", "10.97.0.0/16", false, false),
            ("::/0", "fd00::/108", true, true),
            ("::/0", "0.0.0.0/0", false, false),
        ] {
            let (one, other) = (range(one), range(other));
            assert_eq!((one.covers(&other), one.overlaps(&other)), (covers, overlaps), "{one} {other}");
        }
    }

    #[test]
    fn picking_prefers_the_upper_part_and_finds_the_last_free_address() {
        let range = range("10.0.0.0/24");
        let mut taken = HashSet::new();
        for random in 0..254 {
            let picked = range.pick(random * 7919, |address| taken.contains(&address)).unwrap();
            let in_static_part = (0..range.static_size()).any(|offset| range.nth(offset) == Some(picked));
            assert_eq!(in_static_part, random >= 254 - 16, "the lower 16 come last");
            assert!(taken.insert(picked), "{picked} was handed out twice");
        }
        assert_eq!(range.pick(1, |address| taken.contains(&address)), None);
    }
}
