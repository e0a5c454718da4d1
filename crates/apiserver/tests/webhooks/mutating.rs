//! Webhooks that change objects.

use serde_json::json;

use super::{MAPS, MUTATING, configure, harness::*, hook::*, map, webhook};

fn add(key: &str) -> Reply {
    patch(json!([{"op": "add", "path": format!("/data/{key}"), "value": "yes"}]))
}

#[tokio::test]
async fn each_sees_what_those_before_it_made_in_the_order_of_names() {
    let hook = Hook::start(|path, review| match path {
        "/first" => add("first"),
        _ if review["object"]["data"]["first"] == "yes" => add("second"),
        _ => add("alone"),
    })
    .await;
    let server = Server::start().await;
    configure(&server, MUTATING, "b", json!([webhook("b", hook.at("/second"), json!({}))])).await;
    configure(&server, MUTATING, "a", json!([webhook("a", hook.at("/first"), json!({}))])).await;
    let made = server.post(MAPS, &map("one", json!({"own": "x"}))).await.expect(201);
    assert_eq!(made["data"], json!({"own": "x", "first": "yes", "second": "yes"}));
    assert_eq!(hook.paths(), ["/first", "/second"]);
    let read = server.get(&format!("{MAPS}/one")).await.expect(200);
    assert_eq!(read["data"], made["data"]);
}

