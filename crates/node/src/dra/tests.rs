//! Pods with claims, and drivers behind real sockets.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_grpc::server::{Reply, serve};
use prost::Message as _;
use serde_json::{Value, from_value, json};
use tokio::net::UnixListener;

use super::{Claims, wire::*};
use crate::{
    plugins::{Handler as _, Plugin},
    testing::FakeApi,
};

/// Names what it is asked to do, and does it, unless it is told to fail.
#[derive(Clone, Default)]
struct Fake {
    heard: Arc<Mutex<Vec<String>>>,
    fault: Arc<Mutex<Option<&'static str>>>,
}

impl Fake {
    async fn start(dir: &Path, claims: &Claims, name: &str, version: &str) -> Self {
        let fake = Self::default();
        let endpoint = dir.join(format!("{name}.sock"));
        let listener = UnixListener::bind(&endpoint).unwrap();
        let (this, driver) = (fake.clone(), name.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (this, driver) = (this.clone(), driver.clone());
                let answer = move |method: String, request: Bytes| {
                    let reply = this.answer(&driver, &method, request);
                    async move { Ok(reply) }
                };
                tokio::spawn(serve(stream, answer));
            }
        });
        let plugin = Plugin { name: name.to_owned(), endpoint, versions: vec![format!("{version}.DRAPlugin")] };
        claims.drivers.register(&plugin).await.unwrap();
        fake
    }

    fn answer(&self, driver: &str, method: &str, request: Bytes) -> Reply {
        let fault = *self.fault.lock().unwrap();
        let claims = ClaimsRequest::decode(request).unwrap().claims;
        let names: Vec<_> = claims.iter().map(|claim| format!("{}/{}", claim.namespace, claim.name)).collect();
        let (service, call) = method.rsplit_once('/').unwrap();
        let version = service.rsplit('.').nth(1).unwrap();
        self.heard.lock().unwrap().push(format!("{version} {call} {}", names.join(" ")));
        let device = |request: &str| Device {
            request_names: vec![request.to_owned()],
            pool_name: "n1".to_owned(),
            device_name: "x".to_owned(),
            cdi_device_ids: vec![format!("{driver}/c={request}")],
        };
        let claims = claims.into_iter().filter(|_| fault != Some("skip"));
        let error = fault.unwrap_or_default().to_owned();
        if call == "NodePrepareResources" {
            let devices = vec![device("a"), device("b/sub")];
            let done = |claim: Claim| (claim.uid, Prepared { devices: devices.clone(), error: error.clone() });
            Reply::one(&PrepareResponse { claims: claims.map(done).collect() })
        } else {
            let done = |claim: Claim| (claim.uid, Unprepared { error: error.clone() });
            Reply::one(&UnprepareResponse { claims: claims.map(done).collect() })
        }
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }

    fn fault(&self, fault: Option<&'static str>) {
        *self.fault.lock().unwrap() = fault;
    }
}

fn pod(uid: &str, claims: &[&str]) -> Pod {
    let claims: Vec<_> =
        claims.iter().map(|name| json!({"name": format!("of-{name}"), "resourceClaimName": name})).collect();
    from_value(json!({"metadata": {"name": uid, "namespace": "ns", "uid": uid},
        "spec": {"containers": [], "resourceClaims": claims}}))
    .unwrap()
}

fn container(claims: Value) -> Container {
    from_value(json!({"name": "c", "resources": {"claims": claims}})).unwrap()
}

fn put(api: &FakeApi, name: &str, drivers: &[&str], users: &[&str]) {
    let results: Vec<_> =
        drivers.iter().map(|driver| json!({"request": "a", "driver": driver, "pool": "n1", "device": "x"})).collect();
    let users: Vec<_> = users.iter().map(|uid| json!({"resource": "pods", "name": uid, "uid": uid})).collect();
    let claim = json!({"metadata": {"name": name, "namespace": "ns", "uid": format!("uid-{name}")}, "spec": {},
        "status": {"allocation": {"devices": {"results": results}}, "reservedFor": users}});
    api.put(&format!("/apis/resource.k8s.io/v1/namespaces/ns/resourceclaims/{name}"), claim);
}

struct Node {
    dir: tempfile::TempDir,
    api: FakeApi,
    claims: Claims,
}

impl Node {
    fn new() -> Self {
        let (dir, api) = (tempfile::tempdir().unwrap(), FakeApi::new());
        let claims = Claims::open(api.client(), dir.path().join("claims.json")).unwrap();
        Self { dir, api, claims }
    }

    /// As after a kill: all that is known is what was written.
    fn restarted(self) -> Self {
        let claims = Claims::open(self.api.client(), self.dir.path().join("claims.json")).unwrap();
        Self { claims, ..self }
    }

    async fn driver(&self, name: &str, version: &str) -> Fake {
        Fake::start(self.dir.path(), &self.claims, name, version).await
    }

    async fn prepare(&self, pod: &Pod) -> String {
        self.claims.prepare(pod).await.map_or_else(|error| error.to_string(), |()| "prepared".to_owned())
    }

    fn devices(&self, pod: &Pod, claims: Value) -> String {
        let devices = self.claims.devices(pod, &container(claims));
        devices.map_or_else(|error| error.to_string(), |devices| devices.join(" "))
    }
}

