use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema;

fn writer(kind: &str, manager: &'static str) -> Writer<'static> {
    let (group, version) = match kind {
        "Deployment" => ("apps", "v1"),
        _ => ("", "v1"),
    };
    Writer {
        schema: schema::of(group, version, kind),
        manager,
        subresource: "",
        now: "2026-01-02T03:04:05Z".parse().unwrap(),
        reset: reset_fields(true, ""),
    }
}

fn request<'a>(writer: Writer<'a>, live: Option<&'a Value>, config: &'a Value) -> ApplyRequest<'a> {
    ApplyRequest { writer, live, config, force: false }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
}

fn fields<'a>(object: &'a Value, manager: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|e| e["manager"] == manager);
    entry.map_or(&Value::Null, |e| &e["fieldsV1"])
}

#[test]
fn a_created_object_belongs_to_its_creator_as_upstream_writes_it() {
    let mut object = deployment(json!({
        "progressDeadlineSeconds": 600, "replicas": 3, "selector": {"matchLabels": {"app": "x"}},
        "strategy": {"rollingUpdate": {"maxSurge": "25%"}, "type": "RollingUpdate"},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{
                "name": "web", "image": "i", "resources": {},
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
            }]},
        },
    }));
    object["metadata"]["uid"] = json!("u");
    object["metadata"]["labels"] = json!({"a": "b"});
    object["status"] = json!({"replicas": 1});
    track_update(writer("Deployment", "kubectl-create"), None, &mut object);
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["operation"], "Update");
    assert_eq!(entries[0]["apiVersion"], "apps/v1");
    assert_eq!(entries[0]["time"], "2026-01-02T03:04:05Z");
    assert_eq!(
        entries[0]["fieldsV1"],
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {
                "f:progressDeadlineSeconds": {},
                "f:replicas": {},
                "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                        ".": {},
                        "f:image": {},
                        "f:name": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                            ".": {}, "f:containerPort": {}, "f:protocol": {},
                        }},
                        "f:resources": {},
                    }}},
                },
            },
        })
    );
}

#[test]
fn structs_held_by_value_do_not_appear() {
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "n"}, "count": 1,
        "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "kubelet"}, "type": "Normal",
    });
    let mut object = event.clone();
    track_update(writer("Event", "kubelet"), None, &mut object);
    assert_eq!(
        fields(&object, "kubelet"),
        &json!({"f:count": {}, "f:involvedObject": {}, "f:source": {"f:component": {}}, "f:type": {}})
    );
}

#[test]
fn an_update_takes_over_what_it_changes_and_forgets_what_it_removes() {
    let mut old = deployment(json!({"replicas": 1, "paused": true, "minReadySeconds": 5}));
    track_update(writer("Deployment", "one"), None, &mut old);
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(2);
    new["spec"].as_object_mut().unwrap().remove("paused");
    track_update(writer("Deployment", "two"), Some(&old), &mut new);
    assert_eq!(fields(&new, "one"), &json!({"f:spec": {"f:minReadySeconds": {}}}));
    assert_eq!(fields(&new, "two"), &json!({"f:spec": {"f:replicas": {}}}));

    let mut same = new.clone();
    track_update(
        Writer { now: "2030-01-01T00:00:00Z".parse().unwrap(), ..writer("Deployment", "three") },
        Some(&new),
        &mut same,
    );
    assert_eq!(same, new, "a write that changes nothing leaves no trace");
    let mut stripped = new.clone();
    stripped["metadata"].as_object_mut().unwrap().remove("managedFields");
    track_update(writer("Deployment", "three"), Some(&new), &mut stripped);
    assert_eq!(stripped, new, "a client that does not send managed fields does not lose them");
    let mut cleared = new.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    track_update(writer("Deployment", "three"), Some(&new), &mut cleared);
    assert!(cleared["metadata"].get("managedFields").is_none());
    let mut later = cleared.clone();
    later["spec"]["replicas"] = json!(9);
    track_update(writer("Deployment", "three"), Some(&cleared), &mut later);
    assert!(later["metadata"].get("managedFields").is_none(), "not before it is applied again");
    let error =
        apply(request(writer("Deployment", "me"), Some(&later), &deployment(json!({"replicas": 1})))).unwrap_err();
    assert!(
        error.to_string().contains("conflict with \"before-first-apply\" using apps/v1: .spec.replicas"),
        "{error}"
    );
}

