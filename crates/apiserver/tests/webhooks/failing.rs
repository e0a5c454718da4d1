//! Webhooks that cannot be asked, and what comes of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{MAPS, MUTATING, VALIDATING, configure, harness::*, hook::*, map, webhook};

/// The error of a write that a webhook failed, without what is always the same.
async fn failed(server: &Server) -> String {
    let refused = server.post(MAPS, &map("one", json!({}))).await.status(500, "InternalError");
    let message = refused["message"].as_str().unwrap().to_owned();
    let before = "Internal error occurred: failed calling webhook \"a.example.com\": failed to call webhook: ";
    message.strip_prefix(before).unwrap_or_else(|| panic!("{message}")).to_owned()
}

async fn with(path: &str, hook: Value) -> Server {
    let server = Server::start().await;
    configure(&server, path, "a", json!([hook])).await;
    server
}

#[tokio::test]
async fn what_goes_wrong_is_told_in_upstreams_words() {
    let hook = Hook::start(|path, _| match path {
        "/moved" => Reply::Redirect("https://127.0.0.1:1/".into()),
        "/missing" => Reply::Raw(404, "nothing here".into()),
        "/broken" => Reply::Raw(500, "boom".into()),
        _ => Reply::Raw(200, "<html>".into()),
    })
    .await;
    for (path, expected) in [
        ("/moved", "the server responded with the status code 302 but did not return more information"),
        ("/missing", "the server could not find the requested resource"),
        ("/broken", "an error on the server (\"boom\") has prevented the request from succeeding"),
        ("/html", "couldn't get version/kind; json parse error: "),
    ] {
        for kind in [MUTATING, VALIDATING] {
            let server = with(kind, webhook("a", hook.at(path), json!({}))).await;
            let said = failed(&server).await;
            assert!(said.starts_with(expected), "{path}: {said}");
        }
    }
}

#[tokio::test]
async fn connections_that_fail_say_where_to() {
    let hook = Hook::start(|_, _| allow()).await;
    let address = format!("https://127.0.0.1:{}", hook.port);
    let post = |to: &str, why: &str| format!("Post \"{to}/?timeout=5s\": {why}");

    let mut stranger = hook.at("/");
    stranger["caBundle"] = Hook::start(|_, _| allow()).await.at("/")["caBundle"].clone();
    let server = with(MUTATING, webhook("a", stranger, json!({}))).await;
    let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert_eq!(failed(&server).await, post(&address, unknown));

    let mut elsewhere = hook.at("/");
    elsewhere["url"] = format!("https://localhost:{}/", hook.port).into();
    let server = with(MUTATING, webhook("a", elsewhere, json!({}))).await;
    assert!(failed(&server).await.contains("tls: failed to verify certificate: x509: "));

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut nobody = hook.at("/");
    nobody["url"] = format!("https://127.0.0.1:{closed}").into();
    let server = with(VALIDATING, webhook("a", nobody, json!({}))).await;
    let refused = format!("dial tcp 127.0.0.1:{closed}: connect: connection refused");
    assert_eq!(failed(&server).await, post(&format!("https://127.0.0.1:{closed}"), &refused));

    let service = json!({"service": {"namespace": "tools", "name": "hook"}, "caBundle": hook.authority()});
    let server = with(VALIDATING, webhook("a", service, json!({}))).await;
    assert_eq!(failed(&server).await, post("https://hook.tools.svc:443", "service \"hook\" not found"));
    assert!(hook.asked().is_empty());
}

