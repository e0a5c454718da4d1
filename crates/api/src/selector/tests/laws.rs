//! Selectors against a plain reading of their definition, and against their own text.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use crate::selector::{FieldRequirement, FieldSelector, LabelSelector, Operator, Requirement};

fn requirement() -> impl Strategy<Value = Requirement> {
    let key = prop::sample::select(vec!["a", "b", "x.io/c", "in", "notin"]).prop_map(str::to_owned);
    let listed = prop::collection::btree_set("[ab1-3]{0,2}", 1..4).prop_map(|values| values.into_iter().collect());
    // A label's value cannot begin with a sign, so that no bound does.
    let bound = (0..4_i64).prop_map(|number| vec![number.to_string()]);
    let one_of = |operators: [Operator; 2]| prop::sample::select(operators.to_vec());
    prop_oneof![
        (key.clone(), one_of([Operator::In, Operator::NotIn]), listed),
        (key.clone(), one_of([Operator::Exists, Operator::DoesNotExist]), Just(Vec::new())),
        (key, one_of([Operator::GreaterThan, Operator::LessThan]), bound),
    ]
    .prop_map(|(key, operator, values)| Requirement { key, operator, values })
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = prop::sample::select(vec!["a", "b", "x.io/c", "in", "notin"]).prop_map(str::to_owned);
    prop::collection::btree_map(key, "[ab1-3]{0,2}", 0..5)
}

/// What the documentation says of one requirement.
fn is_met(requirement: &Requirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let bound = || requirement.values[0].parse::<i64>().unwrap();
    let number = value.and_then(|value| value.parse::<i64>().ok());
    match requirement.operator {
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::In => value.is_some_and(|value| requirement.values.contains(value)),
        Operator::NotIn => value.is_none_or(|value| !requirement.values.contains(value)),
        Operator::GreaterThan => number.is_some_and(|number| number > bound()),
        Operator::LessThan => number.is_some_and(|number| number < bound()),
    }
}

proptest! {
    #[test]
    fn label_selectors_mean_what_they_say(all in prop::collection::vec(requirement(), 0..4), labels in labels()) {
        let text = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let selector = LabelSelector::parse(&text).unwrap();
        let expected = all.iter().all(|one| is_met(one, &labels));
        let pairs = || labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        prop_assert_eq!(selector.matches_value(&json!(labels)), expected, "{}", text);
        prop_assert_eq!(selector.matches_pairs(pairs()), expected);
        prop_assert_eq!(selector.matches(|key| labels.get(key).map(String::as_str)), expected);
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn both_ways_to_write_a_selector_mean_the_same(equal in labels(), labels in labels()) {
        let map = LabelSelector::from_map(&json!(equal));
        let object = LabelSelector::from_value(&json!({"matchLabels": equal})).unwrap();
        let text = LabelSelector::parse(&map.to_string()).unwrap();
        let expected = equal.iter().all(|(key, value)| labels.get(key) == Some(value));
        for selector in [map, object, text] {
            prop_assert_eq!(selector.matches_value(&json!(labels)), expected);
        }
    }

    #[test]
    fn field_selectors_mean_what_they_say(
        all in prop::collection::vec(("[a-c]", any::<bool>(), "[ab,=\\\\]{0,3}"), 0..4),
        object in prop::collection::btree_map("[a-c]", "[ab,=\\\\]{0,3}", 0..4),
    ) {
        let escape = |value: &str| value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let term = |(field, equal, value): &(String, bool, String)| {
            format!("{field}{}{}", if *equal { "=" } else { "!=" }, escape(value))
        };
        let selector = FieldSelector::parse(&all.iter().map(term).collect::<Vec<_>>().join(",")).unwrap();
        let value = |field: &str| object.get(field).map_or("", String::as_str);
        let is_met = |(field, equal, wanted): &(String, bool, String)| (value(field) == wanted) == *equal;
        prop_assert_eq!(selector.matches(value), all.iter().all(is_met), "{}", selector);
        let requirement =
            |(field, equal, value): (String, bool, String)| FieldRequirement { field, equal, value };
        prop_assert_eq!(selector.requirements(), all.into_iter().map(requirement).collect::<Vec<_>>());
    }

    #[test]
    fn any_text_is_a_selector_or_none(text in "[a-c=!<>(),\\\\ in]{0,30}|\\PC{0,30}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
        }
        if let Ok(selector) = FieldSelector::parse(&text) {
            prop_assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
        }
    }
}
