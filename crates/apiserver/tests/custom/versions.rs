//! Several versions of one definition.

use serde_json::{Value, json};

use super::{DEFINITIONS, ONE, WIDGETS, definition, establish, harness::*, until, version, widget};

const OLD: &str = "/apis/example.com/v1beta1/namespaces/default/widgets/one";

fn of_two() -> Value {
    let mut definition = definition("widgets", "Widget");
    let mut old = version("v1beta1", false);
    old["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["weight"] = json!({"type": "integer"});
    definition["spec"]["versions"] = json!([version("v1", true), old, version("v2alpha1", false)]);
    definition
}

#[tokio::test]
async fn an_object_is_read_and_written_in_every_version() {
    let server = Server::start().await;
    establish(&server, &of_two()).await;
    let group = server.get("/apis/example.com").await.expect(200);
    let versions: Vec<_> = group["versions"].as_array().unwrap().iter().map(|one| &one["version"]).collect();
    assert_eq!(versions, ["v1", "v1beta1", "v2alpha1"]);
    server.post(WIDGETS, &widget("one", json!({"color": "red"}))).await.expect(201);
    let old = server.get(OLD).await.expect(200);
    assert_eq!((&old["apiVersion"], &old["spec"]["color"]), (&json!("example.com/v1beta1"), &json!("red")));

    // A field of one version only is kept for it, and not shown by the others.
    let written = server.patch(OLD, merge_patch(), &json!({"spec": {"weight": 4}})).await.expect(200);
    assert_eq!((&written["apiVersion"], &written["spec"]["weight"]), (&json!("example.com/v1beta1"), &json!(4)));
    assert_eq!(server.get(ONE).await.expect(200)["spec"].get("weight"), None);
    assert_eq!(server.get(OLD).await.expect(200)["spec"]["weight"], 4);

    let list = server.get("/apis/example.com/v2alpha1/widgets").await.expect(200);
    assert_eq!(
        (&list["apiVersion"], &list["items"][0]["apiVersion"]),
        (&json!("example.com/v2alpha1"), &json!("example.com/v2alpha1"))
    );
    let wrong = widget("two", json!({}));
    let refused = server.post("/apis/example.com/v1beta1/namespaces/default/widgets", &wrong).await;
    refused.status(400, "BadRequest");
}

#[tokio::test]
async fn apply_in_one_version_is_known_in_the_other() {
    let server = Server::start().await;
    establish(&server, &of_two()).await;
    let wish = |version: &str, color: &str| json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "spec": {"color": color}});
    let kind = "application/apply-patch+yaml";
    server.patch(&format!("{OLD}?fieldManager=a"), kind, &wish("v1beta1", "red")).await.expect(201);
    let again = server.patch(&format!("{ONE}?fieldManager=a"), kind, &wish("v1", "blue")).await.expect(200);
    assert_eq!(again["metadata"]["managedFields"].as_array().unwrap().len(), 1);
    server.patch(&format!("{OLD}?fieldManager=b"), kind, &wish("v1beta1", "red")).await.status(409, "Conflict");
}

#[tokio::test]
async fn another_storage_version_is_written_by_the_next_update() {
    let server = Server::start().await;
    establish(&server, &of_two()).await;
    server.post(WIDGETS, &widget("one", json!({"color": "red"}))).await.expect(201);
    let hash = async |version: &str| {
        let list = server.get(&format!("/apis/example.com/{version}")).await.expect(200);
        list["resources"][0]["storageVersionHash"].as_str().unwrap().to_owned()
    };
    let in_v1 = hash("v1").await;
    assert_eq!(hash("v1beta1").await, in_v1, "one form, whichever version is asked");
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let swap = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
    ]);
    let changed = server.patch(&path, json_patch(), &swap).await.expect(200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v1beta1"]));
    let before = server.get(ONE).await.expect(200);
    // The change is served once an update that changes nothing writes the object in its new version.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let same = server.patch(ONE, merge_patch(), &json!({})).await.expect(200);
        assert_eq!((&same["spec"], &same["apiVersion"]), (&before["spec"], &json!("example.com/v1")));
        if same["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "never written in the new version");
    }
    assert_ne!(hash("v1").await, in_v1);
    let settled = server.get(ONE).await.expect(200);
    let same = server.patch(ONE, merge_patch(), &json!({})).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], settled["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn a_version_that_is_no_longer_served_is_gone() {
    let server = Server::start().await;
    establish(&server, &of_two()).await;
    server.post(WIDGETS, &widget("one", json!({}))).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let stop = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    server.patch(&path, json_patch(), &stop).await.expect(200);
    until(&server, OLD, |code, _| code == 404).await;
    server.get(ONE).await.expect(200);
}
