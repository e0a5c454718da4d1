//! Uplinks that keep silent about load balancers' addresses, because `arp_ignore` tells the kernel to answer ARP for
//! addresses of the asked link only, and these lie on the node's own. The setting is another program's or the
//! administrator's decision, so it is named and not changed.
//! (<https://docs.kernel.org/networking/ip-sysctl.html>)

use std::collections::BTreeSet;

use knarr_os::net::{Links, sysctl};

use crate::{
    error::{During, Result},
    ways,
};

/// The names of the host's links that other machines are on and that do not answer for addresses of other links.
pub fn silent_uplinks(links: &Links) -> Result<Vec<String>> {
    let uplinks: BTreeSet<u32> = ways::uplinks(links)?.into_iter().map(|(link, ..)| link).collect();
    let all = links.list().during("listing links")?;
    // Nobody asks by ARP where there are no addresses of hardware; the loopback's is all zeros.
    let asked = all.into_iter().filter(|link| link.mac.is_some_and(|mac| mac.0 != [0; 6]));
    let mut silent = Vec::new();
    for link in asked.filter(|link| uplinks.contains(&link.index)) {
        if is_silent(&link.name)? {
            silent.push(link.name);
        }
    }
    Ok(silent)
}

/// Whether a link does not answer for addresses of other links. The higher of its own setting and the one for all
/// links counts.
pub fn is_silent(link: &str) -> Result<bool> {
    let read = |link: &str| sysctl::read(&format!("ipv4/conf/{link}/arp_ignore")).during("reading kernel settings");
    Ok(silences(&read("all")?, &read(link)?))
}

/// 1 and 2 answer for addresses of the asked link only, and 8 for none. 3 leaves out addresses of scope `host`, which
/// a load balancer's is not; the kernel takes the other numbers for 0.
fn silences(all: &str, own: &str) -> bool {
    let number = |text: &str| text.parse::<i64>().unwrap_or(0);
    matches!(number(all).max(number(own)), 1 | 2 | 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{CLIENT_IP, Space, Wire, on_node};

    #[test]
    fn the_higher_setting_counts() {
        for (all, own, expected) in [
            ("0", "0", false),
            ("1", "0", true),
            ("0", "2", true),
            ("0", "8", true),
            ("3", "0", false),
            ("3", "1", false),
            ("0", "4", false),
        ] {
            assert_eq!(silences(all, own), expected, "{all} {own}");
        }
    }

    #[test]
    fn silent_uplinks_are_named() {
        on_node(|| {
            let (wire, host) = (Wire::new(), Space::new());
            wire.plug(&host, "eth0", CLIENT_IP);
            let set = |link: &str, value: &str| {
                let name = format!("ipv4/conf/{link}/arp_ignore");
                host.run(|| sysctl::write(&name, value).unwrap());
            };
            let check = |expected: &[&str]| assert_eq!(host.run(|| silent_uplinks(&host.links()).unwrap()), expected);
            check(&[]);
            set("lo", "1");
            check(&[]);
            set("eth0", "1");
            check(&["eth0"]);
            set("eth0", "0");
            set("all", "2");
            check(&["eth0"]);
        });
    }
}
