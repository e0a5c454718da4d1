//! Services, endpoints and proxies that come and go, and connections meanwhile.

use super::*;

#[test]
fn flows_to_a_removed_endpoint() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["a", "b"]);
        bed.set(&service(&addresses(&pods[..1])));
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        assert_eq!(ask_udp_from(&socket, (CLUSTER_IP, 80)).unwrap().name, "a");
        let (_, mut stream) = connect((CLUSTER_IP, 80));
        bed.set(&service(&addresses(&pods[1..])));
        // Datagrams go to who is there now; a connection lives on, for its endpoint is being drained.
        assert_eq!(ask_udp_from(&socket, (CLUSTER_IP, 80)).unwrap().name, "b");
        stream.write_all(b"hello").unwrap();
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, b"hello");

        // A client that began before there was the Service is not left with nobody.
        bed.proxy.update(&[(ObjectKey::new("default", "web"), None)]).unwrap();
        let early = bed.outside.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        assert!(ask_udp_from(&early, (NODE_IP, NODE_PORT)).is_err());
        bed.set(&service(&addresses(&pods[1..])));
        assert_eq!(ask_udp_from(&early, (NODE_IP, NODE_PORT)).unwrap().name, "b");
    });
}

#[test]
fn a_changing_service_loses_no_connection() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["a", "b", "c", "d", "e"]);
        let all = addresses(&pods);
        bed.set(&service(&all[..3]));
        let (done, asked, here) = (AtomicBool::new(false), AtomicUsize::new(0), here());
        let ask = || {
            while !done.load(Ordering::Relaxed) {
                ask_tcp((CLUSTER_IP, 80)).unwrap_or_else(|error| panic!("lost: {error}"));
                asked.fetch_add(1, Ordering::Relaxed);
            }
        };
        thread::scope(|scope| {
            let askers = [(); 2].map(|()| scope.spawn(|| knarr_os::net::netns::in_namespace(&here, ask).unwrap()));
            let (mut step, begin) = (0, std::time::Instant::now());
            while (step < 100 || asked.load(Ordering::Relaxed) < 1000)
                && askers.iter().all(|asker| !asker.is_finished())
            {
                let (first, length) = (step % 3, 1 + step % 2);
                bed.set(&service(&all[first..first + length]));
                step += 1;
            }
            done.store(true, Ordering::Relaxed);
            println!("{step} changes and {} connections in {:?}", asked.load(Ordering::Relaxed), begin.elapsed());
        });
    });
}

#[test]
fn a_restart_finds_everything_and_changes_nothing() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["a", "b"]);
        let mut view = service(&addresses(&pods));
        view.affinity_s = Some(60);
        bed.set(&view);
        let gone = ServiceView {
            key: ObjectKey::new("default", "gone"),
            cluster_ips: vec![IpAddr::from([10, 96, 7, 8])],
            external_ips: Vec::new(),
            ports: view.ports.iter().map(|port| ServicePort { node_port: None, ..port.clone() }).collect(),
            ..view.clone()
        };
        bed.set(&gone);

        bed.proxy = Proxy::open(bed.nftables.clone(), site()).unwrap();
        let before = bed.nftables.generation().unwrap();
        bed.set(&view);
        assert_eq!(bed.nftables.generation().unwrap(), before, "nothing to do for a Service that is as it was");
        assert_eq!(ask_tcp(([10, 96, 7, 8].into(), 80)).unwrap().peer, IpAddr::from(bed.node.config.gateway()));
        bed.proxy.sweep().unwrap();
        assert!(ask_tcp(([10, 96, 7, 8].into(), 80)).is_err(), "a Service that went meanwhile");
        ask_tcp((CLUSTER_IP, 80)).unwrap();

        bed.proxy.update(&[(view.key.clone(), None)]).unwrap();
        for set in [
            crate::dataplane::FRONTENDS,
            crate::dataplane::GROUPS,
            crate::dataplane::REFUSALS,
            crate::dataplane::BACKENDS,
            crate::dataplane::MEMBERS,
        ] {
            let left = bed.nftables.elements(crate::dataplane::FAMILY, crate::names::TABLE, set.name).unwrap();
            assert_eq!(left, Vec::new(), "{}", set.name);
        }
    });
}

#[test]
fn two_services_on_one_address_take_turns() {
    on_node(|| {
        let mut bed = Bed::new();
        let pods = bed.pods(&["a", "b"]);
        let first = service(&addresses(&pods[..1]));
        let second = ServiceView {
            key: ObjectKey::new("default", "second"),
            cluster_ips: vec![IpAddr::from([10, 96, 7, 8])],
            ..service(&addresses(&pods[1..]))
        };
        bed.set(&first);
        bed.set(&second);
        assert_eq!(ask_tcp((EXTERNAL_IP, 80)).unwrap().name, "a");
        assert_eq!(ask_tcp(([10, 96, 7, 8].into(), 80)).unwrap().name, "b");
        assert!(bed.proxy.waiting().contains(&second.key));
        let update = [(first.key.clone(), None), (second.key.clone(), Some(Arc::new(second.clone())))];
        bed.proxy.update(&update).unwrap();
        assert_eq!(ask_tcp((EXTERNAL_IP, 80)).unwrap().name, "b");
        assert_eq!(bed.proxy.waiting(), []);
    });
}

#[test]
fn a_large_cluster_loads_in_one_batch_and_changes_by_elements() {
    on_node(|| {
        let mut bed = Bed::new();
        let services: Vec<_> = (0..1000u32)
            .map(|index| {
                let [.., high, low] = index.to_be_bytes();
                let endpoints: Vec<_> = (0..10).map(|n| Ipv4Addr::new(10, 245 + n, high, low)).collect();
                let mut view = service(&endpoints);
                view.key.name = format!("s{index}");
                view.cluster_ips = vec![IpAddr::from([10, 96, 100 + high, low])];
                view.external_ips.clear();
                view.ports.truncate(1);
                view.ports[0].node_port = None;
                view
            })
            .collect();
        let update: Vec<_> = services.iter().map(|view| (view.key.clone(), Some(Arc::new(view.clone())))).collect();
        let begin = std::time::Instant::now();
        bed.proxy.update(&update).unwrap();
        let loaded = begin.elapsed();
        let backends = bed.nftables.elements(crate::dataplane::FAMILY, crate::names::TABLE, "backends").unwrap();
        assert_eq!(backends.len(), 10_000);

        let mut view = services[500].clone();
        view.endpoints.remove(3);
        let begin = std::time::Instant::now();
        bed.set(&view);
        println!("1,000 Services of 10 endpoints in {loaded:?}, one endpoint less in {:?}", begin.elapsed());
        let begin = std::time::Instant::now();
        let mut again = Proxy::open(bed.nftables.clone(), site()).unwrap();
        println!("read back in {:?}", begin.elapsed());
        again.update(&update).unwrap();
        again.sweep().unwrap();
        let backends = bed.nftables.elements(crate::dataplane::FAMILY, crate::names::TABLE, "backends").unwrap();
        assert_eq!(backends.len(), 10_000);
    });
}
