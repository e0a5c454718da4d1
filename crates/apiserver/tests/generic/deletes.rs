//! Deletion: grace, finalizers, preconditions, dependents, collections.

use serde_json::{Value, json};

use super::{
    MAPS, config_map,
    harness::{Server, merge_patch},
};

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
    let refused = server.send("DELETE", &path, &[], body.to_string().into()).await.status(409, "Conflict");
    assert!(
        refused["message"].as_str().unwrap().starts_with(
            "Operation cannot be fulfilled on ConfigMap \"o\": the UID in the precondition (wrong) does not match the UID in \
             record ("
        ),
        "{refused}"
    );
    let orphaned =
        server.send("DELETE", &path, &[], json!({"propagationPolicy": "Orphan"}).to_string().into()).await.expect(200);
    assert_eq!(orphaned["metadata"]["finalizers"], json!(["orphan"]));

    let pods = "/api/v1/namespaces/default/pods";
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    server.post(pods, &pod).await.expect(201);
    let ending = server.delete(&format!("{pods}/p")).await.expect(200);
    assert_eq!(ending["metadata"]["deletionGracePeriodSeconds"], 30);
    // A deletion that runs is not changed by another one, unless that one is in more of a hurry.
    for query in ["", "?gracePeriodSeconds=40", "?propagationPolicy=Orphan"] {
        let same = server.delete(&format!("{pods}/p{query}")).await.expect(200);
        assert_eq!(same["metadata"], ending["metadata"], "{query}");
    }
    let hurried = server.delete(&format!("{pods}/p?gracePeriodSeconds=-5")).await.expect(200);
    assert_eq!(hurried["metadata"]["deletionGracePeriodSeconds"], 1);
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

    // With a limit it is a page that is deleted.
    server.post(MAPS, &config_map("d")).await.expect(201);
    let page = server.delete(&format!("{MAPS}?limit=1")).await.expect(200);
    assert_eq!(page["items"][0]["metadata"]["name"], "c");
    assert!(page["metadata"]["continue"].is_string(), "{page}");
    assert_eq!(server.get(MAPS).await.expect(200)["items"][0]["metadata"]["name"], "d");
}

/// What a deletion makes of the object.
enum Left {
    Nothing,
    /// These finalizers, and the mark of its deletion.
    Finalizers(&'static [&'static str]),
}

#[tokio::test]
async fn dependents_have_their_resources_own_way_unless_the_client_decides() {
    let server = Server::start().await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let selected = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let mut once = template.clone();
    once["spec"]["restartPolicy"] = "Never".into();
    let (apps, batch) = ("/apis/apps/v1/namespaces/default", "/apis/batch/v1/namespaces/default");
    let jobs = format!("{batch}/jobs");
    let sets = format!("{apps}/replicasets");
    let controllers = "/api/v1/namespaces/default/replicationcontrollers".to_owned();
    let events = "/api/v1/namespaces/default/events".to_owned();
    let job = json!({"spec": {"template": once}});
    let set = json!({"spec": selected});
    let controller = json!({"spec": {"selector": {"a": "b"}, "template": template}});
    let event = json!({"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}});
    let (orphan, foreground) = (["orphan"].as_slice(), ["foregroundDeletion"].as_slice());
    let rows = [
        (&jobs, &job, json!({}), Left::Finalizers(orphan), 1),
        (&jobs, &job, json!({"propagationPolicy": "Orphan"}), Left::Finalizers(orphan), 0),
        (&jobs, &job, json!({"propagationPolicy": "Background"}), Left::Nothing, 0),
        (&jobs, &job, json!({"orphanDependents": false}), Left::Nothing, 0),
        (&jobs, &job, json!({"propagationPolicy": "Foreground"}), Left::Finalizers(foreground), 0),
        (&controllers, &controller, json!({}), Left::Finalizers(orphan), 0),
        (&controllers, &controller, json!({"propagationPolicy": "Background"}), Left::Nothing, 0),
        (&sets, &set, json!({}), Left::Nothing, 0),
        (&sets, &set, json!({"orphanDependents": true}), Left::Finalizers(orphan), 0),
        // Nobody would ever take the finalizers of events away.
        (&events, &event, json!({"propagationPolicy": "Orphan"}), Left::Nothing, 0),
        (&events, &event, json!({"propagationPolicy": "Foreground"}), Left::Nothing, 0),
    ];
    for (at, (path, object, options, left, warnings)) in rows.into_iter().enumerate() {
        let mut object: Value = object.clone();
        object["metadata"] = json!({"name": format!("o{at}")});
        server.post(path, &object).await.expect(201);
        let one = format!("{path}/o{at}");
        let answer = server.send("DELETE", &one, &[], options.to_string().into()).await;
        assert!(matches!(answer.code(), 200 | 202), "{}", answer.text());
        assert_eq!(answer.warnings().len(), warnings, "{one} {options}: {:?}", answer.warnings());
        match left {
            Left::Nothing => drop(server.get(&one).await.status(404, "NotFound")),
            Left::Finalizers(names) => {
                let metadata = &server.get(&one).await.expect(200)["metadata"];
                assert_eq!(metadata["finalizers"], json!(names), "{one} {options}");
                assert!(metadata["deletionTimestamp"].is_string());
            }
        }
    }
}

#[tokio::test]
async fn options_that_contradict_each_other_are_refused_in_full() {
    let server = Server::start().await;
    server.post(MAPS, &config_map("a")).await.expect(201);
    let both = json!({"orphanDependents": true, "propagationPolicy": "Later"});
    let refused = server.send("DELETE", &format!("{MAPS}/a"), &[], both.to_string().into()).await;
    assert_eq!(
        refused.status(422, "Invalid")["message"],
        "DeleteOptions.meta.k8s.io \"\" is invalid: [propagationPolicy: Invalid value: \"Later\": orphanDependents and \
         deletionPropagation cannot be both set, propagationPolicy: Unsupported value: \"Later\": supported values: \
         \"Foreground\", \"Background\", \"Orphan\", \"nil\"]"
    );
}
