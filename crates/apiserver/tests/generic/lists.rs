//! Lists: selectors, pages, revisions.

use std::sync::Arc;

use knarr_store::{MemoryStore, Revision, Store};
use serde_json::json;

use super::{
    MAPS, config_map,
    harness::{Server, merge_patch},
};

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
    let evens = server.get(&format!("{MAPS}?limit=1&labelSelector=parity%3Deven")).await.expect(200);
    server.post(MAPS, &config_map("m55")).await.expect(201);
    server.delete(&format!("{MAPS}/m6")).await.expect(200);
    let mut names: Vec<String> = Vec::new();
    let mut page = first.clone();
    let mut remaining = Vec::new();
    loop {
        remaining.push(page["metadata"]["remainingItemCount"].as_u64());
        names.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap().into()),
        );
        assert_eq!(page["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        let Some(token) = page["metadata"]["continue"].as_str() else { break };
        page = server.get(&format!("{MAPS}?limit=3&continue={token}")).await.expect(200);
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    assert_eq!(remaining, [Some(4), Some(1), None]);
    let mut page = evens;
    for (name, goes_on) in [("m0", true), ("m2", true), ("m4", true), ("m6", false)] {
        assert_eq!((page["items"].as_array().unwrap().len(), &page["items"][0]["metadata"]["name"]), (1, &json!(name)));
        assert!(page["metadata"]["remainingItemCount"].is_null(), "{page}");
        let token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        assert_eq!(!token.is_empty(), goes_on, "{name}");
        let next = format!("{MAPS}?limit=1&labelSelector=parity%3Deven&continue={token}");
        page = if goes_on { server.get(&next).await.expect(200) } else { page };
    }
    let exact = first["metadata"]["resourceVersion"].as_str().unwrap();
    let past = server.get(&format!("{MAPS}?resourceVersionMatch=Exact&resourceVersion={exact}")).await.expect(200);
    assert_eq!(past["items"].as_array().unwrap().len(), 7);
    server.get(&format!("{MAPS}?continue=nonsense")).await.status(400, "BadRequest");
    let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
    let refused = server.get(&format!("{MAPS}?resourceVersionMatch=Exact")).await.status(422, "Invalid");
    let cause = json!({"reason": "FieldValueForbidden", "message": format!("Forbidden: {why}"),
                       "field": "resourceVersionMatch"});
    assert_eq!(refused["details"], json!({"group": "meta.k8s.io", "kind": "ListOptions", "causes": [cause]}));
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
async fn what_a_list_may_not_ask_for_is_said_in_full() {
    let server = Server::start().await;
    let matching = |why: &str| format!("resourceVersionMatch: Forbidden: resourceVersionMatch {why}");
    let unknown =
        r#"resourceVersionMatch: Unsupported value: "New": supported values: "Exact", "NotOlderThan", """#.to_owned();
    let alone = matching("is forbidden unless resourceVersion is provided");
    let rows = [
        ("resourceVersionMatch=NotOlderThan", alone.clone()),
        ("resourceVersionMatch=New", format!("[{alone}, {unknown}]")),
        ("resourceVersionMatch=New&resourceVersion=1", unknown),
        ("resourceVersionMatch=Exact&resourceVersion=0", matching(r#""exact" is forbidden for resourceVersion "0""#)),
        ("resourceVersionMatch=Exact&resourceVersion=1&continue=x", matching("is forbidden when continue is provided")),
        ("sendInitialEvents=true", "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list".to_owned()),
    ];
    for (query, why) in rows {
        let refused = server.get(&format!("{MAPS}?{query}")).await.status(422, "Invalid");
        assert_eq!(refused["message"], format!("ListOptions.meta.k8s.io \"\" is invalid: {why}"));
    }
    let paged = server.get(&format!("{MAPS}?continue=x&resourceVersion=7")).await.status(400, "BadRequest");
    assert_eq!(paged["message"], "specifying resource version is not allowed when using continue");
}

#[tokio::test]
async fn a_token_expires_with_its_revision_though_nothing_changed() {
    let store = Arc::new(MemoryStore::default());
    let server = Server::over(store.clone()).await;
    for name in ["a", "b", "c"] {
        server.post(MAPS, &json!({"metadata": {"name": name}})).await.expect(201);
    }
    let first = server.get(&format!("{MAPS}?limit=1")).await.expect(200);
    let revision = first["metadata"]["resourceVersion"].as_str().unwrap();
    let exact = format!("{MAPS}?resourceVersionMatch=Exact&resourceVersion={revision}");
    server.get(&exact).await.expect(200);
    // Others write, and time goes by.
    server.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}})).await.expect(201);
    let now = server.get("/api/v1/namespaces/default/secrets").await.expect(200);
    let now = now["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    store.compact(Revision(now)).await.unwrap();
    let token = first["metadata"]["continue"].as_str().unwrap();
    let expired = server.get(&format!("{MAPS}?limit=1&continue={token}")).await.status(410, "Expired");
    let token = expired["metadata"]["continue"].as_str().unwrap();
    let second = server.get(&format!("{MAPS}?limit=1&continue={token}")).await.expect(200);
    assert_ne!(second["metadata"]["resourceVersion"], revision);
    assert_eq!(second["items"][0]["metadata"]["name"], "b");
    assert_eq!(second["metadata"]["remainingItemCount"], 1);
    let gone = server.get(&exact).await.status(410, "Expired");
    assert_eq!(gone["message"], format!("The resourceVersion for the provided list is too old: {revision} ({now})."));
}

#[tokio::test]
async fn fields_are_selected_as_each_resource_documents() {
    let server = Server::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"},
        "spec": {"nodeName": "n", "hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}});
    server.post(pods, &pod).await.expect(201);
    let secret = json!({"metadata": {"name": "s"}, "type": "example.com/x"});
    server.post("/api/v1/namespaces/default/secrets", &secret).await.expect(201);
    server.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let rows = [
        (pods, "spec.nodeName=n", 1),
        (pods, "spec.host=n", 1),
        (pods, "spec.nodeName=m", 0),
        (pods, "status.phase=Pending,spec.restartPolicy=Always", 1),
        (pods, "spec.hostNetwork=true", 1),
        (pods, "spec.hostNetwork!=true", 0),
        (pods, "metadata.namespace=default", 1),
        ("/api/v1/pods", "metadata.namespace=other", 0),
        ("/api/v1/secrets", "type=example.com/x", 1),
        ("/api/v1/nodes", "spec.unschedulable=false", 1),
        ("/api/v1/namespaces", "status.phase=Active", 0),
    ];
    for (path, selector, expected) in rows {
        let selector = selector.replace('=', "%3D");
        let list = server.get(&format!("{path}?fieldSelector={selector}")).await.expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), expected, "{path} {selector}");
    }
    let refused = server.get(&format!("{pods}?fieldSelector=spec.x%3Dy")).await.status(400, "BadRequest");
    assert_eq!(refused["message"], "field label not supported: spec.x");
    let refused = server.get(&format!("{MAPS}?fieldSelector=data.k%3Dy")).await.status(400, "BadRequest");
    assert_eq!(
        refused["message"],
        r#""data.k" is not a known field selector: only "metadata.name", "metadata.namespace""#
    );
}
