//! The four kinds of patch, and who owns what afterwards.

use serde_json::json;

use super::{
    MAPS,
    harness::{Server, json_patch, merge_patch},
};

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
    for (kind, said) in [
        ("application/strategic-merge-patch+json", "unexpected end of JSON input"),
        (merge_patch(), "error decoding patch: unexpected end of JSON input"),
        (json_patch(), "error decoding patch: unexpected end of JSON input"),
    ] {
        let answer = server.send("PATCH", path, &[("content-type", kind)], b"{".to_vec()).await;
        assert_eq!(answer.status(400, "BadRequest")["message"], said, "{kind}");
    }

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
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let table = server.send("GET", &format!("{path}/scale"), &table, Vec::new()).await.expect(200);
    let columns: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(columns, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(table["rows"][0]["cells"].as_array().unwrap()[..3], [json!("d"), json!(5), json!(0)]);
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "d");
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

    // What names a uid is meant for an object that was there.
    let mut gone = config("1");
    gone["metadata"] = json!({"name": "gone", "uid": "u"});
    let refused = server.patch(&format!("{MAPS}/gone?fieldManager=one"), apply, &gone).await.status(409, "Conflict");
    assert_eq!(
        refused["message"],
        "Operation cannot be fulfilled on configmaps \"gone\": uid mismatch: the provided object specified uid u, and no \
         existing object was found"
    );
    let lease = json!({"metadata": {"name": "l", "uid": "u"}, "spec": {}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    server.put(&format!("{leases}/l"), &lease).await.status(409, "Conflict");
    let lease = json!({"metadata": {"name": "l"}, "spec": {}});
    server.put(&format!("{leases}/l"), &lease).await.expect(201);
}

#[tokio::test]
async fn what_a_patch_may_not_be_is_refused_as_upstream_does() {
    let server = Server::start().await;
    let path = format!("{MAPS}/p");
    server.post(MAPS, &json!({"metadata": {"name": "p"}})).await.expect(201);
    let many: Vec<_> = (0..10_001).map(|_| json!({"op": "test", "path": "/kind", "value": "ConfigMap"})).collect();
    let refused = server.patch(&path, json_patch(), &many.into()).await.status(413, "RequestEntityTooLarge");
    let why = refused["message"].as_str().unwrap();
    assert!(why.ends_with("The allowed maximum operations in a JSON patch is 10000, got 10001"), "{why}");

    // An apply of what the type does not know is refused however strict the client is.
    let apply = [("content-type", "application/apply-patch+yaml")];
    for strictness in ["Ignore", "Warn", "Strict"] {
        let query = format!("{path}?fieldManager=m&fieldValidation={strictness}");
        let body = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: p\nunknown: 1\n";
        let refused = server.send("PATCH", &query, &apply, body.into()).await.expect(500);
        assert_eq!((&refused["kind"], &refused["reason"]), (&json!("Status"), &json!(null)), "{refused}");
        assert_eq!(
            refused["message"],
            "failed to create typed patch object (/p; v1, Kind=ConfigMap): .unknown: field not declared in schema"
        );
    }
    // Keys that occur twice are told of by line, or in the one place where they do no harm.
    let twice = "\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: p\ndata:\n  a: x\n  a: y\n";
    let lines = "error converting YAML to JSON: yaml: unmarshal errors:\n  line 8: key \"a\" already set in map";
    let strict = format!("{path}?fieldManager=m&fieldValidation=Strict");
    let refused = server.send("PATCH", &strict, &apply, twice.into()).await.status(400, "BadRequest");
    assert_eq!(refused["message"], format!("error strict decoding YAML: {lines}"));
    let warned = server.send("PATCH", &format!("{path}?fieldManager=m"), &apply, twice.into()).await;
    assert_eq!(warned.warnings().len(), 1);
    assert_eq!(warned.expect(200)["data"]["a"], "y");
    let yaml = [("content-type", "application/yaml")];
    let twice = "kind: ConfigMap\nmetadata:\n  name: q\ndata:\n  a: x\n  a: y\n";
    let refused = server.send("POST", &format!("{MAPS}?fieldValidation=Strict"), &yaml, twice.into()).await;
    assert_eq!(
        refused.status(400, "BadRequest")["message"],
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:\n  \
         line 6: key \"a\" already set in map"
    );
    let broken = server.send("PATCH", &strict, &apply, "a: [".into()).await.status(400, "BadRequest");
    assert!(
        broken["message"].as_str().unwrap().starts_with("error decoding YAML: error converting YAML to JSON: yaml: ")
    );
}