#[test]
fn applying_what_another_owns_is_a_conflict_unless_forced_or_equal() {
    let first = deployment(json!({"replicas": 1, "template": {"spec": {"containers": [{"name": "c", "image": "a"}]}}}));
    let live = apply(request(writer("Deployment", "one"), None, &first)).unwrap();
    assert_eq!(
        fields(&live, "one")["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"],
        json!({".": {}, "f:image": {}, "f:name": {}})
    );
    let mut second = first.clone();
    second["spec"]["replicas"] = json!(2);
    let error = apply(request(writer("Deployment", "two"), Some(&live), &second)).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    second["spec"]["template"]["spec"]["containers"][0]["image"] = json!("b");
    let error = apply(request(writer("Deployment", "two"), Some(&live), &second)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].image"
    );
    let forced =
        apply(ApplyRequest { force: true, ..request(writer("Deployment", "two"), Some(&live), &second) }).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(fields(&forced, "one")["f:spec"]["f:replicas"], Value::Null);
    assert_eq!(fields(&forced, "two")["f:spec"]["f:replicas"], json!({}));

    let shared = apply(request(writer("Deployment", "two"), Some(&live), &first)).unwrap();
    assert_eq!(fields(&shared, "one"), fields(&shared, "two"), "equal values are owned together");
}

#[test]
fn conflicts_with_updaters_name_their_version() {
    let mut live = deployment(json!({"replicas": 1}));
    track_update(writer("Deployment", "kubectl-edit"), None, &mut live);
    let config = deployment(json!({"replicas": 2}));
    let error = apply(request(writer("Deployment", "me"), Some(&live), &config)).unwrap_err();
    assert_eq!(
        error,
        ApplyError::Conflicts {
            conflicts: vec![Conflict {
                manager: "\"kubectl-edit\" using apps/v1".into(),
                field: ".spec.replicas".into()
            }]
        }
    );
    let scale = Writer { subresource: "scale", ..writer("Deployment", "hpa") };
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(7);
    track_update(scale, Some(&live), &mut scaled);
    let error = apply(request(writer("Deployment", "me"), Some(&scaled), &config)).unwrap_err();
    assert!(
        error.to_string().contains("conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas")
    );
}

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
    unknown["metadata"]["managedFields"] = json!([]);
    assert_eq!(message(&unknown), "metadata.managedFields must be nil");
}

#[test]
fn status_and_spec_are_owned_apart() {
    let mut live = deployment(json!({"replicas": 1}));
    track_update(writer("Deployment", "m"), None, &mut live);
    let mut new = live.clone();
    new["status"] = json!({"conditions": [{"type": "Available", "status": "True"}], "replicas": 1});
    let status = Writer { subresource: "status", reset: reset_fields(true, "status"), ..writer("Deployment", "m") };
    track_update(status, Some(&live), &mut new);
    let entries = new["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(
        entries[1]["fieldsV1"]["f:status"],
        json!({"f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}}, "f:replicas": {}})
    );
}

#[test]
fn at_most_ten_updaters_are_told_apart() {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}});
    let now = jiff::Timestamp::from_second(999_999).unwrap();
    track_update(Writer { now, ..writer("ConfigMap", "m") }, None, &mut object);
    for index in 0..14 {
        let old = object.clone();
        object["data"][format!("k{index}")] = json!("v");
        let manager: &'static str = String::leak(format!("m{index:02}"));
        let now = jiff::Timestamp::from_second(1_000_000 + index).unwrap();
        track_update(Writer { now, ..writer("ConfigMap", manager) }, Some(&old), &mut object);
    }
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    let old = fields(&object, "ancient-changes");
    assert_eq!(old["f:data"].as_object().unwrap().keys().filter(|k| k.starts_with("f:")).count(), 6);
}

