use serde_json::Value;

use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::{check, rules::Errors},
    value::{is_empty, is_set, items, same, text},
};

pub(super) fn validate(list: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for (i, toleration) in items(list).iter().enumerate() {
        let path = path.index(i);
        let (key, operator) = (text(&toleration["key"]), text(&toleration["operator"]));
        check::optional_name(&toleration["key"], names::qualified_name, &path.child("key"), errors);
        let operator_path = path.child("operator");
        if key.is_empty() && operator != "Exists" {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&operator_path, operator, why));
        }
        if is_set(&toleration["tolerationSeconds"]) && toleration["effect"] != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&path.child("effect"), text(&toleration["effect"]), why));
        }
        match operator {
            "Equal" | "" => {
                let value = text(&toleration["value"]);
                let faults = names::label_value(value).join(";");
                if !faults.is_empty() {
                    errors.push(FieldError::invalid(&operator_path, value, faults));
                }
            }
            "Exists" => {
                if !is_empty(&toleration["value"]) {
                    let why = "value must be empty when `operator` is 'Exists'";
                    errors.push(FieldError::invalid(&operator_path, toleration.clone(), why));
                }
            }
            _ => errors.push(FieldError::not_supported(&operator_path, operator, &["Equal", "Exists"])),
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        check::optional_one_of(&toleration["effect"], &effects, &path.child("effect"), errors);
    }
}

/// A running pod may gain tolerations; those it has may change their time only.
pub(super) fn only_added(new: &Value, old: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for before in items(old) {
        let kept = items(new).iter().any(|after| same_but_seconds(after, before));
        if !kept {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            errors.push(FieldError::forbidden(path, why));
            return;
        }
    }
}

fn same_but_seconds(a: &Value, b: &Value) -> bool {
    ["key", "operator", "value", "effect"].iter().all(|key| same(&a[*key], &b[*key]))
}
