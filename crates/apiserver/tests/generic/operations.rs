//! What upstream's conformance tests ask of every resource in the same way ("should support ... API operations"):
//! create, read, list, watch, patch, update, status, delete and delete by selector, through all of admission.

use std::time::Duration;

use http_body_util::BodyExt;
use knarr_apiserver::contract::{Body, UserInfo};
use serde_json::{Value, json};

use super::harness::{Server, merge_patch, secured};

/// A resource: where its objects lie, one of them without a name, and a status that may be written.
struct Row {
    path: &'static str,
    object: Value,
    status: Option<Value>,
    names: [&'static str; 3],
}

fn row(path: &'static str, object: Value) -> Row {
    Row { path, object, status: None, names: ["one", "two", "three"] }
}

fn with_status(path: &'static str, object: Value, status: Value) -> Row {
    Row { status: Some(status), ..row(path, object) }
}

fn template() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn condition() -> Value {
    json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test",
           "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn core() -> Vec<Row> {
    let selected = json!({"selector": {"a": "b"}, "template": template()});
    vec![
        row("/api/v1/namespaces/team/configmaps", json!({"data": {"k": "v"}})),
        row("/api/v1/namespaces/team/secrets", json!({"stringData": {"k": "v"}})),
        row("/api/v1/namespaces/team/serviceaccounts", json!({})),
        row("/api/v1/namespaces/team/podtemplates", json!({"template": template()})),
        row(
            "/api/v1/namespaces/team/endpoints",
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.24"}],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}]}),
        ),
        row(
            "/api/v1/namespaces/team/limitranges",
            json!({"spec": {"limits": [
            {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}}]}}),
        ),
        row(
            "/api/v1/namespaces/team/events",
            json!({"message": "m", "reason": "Test", "type": "Normal",
            "involvedObject": {"namespace": "team", "kind": "Pod", "name": "p"}, "source": {"component": "c"}}),
        ),
        row(
            "/apis/events.k8s.io/v1/namespaces/team/events",
            json!({"note": "n", "reason": "Test", "type": "Normal",
            "regarding": {"namespace": "team", "kind": "Pod", "name": "p"}, "action": "Do",
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "c", "reportingInstance": "i"}),
        ),
        with_status(
            "/api/v1/namespaces/team/resourcequotas",
            json!({"spec": {"hard": {"pods": "5"}}}),
            json!({"hard": {"pods": "5"}, "used": {"pods": "1"}}),
        ),
        with_status(
            "/api/v1/namespaces/team/replicationcontrollers",
            json!({"spec": selected}),
            json!({"replicas": 0, "readyReplicas": 0, "availableReplicas": 0, "conditions": [condition()]}),
        ),
        with_status(
            "/api/v1/namespaces/team/services",
            json!({"spec": {"ports": [{"port": 80}]}}),
            json!({"loadBalancer": {}, "conditions": [condition()]}),
        ),
        with_status("/api/v1/namespaces/team/pods", json!({"spec": template()["spec"]}), json!({"message": "m"})),
        with_status("/api/v1/nodes", json!({}), json!({"phase": "Running"})),
    ]
}

