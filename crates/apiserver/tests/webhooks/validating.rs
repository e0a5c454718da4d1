//! Webhooks that say yes or no, and subresources on their way past them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{MAPS, MUTATING, VALIDATING, configure, harness::*, hook::*, map, webhook};

#[tokio::test]
async fn a_refusal_is_told_in_the_webhooks_words() {
    let hook = Hook::start(|_, review| match review["object"]["data"]["say"].as_str() {
        Some("plain") => Reply::Review(json!({"allowed": false})),
        Some("much") => Reply::Review(json!({"allowed": false, "status": {"message": "the answer is no",
            "code": 418, "reason": "Teapot", "details": {"causes": [{"message": "m", "field": "data.say"}]}}})),
        _ => allow(),
    })
    .await;
    let server = Server::start().await;
    configure(&server, VALIDATING, "a", json!([webhook("a", hook.at("/"), json!({}))])).await;
    let refused = server.post(MAPS, &map("one", json!({"say": "plain"}))).await.expect(400);
    let who = "admission webhook \"a.example.com\" denied the request";
    assert_eq!((&refused["message"], refused.get("reason")), (&json!(format!("{who} without explanation")), None));
    let refused = server.post(MAPS, &map("one", json!({"say": "much"}))).await.expect(418);
    assert_eq!(
        (&refused["message"], &refused["reason"]),
        (&json!(format!("{who}: the answer is no")), &json!("Teapot"))
    );
    assert_eq!(refused["details"]["causes"], json!([{"message": "m", "field": "data.say"}]));
    server.get(&format!("{MAPS}/one")).await.status(404, "NotFound");
    server.post(MAPS, &map("one", json!({}))).await.expect(201);
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_asked_about() {
    let hook = Hook::start(|_, _| allow()).await;
    let server = Server::start().await;
    let made = server.post(MAPS, &map("one", json!({}))).await.expect(201);
    configure(&server, VALIDATING, "a", json!([webhook("a", hook.at("/"), json!({}))])).await;
    let same = server.put(&format!("{MAPS}/one"), &made).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let asked = hook.asked();
    assert_eq!((asked.len(), &asked[0].1["operation"]), (1, &json!("UPDATE")));
}

#[tokio::test]
async fn all_are_asked_at_once_and_none_may_change_anything() {
    let hook = Hook::start(|path, _| match path {
        "/no" => Reply::Review(json!({"allowed": false, "status": {"message": "no"}})),
        "/patch" => patch(json!([{"op": "add", "path": "/data/x", "value": "y"}])),
        _ => Reply::Nothing,
    })
    .await;
    let server = Server::start().await;
    let slow: Vec<Value> = (0..3).map(|i| webhook(&format!("slow{i}"), hook.at("/slow"), json!({}))).collect();
    configure(&server, VALIDATING, "a", json!(slow)).await;
    configure(&server, VALIDATING, "b", json!([webhook("b", hook.at("/no"), json!({}))])).await;
    let began = Instant::now();
    let refused = server.post(MAPS, &map("one", json!({}))).await.expect(400);
    assert_eq!(refused["message"], "admission webhook \"b.example.com\" denied the request: no");
    assert!(began.elapsed() < Duration::from_secs(5), "the refusal waited for those that never answer");

    let server = Server::start().await;
    configure(&server, VALIDATING, "a", json!([webhook("a", hook.at("/patch"), json!({}))])).await;
    let refused = server.post(MAPS, &map("one", json!({}))).await.expect(500);
    let why = "received invalid webhook response: validating webhook may not return response.patch";
    assert!(refused["message"].as_str().unwrap().ends_with(why), "{refused}");
}

#[tokio::test]
async fn warnings_reach_the_client() {
    let warn =
        |text: &'static str| move |_: &str, _: &Value| Reply::Review(json!({"allowed": true, "warnings": [text]}));
    let (one, two) = (Hook::start(warn("think")).await, Hook::start(warn("twice")).await);
    let server = Server::start().await;
    configure(&server, MUTATING, "a", json!([webhook("a", one.at("/"), json!({}))])).await;
    configure(&server, VALIDATING, "a", json!([webhook("a", two.at("/"), json!({}))])).await;
    let expected = ["299 - \"think\"", "299 - \"twice\""];
    let made = server.post(MAPS, &map("one", json!({}))).await;
    made.expect(201);
    assert_eq!(made.warnings(), expected);
    let gone = server.delete(&format!("{MAPS}/one")).await;
    gone.expect(200);
    assert_eq!(gone.warnings(), expected);
}

#[tokio::test]
async fn configurations_are_never_asked_about() {
    let hook = Hook::start(|_, _| Reply::Review(json!({"allowed": false}))).await;
    let server = Server::start().await;
    let everything = json!({"rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": ["*/*"]}]});
    for path in [MUTATING, VALIDATING] {
        configure(&server, path, "a", json!([webhook("a", hook.at("/"), everything.clone())])).await;
    }
    server.post(MAPS, &map("one", json!({}))).await.expect(400);
    for path in [MUTATING, VALIDATING] {
        server.delete(&format!("{path}/a")).await.expect(200);
    }
    server.post(MAPS, &map("one", json!({}))).await.expect(201);
}