#[tokio::test]
async fn a_review_says_who_does_what_to_what() {
    let hook = Hook::start(|_, _| allow()).await;
    let server = Server::start().await;
    configure(&server, MUTATING, "a", json!([webhook("a", hook.at("/"), json!({}))])).await;
    let generated = json!({"metadata": {"generateName": "g-"}, "data": {"a": "b"}});
    let made = server.post(&format!("{MAPS}?dryRun=All"), &generated).await.expect(201);
    assert!(made["metadata"]["name"].as_str().unwrap().starts_with("g-"));
    let (_, asked) = hook.asked().pop().unwrap();
    assert_eq!(asked["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(asked["requestResource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&asked["operation"], &asked["dryRun"]), (&json!("CREATE"), &json!(true)));
    assert_eq!((&asked["namespace"], &asked["userInfo"]["username"]), (&json!("default"), &json!("tester")));
    assert_eq!(asked["options"]["kind"], "CreateOptions");
    assert_eq!((asked.get("name"), &asked["oldObject"]), (None, &json!(null)));
    // Name and uid are given after everybody had a say.
    assert_eq!((asked["object"]["metadata"].get("name"), asked["object"]["metadata"].get("uid")), (None, None));

    server.post(MAPS, &map("one", json!({"a": "b"}))).await.expect(201);
    server.patch(&format!("{MAPS}/one"), merge_patch(), &json!({"data": {"a": "c"}})).await.expect(200);
    server.delete(&format!("{MAPS}/one")).await.expect(200);
    let asked = hook.asked();
    let told: Vec<_> = asked
        .iter()
        .map(|(_, asked)| (asked["operation"].as_str().unwrap(), asked["options"]["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [("CREATE", "CreateOptions"), ("UPDATE", "UpdateOptions"), ("DELETE", "DeleteOptions")]);
    let (update, delete) = (&asked[1].1, &asked[2].1);
    assert_eq!((&update["oldObject"]["data"]["a"], &update["object"]["data"]["a"]), (&json!("b"), &json!("c")));
    assert_eq!((&delete["oldObject"]["data"]["a"], &delete["object"]), (&json!("c"), &json!(null)));
    assert_eq!((&update["name"], &delete["name"]), (&json!("one"), &json!("one")));
}

#[tokio::test]
async fn a_collection_is_deleted_one_by_one() {
    let hook =
        Hook::start(|_, review| Reply::Review(json!({"allowed": review["oldObject"]["metadata"]["name"] != "kept"})))
            .await;
    let server = Server::start().await;
    let deletes = json!({"rules": [{"operations": ["DELETE"], "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": ["*"]}]});
    configure(&server, super::VALIDATING, "a", json!([webhook("a", hook.at("/"), deletes)])).await;
    for name in ["gone", "kept"] {
        server.post(MAPS, &map(name, json!({}))).await.expect(201);
    }
    server.delete(MAPS).await.expect(400);
    server.get(&format!("{MAPS}/gone")).await.status(404, "NotFound");
    server.get(&format!("{MAPS}/kept")).await.expect(200);
}

#[tokio::test]
async fn who_wants_to_looks_again_at_what_others_changed_later() {
    let hook = Hook::start(|path, review| match path {
        "/last" if review["object"]["data"]["last"] != "yes" => add("last"),
        _ => allow(),
    })
    .await;
    let server = Server::start().await;
    let again = json!({"reinvocationPolicy": "IfNeeded"});
    let hooks = json!([
        webhook("once", hook.at("/once"), json!({})),
        webhook("again", hook.at("/again"), again),
        webhook("last", hook.at("/last"), json!({})),
    ]);
    configure(&server, MUTATING, "a", hooks).await;
    server.post(MAPS, &map("one", json!({"a": "b"}))).await.expect(201);
    assert_eq!(hook.paths(), ["/once", "/again", "/last", "/again"]);
    // Nothing changed: nobody looks again.
    server.post(MAPS, &map("two", json!({"last": "yes"}))).await.expect(201);
    assert_eq!(hook.paths(), ["/once", "/again", "/last"]);
}

#[tokio::test]
async fn what_a_patch_makes_is_defaulted_pruned_and_checked() {
    let hook = Hook::start(|path, _| match path {
        "/unknown" => patch(json!([{"op": "add", "path": "/nonsense", "value": 1}])),
        "/type" => patch(json!([{"op": "replace", "path": "/data", "value": 7}])),
        "/invalid" => patch(json!([{"op": "add", "path": "/data/a~1b", "value": "x"}])),
        "/kind" => patch(json!([{"op": "replace", "path": "/kind", "value": "Secret"}])),
        "/apply" => patch(json!([{"op": "remove", "path": "/data/missing"}])),
        _ => Reply::Review(json!({"allowed": true, "patchType": "JSONPatch", "patch": "!"})),
    })
    .await;
    for (path, code, said) in [
        ("/type", 500, "ConfigMap in version \"v1\" cannot be handled as a ConfigMap"),
        ("/invalid", 422, "Invalid value: \"a/b\""),
        ("/kind", 500, "a patch made something else of an object of v1, Kind=ConfigMap"),
        ("/apply", 500, "Internal error occurred: "),
        ("/encoding", 500, "received undecodable patch in webhook response"),
    ] {
        let server = Server::start().await;
        configure(&server, MUTATING, "a", json!([webhook("a", hook.at(path), json!({}))])).await;
        let refused = server.post(MAPS, &map("one", json!({"a": "b"}))).await.expect(code);
        assert!(refused["message"].as_str().unwrap().contains(said), "{path}: {refused}");
    }
    let server = Server::start().await;
    configure(&server, MUTATING, "a", json!([webhook("a", hook.at("/unknown"), json!({}))])).await;
    let made = server.post(MAPS, &map("one", json!({"a": "b"}))).await.expect(201);
    assert_eq!(made.get("nonsense"), None);
}

#[tokio::test]
async fn what_the_server_owns_stays_its_own() {
    let hook = Hook::start(|_, _| {
        patch(json!([{"op": "add", "path": "/metadata/uid", "value": "mine"},
            {"op": "add", "path": "/status", "value": {"phase": "Terminating"}}]))
    })
    .await;
    let server = Server::start().await;
    let rules = json!({"rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["namespaces"]}]});
    configure(&server, MUTATING, "a", json!([webhook("a", hook.at("/"), rules)])).await;
    let made = server.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    assert_ne!(made["metadata"]["uid"], "mine");
    assert_eq!(made["status"]["phase"], "Active");
    let (_, asked) = hook.asked().pop().unwrap();
    assert_eq!(asked["namespace"], "n");
}
