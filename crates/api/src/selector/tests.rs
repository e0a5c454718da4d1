mod laws;

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn label_selectors_match_as_documented() {
    let labels = json!({"app": "web", "tier": "front", "n": "5", "empty": ""});
    let rows = [
        ("", true),
        ("app=web", true),
        ("app==web", true),
        ("app = web , tier = front", true),
        ("app!=web", false),
        ("missing!=web", true),
        ("app in (web, api)", true),
        ("app in (api)", false),
        ("app notin (api)", true),
        ("missing notin (api)", true),
        ("app", true),
        ("missing", false),
        ("!missing", true),
        ("!app", false),
        ("n>4", true),
        ("n>5", false),
        ("n<6", true),
        ("empty=", true),
        ("app=,tier=front", false),
        ("app in (web),!missing,n>1", true),
        ("in in (x)", false),
    ];
    for (query, expected) in rows {
        let selector = LabelSelector::parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert_eq!(selector.matches_value(&labels), expected, "{query}");
    }
}

#[test]
fn bad_label_selectors_are_refused_in_upstreams_words() {
    let rows = [
        ("app in", "unable to parse requirement: found '', expected: '('"),
        ("app=a=b", "found '=', expected: ',' or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        (
            "n>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ];
    for (query, expected) in rows {
        assert_eq!(LabelSelector::parse(query).unwrap_err().to_string(), expected, "{query}");
    }
    assert!(LabelSelector::parse("a/b/c=d").is_err());
    assert!(LabelSelector::parse("a=b c").is_err());
}

#[test]
fn a_missing_selector_selects_nothing_and_an_empty_one_everything() {
    let labels = json!({"a": "b"});
    let rows = [
        (json!(null), false),
        (json!({}), true),
        (json!({"matchLabels": {"a": "b"}}), true),
        (json!({"matchLabels": {"a": "c"}}), false),
        (json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "b"]}]}), true),
        (json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}), false),
    ];
    for (selector, expected) in rows {
        assert_eq!(LabelSelector::from_value(&selector).unwrap().matches_value(&labels), expected, "{selector}");
    }
}

#[test]
fn field_selectors_match_and_escape() {
    let value = |field: &str| match field {
        "status.phase" => "Running",
        "odd" => "a,b=c\\",
        _ => "",
    };
    let rows = [
        ("", true),
        ("status.phase=Running", true),
        ("status.phase==Running", true),
        ("status.phase!=Running", false),
        ("spec.nodeName=", true),
        ("odd=a\\,b\\=c\\\\", true),
        ("status.phase=Running,spec.nodeName!=", false),
    ];
    for (query, expected) in rows {
        let selector = FieldSelector::parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        assert_eq!(selector.matches(value), expected, "{query}");
    }
    assert_eq!(
        FieldSelector::parse("status.phase").unwrap_err().to_string(),
        r#"invalid selector: "status.phase"; can't understand "status.phase""#
    );
    assert!(FieldSelector::parse("a=b\\x").is_err());
    assert_eq!(FieldSelector::parse("spec.nodeName=n1,a!=b").unwrap().exact("spec.nodeName"), Some("n1"));
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(
        key in "[a-z]([a-z0-9-]{0,10}[a-z0-9])?",
        values in prop::collection::btree_set("[a-zA-Z0-9]([a-zA-Z0-9_.-]{0,10}[a-zA-Z0-9])?", 1..4),
        operator in prop::sample::select(vec![Operator::In, Operator::NotIn]),
    ) {
        let values: Vec<String> = values.into_iter().collect();
        let text = Requirement { key, operator, values }.to_string();
        let selector = LabelSelector::parse(&text).unwrap();
        prop_assert_eq!(selector.to_string(), text);
    }

    #[test]
    fn field_selectors_survive_being_written(value in "[a-z,=\\\\]{0,10}") {
        let escaped = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let selector = FieldSelector::parse(&format!("f={escaped}")).unwrap();
        prop_assert_eq!(selector.exact("f"), Some(value.as_str()));
        prop_assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
    }
}
