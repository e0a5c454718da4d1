mod addresses;
mod bundles;
mod faults;
mod laws;
mod samples;

use serde_json::{Value, json};

use samples::samples;

use super::*;

#[test]
fn status_is_a_subresource_of_its_own() {
    let strategy = of_kind("apps", "ReplicaSet");
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let mut object = json!({
        "metadata": {"name": "r", "deletionTimestamp": "t"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template},
        "status": {"replicas": 9},
    });
    strategy.default(&mut object);
    strategy.prepare_create(&mut object);
    assert_eq!(object["status"], json!({"replicas": 0}));
    assert_eq!(object["metadata"], json!({"name": "r", "generation": 1}));

    let mut write = object.clone();
    write["spec"]["replicas"] = json!(5);
    write["status"]["replicas"] = json!(1);
    let mut main = write.clone();
    strategy.prepare_update(&mut main, &object, Part::Main);
    assert_eq!((&main["metadata"]["generation"], &main["status"]["replicas"]), (&json!(2), &json!(0)));
    let mut status = write;
    strategy.prepare_update(&mut status, &object, Part::Subresource("status"));
    assert_eq!((&status["metadata"]["generation"], &status["status"]["replicas"]), (&json!(1), &json!(1)));
    assert_eq!(status["spec"]["replicas"], json!(2));
}

#[test]
fn defaults_settle_after_one_run() {
    for (group, kind, object) in samples() {
        let strategy = of_kind(group, kind);
        let mut once = object;
        strategy.default(&mut once);
        let mut twice = once.clone();
        strategy.default(&mut twice);
        assert_eq!(once, twice, "{kind}");
    }
}

#[test]
fn good_objects_pass_and_can_be_written_back_unchanged() {
    for (group, kind, mut object) in samples() {
        let strategy = of_kind(group, kind);
        strategy.default(&mut object);
        strategy.prepare_create(&mut object);
        assert_eq!(strategy.validate_create(&object), [], "{kind}");
        let mut new = object.clone();
        strategy.default(&mut new);
        strategy.prepare_update(&mut new, &object, Part::Main);
        assert_eq!(strategy.validate_update(&new, &object, Part::Main), [], "{kind}");
        assert_eq!(new, object, "{kind}");
    }
}

#[test]
fn every_selectable_field_reads_from_an_empty_object() {
    for (group, kind, _) in samples() {
        let strategy = of_kind(group, kind);
        for field in strategy.selectable_fields() {
            let value = strategy.field(&Value::Null, field);
            assert!(matches!(value.as_ref(), "" | "false" | "0"), "{kind} {field} {value}");
        }
    }
}

#[test]
fn namespaces_carry_their_name_and_their_finalizer() {
    let strategy = of_kind("", "Namespace");
    let mut object = json!({"metadata": {"name": "n"}});
    strategy.default(&mut object);
    strategy.prepare_create(&mut object);
    assert_eq!(
        object,
        json!({
            "metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "n"}},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        })
    );
    let mut emptied = object.clone();
    emptied["spec"] = json!({});
    let mut main = emptied.clone();
    strategy.prepare_update(&mut main, &object, Part::Main);
    assert_eq!(main["spec"], object["spec"]);
    strategy.prepare_update(&mut emptied, &object, Part::Subresource("finalize"));
    assert_eq!((&emptied["spec"], &emptied["status"]), (&json!({}), &json!({"phase": "Active"})));
}

#[test]
fn data_that_is_too_large_is_refused() {
    let object = json!({"data": {"a": "x".repeat(1024 * 1024 + 1)}});
    let errors: Vec<String> =
        of_kind("", "ConfigMap").validate_create(&object).iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["[]: Too long: may not be more than 1048576 bytes"]);
}

#[test]
fn probable_mistakes_are_warned_of() {
    let twice = json!({"containers": [{"env": [{"name": "A"}, {"name": "A"}]}]});
    let rows = [
        (
            "",
            "Pod",
            json!({"spec": twice}),
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be \
            dropped when using apply",
        ),
        (
            "apps",
            "Deployment",
            json!({"spec": {"template": {"spec": {"nodeSelector": {"beta.kubernetes.io/os": "linux"}}}}}),
            "spec.template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" \
            instead",
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}}),
            "annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead",
        ),
    ];
    for (group, kind, object, expected) in rows {
        assert_eq!(of_kind(group, kind).warnings(&object), [expected]);
    }
    assert!(of_kind("apps", "Deployment").warnings(&json!({})).is_empty());
}

#[test]
fn what_nobody_follows_says_so() {
    let said = |group: &str, plural: &str| unfollowed(crate::registry::by_plural(group, "v1", plural).unwrap());
    for (group, plural, word) in [
        ("networking.k8s.io", "networkpolicies", "network policies"),
        ("storage.k8s.io", "volumeattributesclasses", "CSI"),
    ] {
        assert!(said(group, plural).is_some_and(|text| text.contains(word)), "{plural}");
    }
    for (group, plural) in [
        ("", "pods"),
        ("resource.k8s.io", "resourceclaims"),
        ("networking.k8s.io", "ingresses"),
        ("networking.k8s.io", "servicecidrs"),
        ("networking.k8s.io", "ipaddresses"),
        ("storage.k8s.io", "storageclasses"),
        ("storage.k8s.io", "csidrivers"),
        ("storage.k8s.io", "volumeattachments"),
    ] {
        assert_eq!(said(group, plural), None);
    }
}

#[test]
fn string_data_is_folded_into_data() {
    let mut secret = json!({"stringData": {"a": "hello"}, "data": {"b": "aGk="}});
    of_kind("", "Secret").default(&mut secret);
    assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "aGVsbG8=", "b": "aGk="}}));
}

#[test]
fn custom_resources_have_a_generation_over_all_their_content() {
    let old = json!({"metadata": {"generation": 1}, "data": 1, "status": {"a": 1}});
    let mut new = json!({"metadata": {}, "data": 2, "status": {"a": 2}});
    custom(true).prepare_update(&mut new, &old, Part::Main);
    assert_eq!(new, json!({"metadata": {"generation": 2}, "data": 2, "status": {"a": 1}}));
}
