//! Creating and changing objects of a definition.

use serde_json::{Value, json};

use super::{ONE, WIDGETS, definition, establish, harness::*, widget};

async fn with_one() -> Server {
    let server = Server::start().await;
    establish(&server, &definition("widgets", "Widget")).await;
    server.post(WIDGETS, &widget("one", json!({"replicas": 1}))).await.expect(201);
    server
}

#[tokio::test]
async fn unknown_fields_are_dropped_told_or_refused() {
    let server = with_one().await;
    let odd = widget("odd", json!({"colour": "red", "color": "blue"}));
    let strict = server.post(&format!("{WIDGETS}?fieldValidation=Strict"), &odd).await.status(400, "BadRequest");
    assert_eq!(
        strict["message"],
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.colour\""
    );
    let warned = server.post(&format!("{WIDGETS}?fieldValidation=Warn&dryRun=All"), &odd).await;
    assert_eq!(warned.warnings(), ["299 - \"unknown field \\\"spec.colour\\\"\""]);
    let quiet = server.post(&format!("{WIDGETS}?fieldValidation=Ignore"), &odd).await;
    assert_eq!(quiet.warnings(), Vec::<String>::new());
    assert_eq!(quiet.expect(201)["spec"], json!({"color": "blue", "size": "small"}));
    // A custom resource is read as a map first: keys twice, then metadata, then what the schema does not know.
    let body = r#"{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"odd","name":"odd","meta":1},
        "spec":{"colour":"red","colour":"red","color":"blue"}}"#;
    let told = "duplicate field \"metadata.name\", duplicate field \"spec.colour\", unknown field \"metadata.meta\", \
                unknown field \"spec.colour\"";
    let strict = server.send("POST", &format!("{WIDGETS}?fieldValidation=Strict"), &[], body.into()).await;
    let strict = strict.status(400, "BadRequest");
    assert!(strict["message"].as_str().unwrap().ends_with(&format!("strict decoding error: {told}")), "{strict}");
    let mut labelled = widget("odd", json!({}));
    labelled["metadata"]["labels"] = json!({"a": 1});
    server.post(WIDGETS, &labelled).await.status(400, "BadRequest");
}

