//! Resources that nobody here can measure: an operator writes into the node's capacity how many there are, and the
//! node says that pods may have them.
//! (<https://kubernetes.io/docs/tasks/administer-cluster/extended-resource-node/>)

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::NodeStatus, apimachinery::pkg::api::resource::Quantity};
use serde_json::Value;

pub type Amounts = BTreeMap<String, Quantity>;

/// How many of each there are.
pub fn given(status: Option<&NodeStatus>) -> Amounts {
    extended(status.and_then(|status| status.capacity.as_ref()))
}

/// Pods are not yet told of what there is, or still of what there was.
pub fn are_news(status: &NodeStatus) -> bool {
    extended(status.capacity.as_ref()) != extended(status.allocatable.as_ref())
}

/// Takes back what the API still says may be had and the node's status does not: a patch leaves alone what it does not
/// name.
pub fn withdraw(known: Option<&NodeStatus>, patch: &mut Value) {
    let Some(Value::Object(ours)) = patch.pointer_mut("/status/allocatable") else { return };
    for (name, _) in extended(known.and_then(|known| known.allocatable.as_ref())) {
        ours.entry(name).or_insert(Value::Null);
    }
}

fn extended(amounts: Option<&Amounts>) -> Amounts {
    let is_extended = |name: &str| name.contains('/') && !name.contains("kubernetes.io/");
    let all = amounts.into_iter().flatten();
    all.filter(|(name, _)| is_extended(name)).map(|(name, amount)| (name.clone(), amount.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(value: Value) -> NodeStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_an_operator_gives_is_told_and_taken_back() {
        let new = status(json!({"capacity": {"cpu": "4", "example.com/berth": "2", "hugepages-2Mi": "0"},
            "allocatable": {"cpu": "3"}}));
        assert!(are_news(&new));
        assert_eq!(given(Some(&new)).into_keys().collect::<Vec<_>>(), ["example.com/berth"]);
        let gone = status(json!({"capacity": {"cpu": "4"}, "allocatable": {"cpu": "3", "example.com/berth": "2"}}));
        assert!(are_news(&gone));
        let mut patch = json!({"status": {"allocatable": {"cpu": "3"}}});
        withdraw(Some(&gone), &mut patch);
        assert_eq!(patch, json!({"status": {"allocatable": {"cpu": "3", "example.com/berth": null}}}));
        assert!(!are_news(&status(json!({"capacity": {"cpu": "4"}, "allocatable": {"cpu": "3"}}))));
    }
}