#[tokio::test]
async fn claims_are_prepared_once_and_given_back_by_the_last() {
    let node = Node::new();
    put(&node.api, "one", &["d", "e"], &["p", "q"]);
    put(&node.api, "two", &["d"], &["p"]);
    let (d, e) = (node.driver("d", "v1").await, node.driver("e", "v1beta1").await);
    let (p, q) = (pod("p", &["one", "two"]), pod("q", &["one"]));
    assert_eq!(node.prepare(&p).await, "prepared");
    assert_eq!(d.heard(), ["v1 NodePrepareResources ns/one ns/two"]);
    assert_eq!(e.heard(), ["v1beta1 NodePrepareResources ns/one"]);
    assert_eq!(node.prepare(&p).await, "prepared");
    assert_eq!(node.prepare(&q).await, "prepared");
    assert_eq!((d.heard(), e.heard()), (vec![], vec![]), "nobody is asked again");

    for (claims, expected) in [
        (json!([]), ""),
        (json!([{"name": "of-one"}]), "d/c=a d/c=b/sub e/c=a e/c=b/sub"),
        (json!([{"name": "of-one", "request": "a"}, {"name": "of-two", "request": "b"}]), "d/c=a e/c=a d/c=b/sub"),
        (json!([{"name": "of-one", "request": "none"}]), ""),
    ] {
        assert_eq!(node.devices(&p, claims.clone()), expected, "{claims}");
    }
    assert_eq!(
        node.devices(&q, json!([{"name": "of-two"}])),
        "unable to get resource for namespace: ns, claim: of-two"
    );

    let node = node.restarted();
    assert_eq!(node.devices(&p, json!([{"name": "of-two", "request": "a"}])), "d/c=a");
    assert_eq!(node.claims.release("p").await.unwrap_err().to_string(), "DRA driver d is not registered");
    for name in ["d", "e"] {
        std::fs::remove_file(node.dir.path().join(format!("{name}.sock"))).unwrap();
    }
    let (d, e) = (node.driver("d", "v1").await, node.driver("e", "v1").await);
    d.fault(Some("busy"));
    let refused = "NodeUnprepareResources failed for ResourceClaim two: busy";
    assert_eq!(node.claims.release("p").await.unwrap_err().to_string(), refused);
    d.fault(None);
    assert_eq!(d.heard(), ["v1 NodeUnprepareResources ns/two"]);
    node.claims.release("p").await.unwrap();
    assert_eq!(d.heard(), ["v1 NodeUnprepareResources ns/two"]);
    node.claims.release("p").await.unwrap();
    assert_eq!((d.heard(), e.heard()), (vec![], vec![]), "the other pod uses the other claim");
    node.claims.keep_only(|uid| uid != "q").await;
    assert_eq!(d.heard(), ["v1 NodeUnprepareResources ns/one"]);
    assert_eq!(e.heard(), ["v1 NodeUnprepareResources ns/one"]);
    assert!(node.restarted().claims.ledger().entries.is_empty());
}

#[tokio::test]
async fn what_is_not_prepared_is_asked_for_again() {
    let node = Node::new();
    let one = pod("p", &["one"]);
    let fetching =
        "failed to fetch ResourceClaim one referenced by pod p: resourceclaims.resource.k8s.io \"one\" not found";
    assert_eq!(node.prepare(&one).await, fetching);
    put(&node.api, "one", &["d"], &["other"]);
    assert_eq!(node.prepare(&one).await, "pod p(p) is not allowed to use ResourceClaim one(uid-one)");
    put(&node.api, "one", &["d"], &["p"]);
    assert_eq!(node.prepare(&one).await, "DRA driver d is not registered");
    let d = node.driver("d", "v1").await;
    for (fault, expected) in [
        ("no power", "NodePrepareResources failed for ResourceClaim one: no power"),
        ("skip", "NodePrepareResources skipped ResourceClaim one"),
    ] {
        d.fault(Some(fault));
        assert_eq!(node.prepare(&one).await, expected);
        assert_eq!(
            node.devices(&one, json!([{"name": "of-one"}])),
            "unable to get resource for namespace: ns, claim: one"
        );
    }
    d.fault(None);
    d.heard();
    // It was noted before the driver was asked: what it may have done is asked for again, or undone.
    let node = node.restarted();
    std::fs::remove_file(node.dir.path().join("d.sock")).unwrap();
    let d = node.driver("d", "v1").await;
    assert_eq!(node.prepare(&one).await, "prepared");
    node.claims.release("p").await.unwrap();
    assert_eq!(d.heard(), ["v1 NodePrepareResources ns/one", "v1 NodeUnprepareResources ns/one"]);
}

#[tokio::test]
async fn drivers_speak_a_version_that_is_known() {
    let node = Node::new();
    for (versions, expected) in [
        (&[][..], "empty list of supported gRPC services (aka supported versions)"),
        (&["v2.DRAPlugin"], "none of the services [\"v2.DRAPlugin\"] is spoken by this node"),
    ] {
        let versions = versions.iter().map(|version| (*version).to_owned()).collect();
        let plugin = Plugin { name: "d".into(), endpoint: "/nowhere".into(), versions };
        assert_eq!(node.claims.drivers.register(&plugin).await.unwrap_err(), expected);
    }
    let plugin =
        |endpoint: &str| Plugin { name: "d".into(), endpoint: endpoint.into(), versions: vec!["v1.DRAPlugin".into()] };
    let (old, new) = (plugin("/old"), plugin("/new"));
    node.claims.drivers.register(&old).await.unwrap();
    node.claims.drivers.register(&new).await.unwrap();
    node.claims.drivers.deregister(&old).await;
    assert!(node.claims.drivers.get("d").is_some(), "the newer one has taken over");
    node.claims.drivers.deregister(&new).await;
    assert!(node.claims.drivers.get("d").is_none());
}
