//! A definition from its creation to its end.

use serde_json::json;

use super::{DEFINITIONS, ONE, WIDGETS, condition, definition, establish, harness::*, until, widget};

#[tokio::test]
async fn a_definition_is_established_serves_its_objects_and_is_emptied_when_it_goes() {
    let server = Server::start().await;
    server.get(WIDGETS).await.is_text(404, "404 page not found\n");
    let established = establish(&server, &definition("widgets", "Widget")).await;
    assert_eq!(established["status"]["acceptedNames"]["plural"], "widgets");
    assert_eq!(established["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(condition(&established, "NamesAccepted")["reason"], "NoConflicts");

    let made = server.post(WIDGETS, &widget("one", json!({"color": "red"}))).await.expect(201);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["spec"], json!({"color": "red", "size": "small"}));
    assert_eq!(server.get(ONE).await.expect(200), made);
    let list = server.get(WIDGETS).await.expect(200);
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("WidgetList"), 1));

    // An instance with a finalizer holds its definition.
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    server.patch(ONE, merge_patch(), &held).await.expect(200);
    server.post(WIDGETS, &widget("two", json!({}))).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    server.delete(&path).await.expect(200);
    let two = format!("{WIDGETS}/two");
    until(&server, &two, |code, _| code == 404).await;
    let one = server.get(ONE).await.expect(200);
    assert!(one["metadata"]["deletionTimestamp"].is_string());
    let going = server.get(&path).await.expect(200);
    assert_eq!(condition(&going, "Terminating")["reason"], "InstanceDeletionInProgress");
    let refused = server.post(WIDGETS, &widget("three", json!({}))).await.status(405, "MethodNotAllowed");
    assert_eq!(refused["message"], "create not allowed while custom resource definition is terminating");

    server.patch(ONE, merge_patch(), &json!({"metadata": {"finalizers": null}})).await.expect(200);
    until(&server, &path, |code, _| code == 404).await;
    until(&server, WIDGETS, |code, body| code == 404 && body.is_null()).await;
}

#[tokio::test]
async fn a_server_that_starts_serves_what_was_established_and_goes_on_with_deletions() {
    let store = std::sync::Arc::new(knarr_store::MemoryStore::default());
    let path = format!("{DEFINITIONS}/widgets.example.com");
    {
        let server = Server::over(store.clone()).await;
        establish(&server, &definition("widgets", "Widget")).await;
        let mut held = widget("one", json!({}));
        held["metadata"]["finalizers"] = json!(["example.com/hold"]);
        server.post(WIDGETS, &held).await.expect(201);
        server.delete(&path).await.expect(200);
    }
    let server = Server::over(store).await;
    // Without a wait: whoever connects finds what is established.
    server.get(ONE).await.expect(200);
    until(&server, ONE, |_, one| one["metadata"]["deletionTimestamp"].is_string()).await;
    let release = json!({"metadata": {"finalizers": null}});
    server.patch(ONE, merge_patch(), &release).await.expect(200);
    until(&server, &path, |code, _| code == 404).await;
    until(&server, WIDGETS, |code, _| code == 404).await;
}

#[tokio::test]
async fn a_definition_that_was_never_established_goes_at_once() {
    let server = Server::start().await;
    establish(&server, &definition("widgets", "Widget")).await;
    let mut other = definition("gadgets", "Widget");
    other["spec"]["names"]["listKind"] = "GadgetList".into();
    server.post(DEFINITIONS, &other).await.expect(201);
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    until(&server, &path, |_, it| condition(it, "NamesAccepted")["reason"] == "KindConflict").await;
    server.delete(&path).await.expect(200);
    until(&server, &path, |code, _| code == 404).await;
}

#[tokio::test]
async fn a_watch_hears_the_last_of_its_objects_and_ends_with_the_definition() {
    let server = Server::start().await;
    establish(&server, &definition("widgets", "Widget")).await;
    server.post(WIDGETS, &widget("one", json!({}))).await.expect(201);
    let watch = server.open("GET", &format!("{WIDGETS}?watch=1"), &[], Vec::new()).await;
    let reading = tokio::spawn(http_body_util::BodyExt::collect(watch.into_body()));
    server.delete(&format!("{DEFINITIONS}/widgets.example.com")).await.expect(200);
    let all = tokio::time::timeout(std::time::Duration::from_secs(20), reading).await.unwrap().unwrap().unwrap();
    let text = String::from_utf8(all.to_bytes().to_vec()).unwrap();
    let kinds: Vec<&str> = text.lines().map(|line| &line[..15]).collect();
    assert_eq!(kinds, ["{\"type\":\"ADDED\"", "{\"type\":\"DELETE"], "{text}");
    let again = server.get(&format!("{WIDGETS}?watch=1")).await;
    assert_eq!(again.code(), 404);
}
