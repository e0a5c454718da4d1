//! Definitions whose versions a webhook converts: `v1` says where a host is in one field, `v2` in two.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{VALIDATING, configure, harness::*, hook::*, webhook};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/example.com/v1/namespaces/default/hosts";
const V2: &str = "/apis/example.com/v2/namespaces/default/hosts";

/// What a converter makes of one object.
fn converted(object: &Value, to: &str) -> Value {
    let mut converted = object.clone();
    converted["apiVersion"] = to.into();
    if to == "example.com/v2" {
        let (host, port) = object["hostPort"].as_str().unwrap_or(":").split_once(':').unwrap();
        converted["host"] = host.into();
        converted["port"] = port.into();
        converted.as_object_mut().unwrap().remove("hostPort");
    } else {
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        converted["hostPort"] = format!("{}:{}", text("host"), text("port")).into();
        for key in ["host", "port"] {
            converted.as_object_mut().unwrap().remove(key);
        }
    }
    // Nobody asked for that, and it does not count.
    converted["metadata"]["finalizers"] = json!(["example.com/mine"]);
    converted["metadata"]["annotations"] = json!({"converted": to});
    converted
}

fn convert(review: &Value) -> Reply {
    let to = review["desiredAPIVersion"].as_str().unwrap();
    let objects: Vec<Value> =
        review["objects"].as_array().unwrap().iter().map(|object| converted(object, to)).collect();
    Reply::Review(json!({"result": {"status": "Success"}, "convertedObjects": objects}))
}

fn version(name: &str, storage: bool, fields: &[&str]) -> Value {
    let mut properties = json!({});
    for field in fields {
        properties[*field] = json!({"type": "string"});
    }
    json!({"name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}})
}

fn definition(hook: &Hook) -> Value {
    let webhook = json!({"clientConfig": hook.at("/convert"), "conversionReviewVersions": ["v1"]});
    json!({"metadata": {"name": "hosts.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "hosts", "kind": "Host"},
        "versions": [version("v1", true, &["hostPort"]), version("v2", false, &["host", "port"])],
        "conversion": {"strategy": "Webhook", "webhook": webhook}}})
}

async fn establish(server: &Server, definition: &Value) {
    server.post(DEFINITIONS, definition).await.expect(201);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while server.get(V2).await.code() != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the definition is not served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn old(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Host", "metadata": {"name": name}, "hostPort": "h:1"})
}

fn new(name: &str) -> Value {
    json!({"apiVersion": "example.com/v2", "kind": "Host", "metadata": {"name": name}, "host": "h", "port": "2"})
}

#[tokio::test]
async fn objects_are_converted_when_they_are_written_and_read() {
    let hook = Hook::start(|_, review| convert(review)).await;
    let server = Server::start().await;
    establish(&server, &definition(&hook)).await;

    // In the stored version nobody is asked.
    server.post(V1, &old("one")).await.expect(201);
    assert_eq!(server.get(&format!("{V1}/one")).await.expect(200)["hostPort"], "h:1");
    assert!(hook.asked().is_empty());

    let shown = server.get(&format!("{V2}/one")).await.expect(200);
    assert_eq!(
        (&shown["apiVersion"], &shown["host"], &shown["port"]),
        (&json!("example.com/v2"), &json!("h"), &json!("1"))
    );
    assert_eq!((shown.get("hostPort"), shown["metadata"].get("finalizers")), (None, None));
    assert_eq!(shown["metadata"]["annotations"], json!({"converted": "example.com/v2"}));

    let made = server.post(V2, &new("two")).await.expect(201);
    assert_eq!((&made["apiVersion"], &made["host"]), (&json!("example.com/v2"), &json!("h")));
    hook.asked();
    assert_eq!(server.get(&format!("{V1}/two")).await.expect(200)["hostPort"], "h:2");
    assert!(hook.asked().is_empty(), "it is stored in v1");

    let changed = server.patch(&format!("{V2}/two"), merge_patch(), &json!({"port": "3"})).await.expect(200);
    assert_eq!((&changed["host"], &changed["port"]), (&json!("h"), &json!("3")));
    assert_eq!(server.get(&format!("{V1}/two")).await.expect(200)["hostPort"], "h:3");
    let same = server.patch(&format!("{V2}/two"), merge_patch(), &json!({"port": "3"})).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], changed["metadata"]["resourceVersion"]);

    let wish = json!({"apiVersion": "example.com/v2", "kind": "Host", "host": "a", "port": "4"});
    let applied = format!("{V2}/three?fieldManager=m");
    server.patch(&applied, "application/apply-patch+yaml", &wish).await.expect(201);
    assert_eq!(server.get(&format!("{V1}/three")).await.expect(200)["hostPort"], "a:4");
    server.delete(&format!("{V2}/three")).await.expect(200);
    server.get(&format!("{V1}/three")).await.status(404, "NotFound");
}

#[tokio::test]
async fn a_list_is_converted_by_one_request() {
    let hook = Hook::start(|_, review| convert(review)).await;
    let server = Server::start().await;
    establish(&server, &definition(&hook)).await;
    for name in ["a", "b", "c"] {
        server.post(V1, &old(name)).await.expect(201);
    }
    let list = server.get(V2).await.expect(200);
    let hosts: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| item["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["h", "h", "h"]);
    let asked = hook.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].1["objects"].as_array().unwrap().len(), 3);
    // What was converted is kept, and only what is new is asked about.
    server.post(V1, &old("d")).await.expect(201);
    assert_eq!(server.get(V2).await.expect(200)["items"].as_array().unwrap().len(), 4);
    let asked = hook.asked();
    assert_eq!((asked.len(), asked[0].1["objects"].as_array().unwrap().len()), (1, 1));
    let selected = server.get(&format!("{V2}?fieldSelector=spec.x%3Dy")).await.status(400, "BadRequest");
    assert!(selected["message"].as_str().unwrap().contains("field label not supported: spec.x"));
}

