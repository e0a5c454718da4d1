//! What a Job may say about failure and success: of the whole, of an index, of a pod.

use serde_json::Value;

use crate::{
    field::{FieldError, FieldPath},
    strategy::{check, rules::Errors},
    value::{int, is_empty, is_set, items, text},
};

/// Rules of one policy, at most (upstream's maxPodFailurePolicyRules and maxJobSuccessPolicyRule).
const MOST_RULES: usize = 20;

pub(super) fn per_index(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let limit_path = path.child("backoffLimitPerIndex");
    let limit = &spec["backoffLimitPerIndex"];
    if is_set(limit) && spec["completionMode"] != "Indexed" {
        errors.push(FieldError::invalid(&limit_path, limit.clone(), "requires indexed completion mode"));
    }
    let most = &spec["maxFailedIndexes"];
    if !is_set(most) {
        return;
    }
    if !is_set(limit) {
        errors.push(FieldError::required(&limit_path, "when maxFailedIndexes is specified"));
    }
    if is_set(&spec["completions"]) && int(most) > int(&spec["completions"]) {
        let why = "must be less than or equal to completions";
        errors.push(FieldError::invalid(&path.child("maxFailedIndexes"), most.clone(), why));
    }
}

pub(super) fn success(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let policy = &spec["successPolicy"];
    if !is_set(policy) {
        return;
    }
    let path = path.child("successPolicy");
    if spec["completionMode"] != "Indexed" {
        errors.push(FieldError::invalid(&path, policy.clone(), "requires indexed completion mode"));
        return;
    }
    let list = path.child("rules");
    let rules = items(&policy["rules"]);
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&list, why));
    }
    if rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&list, rules.len(), MOST_RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        success_rule(rule, int(&spec["completions"]), &list.index(i), errors);
    }
}

fn success_rule(rule: &Value, completions: i64, path: &FieldPath<'_>, errors: &mut Errors) {
    let (indexes, count) = (&rule["succeededIndexes"], &rule["succeededCount"]);
    if !is_set(indexes) && !is_set(count) {
        errors.push(FieldError::required(path, "at least one of succeededCount or succeededIndexes must be specified"));
    }
    let mut named = None;
    if is_set(indexes) {
        match count_indexes(text(indexes), completions) {
            Ok(number) => named = Some(number),
            Err(why) => {
                let why = format!("error parsing succeededIndexes: {why}");
                errors.push(FieldError::invalid(&path.child("succeededIndexes"), indexes.clone(), why));
            }
        }
    }
    if is_set(count) {
        let path = path.child("succeededCount");
        check::not_negative(count, &path, errors);
        if int(count) > completions {
            let why = format!("must be less than or equal to {completions} (the number of specified completions)");
            errors.push(FieldError::invalid(&path, count.clone(), why));
        }
        if let Some(named) = named.filter(|named| int(count) > *named) {
            let why = format!(
                "must be less than or equal to {named} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(FieldError::invalid(&path, count.clone(), why));
        }
    }
}

/// How many indexes a text like `0,3-5` names; they come in order, and are below `completions`.
fn count_indexes(written: &str, completions: i64) -> Result<i64, String> {
    let number = |text: &str| {
        text.parse::<u32>().map(i64::from).map_err(|_| format!("cannot convert string to integer for index: {text:?}"))
    };
    let (mut total, mut last) = (0, -1);
    for part in written.split(',').filter(|_| !written.is_empty()) {
        let (first, end) = part.split_once('-').unwrap_or((part, part));
        let (first, end) = (number(first)?, number(end)?);
        if first <= last || end < first {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        if end >= completions {
            return Err(format!("too large index: {part:?}"));
        }
        (total, last) = (total + end - first + 1, end);
    }
    Ok(total)
}

pub(super) fn failure(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if !is_set(&spec["podFailurePolicy"]) {
        return;
    }
    if spec["template"]["spec"]["restartPolicy"] != "Never" {
        let template = path.child("template");
        let template = template.child("spec");
        let why = "only \"Never\" is supported when podFailurePolicy is specified";
        let value = spec["template"]["spec"]["restartPolicy"].clone();
        errors.push(FieldError::invalid(&template.child("restartPolicy"), value, why));
    }
    let path = path.child("podFailurePolicy");
    let list = path.child("rules");
    let rules = items(&spec["podFailurePolicy"]["rules"]);
    if rules.len() > MOST_RULES {
        errors.push(FieldError::too_many(&list, rules.len(), MOST_RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        failure_rule(spec, rule, &list.index(i), errors);
    }
}

fn failure_rule(spec: &Value, rule: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
    let action_path = path.child("action");
    check::one_of(&rule["action"], &actions, &action_path, errors);
    if rule["action"] == "FailIndex" && !is_set(&spec["backoffLimitPerIndex"]) {
        let why = "requires the backoffLimitPerIndex to be set";
        errors.push(FieldError::invalid(&action_path, rule["action"].clone(), why));
    }
    match (is_set(&rule["onExitCodes"]), !is_empty(&rule["onPodConditions"])) {
        (true, true) => {
            let why = "specifying both OnExitCodes and OnPodConditions is not supported";
            errors.push(FieldError::invalid(path, rule.clone(), why));
        }
        (false, false) => {
            let why = "specifying one of OnExitCodes and OnPodConditions is required";
            errors.push(FieldError::invalid(path, rule.clone(), why));
        }
        (true, false) => exit_codes(spec, &rule["onExitCodes"], &path.child("onExitCodes"), errors),
        (false, true) => {}
    }
}

fn exit_codes(spec: &Value, wanted: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check::one_of(&wanted["operator"], &["In", "NotIn"], &path.child("operator"), errors);
    let pod = &spec["template"]["spec"];
    let mut containers = items(&pod["containers"]).iter().chain(items(&pod["initContainers"]));
    let name = &wanted["containerName"];
    if is_set(name) && !containers.any(|container| container["name"] == *name) {
        let why = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), name.clone(), why));
    }
    let list = path.child("values");
    let values = items(&wanted["values"]);
    if values.is_empty() {
        errors.push(FieldError::invalid(&list, wanted["values"].clone(), "at least one value is required"));
    }
    if wanted["operator"] == "In"
        && let Some(at) = values.iter().position(|value| int(value) == 0)
    {
        errors.push(FieldError::invalid(&list.index(at), 0, "must not be 0 for the In operator"));
    }
}
