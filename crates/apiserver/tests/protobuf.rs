//! A client that speaks protobuf and nothing else, over HTTPS, as client-go does by default.

mod harness;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use harness::{
    Server,
    secured::{self, Secured},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use knarr_api::protobuf::{decode, encode, envelope_around};
use knarr_apiserver::{
    contract::UserInfo,
    pki,
    seal::{Keys, SealedStore},
};
use knarr_store::{MemoryStore, RangeRequest, Store};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const METADATA: &str = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Client {
    secured: Secured,
    port: u16,
    below: Arc<MemoryStore>,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Client {
    /// Of a server that seals its Secrets.
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let below = Arc::new(MemoryStore::default());
        let sealed = SealedStore::open(below.clone(), Keys::read(&path).unwrap()).await.unwrap();
        let secured = secured::over(Arc::new(sealed)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = pki::ApiTls::new(&secured.pki.server, secured.pki.authority.certificate()).unwrap();
        let shutdown = CancellationToken::new();
        let (server, stop) = (secured.server.clone(), shutdown.clone());
        tokio::spawn(async move { server.serve(listener, tls, stop).await });
        Self { secured, port, below, _shutdown: shutdown.drop_guard() }
    }

    /// One request over a connection of its own. An object is sent in protobuf.
    async fn open(&self, method: &str, path: &str, accept: &str, object: Option<&Value>) -> http::Response<Incoming> {
        let pki = &self.secured.pki;
        let config = pki::client_config(pki.authority.certificate(), Some(&pki.admin)).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let body = object.map(|object| encode(object.to_string().as_bytes()).unwrap()).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("accept", accept)
            .header("content-type", PROTOBUF)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        sender.send_request(request).await.unwrap()
    }

    async fn send(&self, method: &str, path: &str, accept: &str, object: Option<&Value>) -> (u16, String, Bytes) {
        let response = self.open(method, path, accept, object).await;
        let code = response.status().as_u16();
        let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        (code, content_type, response.into_body().collect().await.unwrap().to_bytes())
    }

    /// An answer in protobuf, read.
    async fn answer(&self, method: &str, path: &str, object: Option<&Value>, code: u16) -> Value {
        let (actual, content_type, body) = self.send(method, path, PROTOBUF, object).await;
        let answer = decode(&body);
        assert_eq!((actual, content_type.as_str()), (code, PROTOBUF), "{method} {path}: {answer:?}");
        answer.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.answer("GET", path, None, 200).await
    }

    async fn create(&self, path: &str, object: &Value) -> Value {
        self.answer("POST", path, Some(object), 201).await
    }
}

fn map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": { "app": name } },
            "data": { "k": name } })
}

/// Metadata read as a ConfigMap that has nothing else: nobody sends what is only answered, so that it cannot be read.
fn decode_metadata(body: &[u8], suffix: &str) -> Value {
    let start = |api_version: &str, kind: &str| {
        let (mut start, _) = envelope_around(api_version, &format!("{kind}{suffix}"), 0);
        // Without the message's number and length.
        start.truncate(start.len() - 2);
        start
    };
    let rest = body.strip_prefix(&*start("meta.k8s.io/v1", "PartialObjectMetadata")).expect("metadata in an envelope");
    decode(&[&*start("v1", "ConfigMap"), rest].concat()).unwrap()
}

