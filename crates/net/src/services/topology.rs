//! Which endpoints are near: what the hints of a Service's EndpointSlices say to a proxy in one place. Pure.
//! (<https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-distribution>)

use super::{Endpoint, Site};

/// How near an endpoint has to be to get connections from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearness {
    /// Hinted for this node.
    SameNode,
    /// Hinted for this node's zone.
    SameZone,
    Anywhere,
}

impl Nearness {
    /// As near as the endpoints that are ready allow. Hints count only where each of them has one: where some have
    /// none they may be out of date, and whoever has none would be left without connections by every node. Where
    /// nobody is meant for this node its zone is asked, and where nobody is meant for that either, all will do: a
    /// client is never refused for want of somebody near.
    pub fn of<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone, site: &Site) -> Self {
        let ready = endpoints.filter(|endpoint| endpoint.ready);
        let serves = |nearness: Self, has_hint: fn(&Endpoint) -> bool| {
            ready.clone().all(has_hint) && ready.clone().any(|endpoint| nearness.admits(endpoint, site))
        };
        if serves(Self::SameNode, |endpoint| !endpoint.for_nodes.is_empty()) {
            Self::SameNode
        } else if serves(Self::SameZone, |endpoint| !endpoint.for_zones.is_empty()) {
            Self::SameZone
        } else {
            Self::Anywhere
        }
    }

    pub fn admits(self, endpoint: &Endpoint, site: &Site) -> bool {
        match self {
            Self::SameNode => endpoint.for_nodes.contains(&site.node),
            Self::SameZone => site.zone.as_ref().is_some_and(|zone| endpoint.for_zones.contains(zone)),
            Self::Anywhere => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint by its hints for nodes and for zones, separated by commas.
    fn endpoint(ready: bool, nodes: &str, zones: &str) -> Endpoint {
        let names = |list: &str| list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Endpoint {
            ip: [10, 0, 0, 1].into(),
            ports: [].into(),
            ready,
            serving: true,
            terminating: !ready,
            node: None,
            for_nodes: names(nodes),
            for_zones: names(zones),
            hostname: None,
            pod: None,
        }
    }

    #[test]
    fn hints_are_followed_where_all_have_them_and_some_are_for_here() {
        use Nearness::{Anywhere, SameNode, SameZone};
        let check = |zone: Option<&str>, endpoints: &[(bool, &str, &str)], expected: Nearness, admitted: &[usize]| {
            let site = Site { node: "n".into(), zone: zone.map(str::to_owned), cluster_dns: [10, 96, 0, 10].into() };
            let all: Vec<_> = endpoints.iter().map(|(ready, nodes, zones)| endpoint(*ready, nodes, zones)).collect();
            let nearness = Nearness::of(all.iter(), &site);
            assert_eq!(nearness, expected, "{zone:?} {endpoints:?}");
            let near = (0..all.len()).filter(|index| all[*index].ready && nearness.admits(&all[*index], &site));
            assert_eq!(near.collect::<Vec<_>>(), admitted, "{zone:?} {endpoints:?}");
        };
        let z = Some("z");
        check(z, &[], Anywhere, &[]);
        check(z, &[(true, "", ""), (true, "", "")], Anywhere, &[0, 1]);
        // Zones.
        check(z, &[(true, "", "z"), (true, "", "y")], SameZone, &[0]);
        check(z, &[(true, "", "y,z"), (true, "", "z"), (true, "", "y")], SameZone, &[0, 1]);
        check(z, &[(true, "", "z"), (true, "", "")], Anywhere, &[0, 1]);
        check(z, &[(true, "", "y"), (true, "", "x")], Anywhere, &[0, 1]);
        check(None, &[(true, "", "z"), (true, "", "y")], Anywhere, &[0, 1]);
        // Nodes come first, then zones, then all.
        check(z, &[(true, "n", "z"), (true, "m", "z")], SameNode, &[0]);
        check(None, &[(true, "n", ""), (true, "m", "")], SameNode, &[0]);
        check(z, &[(true, "m", "z"), (true, "l", "y")], SameZone, &[0]);
        check(z, &[(true, "n", "z"), (true, "", "y")], SameZone, &[0]);
        check(z, &[(true, "m", "y"), (true, "l", "x")], Anywhere, &[0, 1]);
        // Those that are not ready are not asked, with hints or without.
        check(z, &[(true, "", "z"), (false, "", "")], SameZone, &[0]);
        check(z, &[(false, "n", "z"), (true, "m", "y")], Anywhere, &[1]);
        check(z, &[(false, "n", "z")], Anywhere, &[]);
    }
}
