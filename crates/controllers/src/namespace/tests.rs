//! Namespaces whose content is with other servers, too. Those are played here: each row of the script is what one of
//! them answers to a method and a path.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::{empty, plan::Findings};

const FLUNDERS: &str = "/apis/wardle.example.com/v1/namespaces/toys/flunders";

type Script = Vec<(&'static str, u16, Value)>;

/// Empties the namespace `toys`; answers what came of it, and what was asked beside discovery.
async fn emptied(groups: Value, script: Script) -> (Findings, Vec<String>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let script = Arc::new(Mutex::new(VecDeque::from(script)));
    let heard = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let line = format!("{} {}", request.method(), request.uri().path());
        let (code, body) = match line.as_str() {
            "GET /api" => (200, json!({"items": []})),
            "GET /apis" => (200, json!({"items": groups})),
            _ => {
                heard.lock().unwrap().push(line.clone());
                let mut script = script.lock().unwrap();
                let at = script.iter().position(|(expected, _, _)| *expected == line);
                let at = at.unwrap_or_else(|| panic!("nobody answers {line}"));
                let (_, code, body) = script.remove(at).unwrap();
                (code, body)
            }
        };
        let answer = Response::builder().status(code).header("content-type", "application/json");
        std::future::ready(Ok::<_, Infallible>(answer.body(Body::from(body.to_string().into_bytes())).unwrap()))
    });
    let client = knarr_client::in_process(service, "tester");
    let findings = empty(&client, "toys").await;
    let asked = asked.lock().unwrap().clone();
    (findings, asked)
}

fn group(freshness: &str, verbs: &[&str]) -> Value {
    json!({"metadata": {"name": "wardle.example.com"}, "versions": [{
        "version": "v1", "freshness": freshness,
        "resources": [{"resource": "flunders", "responseKind": {"kind": "Flunder"}, "scope": "Namespaced", "verbs": verbs}],
    }]})
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message})
}

fn one() -> Value {
    json!({"items": [{"metadata": {"name": "a"}}]})
}

#[tokio::test]
async fn what_other_servers_keep_is_deleted_through_them() {
    let all = ["list", "delete", "deletecollection"];
    let (list, collection) = (format!("GET {FLUNDERS}"), format!("DELETE {FLUNDERS}"));
    let (list, collection, single): (&'static str, &'static str, &'static str) =
        (list.leak(), collection.leak(), format!("DELETE {FLUNDERS}/a").leak());
    let none = || json!({"items": []});
    let refused = || failure(405, "MethodNotAllowed", "not here");
    let rows: [(&str, &[&str], Script); 4] = [
        ("nothing there", &all, vec![(list, 200, none())]),
        (
            "a collection",
            &all,
            vec![(list, 200, one()), (collection, 200, json!({"kind": "Status"})), (list, 200, none())],
        ),
        (
            "one by one",
            &["list", "delete"],
            vec![(list, 200, one()), (single, 200, json!({"kind": "Status"})), (list, 200, none())],
        ),
        (
            "one by one, as it turns out",
            &all,
            vec![
                (list, 200, one()),
                (collection, 405, refused()),
                (single, 404, failure(404, "NotFound", "gone")),
                (list, 200, none()),
            ],
        ),
    ];
    for (what, verbs, script) in rows {
        let expected: Vec<String> = script.iter().map(|(line, _, _)| (*line).to_owned()).collect();
        let (findings, asked) = emptied(json!([group("Current", verbs)]), script).await;
        assert!(findings.is_empty(), "{what}: {findings:?}");
        assert_eq!(asked, expected, "{what}");
    }
}

#[tokio::test]
async fn a_server_that_fails_holds_the_namespace_up() {
    let verbs = ["list", "delete", "deletecollection"];
    let list: &'static str = format!("GET {FLUNDERS}").leak();
    let unavailable = failure(503, "ServiceUnavailable", "the server is currently unable to handle the request");
    let (findings, _) = emptied(json!([group("Current", &verbs)]), vec![(list, 503, unavailable)]).await;
    assert_eq!(findings.content_failures, ["the server is currently unable to handle the request"]);
    assert_eq!(findings.discovery_failure, None);
}

#[tokio::test]
async fn a_server_that_says_nothing_of_itself_holds_the_namespace_up() {
    let mut other = group("Current", &["list", "delete"]);
    other["metadata"]["name"] = "acme.io".into();
    let empty = ("GET /apis/acme.io/v1/namespaces/toys/flunders", 200, json!({"items": []}));
    let (findings, asked) = emptied(json!([group("Stale", &["list", "delete"]), other]), vec![empty.clone()]).await;
    assert_eq!(
        findings.discovery_failure.as_deref(),
        Some(
            "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: \
             wardle.example.com/v1: stale GroupVersion discovery: wardle.example.com/v1"
        )
    );
    assert!(!findings.is_empty());
    assert_eq!(asked, [empty.0], "what is known goes all the same");
}
