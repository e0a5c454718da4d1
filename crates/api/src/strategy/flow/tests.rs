use serde_json::{Value, json};

use super::{FLOW_SCHEMA, PRIORITY_LEVEL, fixed_level, fixed_schema};
use crate::strategy::{Part, Strategy, rules::Rules};

/// What is said of an object after its defaults are filled in.
fn said(rules: &Rules, name: &str, spec: &Value) -> Vec<String> {
    let mut object = json!({ "metadata": { "name": name }, "spec": spec });
    rules.default(&mut object);
    rules.validate_create(&object).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(rules: &Rules, name: &str, spec: &Value, expected: &[&str]) {
    let said = said(rules, name, spec);
    assert_eq!(said.len(), expected.len(), "{name} {spec}: {said:#?}");
    for part in expected {
        assert!(said.iter().any(|text| text.contains(part)), "{part} is not said of {spec}: {said:#?}");
    }
}

fn with(mut base: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = base.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        other => other[key] = value,
    }
    base
}

fn schema() -> Value {
    json!({
        "priorityLevelConfiguration": { "name": "l" },
        "rules": [{
            "subjects": [{ "kind": "User", "user": { "name": "u" } }],
            "resourceRules": [{ "verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["a"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["/healthz", "/apis/*", "/"] }],
        }],
    })
}

#[test]
fn schemas_are_checked_in_the_words_that_are_known() {
    let (subject, rule) = ("/rules/0/subjects/0", "/rules/0/resourceRules/0");
    let urls = "/rules/0/nonResourceRules/0/nonResourceURLs";
    let [verbs, groups, resources, namespaces] =
        ["verbs", "apiGroups", "resources", "namespaces"].map(|key| format!("{rule}/{key}"));
    let rows: Vec<(&str, Value, &[&str])> = vec![
        ("/matchingPrecedence", json!(0), &[]),
        ("/matchingPrecedence", json!(-1), &["spec.matchingPrecedence: Invalid value: -1: must be a positive value"]),
        ("/matchingPrecedence", json!(10_001), &["must not be greater than 10000"]),
        ("/matchingPrecedence", json!(1), &["only the schema named 'exempt' may have matchingPrecedence 1"]),
        (
            "/distinguisherMethod",
            json!({"type": "ByMoon"}),
            &["Unsupported value: \"ByMoon\": supported values: \"ByNamespace\", \"ByUser\""],
        ),
        ("/distinguisherMethod", json!({"type": "ByNamespace"}), &[]),
        ("/priorityLevelConfiguration/name", json!(""), &["Required value: must reference a priority level"]),
        (
            "/priorityLevelConfiguration/name",
            json!("A"),
            &["spec.priorityLevelConfiguration.name: Invalid value: \"A\""],
        ),
        ("/rules/0/subjects", json!([]), &["subjects must contain at least one value"]),
        (subject, json!({"kind": "Robot"}), &["supported values: \"Group\", \"ServiceAccount\", \"User\""]),
        (subject, json!({"kind": "Group"}), &["group is required when subject kind is 'Group'"]),
        (subject, json!({"kind": "Group", "group": {"name": ""}}), &["subjects[0].group.name: Required value"]),
        (
            subject,
            json!({"kind": "Group", "group": {"name": "g"}, "user": {"name": "u"}}),
            &["spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'"],
        ),
        (
            subject,
            json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*"}}),
            &["must specify namespace for service account"],
        ),
        (subject, json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "n"}}), &[]),
        (&verbs, json!([]), &["verbs must contain at least one value"]),
        (&verbs, json!(["*", "get"]), &["if '*' is present, must not specify other verbs"]),
        (&verbs, json!(["shout"]), &["resourceRules[0].verbs: Unsupported value"]),
        (&groups, json!([]), &["resource rules must supply at least one api group"]),
        (&groups, json!(["*", ""]), &["must not specify other api groups"]),
        (&resources, json!([]), &["resource rules must supply at least one resource"]),
        (&resources, json!(["*", "p"]), &["must not specify other resources"]),
        (&namespaces, json!([]), &["not cluster scoped must supply at least one namespace"]),
        (&namespaces, json!(["*", "a"]), &["must not specify other namespaces"]),
        (
            &namespaces,
            json!(["A"]),
            &["namespaces[0]: Invalid value: \"A\": each member of this list must be '*' or a DNS-1123 label; "],
        ),
        (urls, json!([]), &["nonResourceURLs must contain at least one value"]),
        (urls, json!(["*", "/a"]), &["must not specify other non-resource URLs"]),
        (urls, json!([""]), &["must not be empty"]),
        (urls, json!(["a"]), &["must start with slash"]),
        (urls, json!(["/a b"]), &["must not contain white-space"]),
        (urls, json!(["/a//b"]), &["must not contain double slash"]),
        (urls, json!(["/*/b"]), &["wildcard can only do suffix matching"]),
        (urls, json!(["/a*"]), &["wildcard can only do suffix matching"]),
    ];
    check(&FLOW_SCHEMA, "s", &schema(), &[]);
    for (pointer, value, expected) in rows {
        check(&FLOW_SCHEMA, "s", &with(schema(), pointer, value), expected);
    }
    let nothing = json!({ "subjects": schema()["rules"][0]["subjects"] });
    check(&FLOW_SCHEMA, "s", &with(schema(), "/rules/0", nothing), &["has to be non-empty"]);
}

fn level(response: Value) -> Value {
    json!({ "type": "Limited", "limited": { "limitResponse": response } })
}

fn queuing(queues: i64, hand: i64, length: i64) -> Value {
    let queuing = json!({ "queues": queues, "handSize": hand, "queueLengthLimit": length });
    level(json!({ "type": "Queue", "queuing": queuing }))
}

#[test]
fn levels_are_checked_in_the_words_that_are_known() {
    let reject = || level(json!({ "type": "Reject" }));
    let rows: Vec<(Value, &[&str])> = vec![
        (reject(), &[]),
        (with(reject(), "/limited/nominalConcurrencyShares", json!(0)), &[]),
        (
            with(reject(), "/limited/nominalConcurrencyShares", json!(-1)),
            &["spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer"],
        ),
        (with(reject(), "/limited/lendablePercent", json!(101)), &["must be between 0 and 100, inclusive"]),
        (
            with(reject(), "/limited/borrowingLimitPercent", json!(-1)),
            &["if specified, must be a non-negative integer"],
        ),
        (with(reject(), "/exempt", json!({})), &["spec.exempt: Forbidden: must be nil if the type is Limited"]),
        (json!({"type": "Limited"}), &["spec.limited: Required value: must not be empty when type is Limited"]),
        (json!({"type": "Boundless"}), &["supported values: \"Exempt\", \"Limited\""]),
        (
            json!({"type": "Exempt"}),
            &["spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'"],
        ),
        (level(json!({"type": "Sing"})), &["supported values: \"Queue\", \"Reject\""]),
        (
            level(json!({"type": "Reject", "queuing": {}})),
            &["must be nil if limited.limitResponse.type is not Limited"],
        ),
        (level(json!({"type": "Queue"})), &["must not be empty if limited.limitResponse.type is Limited"]),
        (level(json!({"type": "Queue", "queuing": {}})), &[]),
        (queuing(512, 4, 100), &[]),
        (queuing(10_000_000, 2, 100), &[]),
        (queuing(512, 4, -1), &["queueLengthLimit: Invalid value: -1: must be positive"]),
        (queuing(-1, 4, 1), &["queues: Invalid value: -1: must be positive", "should not be greater than queues (-1)"]),
        (queuing(7, 8, 1), &["should not be greater than queues (7)"]),
        (queuing(7, -8, 1), &["handSize: Invalid value: -8: must be positive"]),
        (queuing(512, 8, 1), &["required entropy bits of deckSize 512 and handSize 8 should not be greater than 60"]),
        (queuing(128, 10, 1), &["required entropy bits of deckSize 128 and handSize 10"]),
        (queuing(i64::from(i32::MAX), 3, 1), &["must not be greater than 10000000", "deckSize 2147483647"]),
    ];
    for (spec, expected) in rows {
        check(&PRIORITY_LEVEL, "l", &spec, expected);
    }
}

#[test]
fn what_the_server_cannot_do_without_keeps_its_spec() {
    for name in ["exempt", "catch-all"] {
        check(&FLOW_SCHEMA, name, &fixed_schema(name).unwrap(), &[]);
        check(&PRIORITY_LEVEL, name, &fixed_level(name).unwrap(), &[]);
        let other = with(fixed_schema(name).unwrap(), "/priorityLevelConfiguration/name", json!("x"));
        check(&FLOW_SCHEMA, name, &other, &[&format!("spec of '{name}' must equal the fixed value")]);
    }
    let bolder = with(fixed_level("catch-all").unwrap(), "/limited/nominalConcurrencyShares", json!(6));
    check(&PRIORITY_LEVEL, "catch-all", &bolder, &["spec of 'catch-all' must equal the fixed value"]);
    let lending = with(fixed_level("exempt").unwrap(), "/exempt/lendablePercent", json!(10));
    check(&PRIORITY_LEVEL, "exempt", &lending, &[]);
    let wrong = with(fixed_level("exempt").unwrap(), "/exempt/nominalConcurrencyShares", json!(-1));
    check(&PRIORITY_LEVEL, "exempt", &wrong, &["must be a non-negative integer"]);
    let limited = level(json!({ "type": "Reject" }));
    check(
        &PRIORITY_LEVEL,
        "exempt",
        &limited,
        &["if and only if name", "except the 'spec.exempt' field must equal the fixed value"],
    );
}

#[test]
fn defaults_are_filled_in() {
    let filled = |rules: &Rules, spec: Value| {
        let mut object = json!({ "metadata": { "name": "n" }, "spec": spec });
        rules.default(&mut object);
        let once = object.clone();
        rules.default(&mut object);
        assert_eq!(object, once);
        object["spec"].clone()
    };
    let spec = filled(&PRIORITY_LEVEL, level(json!({ "type": "Queue", "queuing": { "queues": 0 } })));
    assert_eq!(
        spec["limited"],
        json!({
            "nominalConcurrencyShares": 30, "lendablePercent": 0,
            "limitResponse": { "type": "Queue", "queuing": { "queues": 64, "handSize": 8, "queueLengthLimit": 50 } },
        })
    );
    assert_eq!(filled(&PRIORITY_LEVEL, json!({"type": "Exempt"})), fixed_level("exempt").unwrap());
    assert_eq!(filled(&FLOW_SCHEMA, json!({"matchingPrecedence": 0}))["matchingPrecedence"], 1000);
}

#[test]
fn statuses_name_each_condition_once() {
    let conditions = |types: &[&str]| {
        let list: Vec<Value> = types.iter().map(|kind| json!({ "type": kind, "status": "True" })).collect();
        json!({ "metadata": { "name": "n" }, "spec": schema(), "status": { "conditions": list } })
    };
    let rows: [(&[&str], &[&str]); 3] = [
        (&["Dangling", "Other"], &[]),
        (&["1", "1"], &["status.conditions[1].type: Duplicate value: \"1\""]),
        (&[""], &["status.conditions[0].type: Required value: must not be empty"]),
    ];
    for rules in [&FLOW_SCHEMA, &PRIORITY_LEVEL] {
        for (types, expected) in rows {
            let errors = rules.validate_update(&conditions(types), &conditions(&[]), Part::Subresource("status"));
            let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(said, expected);
        }
    }
}
