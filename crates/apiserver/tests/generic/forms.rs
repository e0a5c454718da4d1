//! What is served beside objects as they are: other forms of them, discovery, health, documents.

use serde_json::{Value, json};

use super::{MAPS, config_map, harness::Server};

#[tokio::test]
async fn other_forms_of_an_object() {
    let server = Server::start().await;
    server.post(MAPS, &config_map("a")).await.expect(201);
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = server.send("GET", MAPS, &table, Vec::new()).await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let list = server.send("GET", MAPS, &partial, Vec::new()).await.expect(200);
    assert_eq!((&list["kind"], &list["items"][0]["data"]), (&json!("PartialObjectMetadataList"), &Value::Null));
    assert_eq!(list["items"][0]["metadata"]["name"], "a");
    let yaml = server.send("GET", &format!("{MAPS}/a"), &[("accept", "application/yaml")], Vec::new()).await;
    assert!(yaml.text().contains("kind: ConfigMap\n"), "{}", yaml.text());
}

#[tokio::test]
async fn discovery_health_and_version() {
    let server = Server::start().await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping", "/livez?verbose"] {
        assert!(server.get(path).await.text().contains("ok"), "{path}");
    }
    assert_eq!(server.get("/version").await.expect(200)["minor"], "36");
    let core = server.get("/api").await.expect(200);
    assert_eq!(core["versions"], json!(["v1"]));
    let everybody = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": "192.0.2.1:6443"}]);
    assert_eq!(core["serverAddressByClientCIDRs"], everybody);
    let apps = server.get("/apis/apps/v1").await.expect(200);
    let names: Vec<_> = apps["resources"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"deployments") && names.contains(&"deployments/scale"), "{names:?}");
    let aggregated =
        [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")];
    let groups = server.send("GET", "/apis", &aggregated, Vec::new()).await.expect(200);
    assert_eq!(groups["kind"], "APIGroupDiscoveryList");
    // Also where that is all that a client accepts; what nobody can answer is refused.
    let only = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    assert_eq!(server.send("GET", "/api", &only, Vec::new()).await.expect(200)["kind"], "APIGroupDiscoveryList");
    let unknown = [("accept", "application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList")];
    server.send("GET", "/api", &unknown, Vec::new()).await.status(406, "NotAcceptable");
    // Whoever has the document is told so, with headers that still describe it.
    let first = server.send("GET", "/apis", &aggregated, Vec::new()).await;
    let known = [aggregated[0], ("if-none-match", first.header("etag"))];
    let again = server.send("GET", "/apis", &known, Vec::new()).await;
    assert_eq!((again.code(), again.header("content-type")), (304, first.header("content-type")));
    assert!(server.get("/metrics").await.text().contains("apiserver_request_total"));
    assert!(server.get("/openapi/v3").await.expect(200)["paths"]["apis/apps/v1"].is_object());
    for (path, edition) in [("/openapi/v2", "v2"), ("/openapi/v3/apis/apps/v1", "v3")] {
        let protobuf = |mark: &str| format!("application/com.github.proto-openapi.spec.{edition}{mark}v1.0+protobuf");
        let mut tags = Vec::new();
        for (accept, expected) in [
            (protobuf("@"), protobuf(".")),
            (protobuf("."), protobuf(".")),
            ("application/json".to_owned(), "application/json".to_owned()),
            ("*/*".to_owned(), "application/json".to_owned()),
        ] {
            let document = server.send("GET", path, &[("accept", &accept)], Vec::new()).await;
            assert_eq!((document.code(), document.header("content-type")), (200, &*expected), "{accept}");
            tags.push(document.header("etag").to_owned());
        }
        assert!(tags[0] == tags[1] && tags[1] != tags[2] && tags[2] == tags[3], "{tags:?}");
        server.send("GET", path, &[("accept", "text/html")], Vec::new()).await.status(406, "NotAcceptable");
    }
    let index = server.get("/openapi/v3").await.expect(200);
    let immutable = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let accept = [("accept", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf")];
    let document = server.send("GET", &immutable, &accept, Vec::new()).await;
    assert_eq!((document.code(), document.header("cache-control")), (200, "public, max-age=31536000, immutable"));
    assert!(server.send("GET", "/openapi/v3/apis/nobody/v1", &accept, Vec::new()).await.code() == 404);
}

#[tokio::test]
async fn discovery_tells_in_which_form_objects_are_stored() {
    let server = Server::start().await;
    // As upstream's servers say it. Two kinds are stored in the form of another version, or of another group.
    for (path, plural, expected) in [
        ("/apis/apps/v1", "deployments", Some("8aSe+NMegvE=")),
        ("/api/v1", "namespaces", Some("Q3oi5N2YM8M=")),
        ("/apis/events.k8s.io/v1", "events", Some("r2yiGXH7wu8=")),
        ("/apis/autoscaling/v1", "horizontalpodautoscalers", Some("qwQve8ut294=")),
        ("/apis/apps/v1", "deployments/scale", None),
        ("/api/v1", "componentstatuses", None),
        ("/apis/authentication.k8s.io/v1", "tokenreviews", None),
    ] {
        let list = server.get(path).await.expect(200);
        let resource = list["resources"].as_array().unwrap().iter().find(|one| one["name"] == plural).unwrap();
        assert_eq!(resource["storageVersionHash"].as_str(), expected, "{plural}");
    }
}