fn workloads() -> Vec<Row> {
    let selected = |more: Value| {
        let mut spec = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template()});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        json!({ "spec": spec })
    };
    let mut once = template();
    once["spec"]["restartPolicy"] = "Never".into();
    let job = json!({"template": once});
    let conditions = || json!({"conditions": [condition()]});
    let replicas = || json!({"replicas": 0, "conditions": [condition()]});
    vec![
        with_status("/apis/apps/v1/namespaces/team/deployments", selected(json!({"replicas": 1})), conditions()),
        with_status("/apis/apps/v1/namespaces/team/replicasets", selected(json!({})), replicas()),
        with_status("/apis/apps/v1/namespaces/team/statefulsets", selected(json!({"serviceName": "s"})), replicas()),
        with_status("/apis/apps/v1/namespaces/team/daemonsets", selected(json!({})), conditions()),
        row("/apis/apps/v1/namespaces/team/controllerrevisions", json!({"data": {"x": 1}, "revision": 1})),
        with_status(
            "/apis/batch/v1/namespaces/team/jobs",
            json!({"spec": job}),
            json!({"conditions": [{"type": "CustomConditionType", "status": "True"}]}),
        ),
        with_status(
            "/apis/batch/v1/namespaces/team/cronjobs",
            json!({"spec": {"schedule": "* */1 * * ?", "jobTemplate": {"spec": job}}}),
            json!({"lastScheduleTime": "2026-01-01T00:00:00Z"}),
        ),
        with_status(
            "/apis/policy/v1/namespaces/team/poddisruptionbudgets",
            json!({"spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}}}),
            json!({"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 1,
                   "observedGeneration": 1}),
        ),
        with_status(
            "/apis/autoscaling/v2/namespaces/team/horizontalpodautoscalers",
            json!({"spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}}),
            json!({"currentReplicas": 1, "desiredReplicas": 1, "conditions": [
                {"type": "AbleToScale", "status": "True", "reason": "R", "message": "m"}]}),
        ),
        row(
            "/apis/coordination.k8s.io/v1/namespaces/team/leases",
            json!({"spec": {"holderIdentity": "h", "leaseDurationSeconds": 30, "leaseTransitions": 0}}),
        ),
        row("/apis/scheduling.k8s.io/v1/priorityclasses", json!({"value": 7, "description": "d"})),
        row("/apis/node.k8s.io/v1/runtimeclasses", json!({"handler": "h"})),
    ]
}

fn network() -> Vec<Row> {
    let rule = json!({"spec": {"rules": [{"host": "a.example.com", "http": {"paths": [
        {"path": "/", "pathType": "ImplementationSpecific",
         "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]}});
    vec![
        with_status(
            "/apis/networking.k8s.io/v1/namespaces/team/ingresses",
            rule,
            json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}}),
        ),
        row("/apis/networking.k8s.io/v1/ingressclasses", json!({"spec": {"controller": "example.com/controller"}})),
        row(
            "/apis/networking.k8s.io/v1/namespaces/team/networkpolicies",
            json!({"spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}}),
        ),
        row(
            "/apis/discovery.k8s.io/v1/namespaces/team/endpointslices",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["1.2.3.4"]}], "ports": [{"port": 80}]}),
        ),
    ]
}

fn storage() -> Vec<Row> {
    vec![
        row("/apis/storage.k8s.io/v1/storageclasses", json!({"provisioner": "e2e-fake-provisioner"})),
        row("/apis/storage.k8s.io/v1/csidrivers", json!({"spec": {"attachRequired": false}})),
        row("/apis/storage.k8s.io/v1/csinodes", json!({"spec": {"drivers": [{"name": "d", "nodeID": "n"}]}})),
        row(
            "/apis/storage.k8s.io/v1/namespaces/team/csistoragecapacities",
            json!({"storageClassName": "c", "capacity": "1Gi", "nodeTopology": {}}),
        ),
        row(
            "/apis/storage.k8s.io/v1/volumeattributesclasses",
            json!({"driverName": "e2e-fake-csi-driver", "parameters": {"k": "v"}}),
        ),
        with_status(
            "/apis/storage.k8s.io/v1/volumeattachments",
            json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "p"}}}),
            json!({"attached": true}),
        ),
    ]
}

fn devices() -> Vec<Row> {
    let claim = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    vec![
        row("/apis/resource.k8s.io/v1/deviceclasses", json!({"spec": {}})),
        row("/apis/resource.k8s.io/v1/namespaces/team/resourceclaims", json!({"spec": claim})),
        row("/apis/resource.k8s.io/v1/namespaces/team/resourceclaimtemplates", json!({"spec": {"spec": claim}})),
        row(
            "/apis/resource.k8s.io/v1/resourceslices",
            json!({"spec": {"driver": "d.example.com", "nodeName": "n",
                            "pool": {"name": "p", "resourceSliceCount": 1, "generation": 0}, "devices": []}}),
        ),
    ]
}

/// Reads a watch until an event of a kind of an object.
struct Events {
    body: Body,
    text: Vec<u8>,
}

impl Events {
    async fn until(&mut self, kind: &str, name: &str) -> Value {
        loop {
            while let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).unwrap();
                if event["type"] == kind && event["object"]["metadata"]["name"] == name {
                    return event["object"].clone();
                }
            }
            let frame = tokio::time::timeout(Duration::from_secs(60), self.body.frame()).await;
            let frame = frame.unwrap_or_else(|_| panic!("no {kind} of {name}"));
            self.text.extend_from_slice(&frame.expect("an open watch").unwrap().into_data().unwrap());
        }
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|one| one["metadata"]["name"].as_str().unwrap()).collect()
}

