//! Ranges of IPv4 addresses, as pod networks, Services and load balancers have them.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A range of IPv4 addresses, such as `10.244.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Cidr {
    first: Ipv4Addr,
    prefix: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a range of IPv4 addresses; write it like 10.244.0.0/24")]
pub struct CidrError {
    text: String,
}

impl Ipv4Cidr {
    /// The range of this prefix length around an address.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let mask = mask(prefix)?;
        Some(Self { first: (u32::from(address) & mask).into(), prefix })
    }

    pub fn first(&self) -> Ipv4Addr {
        self.first
    }

    pub fn last(&self) -> Ipv4Addr {
        (u32::from(self.first) | !u32::from(self.mask())).into()
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn mask(&self) -> Ipv4Addr {
        mask(self.prefix).unwrap_or_default().into()
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & u32::from(self.mask()) == u32::from(self.first)
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// The address `offset` after the first, if it is in the range.
    pub fn nth(&self, offset: u32) -> Option<Ipv4Addr> {
        let address = u32::from(self.first).checked_add(offset)?.into();
        self.contains(address).then_some(address)
    }
}

fn mask(prefix: u8) -> Option<u32> {
    match prefix {
        0 => Some(0),
        1..=32 => Some(u32::MAX << (32 - prefix)),
        _ => None,
    }
}

impl Serialize for Ipv4Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ipv4Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Ipv4Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Ipv4Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Self::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| CidrError { text: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_parse_and_contain() {
        let rows = [
            ("10.244.0.0/24", "10.244.0.0", "10.244.0.255"),
            ("10.244.3.7/16", "10.244.0.0", "10.244.255.255"),
            ("192.168.1.5/32", "192.168.1.5", "192.168.1.5"),
            ("1.2.3.4/0", "0.0.0.0", "255.255.255.255"),
        ];
        for (text, first, last) in rows {
            let cidr: Ipv4Cidr = text.parse().unwrap();
            assert_eq!((cidr.first().to_string(), cidr.last().to_string()), (first.into(), last.into()), "{text}");
            assert!(cidr.contains(cidr.first()) && cidr.contains(cidr.last()), "{text}");
        }
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/64", "10.0.0.0/-1"] {
            assert!(text.parse::<Ipv4Cidr>().is_err(), "{text}");
        }
        let range = |text: &str| text.parse::<Ipv4Cidr>().unwrap();
        assert!(range("10.244.0.0/16").overlaps(&range("10.244.3.0/24")));
        assert!(range("10.244.3.0/24").overlaps(&range("10.244.0.0/16")));
        assert!(!range("10.244.3.0/24").overlaps(&range("10.244.4.0/24")));
        let cidr: Ipv4Cidr = "10.244.1.0/30".parse().unwrap();
        assert_eq!(cidr.nth(3), Some(Ipv4Addr::new(10, 244, 1, 3)));
        assert_eq!(cidr.nth(4), None);
        assert!(!cidr.contains(Ipv4Addr::new(10, 244, 1, 4)));
    }
}
