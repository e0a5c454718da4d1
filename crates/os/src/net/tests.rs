use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use nix::libc;
use proptest::prelude::*;

use super::{
    Links, Mac, NetError, Netlink, Protocol, Route, conntrack,
    netns::in_new_namespace,
    nft::{
        Batch, ChainHook, ChainKind, CtKey, DataType, Element, Expr, Family, Hook, Nftables, Reg, Set, SetKind, Value,
        Verdict, Words, ipv4,
    },
    sysctl,
    wire::{Request, attributes, flags, messages},
};

proptest! {
    /// What is written is read again, whatever the lengths are.
    #[test]
    fn attributes_survive(values in prop::collection::vec((1u16..100, prop::collection::vec(any::<u8>(), 0..40)), 0..12)) {
        let mut request = Request::new();
        request.message(7, flags::ACK, "do", "it", |w| {
            w.header(&[1, 2, 3, 4]);
            w.nest(200, |w| values.iter().for_each(|(kind, value)| w.bytes(*kind, value)));
        });
        request.message(8, 0, "do", "more", |_| {});
        let found: Vec<_> = messages(request.bytes()).collect();
        prop_assert_eq!(found.len(), 2);
        prop_assert_eq!((found[0].kind, found[0].sequence, found[1].sequence), (7, 1, 2));
        let (header, rest) = found[0].payload.split_at(4);
        prop_assert_eq!(header, &[1, 2, 3, 4]);
        let nested: Vec<_> = attributes(rest).collect();
        prop_assert_eq!(nested[0].0, 200);
        let read: Vec<_> = attributes(nested[0].1).map(|(kind, value)| (kind, value.to_vec())).collect();
        prop_assert_eq!(read, values);
    }

    /// Bytes from elsewhere end the reading, never the program.
    #[test]
    fn odd_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for message in messages(&bytes) {
            for (_, value) in attributes(message.payload) {
                attributes(value).for_each(drop);
            }
        }
        attributes(&bytes).for_each(drop);
    }
}

/// In a network namespace of its own; these tests need root and fail without.
fn isolated(test: impl FnOnce() + Send) {
    in_new_namespace(test).expect("these tests make network namespaces; run them as root");
}

