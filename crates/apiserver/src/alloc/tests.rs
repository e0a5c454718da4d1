use std::collections::HashSet;
use std::net::IpAddr;

use super::{AddressRange, PortRange};

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
        ("10.0.0.0/8", "10.0.0.1", 1 << 20, 256),
        ("fd00::/108", "fd00::1", (1 << 20) - 1, 256),
    ] {
        let range = range(text);
        assert_eq!((range.first(), range.size(), range.static_size()), (ip(first), size, fixed), "{text}");
        assert!(range.contains(range.first()));
        assert_eq!(range.nth(range.size()), None);
        assert!(range.contains(range.nth(range.size() - 1).unwrap()));
    }
    for wrong in ["10.0.0.0", "10.0.0.0/31", "10.0.0.0/33", "x/8", "fd00::/127", ""] {
        assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
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

#[test]
fn ports_run_out_cleanly() {
    let range = PortRange { first: 30000, last: 30099 };
    let mut taken = HashSet::new();
    while let Some(port) = range.pick(u64::try_from(taken.len()).unwrap() * 31, |port| taken.contains(&port)) {
        assert!(range.contains(port) && taken.insert(port));
    }
    assert_eq!(taken.len(), 100);
    assert_eq!(PortRange::default().to_string(), "30000-32767");
}
