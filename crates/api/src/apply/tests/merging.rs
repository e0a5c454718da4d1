//! What an applied configuration makes of the live object.

use serde_json::{Value, json};

use super::{deployment, fields, request, writer};
use crate::apply::{ApplyRequest, Writer, apply};

#[test]
fn what_is_no_longer_applied_goes_unless_another_owns_it() {
    let one = deployment(json!({
        "replicas": 1, "paused": true, "strategy": {"type": "Recreate"},
        "template": {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [
            {"name": "x", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"name": "y", "image": "i"},
        ]}},
    }));
    let mut live = apply(request(writer("Deployment", "one"), None, &one)).unwrap();
    // A default that nobody owns goes with the element it is in, and stays elsewhere.
    live["spec"]["template"]["spec"]["containers"][1]["imagePullPolicy"] = json!("Always");
    live["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    let two = deployment(json!({"replicas": 1}));
    let live = apply(request(writer("Deployment", "two"), Some(&live), &two)).unwrap();
    let less = deployment(json!({
        "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [
            {"name": "x", "image": "i", "env": [{"name": "B", "value": "2"}]},
        ]}},
    }));
    let after = apply(request(writer("Deployment", "one"), Some(&live), &less)).unwrap();
    assert_eq!(
        after["spec"],
        json!({
            "replicas": 1,
            "template": {"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [
                {"name": "x", "image": "i", "imagePullPolicy": "Always", "env": [{"name": "B", "value": "2"}]},
            ]}},
        })
    );
    let bare = deployment(json!({"replicas": 1}));
    let after = apply(request(writer("Deployment", "one"), Some(&after), &bare)).unwrap();
    assert_eq!(after["spec"], json!({"replicas": 1}));
}

#[test]
fn lists_merge_by_their_keys() {
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}});
    for (live, config, expected) in [
        // A missing protocol is TCP as far as the key is concerned.
        (
            json!([{"port": 53, "protocol": "TCP", "targetPort": 1}, {"port": 53, "protocol": "UDP"}]),
            json!([{"port": 53, "targetPort": 2}]),
            json!([{"port": 53, "protocol": "TCP", "targetPort": 2}, {"port": 53, "protocol": "UDP"}]),
        ),
        (json!([{"port": 1}, {"port": 2}]), json!([{"port": 3}]), json!([{"port": 3}, {"port": 1}, {"port": 2}])),
        (
            json!([{"port": 1}, {"port": 2}, {"port": 3}]),
            json!([{"port": 3}, {"port": 1}]),
            json!([{"port": 2}, {"port": 3}, {"port": 1}]),
        ),
    ] {
        let live = service(live);
        let merged =
            apply(ApplyRequest { force: true, ..request(writer("Service", "m"), Some(&live), &service(config)) });
        assert_eq!(merged.unwrap()["spec"]["ports"], expected);
    }
    for (ports, why) in [
        (json!([{"port": 1}, {"port": 1}]), r#".spec.ports: duplicate entries for key [port=1,protocol="TCP"]"#),
        (
            json!([{"name": "a"}]),
            ".spec.ports: element 0: associative list with keys has an element that omits key field \"port\" \
             (and doesn't have default value)",
        ),
    ] {
        let error = apply(request(writer("Service", "m"), None, &service(ports))).unwrap_err();
        assert_eq!(error.to_string(), format!("failed to create typed patch object (/s; v1, Kind=Service): {why}"));
    }
}

#[test]
fn sets_and_atomic_values() {
    let pod = |finalizers: Value, args: Value| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": finalizers},
               "spec": {"nodeSelector": {"a": "b"}, "containers": [{"name": "c", "args": args}]}})
    };
    let first = pod(json!(["x/a"]), json!(["1", "2"]));
    let live = apply(request(writer("Pod", "one"), None, &first)).unwrap();
    assert_eq!(fields(&live, "one")["f:metadata"]["f:finalizers"], json!({"v:\"x/a\"": {}}));
    assert_eq!(fields(&live, "one")["f:spec"]["f:nodeSelector"], json!({}));
    let second = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "finalizers": ["x/b"]}});
    let live = apply(request(writer("Pod", "two"), Some(&live), &second)).unwrap();
    assert_eq!(live["metadata"]["finalizers"], json!(["x/a", "x/b"]));
    let live = apply(request(writer("Pod", "one"), Some(&live), &pod(json!([]), json!(["2"])))).unwrap();
    assert_eq!(live["metadata"]["finalizers"], json!(["x/b"]));
    assert_eq!(live["spec"]["containers"][0]["args"], json!(["2"]));
}

#[test]
fn bad_configurations_are_refused_in_upstreams_words() {
    let mut unknown = deployment(json!({"replica": 1}));
    let message = |config: &Value| apply(request(writer("Deployment", "m"), None, config)).unwrap_err().to_string();
    assert_eq!(
        message(&unknown),
        "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema"
    );
    unknown["metadata"]["oops"] = json!(1);
    assert_eq!(
        message(&unknown),
        "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): errors:\n  .metadata.oops: field not declared \
         in schema\n  .spec.replica: field not declared in schema"
    );
    unknown["metadata"]["managedFields"] = json!([]);
    assert_eq!(message(&unknown), "metadata.managedFields must be nil");
}

#[test]
fn an_object_without_schema_is_owned_by_its_maps() {
    let crd = |spec: Value| json!({"apiVersion": "x.io/v1", "kind": "X", "metadata": {"name": "x"}, "spec": spec});
    let bare = Writer { schema: None, ..writer("", "m") };
    let first = crd(json!({"a": {"b": 1, "c": [1, 2]}}));
    let live = apply(request(bare, None, &first)).unwrap();
    assert_eq!(fields(&live, "m"), &json!({"f:spec": {"f:a": {"f:b": {}, "f:c": {}}}}));
    let second = crd(json!({"a": {"b": 1}}));
    let live = apply(request(bare, Some(&live), &second)).unwrap();
    assert_eq!(live["spec"], json!({"a": {"b": 1}}));
}

#[test]
fn whoever_gives_up_the_last_label_leaves_the_rest_of_the_metadata() {
    let with = |labels: Value| {
        let mut config = deployment(json!({"replicas": 1}));
        config["metadata"]["labels"] = labels;
        config
    };
    let mut live = apply(request(writer("Deployment", "a"), None, &with(json!({"a": "b"})))).unwrap();
    live["metadata"]["uid"] = json!("u");
    live["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let without = deployment(json!({"replicas": 1}));
    let after = apply(request(writer("Deployment", "a"), Some(&live), &without)).unwrap();
    assert_eq!(after["metadata"].get("labels"), None);
    assert_eq!((&after["metadata"]["uid"], &after["metadata"]["name"]), (&json!("u"), &json!("d")));
    assert_eq!(after["metadata"]["finalizers"], json!(["example.com/hold"]));
    assert_eq!(*fields(&after, "a"), json!({"f:spec": {"f:replicas": {}}}));
}