#[test]
fn kubectl_may_go_over_from_client_side_apply() {
    let mut live = deployment(json!({"replicas": 1}));
    live["metadata"]["annotations"] = json!({
        "kubectl.kubernetes.io/last-applied-configuration": deployment(json!({"replicas": 1})).to_string(),
    });
    track_update(writer("Deployment", "kubectl-client-side-apply"), None, &mut live);
    let config = deployment(json!({"replicas": 2}));
    assert!(apply(request(writer("Deployment", "other"), Some(&live), &config)).is_err());
    let merged = apply(request(writer("Deployment", "kubectl"), Some(&live), &config)).unwrap();
    assert_eq!(merged["spec"]["replicas"], 2);
    let last = merged["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap()["spec"]["replicas"], 2);
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

/// Pod-like configurations over a few names, so that they meet.
fn config() -> impl Strategy<Value = Value> {
    let label = prop::collection::btree_map("[abc]", "[12]", 0..3);
    let env = prop::collection::btree_map("[AB]", "[12]", 0..3);
    let container = (prop::option::of("[xy]"), env);
    (label, prop::collection::btree_map("[cd]", container, 0..3), prop::option::of(0..3i64)).prop_map(
        |(labels, containers, replicas)| {
            let containers: Vec<Value> = containers
                .into_iter()
                .map(|(name, (image, env))| {
                    let env: Vec<Value> = env.into_iter().map(|(n, v)| json!({"name": n, "value": v})).collect();
                    let mut container = json!({"name": name});
                    if let Some(image) = image {
                        container["image"] = json!(image);
                    }
                    if !env.is_empty() {
                        container["env"] = json!(env);
                    }
                    container
                })
                .collect();
            let mut spec = json!({"template": {"metadata": {"labels": labels}}});
            if !containers.is_empty() {
                spec["template"]["spec"]["containers"] = json!(containers);
            }
            if let Some(replicas) = replicas {
                spec["replicas"] = json!(replicas);
            }
            deployment(spec)
        },
    )
}

fn forced(manager: &'static str, live: Option<&Value>, config: &Value) -> Value {
    apply(ApplyRequest { force: true, ..request(writer("Deployment", manager), live, config) }).unwrap()
}

/// Lists by key and without the order of elements, for comparing what is in an object.
fn unordered(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(unordered).collect();
            items.sort_by_key(|item| item.to_string());
            Value::Array(items)
        }
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), unordered(v))).collect(),
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in config(), second in config()) {
        let live = forced("one", None, &first);
        let once = forced("two", Some(&live), &second);
        let twice = forced("two", Some(&once), &second);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_forced_apply_shows_all_that_it_asks_for(first in config(), second in config()) {
        let live = forced("one", None, &first);
        let live = forced("two", Some(&live), &second);
        let mut again = live.clone();
        let ty = schema::of("apps", "v1", "Deployment").unwrap();
        merge::merge(Some(ty), &mut again, &second);
        // An empty map or list is the same as none.
        schema::prune(ty, &mut again);
        prop_assert_eq!(unordered(&again["spec"]), unordered(&live["spec"]));
    }

    #[test]
    fn owners_share_only_equal_values(first in config(), second in config()) {
        let live = forced("one", None, &first);
        let live = forced("two", Some(&live), &second);
        if let (Some(one), Some(two)) = (fields(&live, "one").as_object(), fields(&live, "two").as_object()) {
            let shared = set::intersect(one, two);
            let difference = walk::difference(schema::of("apps", "v1", "Deployment"), Some(&first), Some(&second));
            let contested = difference.changed.map(|changed| set::intersect(&changed, &shared)).unwrap_or_default();
            prop_assert!(contested.is_empty(), "shared although they differ: {:?}", set::paths(&contested));
        }
    }

    #[test]
    fn disjoint_appliers_commute(labels in prop::collection::btree_map("[abc]", "[12]", 1..3), replicas in 0..3i64) {
        let one = deployment(json!({"template": {"metadata": {"labels": labels}}}));
        let two = deployment(json!({"replicas": replicas}));
        let there = forced("two", Some(&forced("one", None, &one)), &two);
        let back = forced("one", Some(&forced("two", None, &two)), &one);
        prop_assert_eq!(there, back);
    }

    #[test]
    fn giving_all_up_leaves_what_the_other_applied(first in config(), second in config()) {
        let live = forced("one", None, &first);
        let live = forced("two", Some(&live), &second);
        let live = forced("one", Some(&live), &deployment(json!({})));
        let alone = forced("two", None, &second);
        prop_assert_eq!(unordered(&live["spec"]), unordered(&alone["spec"]));
    }

    #[test]
    fn sets_obey_their_laws(first in config(), second in config()) {
        let of = |config: &Value| walk::fields_of(schema::of("apps", "v1", "Deployment"), config, walk::Parents::Elements);
        let (a, b) = (of(&first), of(&second));
        let both = set::intersect(&a, &b);
        let (mut only_a, mut united) = (a.clone(), a.clone());
        set::subtract(&mut only_a, &b);
        set::unite(&mut united, &b);
        let mut again = only_a.clone();
        set::unite(&mut again, &both);
        prop_assert_eq!(&again, &a);
        prop_assert!(set::intersect(&only_a, &b).is_empty());
        set::subtract(&mut united, &only_a);
        prop_assert_eq!(&united, &b);
    }
}

