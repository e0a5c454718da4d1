use super::*;
use crate::{Overlay, testbed::*};
use knarr_os::net::sysctl;

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

fn pass(machine: &Machine, wanted: &[Ipv4Addr]) {
    let wanted = wanted.iter().copied().collect();
    machine.space.run(|| {
        hold(&machine.base, &wanted).unwrap_or_else(|error| panic!("{error:?}"));
        tell(&machine.base.links, &wanted, &mut BTreeMap::new()).unwrap();
    });
}

#[test]
fn an_address_moves_at_once() {
    on_node(|| {
        let (wire, client) = (Wire::new(), Space::new());
        wire.plug(&client, "eth0", CLIENT_IP);
        // Unless it is told otherwise, the client believes for five minutes and more what it has once learnt.
        client.run(|| sysctl::write("ipv4/neigh/eth0/base_reachable_time_ms", "600000")).unwrap();
        let a = Machine::new("a", &wire, A, None, "10.244.0.0/24", Overlay::Auto);
        let b = Machine::new("b", &wire, B, None, "10.244.1.0/24", Overlay::Auto);
        a.space.serve("a", 80);
        b.space.serve("b", 80);
        let asked = || client.run(|| ask_tcp((ADDRESS, 80)).map(|answer| answer.name));
        assert!(asked().is_err());
        pass(&a, &[ADDRESS]);
        assert_eq!(asked().unwrap(), "a");

        // The node dies without a word; the client still believes that the address is there.
        let links = a.space.links();
        let uplink = links.get("eth0").unwrap().index;
        links.change(|changes| changes.set_down(uplink)).unwrap();
        pass(&b, &[ADDRESS]);
        assert_eq!(asked().unwrap(), "b");

        // It comes back, and gives up what is no longer its own.
        links.change(|changes| changes.set_up(uplink)).unwrap();
        pass(&a, &[]);
        let held = |machine: &Machine| {
            let addresses = machine.space.links().addresses().unwrap();
            addresses.iter().filter(|(_, ip, _)| *ip == std::net::IpAddr::V4(ADDRESS)).count()
        };
        assert_eq!((held(&a), held(&b)), (0, 1));
        assert_eq!(asked().unwrap(), "b");
        let gateway: std::net::IpAddr = gateway(&a.base.ranges().unwrap().node).into();
        assert!(links.addresses().unwrap().iter().any(|(_, ip, _)| *ip == gateway), "the node's own addresses stay");

        // And the other way without anybody's death.
        pass(&b, &[]);
        pass(&a, &[ADDRESS]);
        assert_eq!(asked().unwrap(), "a");
    });
}

#[test]
fn a_silent_uplink_is_known_by_what_the_kernel_does() {
    on_node(|| {
        for (value, silent) in [("1", true), ("3", false)] {
            let (wire, client) = (Wire::new(), Space::new());
            wire.plug(&client, "eth0", CLIENT_IP);
            let a = Machine::new("a", &wire, A, None, "10.244.0.0/24", Overlay::Auto);
            a.space.serve("a", 80);
            a.space.run(|| knarr_os::net::sysctl::write("ipv4/conf/all/arp_ignore", value).unwrap());
            pass(&a, &[ADDRESS]);
            assert_eq!(a.space.run(|| silence::is_silent("eth0").unwrap()), silent, "{value}");
            assert_eq!(client.run(|| ask_tcp((ADDRESS, 80))).is_err(), silent, "{value}");
        }
    });
}

#[test]
fn announcements_are_repeated() {
    on_node(|| {
        let wire = Wire::new();
        let a = Machine::new("a", &wire, A, None, "10.244.0.0/24", Overlay::Auto);
        let mut turns = BTreeMap::new();
        let wanted = BTreeSet::from([ADDRESS]);
        a.space.run(|| tell(&a.base.links, &wanted, &mut turns).unwrap());
        let first = turns[&ADDRESS].next - turns[&ADDRESS].since;
        assert_eq!(first, REPEAT_AFTER[0]);
        a.space.run(|| tell(&a.base.links, &BTreeSet::new(), &mut turns).unwrap());
        assert!(turns.is_empty());
    });
}

#[test]
fn only_the_node_that_was_chosen_answers() {
    let service = |kind: &str, node: &str| -> Service {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "s", "annotations": {ANNOUNCED_BY: node}}, "spec": {"type": kind},
            "status": {"loadBalancer": {"ingress": [{"ip": ADDRESS}, {"hostname": "example.org"}]}}}))
        .unwrap()
    };
    for (kind, node, expected) in
        [("LoadBalancer", "a", vec![ADDRESS]), ("LoadBalancer", "b", vec![]), ("ClusterIP", "a", vec![])]
    {
        assert_eq!(addresses(&service(kind, node), "a"), expected, "{kind} {node}");
    }
}