#[tokio::test]
async fn scale_is_asked_about_as_a_scale() {
    let hook = Hook::start(|_, review| match review["kind"]["kind"].as_str() {
        Some("Scale") => patch(json!([{"op": "replace", "path": "/spec/replicas", "value": 7}])),
        _ => Reply::Review(json!({"allowed": false})),
    })
    .await;
    let server = Server::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1, "template": template,
        "selector": {"matchLabels": {"a": "b"}}}});
    server.post(deployments, &deployment).await.expect(201);
    let rules = json!({"rules": [{"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
        "resources": ["deployments/scale"]}]});
    configure(&server, MUTATING, "a", json!([webhook("a", hook.at("/"), rules)])).await;
    let scale = format!("{deployments}/d/scale");
    let scaled = server.patch(&scale, merge_patch(), &json!({"spec": {"replicas": 3}})).await.expect(200);
    assert_eq!(scaled["spec"]["replicas"], 7);
    let (_, asked) = hook.asked().pop().unwrap();
    assert_eq!(asked["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!((&asked["subResource"], &asked["object"]["spec"]["replicas"]), (&json!("scale"), &json!(3)));
    assert_eq!(asked["oldObject"]["spec"]["replicas"], 1);
    server.patch(&format!("{deployments}/d"), merge_patch(), &json!({"spec": {"paused": true}})).await.expect(200);
}

#[tokio::test]
async fn connections_bindings_and_evictions_are_asked_about() {
    let hook = Hook::start(|_, _| Reply::Review(json!({"allowed": false, "status": {"message": "no"}}))).await;
    let secured = secured::start().await;
    let user = knarr_apiserver::contract::UserInfo {
        name: "root".into(),
        groups: vec!["system:masters".into()],
        ..Default::default()
    };
    let server = Server::of(secured.server.clone(), user);
    let pods = "/api/v1/namespaces/default/pods";
    server.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    server.post(pods, &pod).await.expect(201);
    let rules = json!({"rules": [{"operations": ["CONNECT", "CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["pods/*"]}]});
    configure(&server, VALIDATING, "a", json!([webhook("a", hook.at("/"), rules)])).await;
    let binding = json!({"target": {"kind": "Node", "name": "n"}});
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    for (path, body, kind) in [
        ("exec?command=ls&command=-l&container=c&stdin=true", json!({}), "PodExecOptions"),
        ("attach?container=c", json!({}), "PodAttachOptions"),
        ("binding", binding, "Binding"),
        ("eviction", eviction, "Eviction"),
    ] {
        let refused = server.post(&format!("{pods}/p/{path}"), &body).await.expect(400);
        assert_eq!(refused["message"], "admission webhook \"a.example.com\" denied the request: no", "{path}");
        let (_, asked) = hook.asked().pop().unwrap();
        assert_eq!((&asked["kind"]["kind"], &asked["object"]["kind"]), (&json!(kind), &json!(kind)), "{path}");
        assert_eq!((&asked["name"], &asked["namespace"]), (&json!("p"), &json!("default")), "{path}");
        let is_connect = matches!(kind, "PodExecOptions" | "PodAttachOptions");
        assert_eq!(asked["operation"], if is_connect { "CONNECT" } else { "CREATE" }, "{path}");
        if kind == "PodExecOptions" {
            let expected = json!({"kind": kind, "apiVersion": "v1", "command": ["ls", "-l"], "container": "c",
                "stdin": true});
            assert_eq!(asked["object"], expected);
        }
    }
    server.get(&format!("{pods}/p/log")).await.is_text(204, "");
    assert!(hook.asked().is_empty(), "logs are read, and reads are nobody's business");
}
