//! The generic path through the real server, in process, over the real store in memory.

mod harness;

use std::sync::Arc;

use harness::{Server, json_patch, merge_patch};
use knarr_store::{MemoryStore, Revision, Store};
use serde_json::{Value, json};

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

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
async fn refusals_are_upstreams() {
    let server = Server::start().await;
    server.post(MAPS, &config_map("taken")).await.expect(201);
    let mut elsewhere = config_map("x");
    elsewhere["metadata"]["namespace"] = "other".into();
    let mut typed = config_map("x");
    typed["apiVersion"] = "v2".into();
    let mut numbered = config_map("x");
    numbered["data"]["k"] = 1.into();
    // path, body, code, reason, message
    let rows: Vec<(&str, Vec<u8>, u16, &str, &str)> = vec![
        (MAPS, config_map("taken").to_string().into(), 409, "AlreadyExists", r#"configmaps "taken" already exists"#),
        (
            MAPS,
            elsewhere.to_string().into(),
            400,
            "BadRequest",
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            MAPS,
            typed.to_string().into(),
            400,
            "BadRequest",
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (
            MAPS,
            "{\"apiVersion\":".into(),
            400,
            "BadRequest",
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse \
             error: unexpected end of JSON input ({\"apiVersion\":)",
        ),
        (
            MAPS,
            config_map("Bad_Name").to_string().into(),
            422,
            "Invalid",
            "ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": a lowercase RFC 1123 \
             subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an \
             alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        ),
        (
            MAPS,
            numbered.to_string().into(),
            400,
            "BadRequest",
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct \
             field ConfigMap.data of type string",
        ),
        (
            "/api/v1/namespaces/default/configmaps?dryRun=Some",
            config_map("x").to_string().into(),
            422,
            "Invalid",
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: \"Some\": supported values: \"All\"",
        ),
    ];
    for (path, body, code, reason, message) in rows {
        let status = server.send("POST", path, &[], body).await.status(code, reason);
        assert_eq!(status["message"], message);
    }
    server.send("POST", MAPS, &[("content-type", "text/plain")], "x".into()).await.status(415, "UnsupportedMediaType");
    server.send("POST", MAPS, &[], vec![b' '; (3 << 20) + 1]).await.status(413, "RequestEntityTooLarge");
    server.send("PATCH", MAPS, &[], "{}".into()).await.status(405, "MethodNotAllowed");
    server.get("/api/v1/namespaces/default/nothings").await.is_text(404, "404 page not found\n");
    server.get("/apis/nobody/v1").await.is_text(404, "404 page not found\n");
    server
        .send("GET", MAPS, &[("accept", "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1")], Vec::new())
        .await
        .status(406, "NotAcceptable");
}

#[tokio::test]
async fn unknown_and_duplicate_fields_are_refused_warned_about_or_ignored() {
    let server = Server::start().await;
    let body = r#"{"metadata":{"name":"x"},"data":{"a":"1","a":"2"},"foo":1}"#;
    let strict = server.send("POST", &format!("{MAPS}?fieldValidation=Strict"), &[], body.into()).await;
    assert_eq!(
        strict.status(400, "BadRequest")["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"foo\", \
         duplicate field \"data.a\""
    );
    let warned = server.send("POST", &format!("{MAPS}?dryRun=All"), &[], body.into()).await;
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"foo\\\"\"", "299 - \"duplicate field \\\"data.a\\\"\""]);
    assert_eq!(warned.expect(201)["foo"], Value::Null);
    let ignored = server.send("POST", &format!("{MAPS}?fieldValidation=Ignore"), &[], body.into()).await;
    assert!(ignored.warnings().is_empty());
    assert_eq!(ignored.expect(201)["data"]["a"], "2");
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
async fn lists_select_and_page_over_one_state() {
    let server = Server::start().await;
    for at in 0..7 {
        let mut map = config_map(&format!("m{at}"));
        map["metadata"]["labels"] = json!({"parity": if at % 2 == 0 { "even" } else { "odd" }});
        server.post(MAPS, &map).await.expect(201);
    }
    server.post("/api/v1/namespaces/other/configmaps", &config_map("m9")).await.expect(201);
    let rows = [
        ("", 7),
        ("?labelSelector=parity%3Deven", 4),
        ("?labelSelector=parity+notin+(even)", 3),
        ("?labelSelector=nobody", 0),
        ("?fieldSelector=metadata.name%3Dm3", 1),
        ("?fieldSelector=metadata.name!%3Dm3", 6),
        ("?resourceVersion=0", 7),
    ];
    for (query, expected) in rows {
        let list = server.get(&format!("{MAPS}{query}")).await.expect(200);
        assert_eq!(list["kind"], "ConfigMapList");
        assert_eq!(list["items"].as_array().unwrap().len(), expected, "{query}");
    }
    assert_eq!(server.get("/api/v1/configmaps").await.expect(200)["items"].as_array().unwrap().len(), 8);
    server.get(&format!("{MAPS}?fieldSelector=spec.x%3Dy")).await.status(400, "BadRequest");
    server.get(&format!("{MAPS}?labelSelector=a%3D%3D%3Db")).await.status(400, "BadRequest");

    // Pages show the state of the first page, whatever happens in between.
    let first = server.get(&format!("{MAPS}?limit=3")).await.expect(200);
    assert_eq!(first["metadata"]["remainingItemCount"], 4);
    server.post(MAPS, &config_map("m55")).await.expect(201);
    server.delete(&format!("{MAPS}/m6")).await.expect(200);
    let mut names: Vec<String> = Vec::new();
    let mut page = first.clone();
    loop {
        names.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().into()),
        );
        assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        page = server.get(&format!("{MAPS}?limit=3&continue={token}")).await.expect(200);
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    let exact = first["metadata"]["resourceVersion"].as_str().unwrap();
    let past = server.get(&format!("{MAPS}?resourceVersionMatch=Exact&resourceVersion={exact}")).await.expect(200);
    assert_eq!(past["items"].as_array().unwrap().len(), 7);
    server.get(&format!("{MAPS}?resourceVersionMatch=Exact")).await.status(422, "Invalid");
    server.get(&format!("{MAPS}?continue=nonsense")).await.status(400, "BadRequest");
    let refused = server.get(&format!("{MAPS}?resourceVersionMatch=Exact")).await.status(422, "Invalid");
    assert_eq!(refused["details"], json!({"group": "meta.k8s.io", "kind": "ListOptions"}));
}

#[tokio::test]
async fn a_page_that_compaction_overtook_can_be_gone_on_with() {
    let store = Arc::new(MemoryStore::default());
    let server = Server::over(store.clone()).await;
    for name in ["a", "b", "c"] {
        server.post(MAPS, &json!({"metadata": {"name": name}})).await.expect(201);
    }
    let first = server.get(&format!("{MAPS}?limit=1")).await.expect(200);
    // What was listed changes, and its past goes.
    server.patch(&format!("{MAPS}/c"), merge_patch(), &json!({"data": {"k": "v"}})).await.expect(200);
    let now = server.get(MAPS).await.expect(200)["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    store.compact(Revision(now)).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let expired = server.get(&format!("{MAPS}?limit=1&continue={token}")).await.status(410, "Expired");
    let token = expired["metadata"]["continue"].as_str().expect("a token for the rest as it is now");
    let rest = server.get(&format!("{MAPS}?limit=5&continue={token}")).await.expect(200);
    let names: Vec<_> = rest["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, ["b", "c"]);
}

#[tokio::test]
async fn what_scale_writes_is_owned_through_scale() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d";
    let config = |replicas: i32| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}}, "template": {
                "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        })
    };
    let apply = "application/apply-patch+yaml";
    server.patch(&format!("{path}?fieldManager=author"), apply, &config(1)).await.expect(201);
    let scale = json!({"spec": {"replicas": 3}});
    server.patch(&format!("{path}/scale?fieldManager=scaler"), merge_patch(), &scale).await.expect(200);
    let refused = server.patch(&format!("{path}?fieldManager=author"), apply, &config(1)).await.status(409, "Conflict");
    assert_eq!(
        refused["message"],
        "Apply failed with 1 conflict: conflict with \"scaler\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
}

#[tokio::test]
async fn patches_of_every_kind() {
    let server = Server::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments/d";
    let container = |name: &str| json!({"name": name, "image": "i"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container("c"), container("d")]}}},
    });
    let created = server.post("/apis/apps/v1/namespaces/default/deployments", &deployment).await.expect(201);
    assert_eq!(created["metadata"]["generation"], 1);

    let merged = server.patch(path, merge_patch(), &json!({"spec": {"replicas": 3}})).await.expect(200);
    assert_eq!((&merged["spec"]["replicas"], &merged["metadata"]["generation"]), (&json!(3), &json!(2)));

    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "j"}]}}}});
    let strategic = server.patch(path, "application/strategic-merge-patch+json", &strategic).await.expect(200);
    let images: Vec<_> = strategic["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["image"].as_str().unwrap())
        .collect();
    assert_eq!(images, ["i", "j"]);

    let ops = json!([{"op": "test", "path": "/spec/replicas", "value": 3}, {"op": "replace", "path": "/spec/replicas", "value": 5}]);
    assert_eq!(server.patch(path, json_patch(), &ops).await.expect(200)["spec"]["replicas"], 5);
    server.patch(path, json_patch(), &ops).await.status(422, "Invalid");
    server.patch(path, "application/json", &json!({})).await.status(415, "UnsupportedMediaType");
    server.patch(&format!("{path}x"), merge_patch(), &json!({})).await.status(404, "NotFound");

    // The selector cannot change, and a revision in the patch is a condition.
    server
        .patch(path, merge_patch(), &json!({"spec": {"selector": {"matchLabels": {"z": "z"}}}}))
        .await
        .status(422, "Invalid");
    server.patch(path, merge_patch(), &json!({"metadata": {"resourceVersion": "1"}})).await.status(409, "Conflict");

    let scale = server.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!("Scale"), &json!(5), &json!("a=b"))
    );
    let scale =
        server.patch(&format!("{path}/scale"), merge_patch(), &json!({"spec": {"replicas": 7}})).await.expect(200);
    assert_eq!(scale["spec"]["replicas"], 7);
    assert_eq!(server.get(path).await.expect(200)["spec"]["replicas"], 7);

    // Status changes status alone, and the object's own write leaves it.
    let status = server
        .patch(&format!("{path}/status"), merge_patch(), &json!({"spec": {"replicas": 9}, "status": {"replicas": 2}}))
        .await
        .expect(200);
    assert_eq!((&status["spec"]["replicas"], &status["status"]["replicas"]), (&json!(7), &json!(2)));
    let kept = server.patch(path, merge_patch(), &json!({"status": {"replicas": 4}})).await.expect(200);
    assert_eq!(kept["status"]["replicas"], 2);
}

