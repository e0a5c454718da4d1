use serde_json::{Value, json};

use super::{
    SPEC, at_most_all, default_rolling, runs_forever, selector_and_template, selector_is_immutable, template_warnings,
};
use crate::{
    field::FieldError,
    strategy::{
        Part, check, defaults, pod,
        rules::{Errors, Rules},
    },
    value::{is_set, object_at, object_mut, same, set_default, text},
};

/// Counts the changes of the template; once a field, now an annotation that controllers still read.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) static DAEMON_SET: Rules = Rules {
    initial_status: Some(
        || json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0}),
    ),
    default,
    create: |object| set_template_generation(object, 1),
    update: |new, old, part| {
        if part == Part::Main {
            let before = text(&old["metadata"]["annotations"][TEMPLATE_GENERATION]).parse().unwrap_or(1);
            let changed = !same(&new["spec"]["template"], &old["spec"]["template"]);
            set_template_generation(new, before + i64::from(changed));
        }
    },
    validate,
    warnings: template_warnings,
    validate_update: selector_is_immutable,
    ..Rules::WITH_STATUS
};

fn set_template_generation(object: &mut Value, generation: i64) {
    if let Some(meta) = object_mut(object, "metadata")
        && let Some(annotations) = object_at(meta, "annotations")
    {
        annotations.insert(TEMPLATE_GENERATION.into(), generation.to_string().into());
    }
}

fn default(object: &mut Value) {
    let Some(spec) = defaults::spec(object) else { return };
    set_default(spec, "revisionHistoryLimit", 10);
    defaults::drop_zero(spec, &["minReadySeconds"]);
    default_rolling(spec, "updateStrategy", [("maxUnavailable", 1), ("maxSurge", 0)]);
    pod::default_template(spec);
}

fn validate(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    selector_and_template(spec, "daemonset", errors);
    runs_forever(&spec["template"], "DaemonSet", errors);
    check::none_negative(spec, &["minReadySeconds", "revisionHistoryLimit"], &SPEC, errors);
    let strategy = &spec["updateStrategy"];
    let path = SPEC.child("updateStrategy");
    let rolling = &strategy["rollingUpdate"];
    let rolling_path = path.child("rollingUpdate");
    match text(&strategy["type"]) {
        "OnDelete" => {}
        "RollingUpdate" if !is_set(rolling) => errors.push(FieldError::required(&rolling_path, "")),
        "RollingUpdate" => rolling_update(rolling, &rolling_path, errors),
        _ => {
            let path = path.child("type");
            errors.push(FieldError::not_supported(&path, strategy["type"].clone(), &["OnDelete", "RollingUpdate"]));
        }
    }
}

fn rolling_update(rolling: &Value, path: &crate::field::FieldPath<'_>, errors: &mut Errors) {
    let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
    let (unavailable_path, surge_path) = (path.child("maxUnavailable"), path.child("maxSurge"));
    check::int_or_percent(unavailable, &unavailable_path, errors);
    check::int_or_percent(surge, &surge_path, errors);
    at_most_all(unavailable, &unavailable_path, errors);
    at_most_all(surge, &surge_path, errors);
    match (check::is_zero_int_or_percent(unavailable), check::is_zero_int_or_percent(surge)) {
        (true, true) => {
            let why = "cannot be 0 when maxSurge is 0";
            errors.push(FieldError::invalid(&unavailable_path, unavailable.clone(), why));
        }
        (false, false) => {
            let why = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(&surge_path, surge.clone(), why));
        }
        _ => {}
    }
}
