use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, TcpStream, UdpSocket},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::{Value, json};

use super::*;
use crate::{
    pods::PodNetworkHandle,
    services::ServiceView,
    testbed::{CLIENT_IP, NODE_IP, Node, Space, block_on, here, on_node, pod},
};

fn add(catalog: &Catalog, name: &str, spec: Value, slices: &[Value]) {
    let meta = json!({"namespace": "default", "name": name});
    let service: Service = serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap();
    let slices: Vec<_> =
        slices.iter().map(|slice| Arc::new(serde_json::from_value::<EndpointSlice>(slice.clone()).unwrap())).collect();
    let view = ServiceView::new(&service, &slices);
    catalog.set(&view.key.clone(), Some(Arc::new(view)));
}

fn cluster() -> Arc<Catalog> {
    let catalog = Arc::new(Catalog::default());
    let http = json!([{"name": "http", "port": 8080}]);
    let slice = |endpoints| json!({"metadata": {}, "addressType": "IPv4", "ports": http, "endpoints": endpoints});
    let ports =
        json!([{"name": "http", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    add(
        &catalog,
        "web",
        json!({"clusterIP": "10.96.0.20", "clusterIPs": ["10.96.0.20", "fd00::20"], "ports": ports}),
        &[slice(json!([{"addresses": ["10.244.0.5"]}]))],
    );
    add(
        &catalog,
        "db",
        json!({"clusterIP": "None", "ports": [{"name": "http", "port": 8080}]}),
        &[slice(json!([
            {"addresses": ["10.244.0.7"], "hostname": "db-0"},
            {"addresses": ["10.244.0.8"]},
            {"addresses": ["10.244.0.9"], "hostname": "db-2", "conditions": {"ready": false}},
        ]))],
    );
    add(&catalog, "empty", json!({"clusterIP": "None"}), &[]);
    add(&catalog, "far", json!({"type": "ExternalName", "externalName": "host.example.org"}), &[]);
    add(&catalog, "near", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}), &[]);
    add(&catalog, "circle", json!({"type": "ExternalName", "externalName": "circle.default.svc.cluster.local"}), &[]);
    catalog.set_complete();
    catalog
}

fn zone(catalog: Arc<Catalog>) -> Zone {
    Zone::new(&Config::new("/nowhere", "node-a", NODE_IP.into()), catalog)
}

/// An answer as text: records in order of their text, or the kind of "no".
fn show(answer: Answer) -> String {
    let texts = |records: Vec<Record>| {
        let mut texts: Vec<_> = records.iter().map(|r| format!("{} {}", r.record_type(), r.data)).collect();
        texts.sort();
        texts.join(", ")
    };
    match answer {
        Answer::Records { answers, additionals } if additionals.is_empty() => texts(answers),
        Answer::Records { answers, additionals } => format!("{} + {}", texts(answers), texts(additionals)),
        Answer::Alias { target, .. } => format!("alias {target}"),
        Answer::NoData => "no data".into(),
        Answer::NoSuchName => "no such name".into(),
        Answer::NotReady => "not ready".into(),
        Answer::Foreign => "foreign".into(),
    }
}

#[test]
fn names_of_the_cluster() {
    use RecordType::*;
    let zone = zone(cluster());
    let rows = [
        ("web.default.svc.cluster.local.", A, "A 10.96.0.20"),
        ("WEB.Default.svc.Cluster.LOCAL.", A, "A 10.96.0.20"),
        ("web.default.svc.cluster.local.", AAAA, "AAAA fd00::20"),
        ("web.default.svc.cluster.local.", MX, "no data"),
        (
            "web.default.svc.cluster.local.",
            SRV,
            "SRV 0 100 53 web.default.svc.cluster.local., SRV 0 100 80 web.default.svc.cluster.local. + A 10.96.0.20, AAAA fd00::20",
        ),
        (
            "_http._tcp.web.default.svc.cluster.local.",
            SRV,
            "SRV 0 100 80 web.default.svc.cluster.local. + A 10.96.0.20, AAAA fd00::20",
        ),
        ("_http._udp.web.default.svc.cluster.local.", SRV, "no such name"),
        ("_http._tcp.web.default.svc.cluster.local.", A, "no data"),
        ("_tcp.web.default.svc.cluster.local.", A, "no data"),
        ("10-244-0-5.web.default.svc.cluster.local.", A, "A 10.244.0.5"),
        ("absent.default.svc.cluster.local.", A, "no such name"),
        ("db.default.svc.cluster.local.", A, "A 10.244.0.7, A 10.244.0.8"),
        ("db.default.svc.cluster.local.", AAAA, "no data"),
        ("db-0.db.default.svc.cluster.local.", A, "A 10.244.0.7"),
        ("10-244-0-8.db.default.svc.cluster.local.", A, "A 10.244.0.8"),
        ("db-2.db.default.svc.cluster.local.", A, "no such name"),
        (
            "_http._tcp.db.default.svc.cluster.local.",
            SRV,
            "SRV 0 100 8080 10-244-0-8.db.default.svc.cluster.local., SRV 0 100 8080 db-0.db.default.svc.cluster.local. + A 10.244.0.7, A 10.244.0.8",
        ),
        ("empty.default.svc.cluster.local.", A, "no such name"),
        ("far.default.svc.cluster.local.", A, "alias host.example.org."),
        ("default.svc.cluster.local.", A, "no data"),
        ("other.svc.cluster.local.", A, "no such name"),
        ("svc.cluster.local.", A, "no data"),
        ("cluster.local.", NS, "NS ns.dns.cluster.local."),
        ("ns.dns.cluster.local.", A, "A 10.96.0.10"),
        ("dns-version.cluster.local.", TXT, "TXT 1.1.0"),
        ("nothing.cluster.local.", A, "no such name"),
        ("10-244-3-4.default.pod.cluster.local.", A, "A 10.244.3.4"),
        ("10-244-3-4.default.pod.cluster.local.", AAAA, "no data"),
        ("web.default.pod.cluster.local.", A, "no such name"),
        ("20.0.96.10.in-addr.arpa.", PTR, "PTR web.default.svc.cluster.local."),
        ("7.0.244.10.in-addr.arpa.", PTR, "PTR db-0.db.default.svc.cluster.local."),
        ("8.0.244.10.in-addr.arpa.", PTR, "PTR 10-244-0-8.db.default.svc.cluster.local."),
        ("99.0.244.10.in-addr.arpa.", PTR, "no such name"),
        ("8.8.8.8.in-addr.arpa.", PTR, "foreign"),
        ("0.2.192.in-addr.arpa.", PTR, "foreign"),
        ("example.org.", A, "foreign"),
        ("notcluster.local.", A, "foreign"),
    ];
    for (name, kind, expected) in rows {
        let answer = show(zone.answer(&Name::from_ascii(name).unwrap(), kind));
        assert_eq!(answer, expected, "{name} {kind}");
    }
}

#[test]
fn nothing_is_denied_before_all_is_known() {
    let zone = zone(Arc::new(Catalog::default()));
    for name in ["web.default.svc.cluster.local.", "default.svc.cluster.local.", "20.0.96.10.in-addr.arpa."] {
        assert_eq!(show(zone.answer(&Name::from_ascii(name).unwrap(), RecordType::A)), "not ready", "{name}");
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask(server: IpAddr, message: &Message) -> Message {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    socket.connect((server, 53)).unwrap();
    socket.send(&message.to_vec().unwrap()).unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

fn ask_by_tcp(server: IpAddr, message: &Message) -> Message {
    let mut stream = TcpStream::connect((server, 53)).unwrap();
    let bytes = message.to_vec().unwrap();
    stream.write_all(&(bytes.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&bytes).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut buffer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut buffer).unwrap();
    Message::from_vec(&buffer).unwrap()
}

fn data(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

/// A name server of the world: knows one name, and counts what it is asked.
fn serve_world() -> mpsc::Receiver<String> {
    let socket = UdpSocket::bind((CLIENT_IP, 53)).unwrap();
    let (tell, asked) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let query = request.queries[0].clone();
            let name = query.name().to_ascii().to_lowercase();
            tell.send(name.clone()).unwrap();
            let mut answer = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
            answer.metadata.recursion_available = true;
            if name == "host.example.org." && query.query_type() == RecordType::A {
                answer.add_answer(Record::from_rdata(
                    query.name().clone(),
                    60,
                    RData::A(Ipv4Addr::new(198, 51, 100, 7).into()),
                ));
            } else {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            answer.add_query(query);
            socket.send_to(&answer.to_vec().unwrap(), peer).unwrap();
        }
    });
    asked
}

/// Serves the catalog on a node for as long as `test` runs.
fn on_server(resolv_conf: &str, test: impl FnOnce(&Space, &Space, IpAddr) + Send) {
    on_node(|| {
        let outside = Space::outside();
        let mut node = Node::new();
        let network = PodNetworkHandle(node.base.pods.clone());
        let (client, _) = pod(&network, "client", 8080, Vec::new());
        node.config.resolv_conf = node.dir.path().join("resolv.conf");
        fs::write(&node.config.resolv_conf, resolv_conf).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (tell, ready) = mpsc::channel();
        let here = here();
        thread::scope(|scope| {
            scope.spawn(|| {
                let serve = || {
                    block_on(async {
                        let sockets = Sockets::bind(node.config.cluster_dns).await.unwrap();
                        tell.send(()).unwrap();
                        tokio::select! { () = serve(Some(sockets), node.config.clone(), cluster()) => {}, _ = stopped => {} }
                    });
                };
                knarr_os::net::netns::in_namespace(&here, serve).unwrap();
            });
            ready.recv().unwrap();
            // Ends the server even where the test fails.
            let _stop = stop;
            test(&client, &outside, node.config.cluster_dns.into());
        });
    });
}

#[test]
fn pods_ask_over_udp_and_tcp() {
    on_server(&format!("nameserver {CLIENT_IP}\n"), |client, outside, server| {
        let asked = outside.run(serve_world);
        client.run(move || {
            let web = question("WeB.default.svc.cluster.local.", RecordType::A);
            for answer in [ask(server, &web), ask_by_tcp(server, &web)] {
                assert_eq!(data(&answer), ["10.96.0.20"]);
                assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
                assert_eq!(answer.answers[0].name.to_ascii(), "WeB.default.svc.cluster.local.", "as it was asked");
            }
            let absent = ask(server, &question("absent.default.svc.cluster.local.", RecordType::A));
            assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
            assert_eq!(absent.authorities[0].record_type(), RecordType::SOA);
            let no_data = ask(server, &question("db.default.svc.cluster.local.", RecordType::AAAA));
            assert_eq!((no_data.metadata.response_code, no_data.authorities.len()), (ResponseCode::NoError, 1));
            assert!(asked.try_recv().is_err(), "names of the cluster stay in it");

            // The rest of the world, kept for a while; and aliases that lead there, or back.
            for _ in 0..3 {
                let answer = ask(server, &question("host.example.org.", RecordType::A));
                assert_eq!(data(&answer), ["198.51.100.7"]);
            }
            let far = ask(server, &question("far.default.svc.cluster.local.", RecordType::A));
            assert_eq!(data(&far), ["host.example.org.", "198.51.100.7"]);
            assert_eq!(asked.try_iter().count(), 1, "asked once, then remembered");
            let near = ask(server, &question("near.default.svc.cluster.local.", RecordType::A));
            assert_eq!(data(&near), ["web.default.svc.cluster.local.", "10.96.0.20"]);
            let circle = ask(server, &question("circle.default.svc.cluster.local.", RecordType::A));
            assert_eq!(circle.metadata.response_code, ResponseCode::ServFail);
            let nowhere = ask(server, &question("nowhere.example.org.", RecordType::A));
            assert_eq!(nowhere.metadata.response_code, ResponseCode::NXDomain);

            let mut with_edns = web.clone();
            with_edns.edns = Some(Edns::new());
            assert!(ask(server, &with_edns).edns.is_some());
        });
        // The node itself may ask, too.
        assert_eq!(data(&ask(server, &question("web.default.svc.cluster.local.", RecordType::A))), ["10.96.0.20"]);
    });
}

#[test]
fn without_name_servers_the_world_fails_quickly_and_the_cluster_does_not() {
    // Nobody is waited for where nobody could be asked; one who does not answer has two tries, within what clients wait.
    let silent = format!("nameserver {CLIENT_IP}\n");
    let rows = [("", forward::TRY), ("nameserver 10.96.0.10\n", forward::TRY), (&silent, forward::ALL_TRIES)];
    for (resolv_conf, bound) in rows {
        let fails_in = || {
            let mut took = Duration::MAX;
            on_server(resolv_conf, |client, _, server| {
                client.run(|| {
                    let begin = Instant::now();
                    let answer = ask(server, &question("host.example.org.", RecordType::A));
                    took = begin.elapsed();
                    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail, "{resolv_conf:?}");
                    let near = ask(server, &question("web.default.svc.cluster.local.", RecordType::A));
                    assert_eq!(data(&near), ["10.96.0.20"]);
                });
            });
            took
        };
        // An answer may be late because the machine is busy; a server that waits is late each time, and each time it is a
        // new one, which has learnt nothing from the question before.
        let took: Vec<_> = (0..3).map(|_| fails_in()).take_while(|took| *took >= bound).collect();
        assert!(took.len() < 3, "{resolv_conf:?}: {took:?}");
    }
}