#[tokio::test]
async fn a_service_is_reached_under_its_own_name() {
    let hook = Hook::start(|_, _| patch(json!([{"op": "add", "path": "/data/through", "value": "service"}]))).await;
    let server = Server::start().await;
    let service = json!({"metadata": {"name": "hook"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    server.post("/api/v1/namespaces/tools/services", &service).await.expect(201);
    let client = json!({"service": {"namespace": "tools", "name": "hook", "path": "/mutate", "port": hook.port},
        "caBundle": hook.authority()});
    configure(&server, MUTATING, "a", json!([webhook("a", client, json!({}))])).await;
    for name in ["one", "two"] {
        let made = server.post(MAPS, &map(name, json!({"sent": "by"}))).await.expect(201);
        assert_eq!(made["data"]["through"], "service");
    }
    assert_eq!(hook.paths(), ["/mutate", "/mutate"]);
}

#[tokio::test]
async fn a_webhook_that_hangs_costs_its_own_time_and_no_more() {
    let hook = Hook::start(|_, _| Reply::Nothing).await;
    for (policy, path) in [("Fail", MUTATING), ("Ignore", MUTATING), ("Fail", VALIDATING), ("Ignore", VALIDATING)] {
        let hanging = json!({"timeoutSeconds": 1, "failurePolicy": policy});
        let server = with(path, webhook("a", hook.at("/wait"), hanging)).await;
        let began = Instant::now();
        if policy == "Fail" {
            let expected =
                format!("Post \"https://127.0.0.1:{}/wait?timeout=1s\": context deadline exceeded", hook.port);
            assert_eq!(failed(&server).await, expected);
        } else {
            server.post(MAPS, &map("one", json!({}))).await.expect(201);
        }
        assert!(began.elapsed() >= Duration::from_secs(1));
    }
}

#[tokio::test]
async fn failures_are_passed_over_where_the_policy_says_so_and_refusals_are_not() {
    let hook = Hook::start(|path, _| match path {
        "/broken" => Reply::Raw(500, "boom".into()),
        _ => Reply::Review(json!({"allowed": false})),
    })
    .await;
    let ignore = json!({"failurePolicy": "Ignore"});
    for path in [MUTATING, VALIDATING] {
        let server = with(path, webhook("a", hook.at("/broken"), ignore.clone())).await;
        server.post(MAPS, &map("one", json!({}))).await.expect(201);
        let metrics = server.get("/metrics").await.text();
        let kind = if path == MUTATING { "admit" } else { "validating" };
        let line = format!("apiserver_admission_webhook_fail_open_count{{name=\"a.example.com\",type=\"{kind}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");

        let server = with(path, webhook("a", hook.at("/no"), ignore.clone())).await;
        server.post(MAPS, &map("one", json!({}))).await.expect(400);
        let metrics = server.get("/metrics").await.text();
        assert!(metrics.contains("apiserver_admission_webhook_rejection_count{name=\"a.example.com\""), "{metrics}");
    }
}

#[tokio::test]
async fn configurations_that_make_no_sense_are_refused() {
    let server = Server::start().await;
    let fine = webhook("a", json!({"url": "https://a.example"}), json!({}));
    for (key, value, expected) in [
        (
            "timeoutSeconds",
            json!(31),
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            "sideEffects",
            json!("Some"),
            "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            "name",
            json!("a.b"),
            "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
        ),
        (
            "clientConfig",
            json!({"url": "http://a.example"}),
            "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ),
        (
            "admissionReviewVersions",
            json!(["v9"]),
            "webhooks[0].admissionReviewVersions: Invalid value: [\"v9\"]: must include at least one of v1, v1beta1",
        ),
        (
            "rules",
            json!([{"operations": ["*", "CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]),
            "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
        ),
        (
            "matchConditions",
            json!([{"name": "a", "expression": "1"}]),
            "webhooks[0].matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
        ),
        (
            "matchConditions",
            json!([{"name": "a", "expression": "params == null"}]),
            "webhooks[0].matchConditions[0].expression: Invalid value: \"params == null\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params == null\n | ^",
        ),
    ] {
        let mut wrong = fine.clone();
        wrong[key] = value;
        let configuration = json!({"metadata": {"name": "c"}, "webhooks": [wrong]});
        let refused = server.post(VALIDATING, &configuration).await.status(422, "Invalid");
        let message = refused["message"].as_str().unwrap();
        let expected =
            format!("ValidatingWebhookConfiguration.admissionregistration.k8s.io \"c\" is invalid: {expected}");
        assert_eq!(message, expected, "{key}");
    }
    let made = server
        .post(
            MUTATING,
            &json!({"metadata": {"name": "c"}, "webhooks": [{
        "name": "a.b.c", "clientConfig": {"service": {"name": "s", "namespace": "n"}}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"]}]}),
        )
        .await
        .expect(201);
    let hook = &made["webhooks"][0];
    assert_eq!((&hook["failurePolicy"], &hook["matchPolicy"]), (&json!("Fail"), &json!("Equivalent")));
    assert_eq!((&hook["timeoutSeconds"], &hook["reinvocationPolicy"]), (&json!(10), &json!("Never")));
    assert_eq!((&hook["namespaceSelector"], &hook["clientConfig"]["service"]["port"]), (&json!({}), &json!(443)));
}
