use serde_json::Value;

use super::{job, schedule};
use crate::{
    field::{FieldError, FieldPath},
    strategy::{
        check, defaults, pod,
        rules::{Errors, Rules},
    },
    value::{is_set, object_at, set_default, text, truth},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");
/// Eleven bytes of a job's name are the time it was made for.
const LONGEST_NAME: usize = 52;

pub(crate) static CRON_JOB: Rules = Rules {
    default: |object| {
        let Some(spec) = defaults::spec(object) else { return };
        set_default(spec, "concurrencyPolicy", "Allow");
        set_default(spec, "suspend", false);
        set_default(spec, "successfulJobsHistoryLimit", 3);
        set_default(spec, "failedJobsHistoryLimit", 1);
        if let Some(template) = object_at(spec, "jobTemplate") {
            defaults::empty_object(template, "metadata");
            if let Some(job) = object_at(template, "spec") {
                pod::default_template(job);
            }
        }
    },
    validate,
    warnings: |object| {
        pod::warnings(&object["spec"]["jobTemplate"]["spec"]["template"]["spec"], "spec.jobTemplate.spec.template.spec")
    },
    ..Rules::WITH_STATUS
};

fn validate(object: &Value, errors: &mut Errors) {
    let name = text(&object["metadata"]["name"]);
    if name.len() > LONGEST_NAME {
        let why = format!("must be no more than {LONGEST_NAME} characters");
        errors.push(FieldError::invalid(&FieldPath::new("metadata").child("name"), name, why));
    }
    let spec = &object["spec"];
    let path = SPEC.child("schedule");
    let written = text(&spec["schedule"]);
    if written.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else if written.contains("TZ") {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(&path, written, why));
    } else if let Err(why) = schedule::Schedule::parse(written) {
        errors.push(FieldError::invalid(&path, written, why.to_string()));
    }
    if is_set(&spec["timeZone"]) {
        time_zone(text(&spec["timeZone"]), &SPEC.child("timeZone"), errors);
    }
    let numbers = ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    check::none_negative(spec, &numbers, &SPEC, errors);
    let policies = ["Allow", "Forbid", "Replace"];
    check::one_of(&spec["concurrencyPolicy"], &policies, &SPEC.child("concurrencyPolicy"), errors);
    let template = SPEC.child("jobTemplate");
    let job_path = template.child("spec");
    let job = &spec["jobTemplate"]["spec"];
    job::validate_spec(job, &job_path, errors);
    if is_set(&job["selector"]) {
        let why = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&job_path.child("selector"), job["selector"].clone(), why));
    }
    if truth(&job["manualSelector"]) {
        errors.push(FieldError::not_supported(&job_path.child("manualSelector"), true, &["nil", "false"]));
    }
}

fn time_zone(zone: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if zone.is_empty() {
        errors.push(FieldError::invalid(path, zone, "timeZone must be nil or non-empty string"));
    } else if zone.eq_ignore_ascii_case("Local") {
        errors.push(FieldError::invalid(
            path,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ));
    } else if crate::time::zone(zone).is_none() {
        errors.push(FieldError::invalid(path, zone, format!("unknown time zone {zone}")));
    }
}