#[tokio::test]
async fn patches_are_of_three_kinds() {
    let server = with_one().await;
    let refused = server.patch(ONE, "application/strategic-merge-patch+json", &json!({"spec": {}})).await;
    let refused = refused.status(415, "UnsupportedMediaType");
    assert_eq!(
        refused["message"],
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    );
    let patch = json!([{"op": "add", "path": "/spec/color", "value": "red"}]);
    let patched = server.patch(ONE, json_patch(), &patch).await.expect(200);
    assert_eq!((&patched["spec"]["color"], &patched["metadata"]["generation"]), (&json!("red"), &json!(2)));
    let merged = server.patch(ONE, merge_patch(), &json!({"spec": {"size": null}})).await.expect(200);
    assert_eq!(merged["spec"]["size"], "small", "the default comes back");
    // Labels are no wish for another state.
    let labelled = server.patch(ONE, merge_patch(), &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    assert_eq!(labelled["metadata"]["generation"], 2);
    let unversioned = widget("one", json!({}));
    let refused = server.put(ONE, &unversioned).await.status(422, "Invalid");
    assert!(refused["message"].as_str().unwrap().ends_with("must be specified for an update"), "{refused}");
}

#[tokio::test]
async fn apply_knows_who_owns_what() {
    let server = with_one().await;
    let apply = |manager: &str| format!("{WIDGETS}/two?fieldManager={manager}");
    let wish = |color: &str| json!({"apiVersion": "example.com/v1", "kind": "Widget", "spec": {"color": color}});
    let kind = "application/apply-patch+yaml";
    let made = server.patch(&apply("a"), kind, &wish("red")).await.expect(201);
    assert_eq!(made["metadata"]["managedFields"][0]["fieldsV1"], json!({"f:spec": {"f:color": {}}}));
    server.patch(&apply("b"), kind, &wish("blue")).await.status(409, "Conflict");
    let forced = server.patch(&format!("{}&force=true", apply("b")), kind, &wish("blue")).await.expect(200);
    assert_eq!(forced["spec"]["color"], "blue");
    let mut odd = wish("blue");
    odd["spec"]["odd"] = 1.into();
    let strict = server.patch(&format!("{}&fieldValidation=Strict", apply("b")), kind, &odd).await;
    let message = &strict.expect(500)["message"];
    assert!(message.as_str().unwrap().ends_with("): .spec.odd: field not declared in schema"), "{message}");
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart() {
    let server = with_one().await;
    let mut early = widget("early", json!({}));
    early["status"] = json!({"replicas": 7});
    let made = server.post(WIDGETS, &early).await.expect(201);
    assert_eq!(made.get("status"), None);
    let both =
        json!({"spec": {"replicas": 9}, "status": {"replicas": 1, "odd": 1}, "metadata": {"labels": {"a": "b"}}});
    let status = server.patch(&format!("{ONE}/status"), merge_patch(), &both).await.expect(200);
    assert_eq!((&status["spec"]["replicas"], &status["status"]), (&json!(1), &json!({"replicas": 1})));
    assert_eq!((&status["metadata"]["generation"], status["metadata"].get("labels")), (&json!(1), None));
    assert_eq!(server.get(&format!("{ONE}/status")).await.expect(200), status);
    let main = server.patch(ONE, merge_patch(), &json!({"status": {"replicas": 5}})).await.expect(200);
    assert_eq!(main["status"]["replicas"], 1);
}

#[tokio::test]
async fn a_scale_is_read_and_written_where_the_definition_says() {
    let server = with_one().await;
    let path = format!("{ONE}/scale");
    let status = json!({"status": {"replicas": 1, "selector": "app=one"}});
    server.patch(&format!("{ONE}/status"), merge_patch(), &status).await.expect(200);
    let mut scale = server.get(&path).await.expect(200);
    assert_eq!((&scale["kind"], &scale["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 1}), &json!({"replicas": 1, "selector": "app=one"}))
    );
    scale["spec"]["replicas"] = 4.into();
    server.put(&path, &scale).await.expect(200);
    let one = server.get(ONE).await.expect(200);
    assert_eq!((&one["spec"]["replicas"], &one["metadata"]["generation"]), (&json!(4), &json!(2)));
    server.put(&path, &scale).await.status(409, "Conflict");
    let patched = server.patch(&path, merge_patch(), &json!({"spec": {"replicas": 5}})).await.expect(200);
    assert_eq!(patched["spec"]["replicas"], 5);
    let negative = server.patch(&path, merge_patch(), &json!({"spec": {"replicas": -1}})).await;
    negative.status(422, "Invalid");

    server.post(WIDGETS, &widget("two", json!({}))).await.expect(201);
    let two = format!("{WIDGETS}/two/scale");
    server.get(&two).await.status(500, "InternalError");
    let first = server.patch(&two, merge_patch(), &json!({"spec": {"replicas": 2}})).await.expect(200);
    assert_eq!(first["spec"]["replicas"], 2);
}

#[tokio::test]
async fn without_a_status_subresource_status_is_like_everything_else() {
    let server = Server::start().await;
    let mut plain = definition("widgets", "Widget");
    plain["spec"]["versions"][0].as_object_mut().unwrap().remove("subresources");
    establish(&server, &plain).await;
    let mut one = widget("one", json!({}));
    one["status"] = json!({"replicas": 7});
    assert_eq!(server.post(WIDGETS, &one).await.expect(201)["status"]["replicas"], 7);
    let changed = server.patch(ONE, merge_patch(), &json!({"status": {"replicas": 8}})).await.expect(200);
    assert_eq!((&changed["status"]["replicas"], &changed["metadata"]["generation"]), (&json!(8), &json!(2)));
    for part in ["status", "scale"] {
        assert_eq!(server.get(&format!("{ONE}/{part}")).await.code(), 404);
    }
}

#[tokio::test]
async fn collections_are_deleted_and_names_are_generated() {
    let server = with_one().await;
    let generated = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"generateName": "w-"}});
    let made = server.post(WIDGETS, &generated).await.expect(201);
    assert!(made["metadata"]["name"].as_str().unwrap().starts_with("w-"));
    server.post(WIDGETS, &widget("one", json!({}))).await.status(409, "AlreadyExists");
    let gone = server.delete(WIDGETS).await.expect(200);
    assert_eq!((&gone["kind"], gone["items"].as_array().map(Vec::len)), (&json!("WidgetList"), Some(2)));
    assert_eq!(server.get(WIDGETS).await.expect(200)["items"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn rules_about_changes_are_asked_where_nothing_changes() {
    let server = Server::start().await;
    let mut definition = definition("widgets", "Widget");
    let replicas = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["replicas"];
    replicas["x-kubernetes-validations"] = json!([{"rule": "self > oldSelf", "message": "it only grows"}]);
    establish(&server, &definition).await;
    server.post(WIDGETS, &widget("one", json!({"replicas": 1}))).await.expect(201);
    let refused = server.patch(ONE, merge_patch(), &json!({})).await.status(422, "Invalid");
    assert!(refused["message"].as_str().unwrap().ends_with("it only grows"), "{refused}");
    server.patch(ONE, merge_patch(), &json!({"spec": {"replicas": 2}})).await.expect(200);
}
