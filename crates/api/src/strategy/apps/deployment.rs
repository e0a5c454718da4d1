use serde_json::Value;

use super::{
    SPEC, at_most_all, default_rolling, runs_forever, selector_and_template, selector_is_immutable, template_warnings,
};
use crate::{
    field::FieldError,
    strategy::{
        check, defaults, pod,
        rules::{Errors, Rules},
    },
    value::{int, is_set, set_default},
};

pub(crate) static DEPLOYMENT: Rules = Rules {
    default,
    validate,
    warnings: template_warnings,
    validate_update: selector_is_immutable,
    ..Rules::WITH_STATUS
};

fn default(object: &mut Value) {
    let Some(spec) = defaults::spec(object) else { return };
    set_default(spec, "replicas", 1);
    set_default(spec, "revisionHistoryLimit", 10);
    set_default(spec, "progressDeadlineSeconds", 600);
    defaults::drop_zero(spec, &["minReadySeconds"]);
    default_rolling(spec, "strategy", [("maxUnavailable", "25%"), ("maxSurge", "25%")]);
    pod::default_template(spec);
}

fn validate(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    selector_and_template(spec, "deployment", errors);
    runs_forever(&spec["template"], "ReplicaSet", errors);
    let numbers = ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"];
    check::none_negative(spec, &numbers, &SPEC, errors);
    let deadline = &spec["progressDeadlineSeconds"];
    if is_set(deadline) && int(deadline) <= int(&spec["minReadySeconds"]) {
        let path = SPEC.child("progressDeadlineSeconds");
        errors.push(FieldError::invalid(&path, deadline.clone(), "must be greater than minReadySeconds"));
    }
    strategy(&spec["strategy"], errors);
}

fn strategy(strategy: &Value, errors: &mut Errors) {
    let path = SPEC.child("strategy");
    let rolling = &strategy["rollingUpdate"];
    let rolling_path = path.child("rollingUpdate");
    match strategy["type"].as_str().unwrap_or_default() {
        "Recreate" if is_set(rolling) => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(&rolling_path, why));
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            let unavailable_path = rolling_path.child("maxUnavailable");
            check::int_or_percent(unavailable, &unavailable_path, errors);
            check::int_or_percent(surge, &rolling_path.child("maxSurge"), errors);
            if check::is_zero_int_or_percent(unavailable) && check::is_zero_int_or_percent(surge) {
                let why = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(&unavailable_path, unavailable.clone(), why));
            }
            at_most_all(unavailable, &unavailable_path, errors);
        }
        _ => errors.push(FieldError::not_supported(&path, strategy["type"].clone(), &["Recreate", "RollingUpdate"])),
    }
}