#[tokio::test]
async fn a_watch_shows_its_own_version() {
    let hook = Hook::start(|_, review| convert(review)).await;
    let server = Server::start().await;
    establish(&server, &definition(&hook)).await;
    server.post(V1, &old("before")).await.expect(201);
    let watch = server.open("GET", &format!("{V2}?watch=1&timeoutSeconds=3"), &[], Vec::new()).await;
    server.post(V2, &new("after")).await.expect(201);
    server.patch(&format!("{V1}/before"), merge_patch(), &json!({"hostPort": "x:9"})).await.expect(200);
    server.delete(&format!("{V1}/after")).await.expect(200);
    let text = String::from_utf8(watch.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> = events
        .iter()
        .map(|event| {
            assert_eq!(event["object"]["apiVersion"], "example.com/v2", "{event}");
            let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
            (text(&event["type"]), text(&event["object"]["metadata"]["name"]), text(&event["object"]["port"]))
        })
        .collect();
    let row = |kind: &str, name: &str, port: &str| (kind.to_owned(), name.to_owned(), port.to_owned());
    let expected = [
        row("ADDED", "before", "1"),
        row("ADDED", "after", "2"),
        row("MODIFIED", "before", "9"),
        row("DELETED", "after", "2"),
    ];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_converter_that_fails_fails_who_needs_it() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = fails.clone();
    let hook = Hook::start(move |_, review| match failing.load(Ordering::Relaxed) {
        true => Reply::Review(json!({"result": {"status": "Failure", "message": "cannot say"}})),
        false => convert(review),
    })
    .await;
    let server = Server::start().await;
    establish(&server, &definition(&hook)).await;
    server.post(V1, &old("one")).await.expect(201);
    fails.store(true, Ordering::Relaxed);
    let expected = "conversion webhook for example.com/v1, Kind=Host failed: cannot say";
    for path in [V2.to_owned(), format!("{V2}/one")] {
        assert_eq!(server.get(&path).await.expect(500)["message"], expected, "{path}");
    }
    let refused = server.post(V2, &new("two")).await.expect(500);
    assert_eq!(refused["message"], "conversion webhook for example.com/v2, Kind=Host failed: cannot say");
    // Who speaks the stored version needs nobody.
    server.get(&format!("{V1}/one")).await.expect(200);
    server.get(&format!("{V1}/two")).await.status(404, "NotFound");

    fails.store(false, Ordering::Relaxed);
    server.get(V2).await.expect(200);
    let watch = server.open("GET", &format!("{V2}?watch=1&timeoutSeconds=5"), &[], Vec::new()).await;
    fails.store(true, Ordering::Relaxed);
    server.post(V1, &old("three")).await.expect(201);
    let text = String::from_utf8(watch.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["object"]["message"]), (&json!("ERROR"), &json!(expected)));
}

#[tokio::test]
async fn admission_sees_the_version_that_its_rule_names() {
    let hook = Hook::start(|path, review| match path {
        "/convert" => convert(review),
        _ => Reply::Review(json!({"allowed": review["object"]["host"] == "h"})),
    })
    .await;
    let server = Server::start().await;
    establish(&server, &definition(&hook)).await;
    let rules = json!({"rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["example.com"],
        "apiVersions": ["v2"], "resources": ["hosts"]}]});
    configure(&server, VALIDATING, "a", json!([webhook("a", hook.at("/judge"), rules)])).await;
    server.post(V1, &old("one")).await.expect(201);
    let mut elsewhere = old("two");
    elsewhere["hostPort"] = "x:1".into();
    server.post(V1, &elsewhere).await.expect(400);
    let (_, asked) = hook.asked().into_iter().find(|(path, _)| path == "/judge").unwrap();
    assert_eq!((&asked["kind"]["version"], &asked["requestKind"]["version"]), (&json!("v2"), &json!("v1")));
    server.patch(&format!("{V1}/one"), merge_patch(), &json!({"hostPort": "x:1"})).await.expect(400);
}