#[tokio::test]
async fn objects_are_written_read_listed_and_deleted() {
    let client = Client::start().await;
    for name in ["a", "b", "c"] {
        let made = client.create(MAPS, &map(name)).await;
        assert_eq!((&made["kind"], &made["data"]), (&json!("ConfigMap"), &json!({ "k": name })));
        let (_, content_type, body) = client.send("GET", &format!("{MAPS}/{name}"), "application/json", None).await;
        assert_eq!(content_type, "application/json");
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), made, "both say the same");
    }
    let first = client.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!((&first["kind"], &first["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = client.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let names: Vec<&Value> = [&first, &rest]
        .into_iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|item| &item["metadata"]["name"])
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(client.get(&format!("{MAPS}?labelSelector=none")).await.get("items"), None);

    let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background" });
    let gone = client.answer("DELETE", &format!("{MAPS}/a"), Some(&options), 200).await;
    assert_eq!((&gone["kind"], &gone["status"]), (&json!("Status"), &json!("Success")));
    let missing = client.answer("GET", &format!("{MAPS}/a"), None, 404).await;
    assert_eq!((&missing["reason"], &missing["code"]), (&json!("NotFound"), &json!(404)));
    let again = client.answer("POST", MAPS, Some(&map("b")), 409).await;
    assert_eq!(again["reason"], "AlreadyExists");
}

/// A list that is longer than a piece of the answer.
#[tokio::test]
async fn long_lists_come_whole() {
    let client = Client::start().await;
    for at in 0..40 {
        let mut large = map(&format!("m{at:02}"));
        large["data"]["k"] = "x".repeat(20_000 + at).into();
        client.create(MAPS, &large).await;
    }
    let list = client.get(MAPS).await;
    let items = list["items"].as_array().unwrap();
    let lengths: Vec<usize> = items.iter().map(|item| item["data"]["k"].as_str().unwrap().len()).collect();
    assert_eq!(lengths, (20_000..20_040).collect::<Vec<_>>());
}

/// Events of a watch, read from their frames.
struct Events {
    body: Incoming,
    bytes: Vec<u8>,
}

impl Events {
    async fn open(client: &Client, query: &str, accept: &str) -> Self {
        let response = client.open("GET", &format!("{MAPS}?watch=true{query}"), accept, None).await;
        assert_eq!(response.headers()["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
        Self { body: response.into_body(), bytes: Vec::new() }
    }

    /// The kind of the next event, and its object.
    async fn next(&mut self) -> (String, Value) {
        loop {
            if let Some((length, rest)) = self.bytes.split_first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if let Some(event) = rest.get(..length) {
                    let read = read_event(event);
                    self.bytes.drain(..4 + length);
                    return read;
                }
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await;
            let frame = frame.expect("an event within ten seconds").expect("the watch goes on").unwrap();
            self.bytes.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let (actual, object) = self.next().await;
        assert_eq!((actual.as_str(), &object["metadata"]["name"]), (kind, &json!(name)), "{object}");
        object
    }
}

/// A WatchEvent by hand: field 1 is its type, field 2 what holds the object's bytes in a field 1.
fn read_event(bytes: &[u8]) -> (String, Value) {
    fn field(tag: u8, bytes: &[u8]) -> (&[u8], &[u8]) {
        assert_eq!(bytes[0], tag << 3 | 2);
        let (mut length, mut at, mut shift) = (0, 1, 0);
        loop {
            length |= usize::from(bytes[at] & 0x7f) << shift;
            shift += 7;
            at += 1;
            if bytes[at - 1] & 0x80 == 0 {
                return bytes[at..].split_at(length);
            }
        }
    }
    let (kind, rest) = field(1, bytes);
    let (raw, end) = field(2, rest);
    assert!(end.is_empty());
    let object = field(1, raw).0;
    let object = decode(object).unwrap_or_else(|_| decode_metadata(object, ""));
    (String::from_utf8(kind.to_vec()).unwrap(), object)
}

#[tokio::test]
async fn watches_are_frames_of_events() {
    let client = Client::start().await;
    client.create(MAPS, &map("a")).await;
    let query = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let both = format!("{PROTOBUF};stream=watch,application/json");
    let mut watches = [Events::open(&client, query, PROTOBUF).await, Events::open(&client, query, &both).await];
    for events in &mut watches {
        events.expect("ADDED", "a").await;
        let (kind, bookmark) = events.next().await;
        assert_eq!((kind.as_str(), &bookmark["kind"]), ("BOOKMARK", &json!("ConfigMap")));
        assert_eq!(bookmark["metadata"]["annotations"], json!({ "k8s.io/initial-events-end": "true" }));
    }
    let mut selected = Events::open(&client, "&labelSelector=app%3Db", PROTOBUF).await;
    let mut metadata = Events::open(&client, "", METADATA).await;
    metadata.expect("ADDED", "a").await;
    let made = client.create(MAPS, &map("b")).await;
    client.answer("DELETE", &format!("{MAPS}/b"), None, 200).await;
    for events in watches.iter_mut().chain([&mut selected]) {
        assert_eq!(events.expect("ADDED", "b").await, made);
        events.expect("DELETED", "b").await;
    }
    let seen = metadata.expect("ADDED", "b").await;
    assert_eq!((&seen["metadata"], seen.get("data")), (&made["metadata"], None));
}

#[tokio::test]
async fn what_has_no_message_falls_back_or_is_refused() {
    let client = Client::start().await;
    client.create(MAPS, &map("a")).await;
    let (code, content_type, body) = client.send("GET", MAPS, METADATA, None).await;
    assert_eq!((code, content_type.as_str()), (200, PROTOBUF));
    let list = decode_metadata(&body, "List");
    let item = &list["items"][0];
    assert_eq!((&item["metadata"]["name"], item.get("data")), (&json!("a"), None));
    assert_eq!(list["metadata"]["resourceVersion"], client.get(MAPS).await["metadata"]["resourceVersion"]);

    let table = |encoding: &str| format!("{encoding};as=Table;g=meta.k8s.io;v=v1");
    let both = format!("{},{}", table(PROTOBUF), table("application/json"));
    let (code, content_type, _) = client.send("GET", MAPS, &both, None).await;
    assert_eq!((code, content_type.as_str()), (200, "application/json"));
    for (path, accept) in [(MAPS, table(PROTOBUF)), ("/apis/metrics.k8s.io/v1beta1/nodes", PROTOBUF.to_owned())] {
        let (code, content_type, body) = client.send("GET", path, &accept, None).await;
        assert_eq!((code, content_type.as_str()), (406, "application/json"), "{path}");
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["reason"], "NotAcceptable");
    }
}

#[tokio::test]
async fn custom_resources_are_json_but_their_definitions_and_metadata_messages() {
    let client = Client::start().await;
    let schema = json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": {
        "replicas": { "type": "integer", "minimum": 0, "default": 1 },
        "open": { "type": "object", "additionalProperties": { "type": "string" } } } } } });
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "boats.example.org" },
        "spec": { "group": "example.org", "scope": "Cluster", "names": { "plural": "boats", "kind": "Boat" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema },
                "subresources": { "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas" } } }] },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = client.create(definitions, &definition).await;
    assert_eq!(made["spec"]["versions"][0]["schema"]["openAPIV3Schema"], schema);
    let boats = "/apis/example.org/v1/boats";
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while client.send("GET", boats, "application/json", None).await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the definition is established");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let admin = UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
    let local = Server::of(client.secured.server.clone(), admin);
    let boat = json!({ "apiVersion": "example.org/v1", "kind": "Boat", "metadata": { "name": "one" }, "spec": {} });
    local.post(boats, &boat).await.expect(201);

    let one = format!("{boats}/one");
    let (code, content_type, _) = client.send("GET", &one, PROTOBUF, None).await;
    assert_eq!((code, content_type.as_str()), (406, "application/json"));
    let (code, content_type, _) = client.send("GET", &one, &format!("{PROTOBUF},application/json"), None).await;
    assert_eq!((code, content_type.as_str()), (200, "application/json"));
    let (code, _, body) = client.send("GET", &one, METADATA, None).await;
    assert_eq!((code, &decode_metadata(&body, "")["metadata"]["name"]), (200, &json!("one")));
    assert_eq!(client.get(&format!("{one}/scale")).await["spec"], json!({ "replicas": 1 }));
}

