//! Addresses and ranges of them. Written as Go's `netip` reads them, without zones and without IPv4 in IPv6.

use std::net::IpAddr;

use super::{Cost, Row, Sig, global, member, run};
use crate::value::{Cidr, Opaque, Value};

const IP: Sig = Sig::Opaque("net.IP");
const CIDR: Sig = Sig::Opaque("net.CIDR");
const ONE: Cost = Cost::Fixed(1);

macro_rules! is {
    ($name:literal, $test:expr) => {
        member($name, &[IP], Sig::Bool, ONE, run!([Value::Opaque(Opaque::Ip(ip))] => Ok(Value::Bool($test(ip)))))
    };
}

pub(crate) const ROWS: &[Row] = &[
    global("ip", &[Sig::String], IP, Cost::Text(1), run!([Value::String(text)] => ip(text).map(of))),
    global(
        "isIP",
        &[Sig::String],
        Sig::Bool,
        Cost::Text(1),
        run!(
        [Value::String(text)] => Ok(Value::Bool(ip(text).is_ok()))),
    ),
    global(
        "ip.isCanonical",
        &[Sig::String],
        Sig::Bool,
        Cost::Text(2),
        run!(
        [Value::String(text)] => Ok(Value::Bool(ip(text)?.to_string() == **text))),
    ),
    member(
        "family",
        &[IP],
        Sig::Int,
        ONE,
        run!(
        [Value::Opaque(Opaque::Ip(ip))] => Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 }))),
    ),
    is!("isUnspecified", IpAddr::is_unspecified),
    is!("isLoopback", IpAddr::is_loopback),
    is!("isLinkLocalMulticast", is_link_local_multicast),
    is!("isLinkLocalUnicast", is_link_local),
    is!("isGlobalUnicast", is_global),
    global("string", &[IP], Sig::String, ONE, run!([Value::Opaque(Opaque::Ip(ip))] => Ok(Value::text(ip.to_string())))),
    global(
        "cidr",
        &[Sig::String],
        CIDR,
        Cost::Text(1),
        run!(
        [Value::String(text)] => cidr(text).map(|cidr| Value::Opaque(Opaque::Cidr(cidr)))),
    ),
    global(
        "isCIDR",
        &[Sig::String],
        Sig::Bool,
        Cost::Text(1),
        run!(
        [Value::String(text)] => Ok(Value::Bool(cidr(text).is_ok()))),
    ),
    member(
        "containsIP",
        &[CIDR, Sig::String],
        Sig::Bool,
        Cost::ContainsIp(true),
        run!(
        [Value::Opaque(Opaque::Cidr(range)), Value::String(text)] => Ok(Value::Bool(holds(range, ip(text)?)))),
    ),
    member(
        "containsIP",
        &[CIDR, IP],
        Sig::Bool,
        Cost::ContainsIp(false),
        run!(
        [Value::Opaque(Opaque::Cidr(range)), Value::Opaque(Opaque::Ip(ip))] => Ok(Value::Bool(holds(range, *ip)))),
    ),
    member(
        "containsCIDR",
        &[CIDR, Sig::String],
        Sig::Bool,
        Cost::ContainsCidr(true),
        run!(
        [Value::Opaque(Opaque::Cidr(range)), Value::String(text)] => Ok(Value::Bool(holds_range(range, &cidr(text)?)))),
    ),
    member(
        "containsCIDR",
        &[CIDR, CIDR],
        Sig::Bool,
        Cost::ContainsCidr(false),
        run!(
        [Value::Opaque(Opaque::Cidr(range)), Value::Opaque(Opaque::Cidr(other))] =>
            Ok(Value::Bool(holds_range(range, other)))),
    ),
    member("ip", &[CIDR], IP, ONE, run!([Value::Opaque(Opaque::Cidr(range))] => Ok(of(range.address)))),
    member(
        "masked",
        &[CIDR],
        CIDR,
        ONE,
        run!([Value::Opaque(Opaque::Cidr(range))] => Ok(Value::Opaque(Opaque::Cidr(
        Cidr { address: masked(range.address, range.prefix), prefix: range.prefix })))),
    ),
    member(
        "prefixLength",
        &[CIDR],
        Sig::Int,
        ONE,
        run!(
        [Value::Opaque(Opaque::Cidr(range))] => Ok(Value::Int(i64::from(range.prefix)))),
    ),
    global(
        "string",
        &[CIDR],
        Sig::String,
        ONE,
        run!(
        [Value::Opaque(Opaque::Cidr(range))] => Ok(Value::text(format!("{}/{}", range.address, range.prefix)))),
    ),
];

fn of<'a>(ip: IpAddr) -> Value<'a> {
    Value::Opaque(Opaque::Ip(ip))
}

fn ip(text: &str) -> Result<IpAddr, String> {
    let what = "during conversion from string";
    let ip: IpAddr = text
        .parse()
        .map_err(|_| format!("IP Address {text:?} parse error {what}: ParseAddr({text:?}): unable to parse IP"))?;
    match ip {
        IpAddr::V6(six) if six.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        ip => Ok(ip),
    }
}

fn cidr(text: &str) -> Result<Cidr, String> {
    let why = |why: &str| {
        format!("network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}")
    };
    let (address, prefix) = text.split_once('/').ok_or_else(|| why("no '/'"))?;
    let address: IpAddr = address.parse().map_err(|_| why("unable to parse IP"))?;
    if matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some()) {
        return Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    let is_number = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_digit());
    let is_plain = is_number && (prefix.len() == 1 || !prefix.starts_with('0'));
    let bits = if address.is_ipv4() { 32 } else { 128 };
    match prefix.parse::<u8>() {
        Ok(prefix) if is_plain && prefix <= bits => Ok(Cidr { address, prefix }),
        Ok(_) if is_plain => Err(why("prefix length out of range")),
        _ => Err(why(&format!("bad bits after slash: {prefix:?}"))),
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((u32::from(four) & mask).to_be_bytes())
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::from((u128::from(six) & mask).to_be_bytes())
        }
    }
}

fn holds(range: &Cidr, ip: IpAddr) -> bool {
    range.address.is_ipv4() == ip.is_ipv4() && masked(range.address, range.prefix) == masked(ip, range.prefix)
}

fn holds_range(range: &Cidr, other: &Cidr) -> bool {
    range.prefix <= other.prefix && holds(range, other.address)
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_link_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(four) => four.octets()[..3] == [224, 0, 0],
        IpAddr::V6(six) => six.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_global(ip: &IpAddr) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(four) if four.is_broadcast());
    !(is_broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local(ip))
}
