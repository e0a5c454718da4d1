//! Who gets which name.

use serde_json::json;

use super::{DEFINITIONS, condition, definition, establish, harness::*, until};

#[tokio::test]
async fn a_name_that_another_definition_has_is_refused_until_it_is_free() {
    let server = Server::start().await;
    establish(&server, &definition("widgets", "Widget")).await;
    // What is changed, the condition's reason, and the word that is in use.
    let rows = [
        ("singular", json!("widget"), "SingularConflict", "widget"),
        ("kind", json!("Widget"), "KindConflict", "Widget"),
        ("listKind", json!("WidgetList"), "ListKindConflict", "WidgetList"),
        ("shortNames", json!(["wi"]), "ShortNamesConflict", "wi"),
    ];
    for (key, value, reason, word) in rows {
        let mut other = definition("gadgets", "Gadget");
        other["spec"]["names"]["listKind"] = "GadgetList".into();
        other["spec"]["names"][key] = value;
        server.post(DEFINITIONS, &other).await.expect(201);
        let path = format!("{DEFINITIONS}/gadgets.example.com");
        let seen = until(&server, &path, |_, it| condition(it, "NamesAccepted")["status"] == "False").await;
        let accepted = condition(&seen, "NamesAccepted");
        assert_eq!(accepted["reason"], reason);
        assert_eq!(accepted["message"], format!("\"{word}\" is already in use"));
        assert_eq!(condition(&seen, "Established")["reason"], "NotAccepted");
        assert_eq!(server.get("/apis/example.com/v1/gadgets").await.code(), 404);
        server.delete(&path).await.expect(200);
        until(&server, &path, |code, _| code == 404).await;
    }
    let mut other = definition("gadgets", "Gadget");
    other["spec"]["names"]["kind"] = "Widget".into();
    other["spec"]["names"]["listKind"] = "Gadgets".into();
    server.post(DEFINITIONS, &other).await.expect(201);
    server.delete(&format!("{DEFINITIONS}/widgets.example.com")).await.expect(200);
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    until(&server, &path, |_, it| condition(it, "Established")["status"] == "True").await;
    assert_eq!(server.get("/apis/example.com/v1/gadgets").await.expect(200)["kind"], "Gadgets");
}

#[tokio::test]
async fn a_group_of_the_project_says_whether_it_was_reviewed() {
    let server = Server::start().await;
    let rows = [
        ("https://github.com/kubernetes/enhancements/pull/1111", "True", "ApprovedAnnotation"),
        ("unapproved, experimental-only", "False", "UnapprovedAnnotation"),
    ];
    for (said, status, reason) in rows {
        let mut reviewed = definition("widgets", "Widget");
        reviewed["spec"]["group"] = "toys.k8s.io".into();
        reviewed["metadata"] = json!({"name": "widgets.toys.k8s.io",
            "annotations": {"api-approved.kubernetes.io": said}});
        let seen = establish(&server, &reviewed).await;
        let conformant = condition(&seen, "KubernetesAPIApprovalPolicyConformant");
        assert_eq!((&conformant["status"], &conformant["reason"]), (&json!(status), &json!(reason)));
        let path = format!("{DEFINITIONS}/widgets.toys.k8s.io");
        server.delete(&path).await.expect(200);
        until(&server, &path, |code, _| code == 404).await;
    }
}

#[tokio::test]
async fn a_group_that_would_lie_among_a_built_ins_objects_gets_no_names() {
    let server = Server::start().await;
    let mut inside = definition("widgets", "Widget");
    inside["spec"]["group"] = "deployments.apps".into();
    inside["metadata"]["name"] = "widgets.deployments.apps".into();
    server.post(DEFINITIONS, &inside).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.deployments.apps");
    let seen = until(&server, &path, |_, it| condition(it, "NamesAccepted")["status"] == "False").await;
    assert_eq!(condition(&seen, "NamesAccepted")["reason"], "GroupConflict");
}

#[tokio::test]
async fn new_short_names_and_categories_are_served_and_old_ones_are_free() {
    let server = Server::start().await;
    let made = establish(&server, &definition("widgets", "Widget")).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let mut changed = made;
    changed["spec"]["names"]["shortNames"] = json!(["wdg"]);
    changed["spec"]["names"]["categories"] = json!(["toys"]);
    changed["metadata"]["resourceVersion"] = server.get(&path).await.expect(200)["metadata"]["resourceVersion"].clone();
    server.put(&path, &changed).await.expect(200);
    until(&server, "/apis/example.com/v1", |_, list| {
        list["resources"][0]["shortNames"] == json!(["wdg"]) && list["resources"][0]["categories"] == json!(["toys"])
    })
    .await;
    let mut other = definition("gadgets", "Gadget");
    other["spec"]["names"]["shortNames"] = json!(["wi"]);
    establish(&server, &other).await;
}