#[tokio::test]
async fn documents_reviews_and_tokens_are_messages_too() {
    let client = Client::start().await;
    assert_eq!(client.get("/api").await["versions"], json!(["v1"]));
    assert_eq!(client.get("/apis/apps").await["preferredVersion"]["groupVersion"], "apps/v1");
    assert!(client.get("/apis").await["groups"].as_array().unwrap().len() > 10);
    let resources = client.get("/apis/apps/v1").await;
    let verbs = |name: &str| {
        let all = resources["resources"].as_array().unwrap();
        all.iter().find(|resource| resource["name"] == name).unwrap()["verbs"].clone()
    };
    assert_eq!(verbs("deployments/scale"), json!(["get", "patch", "update"]));

    let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": { "verb": "get", "resource": "pods", "namespace": "default" } } });
    let reviewed = client.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await;
    assert_eq!(reviewed["status"]["allowed"], true);
    let rules = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": { "namespace": "default" } });
    let rules = client.create("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &rules).await;
    assert_eq!(rules["status"]["resourceRules"][0]["verbs"], json!(["*"]));
    let who = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let who = client.create("/apis/authentication.k8s.io/v1/selfsubjectreviews", &who).await;
    assert!(who["status"]["userInfo"]["groups"].as_array().unwrap().contains(&json!("system:masters")), "{who}");

    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "robot" } });
    client.create("/api/v1/namespaces/default/serviceaccounts", &account).await;
    let asked =
        json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": { "audiences": [] } });
    let token = client.create("/api/v1/namespaces/default/serviceaccounts/robot/token", &asked).await;
    assert!(token["status"]["token"].as_str().unwrap().len() > 100, "{token}");

    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "a": "b" } }, "template": {
            "metadata": { "labels": { "a": "b" } },
            "spec": { "containers": [{ "name": "c", "image": "example.org/x:1" }] } } },
    });
    let made = client.create("/apis/apps/v1/namespaces/default/deployments", &deployment).await;
    assert_eq!(made["spec"]["replicas"], 0, "a pointer to zero is not left out");
    assert_eq!(made["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
    let scale = client.get("/apis/apps/v1/namespaces/default/deployments/d/scale").await;
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(scale["spec"]["replicas"], 0);
}

/// What is sealed at rest stays so, whichever way a Secret goes in and out.
#[tokio::test]
async fn secrets_are_read_in_the_clear_and_kept_sealed() {
    let client = Client::start().await;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s" }, "type": "Opaque",
        "data": { "password": "aHVzaGh1c2g=" } });
    let path = "/api/v1/namespaces/default/secrets";
    client.create(path, &secret).await;
    assert_eq!(client.get(&format!("{path}/s")).await["data"], secret["data"]);
    assert_eq!(client.get(path).await["items"][0]["data"], secret["data"]);
    let everything = RangeRequest { start: "/".into(), end: "0".into(), revision: None, limit: 0, count: false };
    let kept = client.below.range(everything).await.unwrap().kvs;
    assert!(kept.iter().any(|kv| kv.key == "/registry/secrets/default/s"));
    for kv in &kept {
        for part in ["hushhush", "aHVzaGh1c2g="] {
            assert!(!kv.value.windows(part.len()).any(|window| window == part.as_bytes()), "{:?}", kv.key);
        }
    }
}
