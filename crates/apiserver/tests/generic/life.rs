//! One object, from its creation to its end.

use serde_json::json;

use super::{MAPS, config_map, harness::Server};

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
