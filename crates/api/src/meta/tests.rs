use serde_json::{Value, json};

use super::*;

fn texts(errors: Vec<crate::field::FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn names_are_checked_by_the_rule_of_their_resource() {
    let long = "a".repeat(254);
    let rows = [
        (NameRule::Subdomain, "my.app-1", true),
        (NameRule::Subdomain, "My", false),
        (NameRule::Subdomain, "a..b", false),
        (NameRule::Subdomain, "-a", false),
        (NameRule::Subdomain, long.as_str(), false),
        (NameRule::Label, "a.b", false),
        (NameRule::Label, "a-b", true),
        (NameRule::Dns1035, "1a", false),
        (NameRule::Dns1035, "a1", true),
        (NameRule::PathSegment, "system:node", true),
        (NameRule::PathSegment, "a/b", false),
        (NameRule::PathSegment, "..", false),
        (NameRule::Ip, "10.0.0.1", true),
        (NameRule::Ip, "2001:DB8::1", false),
        (NameRule::Ip, "a", false),
    ];
    for (rule, name, good) in rows {
        assert_eq!(rule.check(name, false).is_empty(), good, "{rule:?} {name}");
    }
    assert!(NameRule::Subdomain.check("web-", true).is_empty());
    assert!(!NameRule::Subdomain.check("web-", false).is_empty());
    assert_eq!(
        NameRule::Label.check("A", false),
        [
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
          with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
          '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        ]
    );
}

#[test]
fn other_syntaxes() {
    type Check = fn(&str) -> names::Faults;
    let rows: [(Check, &str, bool); 21] = [
        (names::qualified_name, "app", true),
        (names::qualified_name, "example.com/App_1", true),
        (names::qualified_name, "/app", false),
        (names::qualified_name, "a/b/c", false),
        (names::qualified_name, "", false),
        (names::label_value, "", true),
        (names::label_value, "a b", false),
        (names::config_key, "a.txt", true),
        (names::config_key, "..a", false),
        (names::config_key, "a/b", false),
        (names::env_name, "MY VAR", true),
        (names::env_name, "A=B", false),
        (names::port_name, "http-1", true),
        (names::port_name, "80", false),
        (names::port_name, "averylongportname", false),
        (names::percent, "25%", true),
        (names::percent, "25", false),
        (names::wildcard_subdomain, "*.a.b", true),
        (names::wildcard_subdomain, "a.b", false),
        (names::cidr, "10.0.0.0/8", true),
        (names::cidr, "10.0.0.0/33", false),
    ];
    for (check, text, good) in rows {
        assert_eq!(check(text).is_empty(), good, "{text}");
    }
}

#[test]
fn what_is_too_long_is_counted_in_upstreams_words() {
    let long = "a".repeat(300);
    assert_eq!(names::subdomain(&long), ["must be no more than 253 characters"]);
    assert_eq!(names::label(&long), ["must be no more than 63 characters"]);
    assert_eq!(names::label_value(&long), ["must be no more than 63 bytes"]);
    assert_eq!(names::qualified_name(&long), ["name part must be no more than 63 bytes"]);
}

#[test]
fn generated_names_fit_a_label() {
    assert_eq!(generate_name("web-", 0), "web-bbbbb");
    assert_eq!(generate_name(&"a".repeat(100), 1).len(), 63);
    assert_ne!(generate_name("a", 1), generate_name("a", 2));
}

#[test]
fn metadata_of_a_new_object() {
    let rows: [(Value, bool, &[&str]); 8] = [
        (json!({"name": "a", "namespace": "b"}), true, &[]),
        (
            json!({}),
            true,
            &["metadata.name: Required value: name or generateName is required", "metadata.namespace: Required value"],
        ),
        (json!({"name": "a", "namespace": "b"}), false, &["metadata.namespace: Forbidden: not allowed on this type"]),
        (
            json!({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}),
            false,
            &["metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and \
               foregroundDeletion cannot be both set"],
        ),
        (json!({"name": "a", "annotations": {"Some.Where/Key": "v"}}), false, &[]),
        (
            json!({"name": "a", "annotations": {"k": "v".repeat(300_000)}}),
            false,
            &["metadata.annotations: Too long: may not be more than 262144 bytes"],
        ),
        (
            json!({"name": "a", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "X", "name": "n"}]}),
            false,
            &["metadata.ownerReferences.uid: Invalid value: \"\": must not be empty"],
        ),
        (
            json!({"name": "a", "ownerReferences": [
                {"apiVersion": "v1", "kind": "X", "name": "n", "uid": "1", "controller": true},
                {"apiVersion": "v1", "kind": "X", "name": "m", "uid": "2", "controller": true}]}),
            false,
            &["metadata.ownerReferences: Invalid value: [{\"apiVersion\":\"v1\",\"controller\":true,\"kind\":\"X\",\
               \"name\":\"n\",\"uid\":\"1\"},{\"apiVersion\":\"v1\",\"controller\":true,\"kind\":\"X\",\"name\":\"m\",\
               \"uid\":\"2\"}]: Only one reference can have Controller set to true. Found \"true\" in references for \
               X/n and X/m"],
        ),
    ];
    for (meta, namespaced, expected) in rows {
        let object = json!({"metadata": meta});
        assert_eq!(texts(validate_create(&object, namespaced, NameRule::Subdomain)), expected, "{object}");
    }
}

#[test]
fn an_update_keeps_identity_and_refuses_to_change_it() {
    let old = json!({"metadata": {"name": "a", "uid": "u", "creationTimestamp": "t", "generation": 3}});
    let mut new = json!({"metadata": {"name": "a", "generation": 9}});
    prepare_update(&mut new, &old);
    assert_eq!(new, old);
    new["metadata"]["uid"] = json!("other");
    assert_eq!(texts(validate_update(&new, &old)), ["metadata.uid: Invalid value: \"other\": field is immutable"]);

    let dying = json!({"metadata": {"name": "a", "deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}});
    let mut new = json!({"metadata": {"name": "a", "finalizers": ["x/y"]}});
    prepare_update(&mut new, &dying);
    assert_eq!(
        texts(validate_update(&new, &dying)),
        ["metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
          finalizers []string{\"x/y\"}"]
    );
}
