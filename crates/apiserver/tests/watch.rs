//! Watches through the real server in process.

mod harness;

use std::time::Duration;

use harness::{Server, merge_patch};
use http_body_util::BodyExt;
use knarr_apiserver::contract::Body;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Reads a watch line by line.
struct Lines {
    body: Body,
    text: Vec<u8>,
}

impl Lines {
    async fn open(server: &Server, query: &str, accept: &str) -> Self {
        let response =
            server.open("GET", &format!("{MAPS}?watch=true{query}"), &[("accept", accept)], Vec::new()).await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), text: Vec::new() }
    }

    /// The next event; `None` where the watch ended.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(120), self.body.frame()).await;
            let frame = frame.expect("an event within two minutes")?;
            self.text.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }

    async fn expect(&mut self, kind: &str, name: &str) -> Value {
        let event = self.next().await.expect("an event");
        assert_eq!(
            (event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap()),
            (kind, name),
            "{event}"
        );
        event
    }
}

fn map(name: &str, color: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"color": color}}})
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_goes_on() {
    let server = Server::start().await;
    server.post(MAPS, &map("a", "red")).await.expect(201);
    let mut lines = Lines::open(&server, "", "application/json").await;
    let first = lines.expect("ADDED", "a").await;
    server.patch(&format!("{MAPS}/a"), merge_patch(), &json!({"data": {"k": "v"}})).await.expect(200);
    lines.expect("MODIFIED", "a").await;
    server.post("/api/v1/namespaces/other/configmaps", &map("z", "red")).await.expect(201);
    server.delete(&format!("{MAPS}/a")).await.expect(200);
    let deleted = lines.expect("DELETED", "a").await;

    // Resuming after the first event gives the same two again.
    let revision = first["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    let mut resumed = Lines::open(&server, &format!("&resourceVersion={revision}"), "application/json").await;
    resumed.expect("MODIFIED", "a").await;
    assert_eq!(resumed.expect("DELETED", "a").await, deleted);
}

#[tokio::test]
async fn objects_enter_and_leave_a_selection() {
    let server = Server::start().await;
    server.post(MAPS, &map("a", "red")).await.expect(201);
    server.post(MAPS, &map("b", "blue")).await.expect(201);
    let mut lines = Lines::open(&server, "&labelSelector=color%3Dred", "application/json").await;
    lines.expect("ADDED", "a").await;
    let paint = |color: &str| json!({"metadata": {"labels": {"color": color}}});
    server.patch(&format!("{MAPS}/b"), merge_patch(), &paint("red")).await.expect(200);
    lines.expect("ADDED", "b").await;
    let left = server.patch(&format!("{MAPS}/a"), merge_patch(), &paint("blue")).await.expect(200);
    let event = lines.expect("DELETED", "a").await;
    assert_eq!(event["object"]["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"]);
    assert_eq!(event["object"]["metadata"]["labels"]["color"], "red");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = Server::start().await;
    server.post(MAPS, &map("a", "red")).await.expect(201);
    let query = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut lines = Lines::open(&server, query, "application/json").await;
    lines.expect("ADDED", "a").await;
    let bookmark = lines.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    server.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await.status(422, "Invalid");

    // Whoever has always watched from the beginning and understands bookmarks gets the same.
    let mut lines = Lines::open(&server, "&allowWatchBookmarks=true", "application/json").await;
    lines.expect("ADDED", "a").await;
    assert_eq!(lines.next().await.unwrap(), bookmark);
    // Whoever does not understand them gets none.
    let query = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut lines = Lines::open(&server, query, "application/json").await;
    lines.expect("ADDED", "a").await;
    server.post(MAPS, &map("b", "red")).await.expect(201);
    lines.expect("ADDED", "b").await;
}

#[tokio::test]
async fn a_watch_ends_when_its_time_runs_out() {
    let server = Server::start().await;
    let mut lines = Lines::open(&server, "&resourceVersion=0&timeoutSeconds=1", "application/json").await;
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn tables_are_watched_too() {
    let server = Server::start().await;
    server.post(MAPS, &map("a", "red")).await.expect(201);
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut lines = Lines::open(&server, "", accept).await;
    let event = lines.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(event["object"]["rows"][0]["cells"][0], "a");
}

#[tokio::test]
async fn a_watch_resumes_across_a_restart_and_a_bad_revision_is_told() {
    let store = std::sync::Arc::new(knarr_store::MemoryStore::default());
    let before = Server::over(store.clone()).await;
    let created = before.post(MAPS, &map("a", "red")).await.expect(201);
    before.delete(&format!("{MAPS}/a")).await.expect(200);
    drop(before);
    let after = Server::over(store).await;
    let revision = created["metadata"]["resourceVersion"].as_str().unwrap();
    let mut lines = Lines::open(&after, &format!("&resourceVersion={revision}"), "application/json").await;
    lines.expect("DELETED", "a").await;
    after.get(&format!("{MAPS}?watch=1&resourceVersion=x")).await.status(422, "Invalid");
    let ahead = after.get(&format!("{MAPS}?resourceVersion=99999")).await.status(504, "Timeout");
    assert_eq!(ahead["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_history_forgot_is_expired() {
    let server = Server::start().await;
    let created = server.post(MAPS, &map("a", "red")).await.expect(201);
    for round in 0..9_000 {
        server
            .patch(&format!("{MAPS}/a"), merge_patch(), &json!({"data": {"round": round.to_string()}}))
            .await
            .expect(200);
    }
    let revision = created["metadata"]["resourceVersion"].as_str().unwrap();
    let mut lines = Lines::open(&server, &format!("&resourceVersion={revision}"), "application/json").await;
    let event = lines.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)), "{event}");
    assert_eq!(lines.next().await, None);
}
