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
