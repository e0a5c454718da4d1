//! `matchConditions`: what spares a webhook a request, and what comes of conditions that cannot be evaluated.

use serde_json::{Value, json};

use super::{MAPS, MUTATING, VALIDATING, configure, harness::*, hook::*, map, webhook};

fn conditions(expressions: &[&str], policy: &str) -> Value {
    let named = expressions.iter().enumerate().map(|(i, one)| json!({"name": format!("c{i}"), "expression": one}));
    json!({"matchConditions": named.collect::<Vec<_>>(), "failurePolicy": policy})
}

#[tokio::test]
async fn webhooks_are_asked_where_all_conditions_are_true() {
    let hook = Hook::start(|_, _| allow()).await;
    let broken = "object.data.missing == 'x'";
    let why = format!("configmaps \"one\" is forbidden: expression '{broken}' resulted in error: no such key: missing");
    for (expressions, policy, code, is_asked) in [
        (&["true"][..], "Fail", 201, true),
        (&["object.data.a == 'b'", "request.userInfo.username == 'tester'"], "Fail", 201, true),
        (&["oldObject == null", "authorizer.requestResource.check('create').allowed()"], "Fail", 201, true),
        (&["object.data.a == 'c'"], "Fail", 201, false),
        (&[broken], "Fail", 403, false),
        (&[broken], "Ignore", 201, false),
        (&["true", broken, "false"], "Fail", 201, false),
    ] {
        for path in [MUTATING, VALIDATING] {
            let server = Server::start().await;
            configure(&server, path, "a", json!([webhook("a", hook.at("/"), conditions(expressions, policy))])).await;
            let answer = server.post(MAPS, &map("one", json!({"a": "b"}))).await.expect(code);
            assert_eq!(hook.asked().len(), usize::from(is_asked), "{path} {expressions:?} {policy}");
            if code == 403 {
                assert_eq!((&answer["message"], &answer["reason"]), (&json!(why), &json!("Forbidden")));
            }
        }
    }
}

#[tokio::test]
async fn conditions_may_cost_so_much_and_no_more() {
    let hook = Hook::start(|_, _| allow()).await;
    let list = "[1,2,3,4,5,6,7,8,9,10]";
    let nested = |names: &[&str]| {
        names.iter().fold("object.data.a == 'b'".to_owned(), |inner, name| format!("{list}.all({name}, {inner})"))
    };
    let (one, all) = (nested(&["a", "b", "c", "d", "e", "f"]), nested(&["a", "b", "c", "d", "e"]));
    for (expressions, why) in [
        (vec![one.as_str()], "resulted in error: operation cancelled: actual cost limit exceeded"),
        (
            vec![all.as_str(); 6],
            "validation failed due to running out of cost budget, no further validation rules will be run",
        ),
    ] {
        let server = Server::start().await;
        configure(&server, VALIDATING, "a", json!([webhook("a", hook.at("/"), conditions(&expressions, "Fail"))]))
            .await;
        let refused = server.post(MAPS, &map("one", json!({"a": "b"}))).await.status(403, "Forbidden");
        assert!(refused["message"].as_str().unwrap().ends_with(why), "{refused}");
        assert!(hook.asked().is_empty());
    }
}

#[tokio::test]
async fn spared_requests_are_counted() {
    let hook = Hook::start(|_, _| allow()).await;
    let server = Server::start().await;
    configure(&server, VALIDATING, "a", json!([webhook("a", hook.at("/"), conditions(&["false"], "Fail"))])).await;
    server.post(MAPS, &map("one", json!({}))).await.expect(201);
    let metrics = server.get("/metrics").await.text();
    let line = "apiserver_admission_match_condition_exclusions_total{name=\"a.example.com\",kind=\"webhook\",\
                type=\"validating\",operation=\"CREATE\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}
