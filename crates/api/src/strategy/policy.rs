//! Disruption budgets, priorities and runtime classes.

use serde_json::json;

use super::{
    check,
    rules::{Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    value::{int, is_set, set_default, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) static POD_DISRUPTION_BUDGET: Rules = Rules {
    initial_status: Some(
        || json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}),
    ),
    unconditional_update: false,
    validate: |object, errors| {
        let spec = &object["spec"];
        if is_set(&spec["minAvailable"]) && is_set(&spec["maxUnavailable"]) {
            let why = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::invalid(&SPEC, spec.clone(), why));
        }
        for key in ["minAvailable", "maxUnavailable"] {
            if is_set(&spec[key]) {
                let path = SPEC.child(key);
                check::int_or_percent(&spec[key], &path, errors);
                if check::percent_of(&spec[key]).is_some_and(|percent| percent > 100) {
                    errors.push(FieldError::invalid(&path, spec[key].clone(), "must not be greater than 100%"));
                }
            }
        }
        check::label_selector(&spec["selector"], &SPEC.child("selector"), errors);
        let policies = ["AlwaysAllow", "IfHealthyBudget"];
        let path = SPEC.child("unhealthyPodEvictionPolicy");
        check::optional_one_of(&spec["unhealthyPodEvictionPolicy"], &policies, &path, errors);
    },
    ..Rules::WITH_STATUS
};

/// Names that start so are the system's own priorities.
const SYSTEM_PREFIX: &str = "system-";
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
const SYSTEM_PRIORITIES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(super) static PRIORITY_CLASS: Rules = Rules {
    generation: Generation::Content,
    default: |object| {
        if let Some(object) = object.as_object_mut() {
            set_default(object, "preemptionPolicy", "PreemptLowerPriority");
        }
    },
    validate: |object, errors| {
        let (name, value) = (text(&object["metadata"]["name"]), int(&object["value"]));
        let known = SYSTEM_PRIORITIES.contains(&(name, value));
        if name.starts_with(SYSTEM_PREFIX) && !known {
            let meta = FieldPath::new("metadata");
            let why = format!(
                "priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use only. error: {name} is \
                 not a known system priority class"
            );
            errors.push(FieldError::forbidden(&meta.child("name"), why));
        } else if value > HIGHEST_USER_PRIORITY && !known {
            let why = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
            errors.push(FieldError::forbidden(&FieldPath::new("value"), why));
        }
        let policies = ["Never", "PreemptLowerPriority"];
        let path = FieldPath::new("preemptionPolicy");
        check::optional_one_of(&object["preemptionPolicy"], &policies, &path, errors);
    },
    validate_update: |new, old, _, errors| {
        if int(&new["value"]) != int(&old["value"]) {
            errors.push(FieldError::forbidden(&FieldPath::new("value"), "may not be changed in an update."));
        }
        let path = FieldPath::new("preemptionPolicy");
        check::immutable(&new["preemptionPolicy"], &old["preemptionPolicy"], &path, errors);
    },
    ..Rules::DATA
};

pub(super) static RUNTIME_CLASS: Rules = Rules {
    unconditional_update: false,
    validate: |object, errors| {
        check::name(&object["handler"], names::label, &FieldPath::new("handler"), errors);
        let overhead = FieldPath::new("overhead");
        check::resource_list(&object["overhead"]["podFixed"], &overhead.child("podFixed"), errors);
    },
    validate_update: |new, old, _, errors| {
        check::immutable(&new["handler"], &old["handler"], &FieldPath::new("handler"), errors);
    },
    ..Rules::DATA
};
