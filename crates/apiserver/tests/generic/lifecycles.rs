//! Resources that end in their own way: namespaces with what is in them, volumes and claims that are in use.

use knarr_apiserver::contract::UserInfo;
use serde_json::{Value, json};

use super::harness::{Server, merge_patch, secured, secured::Secured};

async fn start() -> (Secured, Server) {
    let secured = secured::start().await;
    let admin = UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
    let server = Server::of(secured.server.clone(), admin);
    (secured, server)
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "E2E", "message": "Set from an e2e test"})
}

#[tokio::test]
async fn a_namespace_is_patched_finalized_and_ends_when_nothing_holds_it() {
    let (_secured, server) = start().await;
    let one = "/api/v1/namespaces/team";
    let created = server.post("/api/v1/namespaces", &json!({"metadata": {"name": "team"}})).await.expect(201);
    assert_eq!(created["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(created["status"]["phase"], "Active");
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "team");
    assert_eq!(server.get("/api/v1/namespaces?fieldSelector=status.phase%3DActive").await.code(), 200);

    let label = json!({"metadata": {"labels": {"testLabel": "testValue"}}});
    let strategic = "application/strategic-merge-patch+json";
    assert_eq!(server.patch(one, strategic, &label).await.expect(200)["metadata"]["labels"]["testLabel"], "testValue");
    let patch =
        json!({"metadata": {"annotations": {"e2e": "patched"}}, "status": {"conditions": [condition("StatusPatch")]}});
    let patched = server.patch(&format!("{one}/status"), merge_patch(), &patch).await.expect(200);
    assert_eq!(patched["status"]["conditions"][0]["type"], "StatusPatch");
    assert_eq!(
        (&patched["metadata"]["annotations"]["e2e"], &patched["status"]["phase"]),
        (&json!("patched"), &json!("Active"))
    );
    let mut changed = patched.clone();
    changed["status"]["conditions"].as_array_mut().unwrap().push(condition("StatusUpdate"));
    let updated = server.put(&format!("{one}/status"), &changed).await.expect(200);
    assert_eq!(updated["status"]["conditions"][1]["message"], "Set from an e2e test");

    // Only finalize changes the finalizers of the spec.
    let mut held = updated.clone();
    held["spec"]["finalizers"].as_array_mut().unwrap().push(json!("e2e.example.com/fakeFinalizer"));
    assert_eq!(server.put(one, &held).await.expect(200)["spec"]["finalizers"], json!(["kubernetes"]));
    let held = server.put(&format!("{one}/finalize"), &held).await.expect(200);
    assert_eq!(held["spec"]["finalizers"], json!(["kubernetes", "e2e.example.com/fakeFinalizer"]));
    let ending = server.delete(one).await.expect(200);
    assert_eq!(ending["status"]["phase"], "Terminating");
    let refused = server
        .post("/api/v1/namespaces/team/configmaps", &json!({"metadata": {"name": "late"}}))
        .await
        .status(403, "Forbidden");
    assert_eq!(
        refused["message"],
        "configmaps \"late\" is forbidden: unable to create new content in namespace team because it is being terminated"
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let mut free = ending.clone();
    free["spec"]["finalizers"] = json!([]);
    server.put(&format!("{one}/finalize"), &free).await.expect(200);
    server.get(one).await.status(404, "NotFound");
}

#[tokio::test]
async fn a_volume_and_a_claim_live_through_their_api() {
    let (_secured, server) = start().await;
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "team"}})).await.expect(201);
    let volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "e2e",
        "csi": {"driver": "csi.example.com", "volumeHandle": "e2e"}}});
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "e2e",
        "resources": {"requests": {"storage": "1Gi"}}}});
    let rows = [
        ("/api/v1/persistentvolumes", volume, "kubernetes.io/pv-protection", json!({"phase": "Available"})),
        (
            "/api/v1/namespaces/team/persistentvolumeclaims",
            claim,
            "kubernetes.io/pvc-protection",
            json!({"phase": "Bound"}),
        ),
    ];
    for (path, mut object, finalizer, status) in rows {
        object["metadata"] = json!({"name": "one", "labels": {"e2e": "yes"}});
        let one = format!("{path}/one");
        let created = server.post(path, &object).await.expect(201);
        assert_eq!(created["metadata"]["finalizers"], json!([finalizer]));
        assert_eq!(created["status"]["phase"], "Pending", "{path}");
        let label = json!({"metadata": {"labels": {"patched": "yes"}}});
        let strategic = "application/strategic-merge-patch+json";
        server.patch(&one, strategic, &label).await.expect(200);
        let mut patch = json!({ "status": status });
        patch["status"]["message"] = Value::Null;
        let patched = server.patch(&format!("{one}/status"), merge_patch(), &patch).await.expect(200);
        assert_eq!(patched["status"]["phase"], status["phase"], "{path}");
        let list = server.get(&format!("{path}?labelSelector=e2e%3Dyes,patched%3Dyes")).await.expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), 1);

        // It stays for whoever still uses it.
        let deleted = server.delete(&format!("{path}?labelSelector=e2e%3Dyes")).await.expect(200);
        assert!(deleted["items"][0]["metadata"]["deletionTimestamp"].is_string(), "{deleted}");
        let free = json!({"metadata": {"finalizers": null}});
        server.patch(&one, merge_patch(), &free).await.expect(200);
        server.get(&one).await.status(404, "NotFound");
    }
}