/// `cargo test -p knarr-api --release -- --ignored --nocapture apply::tests::speed`
#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", "labels": {"app": "x", "pod-template-hash": "1"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]},
        "spec": {
            "containers": [{
                "name": "web", "image": "nginx:1", "imagePullPolicy": "IfNotPresent",
                "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 443, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "periodSeconds": 10, "timeoutSeconds": 1},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [{"name": "t", "mountPath": "/var/run/secrets", "readOnly": true}, {"name": "c", "mountPath": "/c"}],
            }],
            "volumes": [{"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
                        {"name": "c", "configMap": {"name": "c", "defaultMode": 420}}],
            "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
            "securityContext": {}, "serviceAccountName": "default", "terminationGracePeriodSeconds": 30,
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}],
        },
    });
    let measure = |name: &str, rounds: u32, mut work: Box<dyn FnMut()>| {
        let start = std::time::Instant::now();
        (0..rounds).for_each(|_| work());
        println!("{name}: {:?} each", start.elapsed() / rounds);
    };
    let fresh = pod.clone();
    measure("clone a pod", 20_000, Box::new(move || drop(fresh.clone())));
    let fresh = pod.clone();
    measure(
        "track a create (clone included)",
        20_000,
        Box::new(move || track_update(writer("Pod", "m"), None, &mut fresh.clone())),
    );
    track_update(writer("Pod", "m"), None, &mut pod);
    println!("the pod has {} bytes", pod.to_string().len());
    let (pod_type, fresh) = (schema::of("", "v1", "Pod").unwrap(), pod.clone());
    measure("check a pod", 20_000, Box::new(move || assert!(schema::check(pod_type, &fresh).is_empty())));
    let fresh = pod.clone();
    measure("prune a pod (clone included)", 20_000, Box::new(move || schema::prune(pod_type, &mut fresh.clone())));
    let (fresh, patch) = (pod.clone(), json!({"spec": {"containers": [{"name": "web", "image": "nginx:2"}]}}));
    measure(
        "a small strategic merge patch",
        20_000,
        Box::new(move || drop(crate::patch::strategic_merge_patch(pod_type, &fresh, &patch).unwrap())),
    );
    let mut bound = pod.clone();
    bound["spec"]["nodeName"] = json!("n1");
    let old = pod.clone();
    measure(
        "track an update (clone included)",
        20_000,
        Box::new(move || {
            track_update(writer("Pod", "s"), Some(&old), &mut bound.clone());
        }),
    );
    let old = pod.clone();
    let mut config = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"z": "1"}}});
    let mut round = 0;
    measure(
        "a small apply",
        20_000,
        Box::new(move || {
            round += 1;
            config["metadata"]["labels"]["z"] = json!(round.to_string());
            apply(request(writer("Pod", "a"), Some(&old), &config)).unwrap();
        }),
    );
}
