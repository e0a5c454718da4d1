//! The whole way: from objects of an API to packets. The API is a small one of lists and watches that a test fills;
//! what the real one says is tested with real clusters.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use k8s_openapi::api::core::v1::Pod;
use knarr_client::{Informers, informer::Scope};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Network;
use crate::testbed::{Node, Space, ask_tcp, on_node};

const SERVICES: &str = "/api/v1/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
const NODES: &str = "/api/v1/nodes";
const PODS: &str = "/api/v1/pods";
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 7, 7);

type Answer = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Clone, Default)]
struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    objects: HashMap<(&'static str, String), Value>,
    /// Path, revision and line of every event: a watch begins with those after the revision that it names.
    events: Vec<(&'static str, u64, String)>,
    watchers: Vec<(String, mpsc::UnboundedSender<String>)>,
    created: Vec<Value>,
}

impl Api {
    fn set(&self, path: &'static str, mut object: Value) {
        let mut state = self.0.lock().unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let kind = if state.objects.insert((path, name), object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        let event = format!("{}\n", json!({"type": kind, "object": object}));
        let version = state.version;
        state.events.push((path, version, event.clone()));
        state.watchers.iter().filter(|(to, _)| to == path).for_each(|(_, sender)| drop(sender.send(event.clone())));
    }

    async fn answer(self, request: Request<Body>) -> Result<Response<Answer>, Infallible> {
        let (path, query) = (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
        if request.method() == Method::POST {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let object: Value = serde_json::from_slice(&body).unwrap();
            self.0.lock().unwrap().created.push(object.clone());
            return Ok(Response::builder().status(201).body(whole(&object)).unwrap());
        }
        let mut state = self.0.lock().unwrap();
        if query.contains("watch=true") {
            let (sender, receiver) = mpsc::unbounded_channel();
            let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
            let from: u64 = from.and_then(|version| version.parse().ok()).unwrap_or(0);
            let missed = state.events.iter().filter(|(of, version, _)| *of == path && *version > from);
            missed.for_each(|(.., event)| drop(sender.send(event.clone())));
            state.watchers.push((path, sender));
            let lines = tokio_stream(receiver).map(|line| Ok(Frame::data(Bytes::from(line))));
            return Ok(Response::new(StreamBody::new(lines).boxed_unsync()));
        }
        if path.ends_with("/kube-dns") {
            let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404});
            return Ok(Response::builder().status(404).body(whole(&status)).unwrap());
        }
        let items: Vec<_> = state.objects.iter().filter(|((of, _), _)| *of == path).map(|(_, o)| o.clone()).collect();
        let list = json!({"kind": "List", "metadata": {"resourceVersion": state.version.to_string()}, "items": items});
        Ok(Response::new(whole(&list)))
    }

    fn client(&self) -> kube::Client {
        let api = self.clone();
        knarr_client::in_process(tower::service_fn(move |request| api.clone().answer(request)), "test")
    }
}

fn whole(value: &Value) -> Answer {
    Full::new(Bytes::from(value.to_string())).boxed_unsync()
}

fn tokio_stream(receiver: mpsc::UnboundedReceiver<String>) -> impl futures::Stream<Item = String> {
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

fn slice(endpoints: &[(&str, Ipv4Addr)]) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|(pod, ip)| json!({"addresses": [ip.to_string()], "targetRef": {"kind": "Pod", "name": pod}}))
        .collect();
    json!({
        "metadata": {"namespace": "default", "name": "web-1", "uid": "s1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": endpoints,
    })
}

fn pod_object(name: &str, ip: Ipv4Addr, ending: bool) -> Value {
    let mut pod = json!({
        "metadata": {"namespace": "default", "name": name, "uid": name},
        "spec": {"containers": []}, "status": {"podIP": ip.to_string(), "podIPs": [{"ip": ip.to_string()}]},
    });
    if ending {
        pod["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
    }
    pod
}

/// Asks until the answer is as wanted, for two minutes at most.
async fn until(what: &str, wanted: impl Fn() -> bool + Send + Sync + 'static) {
    let (wanted, end) = (Arc::new(wanted), Instant::now() + Duration::from_secs(120));
    while Instant::now() < end {
        let wanted = wanted.clone();
        if tokio::task::spawn_blocking(move || wanted()).await.unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    panic!("never came to pass: {what}");
}

fn names(count: usize) -> Vec<String> {
    let mut names: Vec<_> =
        (0..count).filter_map(|_| ask_tcp((CLUSTER_IP, 80)).ok()).map(|answer| answer.name).collect();
    names.sort();
    names.dedup();
    names
}

/// Attaches a namespace and serves in it.
async fn attach(network: &Network, name: &str) -> (Space, Ipv4Addr) {
    let space = Space::new();
    let address = network.pod_network().add(&space.request(name)).await.unwrap();
    let std::net::IpAddr::V4(ip) = address.ips[0] else { panic!("{address:?}") };
    space.serve(name, 8080);
    (space, ip)
}

#[test]
fn objects_of_the_api_become_paths_of_packets() {
    on_node(|| {
        let node = Node::new();
        // All threads of the runtime are of this thread's network namespace.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let (api, cancel) = (Api::default(), CancellationToken::new());
            let informers = Informers::new(api.client(), cancel.clone());
            let pods = informers.with_params::<Pod>(Scope::fields("spec.nodeName=node-a"));
            let network = Network::start(node.config.clone(), informers, Some(pods)).await.unwrap();
            let (_a, a) = attach(&network, "a").await;
            let (_b, b) = attach(&network, "b").await;
            api.set(SERVICES, json!({
                "metadata": {"namespace": "default", "name": "web", "uid": "w"},
                "spec": {"clusterIP": CLUSTER_IP.to_string(), "clusterIPs": [CLUSTER_IP.to_string()], "ports": [{"port": 80}]},
            }));
            until("a Service without endpoints refuses", || {
                ask_tcp((CLUSTER_IP, 80)).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
            })
            .await;
            api.set(SLICES, slice(&[("a", a), ("b", b)]));
            until("both endpoints answer", || names(20) == ["a", "b"]).await;

            // Meant for one zone each: the node's own zone decides, as soon as its label says which.
            let mut hinted = slice(&[("a", a), ("b", b)]);
            hinted["endpoints"][0]["hints"] = json!({"forZones": [{"name": "y"}]});
            hinted["endpoints"][1]["hints"] = json!({"forZones": [{"name": "z"}]});
            api.set(SLICES, hinted);
            for (zone, near) in [("y", ["a"].as_slice()), ("z", &["b"]), ("x", &["a", "b"])] {
                let labels = json!({"topology.kubernetes.io/zone": zone});
                api.set(NODES, json!({"metadata": {"name": node.config.node_name, "labels": labels}}));
                until("the node's zone is preferred", move || names(20) == near).await;
            }
            api.set(SLICES, slice(&[("a", a), ("b", b)]));

            // Deleted: known from the pod itself, before its slice says so.
            api.set(PODS, pod_object("a", a, false));
            api.set(PODS, pod_object("a", a, true));
            until("the ending pod is left out", || names(20) == ["b"]).await;
            api.set(SLICES, slice(&[("b", b)]));

            // Somebody empties the host's ruleset: the table is made again, with all that was in it.
            crate::dataplane::remove(&node.base.nftables).unwrap();
            until("served again", || names(5) == ["b"]).await;
            cancel.cancel();
            drop(network);
        });
        drop(runtime);

        // A new process finds everything in place before it has asked the API anything.
        let before = thread::spawn({
            let here = crate::testbed::here();
            move || knarr_os::net::netns::in_namespace(&here, || names(5)).unwrap()
        });
        assert_eq!(before.join().unwrap(), ["b"]);
        crate::reset(node.dir.path()).unwrap();
    });
}

#[test]
fn the_dns_service_is_made_once_where_it_is_missing() {
    let api = Api::default();
    crate::testbed::block_on(async {
        crate::ensure_dns_service(api.client(), Ipv4Addr::new(10, 96, 0, 10)).await;
    });
    let created = std::mem::take(&mut api.0.lock().unwrap().created);
    let [service] = &created[..] else { panic!("{created:?}") };
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.10");
    assert_eq!(service["metadata"]["name"], "kube-dns");
    assert_eq!(service["spec"]["ports"].as_array().unwrap().len(), 2);
}
