//! Reading objects of a definition: selectors, tables, watches, warnings.

use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{DEFINITIONS, WIDGETS, definition, establish, harness::*, until, widget};

async fn with_two() -> Server {
    let server = Server::start().await;
    establish(&server, &definition("widgets", "Widget")).await;
    for (name, color) in [("one", "red"), ("two", "blue")] {
        server.post(WIDGETS, &widget(name, json!({"color": color}))).await.expect(201);
    }
    server
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn selectable_fields_select_in_lists_and_watches() {
    let server = with_two().await;
    let red = server.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred")).await.expect(200);
    assert_eq!(names(&red), ["one"]);
    let other = server.get(&format!("{WIDGETS}?fieldSelector=spec.color!%3Dred")).await.expect(200);
    assert_eq!(names(&other), ["two"]);
    let refused = server.get(&format!("{WIDGETS}?fieldSelector=spec.size%3Dred")).await.status(400, "BadRequest");
    assert_eq!(refused["message"], "field label not supported: spec.size");

    let path = format!("{WIDGETS}?watch=1&timeoutSeconds=1&fieldSelector=spec.color%3Dred");
    let watch = server.open("GET", &path, &[], Vec::new()).await;
    let paint = |color: &str| json!({"spec": {"color": color}});
    server.patch(&format!("{WIDGETS}/one"), merge_patch(), &paint("blue")).await.expect(200);
    server.patch(&format!("{WIDGETS}/two"), merge_patch(), &paint("red")).await.expect(200);
    let text = String::from_utf8(watch.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> = events
        .iter()
        .map(|event| (event["type"].as_str().unwrap(), event["object"]["metadata"]["name"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [("ADDED", "one"), ("DELETED", "one"), ("ADDED", "two")]);
}

#[tokio::test]
async fn other_selectable_fields_are_read_from_what_is_there() {
    let server = with_two().await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let fields = json!([{"op": "replace", "path": "/spec/versions/0/selectableFields",
        "value": [{"jsonPath": ".spec.size"}, {"jsonPath": ".spec.color"}]}]);
    server.patch(&path, json_patch(), &fields).await.expect(200);
    let small = format!("{WIDGETS}?fieldSelector=spec.size%3Dsmall,spec.color%3Dblue");
    let list = until(&server, &small, |code, _| code == 200).await;
    assert_eq!(names(&list), ["two"]);
}

#[tokio::test]
async fn tables_have_the_columns_of_the_definition() {
    let server = with_two().await;
    let accept = "application/json;as=Table;g=meta.k8s.io;v=v1,application/json";
    let table = server.send("GET", WIDGETS, &[("accept", accept)], Vec::new()).await.expect(200);
    let columns: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(columns, ["Name", "Color"]);
    let cells: Vec<_> = table["rows"].as_array().unwrap().iter().map(|row| &row["cells"]).collect();
    assert_eq!(cells, [&json!(["one", "red"]), &json!(["two", "blue"])]);
    let meta = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = server.send("GET", WIDGETS, &[("accept", meta)], Vec::new()).await.expect(200);
    assert_eq!((&list["kind"], names(&list)), (&json!("PartialObjectMetadataList"), vec!["one", "two"]));
}

#[tokio::test]
async fn pages_and_the_past_are_served() {
    let server = with_two().await;
    let first = server.get(&format!("{WIDGETS}?limit=1")).await.expect(200);
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["one"], &json!(1)));
    server.post(WIDGETS, &widget("three", json!({}))).await.expect(201);
    let next = first["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{WIDGETS}?limit=5&continue={next}")).await.expect(200);
    assert_eq!(names(&second), ["two"], "as of the first page");
    assert_eq!(second["items"][0]["spec"]["size"], "small");
}

#[tokio::test]
async fn a_schema_that_changes_holds_for_what_is_there() {
    let server = with_two().await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let change = json!([
        {"op": "remove", "path": format!("{spec}/color")},
        {"op": "remove", "path": "/spec/versions/0/selectableFields"},
        {"op": "add", "path": format!("{spec}/weight"), "value": {"type": "integer", "default": 3}},
    ]);
    server.patch(&path, json_patch(), &change).await.expect(200);
    let one = until(&server, &format!("{WIDGETS}/one"), |_, one| one["spec"]["weight"] == 3).await;
    assert_eq!(one["spec"], json!({"size": "small", "weight": 3}));
    // A default that came with the schema is no change of whoever writes next.
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    let written = server.patch(&format!("{WIDGETS}/one"), merge_patch(), &labelled).await.expect(200);
    assert_eq!(written["metadata"]["generation"], 1);
}

#[tokio::test]
async fn a_version_that_is_deprecated_warns() {
    let server = Server::start().await;
    let mut old = definition("widgets", "Widget");
    old["spec"]["versions"][0]["deprecated"] = true.into();
    establish(&server, &old).await;
    let warning = "299 - \"example.com/v1 Widget is deprecated\"";
    assert_eq!(server.get(WIDGETS).await.warnings(), [warning]);
    assert_eq!(server.post(WIDGETS, &widget("one", json!({}))).await.warnings(), [warning]);
}

/// What a list costs the first who asks, and others: `cargo test -p knarr-apiserver --release --test custom -- --ignored
/// --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn what_a_list_costs() {
    const OBJECTS: usize = 5_000;
    let server = Server::start().await;
    establish(&server, &definition("widgets", "Widget")).await;
    for index in 0..OBJECTS {
        server.post(WIDGETS, &widget(&format!("w{index}"), json!({"color": "red"}))).await.expect(201);
    }
    for who in ["first", "second", "third"] {
        let begun = tokio::time::Instant::now();
        let answer = server.get(WIDGETS).await;
        println!("{who}: {} objects, {} bytes, {:?}", OBJECTS, answer.text().len(), begun.elapsed());
    }
}