fn sorted<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    sorted
}

/// Without the namespace, as one asks for the objects of all of them.
fn everywhere(path: &str) -> String {
    path.replace("/namespaces/team", "")
}

async fn exercise(server: &Server, row: &Row) {
    let path = row.path;
    let selected = "labelSelector=special%3Dyes";
    let list = server.get(&format!("{path}?{selected}")).await.expect(200);
    assert_eq!(list["items"], json!([]), "{path}");
    let since = list["metadata"]["resourceVersion"].as_str().unwrap();
    let query = format!("{path}?watch=true&{selected}&resourceVersion={since}");
    let mut events = Events { body: server.open("GET", &query, &[], Vec::new()).await.into_body(), text: Vec::new() };

    let [first, second, _] = row.names;
    let mut created = Vec::new();
    for name in row.names {
        let mut object = row.object.clone();
        object["metadata"] = json!({"name": name, "labels": {"special": "yes"}});
        created.push(server.post(path, &object).await.expect(201));
        assert_eq!(events.until("ADDED", name).await["metadata"]["uid"], created.last().unwrap()["metadata"]["uid"]);
    }
    let one = format!("{path}/{first}");
    let got = server.get(&one).await.expect(200);
    assert_eq!(got["metadata"]["uid"], created[0]["metadata"]["uid"]);
    for place in [path.to_owned(), everywhere(path)] {
        let list = server.get(&format!("{place}?{selected}")).await.expect(200);
        assert_eq!(names(&list), sorted(&row.names), "{place}");
    }

    let note = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = server.patch(&one, merge_patch(), &note).await.expect(200);
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
    events.until("MODIFIED", first).await;
    let mut changed = patched.clone();
    changed["metadata"]["annotations"]["updated"] = "true".into();
    let updated = server.put(&one, &changed).await.expect(200);
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true", "{path}");
    assert_eq!(events.until("MODIFIED", first).await["metadata"], updated["metadata"]);
    server.put(&one, &changed).await.status(409, "Conflict");
    if let Some(status) = &row.status {
        exercise_status(server, &one, status).await;
        events.until("MODIFIED", first).await;
    }

    // What keeps it while it is used, a controller takes off; there is none here.
    if got["metadata"]["finalizers"].is_array() {
        for name in row.names {
            let free = json!({"metadata": {"finalizers": null}});
            server.patch(&format!("{path}/{name}"), merge_patch(), &free).await.expect(200);
        }
    }
    server.delete(&format!("{one}?gracePeriodSeconds=0&propagationPolicy=Background")).await.expect(200);
    events.until("DELETED", first).await;
    server.get(&one).await.status(404, "NotFound");
    let rest = format!("{path}?{selected}");
    let deleted = server.delete(&format!("{rest}&gracePeriodSeconds=0&propagationPolicy=Background")).await.expect(200);
    assert_eq!(names(&deleted), sorted(&row.names[1..]), "{path}");
    events.until("DELETED", second).await;
    assert_eq!(server.get(&rest).await.expect(200)["items"], json!([]), "{path}");
}

/// The status is read, patched and updated, and each write leaves what the other wrote.
async fn exercise_status(server: &Server, one: &str, status: &Value) {
    let path = format!("{one}/status");
    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}}, "status": status});
    let patched = server.patch(&path, merge_patch(), &patch).await.expect(200);
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true", "{path}");
    for (key, value) in status.as_object().unwrap() {
        // Zeros and what is empty may be left out.
        if *value != json!(0) && *value != json!({}) {
            assert_eq!(&patched["status"][key], value, "{path} {key}");
        }
    }
    let mut changed = server.get(&path).await.expect(200);
    assert_eq!(changed["status"], patched["status"], "{path}");
    changed["metadata"]["annotations"]["updatedstatus"] = "true".into();
    let updated = server.put(&path, &changed).await.expect(200);
    assert_eq!(updated["metadata"]["annotations"]["updatedstatus"], "true", "{path}");
    assert_eq!(updated["status"], patched["status"], "{path}");
}

