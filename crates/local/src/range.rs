use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::LocalError;

/// The addresses of a cluster's nodes: 256 that begin alike, written as `172.30.7.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Range([u8; 3]);

/// What the last number of an address is for.
impl Range {
    pub const PREFIX: u8 = 24;
    const HOST: u8 = 1;
    /// The server's; further nodes follow.
    pub const FIRST_NODE: u8 = 2;
    pub const LAST_NODE: u8 = 199;
    const POOL: (u8, u8) = (200, 250);

    /// Those that are tried in this order where none is asked for.
    pub fn usual() -> impl Iterator<Item = Self> {
        (0..=255).map(|third| Self([172, 30, third]))
    }

    pub fn at(&self, last: u8) -> Ipv4Addr {
        let Self([a, b, c]) = *self;
        Ipv4Addr::new(a, b, c, last)
    }

    /// The host's own, and the nodes' way to the world.
    pub fn host(&self) -> Ipv4Addr {
        self.at(Self::HOST)
    }

    /// The addresses that load balancers take, unless they are told others.
    pub fn pool(&self) -> String {
        format!("{}-{}", self.at(Self::POOL.0), self.at(Self::POOL.1))
    }

    /// Whether a route to `destination/prefix` leads to an address of these.
    pub fn overlaps(&self, destination: Ipv4Addr, prefix: u8) -> bool {
        let mask = |prefix: u8| u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        let mask = mask(prefix.min(Self::PREFIX));
        u32::from(self.at(0)) & mask == u32::from(destination) & mask
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.at(0), Self::PREFIX)
    }
}

impl FromStr for Range {
    type Err = LocalError;

    fn from_str(text: &str) -> Result<Self, LocalError> {
        let first = text.strip_suffix("/24").and_then(|first| first.parse::<Ipv4Addr>().ok());
        match first.map(|first| first.octets()) {
            Some([a, b, c, 0]) => Ok(Self([a, b, c])),
            _ => Err(LocalError::NoRange { text: text.into() }),
        }
    }
}

impl TryFrom<String> for Range {
    type Error = LocalError;

    fn try_from(text: String) -> Result<Self, LocalError> {
        text.parse()
    }
}

impl From<Range> for String {
    fn from(range: Range) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        for text in ["172.30.0.0/24", "10.1.2.0/24"] {
            assert_eq!(text.parse::<Range>().unwrap().to_string(), text);
        }
        for text in ["", "172.30.0.1/24", "172.30.0.0/16", "172.30.0.0", "::/24"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    #[test]
    fn overlaps() {
        let range: Range = "172.30.7.0/24".parse().unwrap();
        for (destination, prefix, expected) in [
            ([172, 30, 7, 0], 24, true),
            ([172, 30, 7, 9], 32, true),
            ([172, 16, 0, 0], 12, true),
            ([172, 30, 8, 0], 24, false),
            ([172, 30, 6, 0], 23, true),
            ([10, 0, 0, 0], 8, false),
        ] {
            assert_eq!(range.overlaps(destination.into(), prefix), expected, "{destination:?}/{prefix}");
        }
    }
}
