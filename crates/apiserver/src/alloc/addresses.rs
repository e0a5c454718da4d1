use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Ranges larger than this are used up to it: no cluster has more Services.
const MAX_SIZE: u128 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address range such as 10.96.0.0/16")]
pub struct RangeError(String);

/// The addresses that Services get: a network without its first and, for IPv4, its last address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
        let bits = if address.is_ipv4() { 32 } else { 128 };
        // At least two usable addresses: one for the API server, one for DNS.
        if prefix > bits - 2 {
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
        let usable = if self.is_v4 { all - 1 } else { all };
        usable.min(MAX_SIZE)
    }

    /// The address at an offset, starting from 0.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        (offset < self.size()).then(|| self.address(self.network + 1 + offset))
    }

    /// The address of the `kubernetes` Service.
    pub fn first(&self) -> IpAddr {
        self.address(self.network + 1)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        address.is_ipv4() == self.is_v4 && number > self.network && number - self.network - 1 < self.size()
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
        let start = u128::from(random) % dynamic;
        let upper = (0..dynamic).map(|i| fixed + (start + i) % dynamic);
        upper.chain(0..fixed).filter_map(|offset| self.nth(offset)).find(|address| !is_taken(*address))
    }
}
