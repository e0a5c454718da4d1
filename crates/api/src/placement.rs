//! May this pod be on that node, as far as the two objects say themselves: node selectors, taints and tolerations.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/>)

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};

pub type Labels = BTreeMap<String, String>;

/// The pod's `nodeSelector` and the node affinity that it insists on.
pub fn wants_node(spec: &PodSpec, name: &str, labels: &Labels) -> bool {
    let required = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = required.and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.as_ref());
    spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && required.is_none_or(|selector| node_selector_matches(selector, name, labels))
}

/// One of the terms matches; a term without requirements matches nothing.
pub fn node_selector_matches(selector: &NodeSelector, name: &str, labels: &Labels) -> bool {
    selector.node_selector_terms.iter().any(|term| node_term_matches(term, name, labels))
}

pub fn node_term_matches(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.iter().flatten();
    let fields = term.match_fields.iter().flatten();
    if expressions.clone().next().is_none() && fields.clone().next().is_none() {
        return false;
    }
    expressions.into_iter().all(|requirement| holds(requirement, labels.get(&requirement.key).map(String::as_str)))
        && fields.into_iter().all(|requirement| requirement.key == "metadata.name" && holds(requirement, Some(name)))
}

/// The one node that the only term asks for by name, as the pods of a DaemonSet do.
pub fn only_node(selector: &NodeSelector) -> Option<&str> {
    let [term] = selector.node_selector_terms.as_slice() else { return None };
    let mut fields = term.match_fields.iter().flatten();
    let named = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
    match named.values.as_deref() {
        Some([name]) => Some(name),
        _ => None,
    }
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|one| one == value);
    let compare = |larger: bool| {
        let (Some(value), [bound]) = (value.and_then(|value| value.parse::<i64>().ok()), values) else { return false };
        bound.parse::<i64>().is_ok_and(|bound| if larger { value > bound } else { value < bound })
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(true),
        "Lt" => compare(false),
        _ => false,
    }
}

/// One of the tolerations takes the taint.
/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>)
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let value = |value: &Option<String>| value.clone().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && (key.is_empty() || key == taint.key)
            && match toleration.operator.as_deref() {
                Some("Exists") => true,
                None | Some("" | "Equal") => !key.is_empty() && value(&toleration.value) == value(&taint.value),
                Some(operator @ ("Lt" | "Gt")) => compare(operator, &value(&taint.value), &value(&toleration.value)),
                Some(_) => false,
            }
    })
}

/// `Gt` tolerates taints whose number is larger than the toleration's, `Lt` smaller.
fn compare(operator: &str, taint: &str, toleration: &str) -> bool {
    match (taint.parse::<i64>(), toleration.parse::<i64>()) {
        (Ok(taint), Ok(toleration)) if operator == "Gt" => taint > toleration,
        (Ok(taint), Ok(toleration)) => taint < toleration,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn node_terms() {
        let labels: Labels = [("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "8".to_owned())].into();
        let term = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (term, expected) in [
            (term("zone", "In", &["a", "b"]), true),
            (term("zone", "NotIn", &["a"]), false),
            (term("disk", "NotIn", &["a"]), true),
            (term("zone", "Exists", &[]), true),
            (term("disk", "DoesNotExist", &[]), true),
            (term("cores", "Gt", &["4"]), true),
            (term("cores", "Lt", &["8"]), false),
            (term("zone", "Gt", &["4"]), false),
            (json!({}), false),
            (json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}), true),
            (json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}), false),
        ] as [(Value, bool); 11]
        {
            let parsed: NodeSelectorTerm = serde_json::from_value(term.clone()).unwrap();
            assert_eq!(node_term_matches(&parsed, "n1", &labels), expected, "{term}");
        }
    }

    #[test]
    fn one_node_by_name() {
        let name = |operator: &str, names: &[&str]| json!({"matchFields": [{"key": "metadata.name", "operator": operator, "values": names}]});
        for (terms, expected) in [
            (json!([name("In", &["n1"])]), Some("n1")),
            (json!([name("In", &["n1", "n2"])]), None),
            (json!([name("NotIn", &["n1"])]), None),
            (json!([name("In", &["n1"]), name("In", &["n2"])]), None),
            (json!([]), None),
        ] {
            let selector: NodeSelector = serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap();
            assert_eq!(only_node(&selector), expected, "{terms}");
        }
    }

    #[test]
    fn tolerations() {
        let taint = |value: &str| Taint {
            key: "k".into(),
            value: Some(value.into()),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        for (toleration, value, expected) in [
            (json!({"operator": "Exists"}), "v", true),
            (json!({"key": "k", "operator": "Exists"}), "v", true),
            (json!({"key": "k", "value": "v"}), "v", true),
            (json!({"key": "k", "operator": "Equal", "value": "w"}), "v", false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), "v", false),
            (json!({"key": "other", "operator": "Exists"}), "v", false),
            (json!({"key": "k", "operator": "Gt", "value": "5"}), "9", true),
            (json!({"key": "k", "operator": "Lt", "value": "5"}), "9", false),
        ] as [(Value, &str, bool); 8]
        {
            let parsed: Toleration = serde_json::from_value(toleration.clone()).unwrap();
            assert_eq!(tolerates(&[parsed], &taint(value)), expected, "{toleration}");
        }
    }
}
