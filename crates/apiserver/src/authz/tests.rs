use super::rule::{resource_matches, url_matches};
use super::{Rule, forbidden, uncovered};
use crate::authn::component;
use crate::contract::Attributes;

fn list(words: &str) -> Vec<String> {
    words.split_whitespace().map(|word| if word == "core" { String::new() } else { word.to_owned() }).collect()
}

fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
    Rule {
        verbs: list(verbs),
        api_groups: list(groups),
        resources: list(resources),
        resource_names: list(names),
        non_resource_urls: Vec::new(),
    }
}

fn paths(verbs: &str, urls: &str) -> Rule {
    Rule { verbs: list(verbs), non_resource_urls: list(urls), ..Rule::default() }
}

#[test]
fn resources_match_with_their_subresources() {
    for (rule, resource, subresource, expected) in [
        ("*", "pods", "", true),
        ("*", "pods", "log", true),
        ("pods", "pods", "", true),
        ("pods", "pods", "log", false),
        ("pods/log", "pods", "log", true),
        ("pods/log", "pods", "", false),
        ("pods/log", "nodes", "log", false),
        ("*/scale", "deployments", "scale", true),
        ("*/scale", "deployments", "status", false),
        ("*/scale", "deployments", "", false),
    ] {
        assert_eq!(resource_matches(rule, resource, subresource), expected, "{rule} {resource}/{subresource}");
    }
}

#[test]
fn paths_match_by_prefix_only_with_a_star() {
    for (rule, path, expected) in [
        ("/healthz", "/healthz", true),
        ("/healthz", "/healthz/", false),
        ("/healthz/*", "/healthz/etcd", true),
        ("*", "/anything", true),
        ("/api/*", "/apis", false),
    ] {
        assert_eq!(url_matches(rule, path), expected, "{rule} {path}");
    }
}

#[test]
fn names_narrow_a_rule() {
    let user = component("jane");
    let asked = |name| Attributes {
        user: &user,
        verb: "get",
        namespace: "ns",
        group: "",
        version: "v1",
        resource: "secrets",
        subresource: "",
        name,
        field_selector: "",
        path: "",
        is_resource: true,
    };
    let narrow = rule("get", "core", "secrets", "mine");
    assert!(narrow.allows(&asked("mine")));
    assert!(!narrow.allows(&asked("yours")));
    assert!(!narrow.allows(&asked("")), "a list names nothing");
    assert!(rule("get", "core", "secrets", "").allows(&asked("yours")));
    assert!(!rule("get", "apps", "secrets", "").allows(&asked("yours")));
    assert!(!paths("get", "*").allows(&asked("mine")), "a rule for paths is none for resources");
}

#[test]
fn what_is_not_held_is_named_part_by_part() {
    for (what, owned, wanted, missing) in [
        ("the same", vec![rule("get", "core", "pods", "")], vec![rule("get", "core", "pods", "")], 0),
        ("everything", vec![rule("*", "*", "*", "")], vec![rule("get", "core", "pods pods/log", "")], 0),
        ("one verb more", vec![rule("get", "core", "pods", "")], vec![rule("get list", "core", "pods", "")], 1),
        ("all names from one", vec![rule("get", "core", "pods", "a")], vec![rule("get", "core", "pods", "")], 1),
        ("one name from all", vec![rule("get", "core", "pods", "")], vec![rule("get", "core", "pods", "a")], 0),
        ("a name more", vec![rule("get", "core", "pods", "a")], vec![rule("get", "core", "pods", "a b")], 1),
        ("star from some", vec![rule("get list", "core", "pods", "")], vec![rule("*", "core", "pods", "")], 1),
        (
            "subresources from star",
            vec![rule("get", "*", "*/scale", "")],
            vec![rule("get", "apps", "deployments/scale", "")],
            0,
        ),
        (
            "together",
            vec![rule("get", "core", "pods", ""), rule("list", "core", "pods", "")],
            vec![rule("get list", "core", "pods", "")],
            0,
        ),
        ("paths", vec![paths("get", "/a/*")], vec![paths("get", "/a/b /c")], 1),
        ("paths from resources", vec![rule("*", "*", "*", "")], vec![paths("get", "/a")], 1),
    ] {
        assert_eq!(uncovered(&owned, &wanted).len(), missing, "{what}");
    }
}

#[test]
fn refusals_read_as_upstream_words_them() {
    let user = component("jane");
    let base = Attributes {
        user: &user,
        verb: "list",
        namespace: "",
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        name: "",
        field_selector: "",
        path: "",
        is_resource: true,
    };
    let rows = [
        (
            Attributes { namespace: "y", ..base.clone() },
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "y""#,
        ),
        (
            base.clone(),
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" at the cluster scope"#,
        ),
        (
            Attributes { verb: "get", subresource: "log", name: "p", namespace: "y", ..base.clone() },
            r#"pods "p" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "y""#,
        ),
        (
            Attributes {
                verb: "get",
                group: "apps",
                resource: "deployments",
                name: "d",
                namespace: "y",
                ..base.clone()
            },
            r#"deployments.apps "d" is forbidden: User "jane" cannot get resource "deployments" in API group "apps" in the namespace "y""#,
        ),
        (
            Attributes { verb: "get", path: "/metrics", is_resource: false, ..base.clone() },
            r#"forbidden: User "jane" cannot get path "/metrics""#,
        ),
    ];
    for (attributes, expected) in rows {
        let error = forbidden(&attributes, "");
        assert_eq!(error.code(), 403);
        assert_eq!(error.to_value()["message"], expected);
    }
}
