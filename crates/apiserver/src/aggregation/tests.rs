//! Another API server behind this one: a real one on a loopback port, with a certificate of its own authority, that
//! believes front proxies only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::{
    pki::{CertificateAuthority, Identity, Purpose, Subject, peer_identity, server_config},
    testing::{Cluster, admin, user},
};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const NAME: &str = "v1.wardle.example.com";

struct Backend {
    port: u16,
    authority_pem: String,
    is_well: Arc<AtomicBool>,
    /// It knows nothing of OpenAPI v3.
    is_old: Arc<AtomicBool>,
}

/// Says what it was asked, and by whom.
fn answer(request: &Request<Incoming>, peer: &str, is_well: bool, is_old: bool) -> (StatusCode, Value) {
    let header = |name: &str| {
        let values = request.headers().get_all(name).iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    if !is_well {
        return (StatusCode::INTERNAL_SERVER_ERROR, json!("broken"));
    }
    let flunders = json!({ "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
        "verbs": ["get", "list"], "shortNames": ["fl"] });
    match request.uri().path() {
        "/apis/wardle.example.com/v1" => (
            StatusCode::OK,
            json!({ "kind": "APIResourceList", "groupVersion": "wardle.example.com/v1", "resources": [flunders] }),
        ),
        "/openapi/v2" => (
            StatusCode::OK,
            json!({
                "paths": { "/apis/wardle.example.com/v1/flunders": { "get": { "responses": { "200": {
                    "description": "OK", "schema": { "$ref": "#/definitions/example.Flunder" },
                } } } } },
                "definitions": { "example.Flunder": { "type": "object" } },
            }),
        ),
        "/openapi/v3" if !is_old => {
            let url = json!({ "serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1?hash=ABCD" });
            (StatusCode::OK, json!({ "paths": { "apis/wardle.example.com/v1": url } }))
        }
        "/openapi/v3/apis/wardle.example.com/v1" => (StatusCode::OK, json!({ "openapi": "3.0.0", "theirs": true })),
        path if path.starts_with("/apis/wardle.example.com/v1/") => (
            StatusCode::OK,
            json!({
                "path": request.uri().to_string(), "method": request.method().as_str(), "peer": peer,
                "user": header("x-remote-user"), "groups": header("x-remote-group"),
                "authorization": header("authorization"), "content": header("content-type"),
            }),
        ),
        _ => (StatusCode::NOT_FOUND, json!("404 page not found")),
    }
}

async fn backend(cluster: &Cluster) -> Backend {
    let now = Timestamp::now();
    let authority = CertificateAuthority::generate("wardle", now).unwrap();
    let identity = Identity {
        subject: Subject::new("wardle", None),
        purpose: Purpose::Serving,
        dns_names: vec!["api.wardle.svc".into()],
        addresses: Vec::new(),
    };
    let leaf = authority.issue(&identity, now).unwrap();
    let config = server_config(&leaf, cluster.pki.front_proxy.authority.certificate()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let is_well = Arc::new(AtomicBool::new(true));
    let is_old = Arc::new(AtomicBool::new(false));
    let state = (is_well.clone(), is_old.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, state) = (acceptor.clone(), state.clone());
            tokio::spawn(async move {
                let Ok(tls) = acceptor.accept(stream).await else { return };
                let shown = tls.get_ref().1.peer_certificates().and_then(|chain| peer_identity(chain.first()?));
                let peer = shown.map(|peer| peer.common_name).unwrap_or_default();
                let service = service_fn(move |request: Request<Incoming>| {
                    let (code, body) =
                        answer(&request, &peer, state.0.load(Ordering::SeqCst), state.1.load(Ordering::SeqCst));
                    async move {
                        let response = Response::builder().status(code).header("content-type", "application/json");
                        Ok::<_, std::convert::Infallible>(
                            response.body(Full::new(Bytes::from(body.to_string()))).unwrap(),
                        )
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    Backend { port, authority_pem: authority.certificate_pem().to_owned(), is_well, is_old }
}

fn api_service(backend: &Backend) -> Value {
    json!({
        "metadata": { "name": NAME },
        "spec": {
            "group": "wardle.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 20,
            "service": { "namespace": "wardle", "name": "api", "port": backend.port },
            "caBundle": BASE64_STANDARD.encode(&backend.authority_pem),
        },
    })
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if tokio::time::Instant::now() > deadline => panic!("{what}: at last there was {seen}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn condition(cluster: &Cluster, name: &str, reason: &str) -> Value {
    eventually(reason, async || {
        let (_, object) = cluster.get(&admin(), &format!("{SERVICES}/{name}")).await;
        let condition = object["status"]["conditions"][0].clone();
        if condition["reason"] == reason { Ok(condition) } else { Err(object.to_string()) }
    })
    .await
}

async fn discovered(cluster: &Cluster) -> Value {
    let request =
        Request::get("/apis").header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let request = request.body(Full::new(Bytes::new())).unwrap();
    let response = cluster.api.local(admin()).oneshot(request).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

#[tokio::test]
async fn another_server_answers_under_this_ones_roof() {
    let cluster = Cluster::aggregating().await;
    let backend = backend(&cluster).await;
    cluster.namespace("wardle").await;
    cluster.make(SERVICES, api_service(&backend)).await;
    let missing = condition(&cluster, NAME, "ServiceNotFound").await;
    assert_eq!(missing["message"], r#"service/api in "wardle" is not present"#);
    assert_eq!(missing["status"], "False");
    let (code, text) = cluster.get(&admin(), "/apis/wardle.example.com/v1/flunders").await;
    assert_eq!((code, text), (503, json!("service unavailable\n")));

    let service =
        json!({ "metadata": { "name": "api" }, "spec": { "type": "ExternalName", "externalName": "localhost" } });
    cluster.make("/api/v1/namespaces/wardle/services", service).await;
    let passed = condition(&cluster, NAME, "Passed").await;
    assert_eq!((&passed["status"], &passed["message"]), (&json!("True"), &json!("all checks passed")));

    let path = "/apis/wardle.example.com/v1/namespaces/n/flunders?limit=5";
    let (code, heard) = cluster.post(&admin(), path, json!({ "kind": "Flunder" })).await;
    assert_eq!(code, 200, "{heard}");
    assert_eq!(
        heard,
        json!({
            "path": path, "method": "POST", "peer": "front-proxy-client", "user": ["kubernetes-admin"],
            "groups": ["system:masters", "system:authenticated"], "authorization": [], "content": ["application/json"],
        })
    );
    let (code, _) = cluster.get(&user("eve", &[]), path).await;
    assert_eq!(code, 403, "this server authorises before the other does");

    let document = eventually("what is served there", async || {
        let all = discovered(&cluster).await;
        let groups = all["items"].as_array().unwrap();
        let group = groups.iter().find(|group| group["metadata"]["name"] == "wardle.example.com").cloned();
        group.filter(|group| group["versions"][0]["freshness"] == "Current").ok_or(all.to_string())
    })
    .await;
    assert_eq!(document["versions"][0]["resources"][0]["resource"], "flunders");
    assert_eq!(document["versions"][0]["resources"][0]["scope"], "Namespaced");
    let (_, groups) = cluster.get(&admin(), "/apis").await;
    let names: Vec<&str> =
        groups["groups"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[1]), ("apiregistration.k8s.io", "apps"));
    assert_eq!(names[names.len() - 2..], ["wardle.example.com", "metrics.k8s.io"], "by what their APIServices say");

    let (_, index) = cluster.get(&admin(), "/openapi/v3").await;
    let entry = &index["paths"]["apis/wardle.example.com/v1"]["serverRelativeURL"];
    assert_eq!(entry, "/openapi/v3/apis/wardle.example.com/v1?hash=ABCD");
    let (_, theirs) = cluster.get(&admin(), entry.as_str().unwrap()).await;
    assert_eq!(theirs["theirs"], true);
    let (_, swagger) = cluster.get(&admin(), "/openapi/v2").await;
    assert!(swagger["paths"].get("/apis/wardle.example.com/v1/flunders").is_some());
    assert!(swagger["paths"].get("/api/v1/pods").is_some() && swagger["definitions"].get("example.Flunder").is_some());

    backend.is_well.store(false, Ordering::SeqCst);
    // A change of the object is a reason to look again before it is time to.
    let change = json!({ "spec": { "versionPriority": 21 } });
    let (code, answer) = cluster.send(&admin(), "PATCH", &format!("{SERVICES}/{NAME}"), change).await;
    assert_eq!(code, 200, "{answer}");
    let failed = condition(&cluster, NAME, "FailedDiscoveryCheck").await;
    assert!(failed["message"].as_str().unwrap().ends_with("/apis/wardle.example.com/v1: 500"), "{failed}");
    let (code, _) = cluster.get(&admin(), path).await;
    assert_eq!(code, 503);
    let all = discovered(&cluster).await;
    let group = all["items"].as_array().unwrap().iter().find(|one| one["metadata"]["name"] == "wardle.example.com");
    let version = &group.unwrap()["versions"][0];
    assert_eq!((&version["freshness"], &version["resources"][0]["resource"]), (&json!("Stale"), &json!("flunders")));

    let (code, _) = cluster.send(&admin(), "DELETE", &format!("{SERVICES}/{NAME}"), Value::Null).await;
    assert_eq!(code, 200);
    cluster.settle().await;
    let (code, _) = cluster.get(&admin(), path).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn what_is_described_in_swagger_only_is_described_anew() {
    let cluster = Cluster::aggregating().await;
    let backend = backend(&cluster).await;
    backend.is_old.store(true, Ordering::SeqCst);
    cluster.namespace("wardle").await;
    let service =
        json!({ "metadata": { "name": "api" }, "spec": { "type": "ExternalName", "externalName": "localhost" } });
    cluster.make("/api/v1/namespaces/wardle/services", service).await;
    cluster.make(SERVICES, api_service(&backend)).await;
    let url = eventually("the document's place", async || {
        let (_, index) = cluster.get(&admin(), "/openapi/v3").await;
        let entry = index["paths"]["apis/wardle.example.com/v1"]["serverRelativeURL"].as_str().map(str::to_owned);
        entry.ok_or(index["paths"].to_string())
    })
    .await;
    for path in [&*url, "/openapi/v3/apis/wardle.example.com/v1"] {
        let (code, document) = cluster.get(&admin(), path).await;
        assert_eq!((code, &document["openapi"]), (200, &json!("3.0.0")), "{path}: {document}");
        assert_eq!(document["components"]["schemas"], json!({ "example.Flunder": { "type": "object" } }));
        assert!(document["paths"]["/apis/wardle.example.com/v1/flunders"]["get"].is_object(), "{document}");
    }
}

#[tokio::test]
async fn whom_a_bundle_does_not_stand_for_is_not_believed() {
    let cluster = Cluster::aggregating().await;
    let backend = backend(&cluster).await;
    cluster.namespace("wardle").await;
    let service =
        json!({ "metadata": { "name": "api" }, "spec": { "type": "ExternalName", "externalName": "localhost" } });
    cluster.make("/api/v1/namespaces/wardle/services", service).await;
    let mut foreign = api_service(&backend);
    foreign["spec"]["caBundle"] = BASE64_STANDARD.encode(cluster.pki.authority.certificate_pem()).into();
    cluster.make(SERVICES, foreign).await;
    let failed = condition(&cluster, NAME, "FailedDiscoveryCheck").await;
    assert!(failed["message"].as_str().unwrap().contains("UnknownIssuer"), "{failed}");
    let anyone = json!({ "spec": { "caBundle": null, "insecureSkipTLSVerify": true } });
    let (code, answer) = cluster.send(&admin(), "PATCH", &format!("{SERVICES}/{NAME}"), anyone).await;
    assert_eq!(code, 200, "{answer}");
    condition(&cluster, NAME, "Passed").await;
}

#[tokio::test]
async fn what_is_served_here_has_its_services() {
    let cluster = Cluster::aggregating().await;
    let local = condition(&cluster, "v1.apps", "Local").await;
    assert_eq!(local["message"], "Local APIServices are always available");
    let (_, core) = cluster.get(&admin(), &format!("{SERVICES}/v1.")).await;
    assert_eq!(core["spec"], json!({ "version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1 }));
    assert_eq!(core["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    let definition = json!({
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": schema }],
        },
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    cluster.make(definitions, definition).await;
    condition(&cluster, "v1.example.com", "Local").await;
    let (_, made) = cluster.get(&admin(), &format!("{SERVICES}/v1.example.com")).await;
    assert_eq!(made["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "true");
    assert_eq!((&made["spec"]["groupPriorityMinimum"], &made["spec"]["versionPriority"]), (&json!(1000), &json!(100)));
    cluster.send(&admin(), "DELETE", &format!("{definitions}/widgets.example.com"), json!({})).await;
    eventually("the APIService goes with its definition", async || {
        match cluster.get(&admin(), &format!("{SERVICES}/v1.example.com")).await {
            (404, _) => Ok(()),
            (code, object) => Err(format!("{code} {object}")),
        }
    })
    .await;
    let (_, published) =
        cluster.get(&admin(), "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await;
    assert_eq!(published["data"]["requestheader-username-headers"], r#"["X-Remote-User"]"#);
    assert_eq!(published["data"]["requestheader-allowed-names"], r#"["front-proxy-client"]"#);
    assert!(published["data"]["requestheader-client-ca-file"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
}
