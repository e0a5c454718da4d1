//! What is refused, in upstream's words.

use serde_json::Value;

use super::{MAPS, config_map, harness::Server};

#[tokio::test]
async fn refusals_are_upstreams() {
    let server = Server::start().await;
    server.post(MAPS, &config_map("taken")).await.expect(201);
    let mut elsewhere = config_map("x");
    elsewhere["metadata"]["namespace"] = "other".into();
    let mut typed = config_map("x");
    typed["apiVersion"] = "v2".into();
    let mut numbered = config_map("x");
    numbered["data"]["k"] = 1.into();
    // path, body, code, reason, message
    let rows: Vec<(&str, Vec<u8>, u16, &str, &str)> = vec![
        (MAPS, config_map("taken").to_string().into(), 409, "AlreadyExists", r#"configmaps "taken" already exists"#),
        (
            MAPS,
            elsewhere.to_string().into(),
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            MAPS,
            typed.to_string().into(),
            400,
            "BadRequest",
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (
            MAPS,
            "{\"apiVersion\":".into(),
            400,
            "BadRequest",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
             error: unexpected end of JSON input ({\"apiVersion\":)",
        ),
        (
            MAPS,
            config_map("Bad_Name").to_string().into(),
            422,
            "Invalid",
            "ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 \
             subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an \
             alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            MAPS,
            numbered.to_string().into(),
            400,
            "BadRequest",
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct \
             field ConfigMap.data of type string",
        ),
        (
            "/api/v1/namespaces/default/configmaps?dryRun=Some",
            config_map("x").to_string().into(),
            422,
            "Invalid",
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
        ),
        (
            "/api/v1/namespaces/default/configmaps?fieldManager=a%07b&fieldValidation=Hard",
            config_map("x").to_string().into(),
            422,
            "Invalid",
            "CreateOptions.meta.k8s.io \"\" is invalid: [fieldManager: Invalid value: \"a\\ab\": invalid character \
             U+0007 (at position 1), fieldValidation: Unsupported value: \"Hard\": supported values: \"\", \"Ignore\", \
             \"Strict\", \"Warn\"]",
        ),
    ];
    for (path, body, code, reason, message) in rows {
        let status = server.send("POST", path, &[], body).await.status(code, reason);
        assert_eq!(status["message"], message);
    }
    server.send("POST", MAPS, &[("content-type", "text/plain")], "x".into()).await.status(415, "UnsupportedMediaType");
    server.send("POST", MAPS, &[], vec![b' '; (3 << 20) + 1]).await.status(413, "RequestEntityTooLarge");
    server.send("PATCH", MAPS, &[], "{}".into()).await.status(405, "MethodNotAllowed");
    server.get("/api/v1/namespaces/default/nothings").await.is_text(404, "404 page not found\n");
    server.get("/apis/nobody/v1").await.is_text(404, "404 page not found\n");
    server
        .send("GET", MAPS, &[("accept", "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1")], Vec::new())
        .await
        .status(406, "NotAcceptable");
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_refused_warned_about_or_ignored() {
    let server = Server::start().await;
    let body = r#"{"metadata":{"name":"x"},"data":{"a":"1","a":"2"},"foo":1}"#;
    let strict = server.send("POST", &format!("{MAPS}?fieldValidation=Strict"), &[], body.into()).await;
    assert_eq!(
        strict.status(400, "BadRequest")["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: duplicate field \"data.a\", \
         unknown field \"foo\""
    );
    let warned = server.send("POST", &format!("{MAPS}?dryRun=All"), &[], body.into()).await;
    assert_eq!(warned.warnings(), ["299 - \"duplicate field \\\"data.a\\\"\"", "299 - \"unknown field \\\"foo\\\"\""]);
    assert_eq!(warned.expect(201)["foo"], Value::Null);
    let ignored = server.send("POST", &format!("{MAPS}?fieldValidation=Ignore"), &[], body.into()).await;
    assert!(ignored.warnings().is_empty());
    assert_eq!(ignored.expect(201)["data"]["a"], "2");
}