#[tokio::test]
async fn server_side_apply_creates_merges_and_conflicts() {
    let server = Server::start().await;
    let path = format!("{MAPS}/applied");
    let apply = "application/apply-patch+yaml";
    let config = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": value}});
    server.patch(&path, apply, &config("1")).await.status(422, "Invalid");
    let created = server.patch(&format!("{path}?fieldManager=one"), apply, &config("1")).await.expect(201);
    assert_eq!(created["metadata"]["managedFields"][0]["manager"], "one");
    let again = server.patch(&format!("{path}?fieldManager=one"), apply, &config("1")).await.expect(200);
    assert_eq!(again["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    let conflict = server.patch(&format!("{path}?fieldManager=two"), apply, &config("2")).await.status(409, "Conflict");
    assert_eq!(conflict["details"]["causes"][0]["reason"], "FieldManagerConflict");
    let forced = server.patch(&format!("{path}?fieldManager=two&force=true"), apply, &config("2")).await.expect(200);
    assert_eq!(forced["data"]["k"], "2");
}

#[tokio::test]
async fn finalizers_and_grace_keep_an_object() {
    let server = Server::start().await;
    let mut map = config_map("f");
    map["metadata"]["finalizers"] = json!(["example.com/wait"]);
    server.post(MAPS, &map).await.expect(201);
    let path = format!("{MAPS}/f");
    let kept = server.delete(&path).await.expect(200);
    assert!(kept["metadata"]["deletionTimestamp"].is_string(), "{kept}");
    let again = server.delete(&path).await.expect(200);
    assert_eq!(again["metadata"]["resourceVersion"], kept["metadata"]["resourceVersion"]);
    server.patch(&path, merge_patch(), &json!({"metadata": {"finalizers": null}})).await.expect(200);
    server.get(&path).await.status(404, "NotFound");

    server.post(MAPS, &config_map("o")).await.expect(201);
    let path = format!("{MAPS}/o");
    let body = json!({"preconditions": {"uid": "wrong"}});
    server.send("DELETE", &path, &[], body.to_string().into()).await.status(409, "Conflict");
    let orphaned =
        server.send("DELETE", &path, &[], json!({"propagationPolicy": "Orphan"}).to_string().into()).await.expect(200);
    assert_eq!(orphaned["metadata"]["finalizers"], json!(["orphan"]));

    let pods = "/api/v1/namespaces/default/pods";
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    server.post(pods, &pod).await.expect(201);
    let ending = server.delete(&format!("{pods}/p")).await.expect(200);
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    let now = server.send("DELETE", &format!("{pods}/p?gracePeriodSeconds=0"), &[], Vec::new()).await.expect(200);
    assert_eq!(now["kind"], "Pod");
    server.get(&format!("{pods}/p")).await.status(404, "NotFound");

    let namespace = json!({"metadata": {"name": "ns"}, "spec": {"finalizers": ["kubernetes"]}});
    server.post("/api/v1/namespaces", &namespace).await.expect(201);
    let ending = server.delete("/api/v1/namespaces/ns").await.expect(200);
    assert_eq!(ending["status"]["phase"], "Terminating");
    let mut finished = ending.clone();
    finished["spec"]["finalizers"] = json!([]);
    server.put("/api/v1/namespaces/ns/finalize", &finished).await.expect(200);
    server.get("/api/v1/namespaces/ns").await.status(404, "NotFound");
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        let mut map = config_map(name);
        map["metadata"]["labels"] = json!({"name": name});
        server.post(MAPS, &map).await.expect(201);
    }
    let deleted = server.delete(&format!("{MAPS}?labelSelector=name+in+(a,b)")).await.expect(200);
    assert_eq!(deleted["items"].as_array().unwrap().len(), 2);
    let left = server.get(MAPS).await.expect(200);
    assert_eq!(left["items"][0]["metadata"]["name"], "c");
}

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
async fn discovery_health_and_version() {
    let server = Server::start().await;
    for path in ["/healthz", "/livez", "/readyz", "/readyz/ping", "/livez?verbose"] {
        assert!(server.get(path).await.text().contains("ok"), "{path}");
    }
    assert_eq!(server.get("/version").await.expect(200)["minor"], "36");
    assert_eq!(server.get("/api").await.expect(200)["versions"], json!(["v1"]));
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
    for (accept, expected) in [
        (
            "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
            "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        ),
        (
            "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
            "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        ),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
    ] {
        let document = server.send("GET", "/openapi/v2", &[("accept", accept)], Vec::new()).await;
        assert_eq!((document.code(), document.header("content-type")), (200, expected), "{accept}");
    }
    server.send("GET", "/openapi/v2", &[("accept", "text/html")], Vec::new()).await.status(406, "NotAcceptable");
}