async fn exercise_all(rows: Vec<Row>) {
    let secured = secured::start().await;
    let admin = UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
    let server = Server::of(secured.server.clone(), admin);
    server.post("/api/v1/namespaces", &json!({"metadata": {"name": "team"}})).await.expect(201);
    let accounts = "/api/v1/namespaces/team/serviceaccounts";
    server.post(accounts, &json!({"metadata": {"name": "default"}})).await.expect(201);
    for row in &rows {
        exercise(&server, row).await;
    }
}

#[tokio::test]
async fn a_signing_request_is_approved_and_answered_each_by_its_subresource() {
    let secured = secured::start().await;
    let admin = UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
    let server = Server::of(secured.server.clone(), admin);
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["e2e.example.com".to_owned()]).unwrap();
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    let encode = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    let object = json!({"metadata": {"generateName": "e2e-"}, "spec": {
        "request": encode(&request), "signerName": "example.com/e2e", "expirationSeconds": 3600,
        "usages": ["digital signature", "key encipherment", "server auth"]}});
    for _ in 0..2 {
        server.post(path, &object).await.expect(201);
    }
    let created = server.post(path, &object).await.expect(201);
    let one = format!("{path}/{}", created["metadata"]["name"].as_str().unwrap());
    let signer = format!("{path}?fieldSelector=spec.signerName%3Dexample.com/e2e");
    assert_eq!(server.get(&signer).await.expect(200)["items"].as_array().unwrap().len(), 3);

    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "e2e"});
    let patch = json!({"metadata": {"annotations": {"patchedapproval": "true"}},
        "status": {"conditions": [condition("ApprovalPatch")]}});
    let patched = server.patch(&format!("{one}/approval"), merge_patch(), &patch).await.expect(200);
    assert_eq!(patched["status"]["conditions"][0]["type"], "ApprovalPatch");
    assert_eq!(patched["metadata"]["annotations"]["patchedapproval"], "true");
    let mut changed = patched.clone();
    changed["status"]["conditions"].as_array_mut().unwrap().push(condition("Approved"));
    let approved = server.put(&format!("{one}/approval"), &changed).await.expect(200);
    assert_eq!(approved["status"]["conditions"][1]["type"], "Approved");

    let patch = json!({"metadata": {"annotations": {"patchedstatus": "true"}},
        "status": {"certificate": encode(&certificate)}});
    let patched = server.patch(&format!("{one}/status"), merge_patch(), &patch).await.expect(200);
    assert_eq!(patched["status"]["certificate"], encode(&certificate));
    assert_eq!(patched["metadata"]["annotations"]["patchedstatus"], "true");
    let mut changed = patched.clone();
    changed["status"]["conditions"].as_array_mut().unwrap().push(condition("StatusUpdate"));
    let updated = server.put(&format!("{one}/status"), &changed).await.expect(200);
    assert_eq!(updated["status"]["conditions"][2]["type"], "StatusUpdate");

    server.delete(&one).await.expect(200);
    server.get(&one).await.status(404, "NotFound");
    assert_eq!(server.delete(&signer).await.expect(200)["items"].as_array().unwrap().len(), 2);
    assert_eq!(server.get(&signer).await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_review_has_no_table() {
    let secured = secured::start().await;
    let admin = UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
    let server = Server::of(secured.server.clone(), admin);
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}).to_string();
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let rows = [(table.to_owned(), 406), (format!("{table},application/json"), 201)];
    for (accept, code) in rows {
        let headers = [("accept", accept.as_str()), ("content-type", "application/json")];
        assert_eq!(server.send("POST", path, &headers, review.clone().into()).await.code(), code, "{accept}");
    }
}

#[tokio::test]
async fn core_resources_do_what_all_do() {
    exercise_all(core()).await;
}

#[tokio::test]
async fn workloads_do_what_all_do() {
    exercise_all(workloads()).await;
}

#[tokio::test]
async fn the_networks_resources_do_what_all_do() {
    exercise_all(network()).await;
}

#[tokio::test]
async fn the_storages_resources_do_what_all_do() {
    exercise_all(storage()).await;
}

#[tokio::test]
async fn devices_do_what_all_do() {
    exercise_all(devices()).await;
}