#[test]
fn links_addresses_and_routes() {
    isolated(|| {
        let links = Links::open().unwrap();
        assert_eq!(links.list().unwrap().len(), 1, "only the loopback link");
        assert!(links.find("knarr-x").unwrap().is_none());
        assert!(matches!(links.get("knarr-x"), Err(NetError::NoLink { .. })));
        assert_eq!(links.default_route_link().unwrap(), None);
        for _ in 0..2 {
            links.add_bridge("knarr-x", Mac([2, 1, 2, 3, 4, 5]), 1400).unwrap();
        }
        let link = links.get("knarr-x").unwrap();
        assert_eq!((link.mtu, link.up, link.mac.unwrap().to_string().as_str()), (1400, true, "02:01:02:03:04:05"));
        assert_eq!(link.alias, None);
        links.change(|changes| changes.set_alias(link.index, "somebody's")).unwrap();
        assert_eq!(links.get("knarr-x").unwrap().alias.as_deref(), Some("somebody's"));
        let ip: IpAddr = [10, 1, 0, 1].into();
        let route = |destination: [u8; 4], prefix, gateway: Option<IpAddr>| Route {
            gateway,
            ..Route::new(destination.into(), prefix, link.index)
        };
        for _ in 0..2 {
            links
                .change(|changes| {
                    changes.add_address(link.index, ip, 24);
                    changes.set_route(&route([10, 9, 0, 0], 16, None));
                    changes.set_route(&route([0, 0, 0, 0], 0, Some([10, 1, 0, 9].into())));
                })
                .unwrap();
        }
        assert!(links.addresses().unwrap().contains(&(link.index, ip, 24)));
        assert_eq!(links.default_route_link().unwrap(), Some(link.index));
        let found = links.routes().unwrap();
        assert!(found.contains(&route([10, 9, 0, 0], 16, None)), "{found:?}");
        assert!(found.contains(&route([0, 0, 0, 0], 0, Some([10, 1, 0, 9].into()))), "{found:?}");
        for _ in 0..2 {
            links.remove_route(&route([10, 9, 0, 0], 16, None)).unwrap();
        }
        let error = links
            .change(|changes| changes.set_route(&route([10, 8, 0, 0], 16, Some([172, 16, 0, 1].into()))))
            .unwrap_err();
        assert_eq!(error.to_string(), r#"cannot set route "10.8.0.0/16""#);
        assert_eq!(error.errno(), Some(libc::ENETUNREACH));
        for _ in 0..2 {
            links.remove("knarr-x").unwrap();
        }
        sysctl::write("ipv4/ip_forward", "1").unwrap();
        assert_eq!(sysctl::read("ipv4/ip_forward").unwrap(), "1");
        assert!(sysctl::read("ipv4/no_such_setting").is_err());
    });
}

const MAP: Set = Set {
    name: "m",
    key: &[DataType::Ipv4Address, DataType::InetProtocol, DataType::InetService],
    kind: SetKind::VerdictMap,
};
const NUMBERS: Set =
    Set { name: "n", key: &[DataType::Mark], kind: SetKind::Map(&[DataType::Ipv4Address, DataType::InetService]) };

#[test]
fn batches_apply_whole_or_not_at_all() {
    isolated(|| {
        let nftables = Nftables::open().unwrap();
        let batch = || Batch::new(Family::Ipv4, "knarr-test");
        assert!(!nftables.has_table(Family::Ipv4, "knarr-test").unwrap());
        assert_eq!(nftables.elements(Family::Ipv4, "knarr-test", "m").unwrap(), []);
        let mut make = batch();
        make.add_table();
        make.add_set(&MAP);
        make.add_set(&NUMBERS);
        make.add_chain("target", None);
        make.add_chain("base", Some(ChainHook { kind: ChainKind::Filter, hook: Hook::Input, priority: 0 }));
        let rule = [
            ipv4::destination(Reg(0)),
            ipv4::protocol(Reg(1)),
            ipv4::destination_port(Reg(2)),
            Expr::VerdictMap { map: "m", key: Reg(0) },
        ];
        make.add_rule("base", &rule);
        make.add_rule("target", &[Expr::Verdict(Verdict::Accept)]);
        nftables.commit(make).unwrap();

        // More than fits into one message, of each kind of value.
        let key = |index: u32| Words::new().ip(Ipv4Addr::from(index)).protocol(6).port(80);
        let verdicts = [Value::Accept, Value::Drop, Value::Jump("target".into()), Value::Goto("target".into())];
        let mut wanted: Vec<_> = (0..1000u32)
            .map(|index| Element { key: key(index), value: verdicts[index as usize % 4].clone() })
            .collect();
        let numbers: Vec<_> = (0..1000u32)
            .map(|index| Element {
                key: Words::new().number(index),
                value: Value::Words(Words::new().ip(Ipv4Addr::from(index)).port(index as u16)),
            })
            .collect();
        let generation = nftables.generation().unwrap();
        let mut fill = batch();
        fill.add_elements("m", &wanted);
        fill.add_elements("n", &numbers);
        nftables.commit(fill).unwrap();
        assert_eq!(nftables.generation().unwrap(), generation + 1, "one batch is one step");
        let read = |set| {
            let mut elements = nftables.elements(Family::Ipv4, "knarr-test", set).unwrap();
            elements.sort_by_key(|element| element.key);
            elements
        };
        wanted.sort_by_key(|element| element.key);
        assert_eq!(read("m"), wanted);
        assert_eq!(read("n").len(), 1000);
        assert!(
            read("n")
                .iter()
                .all(|e| matches!(&e.value, Value::Words(w) if w.ip_at(0) == Ipv4Addr::from(e.key.number_at(0))))
        );

        // The second change is refused, so the first is not made either.
        let mut bad = batch();
        bad.delete_elements("m", &wanted[..1]);
        bad.delete_elements("n", &[Element { key: Words::new().number(5000), value: Value::None }]);
        let error = nftables.commit(bad).unwrap_err();
        assert_eq!(error.to_string(), r#"cannot delete elements of nftables set "n""#);
        assert!(error.is_missing());
        assert_eq!(read("m").len(), 1000);

        // An element changes its value within a batch.
        let mut change = batch();
        change.delete_elements("m", &wanted[..1]);
        change.add_elements("m", &[Element { key: wanted[0].key, value: Value::Drop }]);
        change.flush_set("n");
        nftables.commit(change).unwrap();
        assert_eq!(read("m")[0].value, Value::Drop);
        assert_eq!(read("n"), []);

        let mut in_use = batch();
        in_use.delete_chain("target");
        assert_eq!(nftables.commit(in_use).unwrap_err().errno(), Some(libc::EBUSY));
        let mut gone = batch();
        gone.delete_table();
        nftables.commit(gone).unwrap();
        assert!(!nftables.has_table(Family::Ipv4, "knarr-test").unwrap());
    });
}

#[test]
fn tracked_connections_are_found_and_deleted() {
    isolated(|| {
        let links = Links::open().unwrap();
        links.set_up(links.get("lo").unwrap().index).unwrap();
        let nftables = Nftables::open().unwrap();
        // Tracking begins with the first rule that asks for it.
        let mut track = Batch::new(Family::Ipv4, "knarr-test");
        track.add_table();
        track.add_chain("out", Some(ChainHook { kind: ChainKind::Nat, hook: Hook::Output, priority: -100 }));
        track.add_rule("out", &[Expr::Ct { key: CtKey::State, to: Reg(0) }]);
        nftables.commit(track).unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"x", server.local_addr().unwrap()).unwrap();
        let netlink = Netlink::open(Protocol::Netfilter).unwrap();
        let port = server.local_addr().unwrap().port();
        let is_ours = |connection: &conntrack::Connection| connection.original.destination_port == port;
        let found = conntrack::list(&netlink, 17).unwrap();
        assert_eq!(found.iter().filter(|connection| is_ours(connection)).count(), 1, "{found:?}");
        assert_eq!(conntrack::list(&netlink, 6).unwrap(), []);
        assert_eq!(conntrack::delete(&netlink, 17, |_| false).unwrap(), 0);
        assert_eq!(conntrack::delete(&netlink, 17, is_ours).unwrap(), 1);
        assert_eq!(conntrack::list(&netlink, 17).unwrap(), []);
    });
}

#[test]
fn several_links_go_at_once() {
    isolated(|| {
        let links = Links::open().unwrap();
        let names: Vec<_> = (0..250).map(|n| format!("knarr-{n}")).collect();
        for name in &names[..5] {
            links.add_bridge(name, Mac([2, 0, 0, 0, 0, 1]), 1500).unwrap();
        }
        let left = || links.list().unwrap().into_iter().map(|link| link.name).collect::<Vec<_>>();
        links.remove_all([]).unwrap();
        links.remove_all(names[1..3].iter().map(String::as_str)).unwrap();
        assert_eq!(left(), ["lo", "knarr-0", "knarr-3", "knarr-4"]);
        // More than fit into one request, most of them not there.
        links.remove_all(names[1..].iter().map(String::as_str)).unwrap();
        assert_eq!(left(), ["lo", "knarr-0"]);
        links.remove_all(["knarr-0", "knarr-0"]).unwrap();
        assert_eq!(left(), ["lo"]);
    });
}
