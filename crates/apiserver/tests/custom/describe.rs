//! Discovery and the documents that clients learn types from.

use serde_json::{Value, json};

use super::{DEFINITIONS, definition, establish, harness::*, until};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

async fn aggregated(server: &Server) -> Option<Value> {
    let list = server.send("GET", "/apis", &[("accept", AGGREGATED)], Vec::new()).await.expect(200);
    let groups = list["items"].as_array().unwrap();
    groups.iter().find(|group| group["metadata"]["name"] == "example.com").cloned()
}

#[tokio::test]
async fn discovery_shows_what_is_served() {
    let server = Server::start().await;
    assert_eq!(aggregated(&server).await, None);
    server.get("/apis/example.com").await.is_text(404, "404 page not found\n");
    establish(&server, &definition("widgets", "Widget")).await;
    let group = aggregated(&server).await.unwrap();
    let resource = &group["versions"][0]["resources"][0];
    let kind = json!({"group": "example.com", "version": "v1", "kind": "Widget"});
    assert_eq!((&resource["resource"], &resource["responseKind"]), (&json!("widgets"), &kind));
    assert_eq!((&resource["shortNames"], &resource["categories"]), (&json!(["wi"]), &json!(["all"])));
    let parts: Vec<_> = resource["subresources"].as_array().unwrap().iter().map(|sub| &sub["subresource"]).collect();
    assert_eq!(parts, ["status", "scale"]);
    let groups = server.get("/apis").await.expect(200);
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "example.com"));
    let list = server.get("/apis/example.com/v1").await.expect(200);
    let scale = list["resources"].as_array().unwrap().iter().find(|one| one["name"] == "widgets/scale").unwrap();
    assert_eq!((&scale["group"], &scale["kind"]), (&json!("autoscaling"), &json!("Scale")));

    let path = format!("{DEFINITIONS}/widgets.example.com");
    server.delete(&path).await.expect(200);
    until(&server, "/apis/example.com", |code, _| code == 404).await;
    assert_eq!(aggregated(&server).await, None);
}

#[tokio::test]
async fn types_are_documented_as_long_as_they_are_served() {
    let server = Server::start().await;
    let index = |list: &Value| list["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().map(str::to_owned);
    let before = server.get("/openapi/v2").await;
    let (tag, before) = (before.header("etag").to_owned(), before.expect(200));
    assert_eq!(before["definitions"].get("com.example.v1.Widget"), None);
    assert_eq!(index(&server.get("/openapi/v3").await.expect(200)), None);
    establish(&server, &definition("widgets", "Widget")).await;

    let v2 = server.get("/openapi/v2").await;
    assert_ne!(v2.header("etag"), tag);
    let kind = json!([{"group": "example.com", "version": "v1", "kind": "Widget"}]);
    assert_eq!(v2.expect(200)["definitions"]["com.example.v1.Widget"]["x-kubernetes-group-version-kind"], kind);
    let url = index(&server.get("/openapi/v3").await.expect(200)).unwrap();
    let v3 = server.get(&url).await.expect(200);
    let widget = &v3["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(widget["properties"]["spec"]["properties"]["color"]["type"], "string");
    let path = &v3["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"];
    assert_eq!(path["get"]["x-kubernetes-group-version-kind"], kind[0]);

    // Another schema is another document under another name; the old name leads there.
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/weight";
    let more = json!([{"op": "add", "path": spec, "value": {"type": "integer"}}]);
    server.patch(&path, json_patch(), &more).await.expect(200);
    let list = until(&server, "/openapi/v3", |_, list| index(list).is_some_and(|now| now != url)).await;
    assert_eq!(server.get(&url).await.header("location"), index(&list).unwrap());
    server.delete(&path).await.expect(200);
    until(&server, "/openapi/v3", |_, list| index(list).is_none()).await;
    let plain = server.get("/openapi/v3/apis/example.com/v1").await;
    plain.is_text(404, "404 page not found\n");
    assert_eq!(server.get("/openapi/v2").await.header("etag"), tag);
}
