use std::collections::HashMap;

use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

fn object<T: DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn backend(name: &str) -> Value {
    json!({"service": {"name": name, "port": {"name": "web"}}})
}

/// An Ingress from lines of `host path type service`; `-` stands for nothing.
fn ingress(name: &str, created: &str, class: &str, default: Option<&str>, rules: &[&str]) -> Arc<Ingress> {
    let or_none = |text: &str| if text == "-" { Value::Null } else { text.into() };
    let rules: Vec<Value> = rules
        .iter()
        .map(|rule| {
            let words: Vec<&str> = rule.split(' ').collect();
            let path = json!({"path": or_none(words[1]), "pathType": words[2], "backend": backend(words[3])});
            json!({"host": or_none(words[0]), "http": {"paths": [path]}})
        })
        .collect();
    let spec = json!({"ingressClassName": class, "rules": rules, "defaultBackend": default.map(backend)});
    let metadata = json!({"name": name, "namespace": "n", "creationTimestamp": created});
    object(json!({"metadata": metadata, "spec": spec}))
}

/// A table in which every Service has one endpoint, found by the Service's name.
fn table(ingresses: &[Arc<Ingress>]) -> (Table, HashMap<SocketAddr, String>) {
    let classes = ["knarr dev", "other acme"].map(|class| {
        let (name, domain) = class.split_once(' ').unwrap();
        let controller = if domain == "dev" { CONTROLLER.to_owned() } else { format!("{domain}.io/x") };
        object(json!({"metadata": {"name": name}, "spec": {"controller": controller}}))
    });
    let names = ["a", "b", "c", "d", "e"];
    let address =
        |name: &str| names.iter().position(|known| *known == name).map(|index| format!("10.0.0.{}", index + 1));
    let service =
        |key: &ObjectKey| address(&key.name).map(|_| object(json!({"spec": {"ports": [{"name": "web", "port": 80}]}})));
    let slices = |key: &ObjectKey| {
        let endpoint = json!({"addresses": [address(&key.name)]});
        vec![object(
            json!({"metadata": {}, "addressType": "IPv4", "endpoints": [endpoint], "ports": [{"name": "web", "port": 8080}]}),
        )]
    };
    let table = build(&Objects { ingresses, classes: &classes, service: &service, slices: &slices });
    let by_address =
        names.map(|name| (SocketAddr::new(address(name).unwrap().parse().unwrap(), 8080), name.to_owned()));
    (table, HashMap::from(by_address))
}

#[track_caller]
fn check(ingresses: &[Arc<Ingress>], rows: &[(&str, &str, &str)]) {
    let (table, names) = table(ingresses);
    for (host, path, expected) in rows {
        let found = table
            .find(host, path)
            .map_or("none", |backend| backend.ready.first().map_or("nobody", |address| names[address].as_str()));
        assert_eq!(found, *expected, "{host}{path}");
    }
}

#[test]
fn paths_match_by_elements_and_the_longest_wins() {
    check(
        &[ingress(
            "i",
            "2026-01-01T00:00:00Z",
            "knarr",
            None,
            &[
                "h - Prefix a",
                "h /foo Prefix b",
                "h /foo/bar/ Prefix c",
                "h /foo/bar Exact d",
                "h /own ImplementationSpecific e",
            ],
        )],
        &[
            ("h", "/", "a"),
            ("h", "/x", "a"),
            ("h", "/foo", "b"),
            ("h", "/foo/", "b"),
            ("h", "/foo/ba", "b"),
            ("h", "/foobar", "a"),
            ("h", "/foo/bar", "d"),
            ("h", "/foo/bar/", "c"),
            ("h", "/foo/bar/x", "c"),
            ("h", "/foo/barx", "b"),
            ("h", "/own/x", "e"),
            ("other", "/", "none"),
        ],
    );
}

#[test]
fn hosts_match_exactly_then_by_wildcard_then_any() {
    check(
        &[ingress(
            "i",
            "2026-01-01T00:00:00Z",
            "knarr",
            Some("d"),
            &["a.example / Prefix a", "*.example / Prefix b", "- /any Prefix c"],
        )],
        &[
            ("a.example", "/", "a"),
            ("a.example", "/any", "a"),
            ("b.example", "/", "b"),
            // One label only.
            ("x.b.example", "/", "d"),
            ("example", "/", "d"),
            ("elsewhere", "/any/x", "c"),
            ("elsewhere", "/", "d"),
        ],
    );
}

#[test]
fn the_oldest_is_right_and_other_classes_are_others() {
    check(
        &[
            ingress("young", "2026-01-02T00:00:00Z", "knarr", Some("b"), &["h / Prefix b", "h /b Prefix b"]),
            ingress("old", "2026-01-01T00:00:00Z", "knarr", Some("a"), &["h / Prefix a"]),
            ingress("foreign", "2020-01-01T00:00:00Z", "other", Some("c"), &["h /c Prefix c"]),
            ingress("lost", "2020-01-01T00:00:00Z", "knarr", None, &["lost / Prefix missing"]),
        ],
        &[("h", "/", "a"), ("h", "/b", "b"), ("h", "/c", "a"), ("x", "/", "a"), ("lost", "/", "nobody")],
    );
}

#[test]
fn endpoints_on_their_way_out_come_last() {
    let service: Arc<Service> = object(
        json!({"spec": {"ports": [{"name": "grpc", "port": 90, "appProtocol": "kubernetes.io/h2c"}, {"name": "web", "port": 80}]}}),
    );
    let endpoint = |address: &str, ready: bool, serving: bool| json!({"addresses": [address], "conditions": {"ready": ready, "serving": serving, "terminating": !ready}});
    let slice: Arc<EndpointSlice> = object(json!({
        "metadata": {}, "addressType": "IPv4",
        "ports": [{"name": "grpc", "port": 9000}, {"name": "web", "port": 8080}],
        "endpoints": [endpoint("10.0.0.2", true, true), endpoint("10.0.0.1", false, true), endpoint("10.0.0.3", false, false)],
    }));
    let objects =
        Objects { ingresses: &[], classes: &[], service: &|_| Some(service.clone()), slices: &|_| vec![slice.clone()] };
    let key = ObjectKey::new("n", "s");
    for (port, protocol, number) in
        [("web", Protocol::Http1, 8080), ("90", Protocol::H2c, 9000), ("80", Protocol::Http1, 8080)]
    {
        let found = resolve(&objects, &key, port);
        let of = |last: u8| vec![SocketAddr::from(([10, 0, 0, last], number))];
        assert_eq!((found.protocol, found.ready, found.leaving), (protocol, of(2), of(1)), "{port}");
    }
    assert_eq!(resolve(&objects, &key, "81").ready, []);
}
