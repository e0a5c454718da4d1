//! One object, from its creation to its end.

use std::sync::Arc;

use bytes::Bytes;
use knarr_store::{MemoryStore, Op, Store, Txn};
use serde_json::json;

use super::{
    MAPS, config_map,
    harness::{Server, merge_patch},
};

#[tokio::test]
async fn an_object_lives_its_life() {
    let server = Server::start().await;
    let created = server.post(MAPS, &config_map("a")).await.expect(201);
    let metadata = &created["metadata"];
    for key in ["uid", "creationTimestamp", "resourceVersion"] {
        assert!(metadata[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {created}");
    }
    assert_eq!(metadata["namespace"], "default");

    let path = format!("{MAPS}/a");
    let got = server.get(&path).await.expect(200);
    assert_eq!(got, created);

    let mut changed = got.clone();
    changed["data"]["k"] = "w".into();
    let updated = server.put(&path, &changed).await.expect(200);
    assert_ne!(updated["metadata"]["resourceVersion"], metadata["resourceVersion"]);
    assert_eq!(updated["metadata"]["uid"], metadata["uid"]);

    // The first answer is stale by now.
    let stale = server.put(&path, &changed).await.status(409, "Conflict");
    assert_eq!(
        stale["message"],
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    // An update that changes nothing keeps the revision.
    let same = server.put(&path, &updated).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], updated["metadata"]["resourceVersion"]);

    let deleted = server.delete(&path).await.expect(200);
    assert_eq!((&deleted["kind"], &deleted["status"]), (&json!("Status"), &json!("Success")));
    assert_eq!(deleted["details"]["uid"], metadata["uid"]);
    server.get(&path).await.status(404, "NotFound");
}

#[tokio::test]
async fn names_are_generated_and_dry_runs_leave_nothing() {
    let server = Server::start().await;
    let body = json!({"metadata": {"generateName": "g-"}});
    let one = server.post(MAPS, &body).await.expect(201);
    let two = server.post(MAPS, &body).await.expect(201);
    let (one, two) = (one["metadata"]["name"].as_str().unwrap().to_owned(), &two["metadata"]["name"]);
    assert!(one.starts_with("g-") && one.len() == 7 && one != *two, "{one} {two}");
    server.post(&format!("{MAPS}?dryRun=All"), &config_map("dry")).await.expect(201);
    server.get(&format!("{MAPS}/dry")).await.status(404, "NotFound");
    server.send("DELETE", &format!("{MAPS}/{one}?dryRun=All"), &[], Vec::new()).await.expect(200);
    server.get(&format!("{MAPS}/{one}")).await.expect(200);
}

#[tokio::test]
async fn what_the_rules_put_into_a_new_object_has_no_manager() {
    let server = Server::start().await;
    let managed = |object: &serde_json::Value| object["metadata"]["managedFields"][0]["fieldsV1"].clone();
    let namespace = server.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    assert_eq!(namespace["spec"], json!({"finalizers": ["kubernetes"]}));
    let label = json!({".": {}, "f:kubernetes.io/metadata.name": {}});
    assert_eq!(managed(&namespace), json!({"f:metadata": {"f:labels": label}}));
    let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": template}});
    let job = server.post("/apis/batch/v1/namespaces/default/jobs", &job).await.expect(201);
    assert!(job["spec"]["selector"].is_object() && job["metadata"]["labels"].is_object(), "{job}");
    let managed = managed(&job);
    assert!(managed.get("f:metadata").is_none() && managed["f:spec"].get("f:selector").is_none(), "{managed}");
    assert!(managed["f:spec"].get("f:template").is_some(), "{managed}");
}

#[tokio::test]
async fn two_versions_show_the_same_objects() {
    let server = Server::start().await;
    let event = json!({"metadata": {"name": "e"}, "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
        "note": "n", "reason": "R", "type": "Normal", "action": "A", "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "c", "reportingInstance": "i"});
    server.post("/apis/events.k8s.io/v1/namespaces/default/events", &event).await.expect(201);
    let core = server.get("/api/v1/namespaces/default/events/e").await.expect(200);
    assert_eq!(
        (&core["apiVersion"], &core["message"], &core["involvedObject"]["name"]),
        (&json!("v1"), &json!("n"), &json!("p"))
    );
    let new = server.get("/apis/events.k8s.io/v1/namespaces/default/events").await.expect(200);
    assert_eq!((&new["items"][0]["apiVersion"], &new["items"][0]["note"]), (&json!("events.k8s.io/v1"), &json!("n")));
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_held_to_the_rules() {
    let store = Arc::new(MemoryStore::default());
    let server = Server::over(store.clone()).await;
    server.post(MAPS, &config_map("good")).await.expect(201);
    // As an older version may have let it in.
    let kept = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": {"a/b": "c"},
        "metadata": {"name": "old", "namespace": "default", "uid": "4e2f1f1c-0d0b-4b8e-8d3c-0d4a2e0d8b6a",
                     "creationTimestamp": "2020-01-01T00:00:00Z"},
    });
    let key = Bytes::from_static(b"/registry/configmaps/default/old");
    let ops = vec![Op::Put { key, value: kept.to_string().into(), lease: None }];
    store.txn(Txn { compares: Vec::new(), ops }).await.unwrap();
    let (good, old) = (format!("{MAPS}/good"), format!("{MAPS}/old"));
    let before = server.get(&old).await.expect(200);
    for refused in [server.put(&old, &before).await, server.patch(&old, merge_patch(), &json!({})).await] {
        let status = refused.status(422, "Invalid");
        assert!(status["message"].as_str().unwrap().contains("data[a/b]: Invalid value: \"a/b\""), "{status}");
    }
    assert_eq!(server.get(&old).await.expect(200), before);
    let before = server.get(&good).await.expect(200);
    let same = server.patch(&good, merge_patch(), &json!({})).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
}
