//! What policies and webhooks have to say to the audit log.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use knarr_apiserver::{
    ApiServer, Env,
    audit::{Auditor, LogConfig},
    contract::UserInfo,
};
use knarr_store::MemoryStore;
use serde_json::{Value, json};

use super::{MAPS, bind, harness::*, map, validating};

/// The annotations of the event about a request, once it is written.
async fn annotations(log: &std::path::Path, uri: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut about = events.filter(|event| event["requestURI"] == uri && event["verb"] == "create");
        if let Some(event) = about.next() {
            return event["annotations"].clone();
        }
        assert!(Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn failures_and_annotations_are_logged() {
    let directory = tempfile::tempdir().unwrap();
    let (policy, path) = (directory.path().join("policy.yaml"), directory.path().join("audit.log"));
    let rules =
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata}]\n";
    std::fs::write(&policy, rules).unwrap();
    let config = LogConfig { path: path.clone(), max_size_bytes: 0, max_backups: 0, max_age_days: 0 };
    let auditor = Auditor::open(policy, config, Env::host()).unwrap();
    let server = ApiServer::builder(Arc::new(MemoryStore::default())).audit(auditor).start().await.unwrap();
    let user = UserInfo { name: "tester".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
    let server = Server::of(server, user);
    let said = json!({"auditAnnotations": [{"key": "size", "valueExpression": "'has ' + string(size(object.data))"}]});
    validating(&server, json!([{"expression": "true"}, {"expression": "false", "message": "no"}]), said).await;
    bind(&server, json!(["Audit"]), json!({})).await;
    server.post(MAPS, &map("one", json!({"a": "b"}))).await.expect(201);
    let found = annotations(&path, MAPS).await;
    assert_eq!(found["p/size"], "has 1");
    let failure = found["validation.policy.admission.k8s.io/validation_failure"].as_str().unwrap();
    let expected = json!([{"message": "no", "policy": "p", "binding": "b", "expressionIndex": 1,
        "validationActions": ["Audit"]}]);
    assert_eq!(serde_json::from_str::<Value>(failure).unwrap(), expected);
}
