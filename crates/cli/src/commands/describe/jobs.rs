//! Workloads that come to an end.

use serde_json::Value;

use super::{Page, controller, or_none, pod, selector_text, show, time};
use crate::cx::{dig, dig_str, items};

pub fn job(page: &mut Page, object: &Value) {
    page.names(object);
    page.field(0, "Selector", selector_text(dig(object, "spec.selector")));
    page.labels_and_annotations(object);
    if let Some(owner) = controller(object) {
        page.field(0, "Controlled By", owner);
    }
    let spec = &object["spec"];
    match spec["parallelism"].as_i64() {
        Some(parallel) => page.field(0, "Parallelism", parallel),
        None => page.field(0, "Parallelism", "<unset>"),
    }
    match spec["completions"].as_i64() {
        Some(completions) => page.field(0, "Completions", completions),
        None => page.field(0, "Completions", "<unset>"),
    }
    page.some(0, "Completion Mode", &spec["completionMode"]);
    page.some(0, "Suspend", &spec["suspend"]);
    page.some(0, "Backoff Limit", &spec["backoffLimit"]);
    page.some(0, "TTL Seconds After Finished", &spec["ttlSecondsAfterFinished"]);
    let status = &object["status"];
    if !status["startTime"].is_null() {
        page.field(0, "Start Time", time(&status["startTime"]));
    }
    if !status["completionTime"].is_null() {
        page.field(0, "Completed At", time(&status["completionTime"]));
    }
    let at = |field: &str| status[field].as_str().and_then(knarr_api::time::parse);
    if let (Some(from), Some(to)) = (at("startTime"), at("completionTime")) {
        let seconds = knarr_api::time::seconds_between(from, to);
        page.field(0, "Duration", knarr_api::time::human_duration(seconds));
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        page.field(0, "Active Deadline Seconds", format_args!("{seconds}s"));
    }
    let n = |field: &str| status[field].as_i64().unwrap_or(0);
    match status["ready"].as_i64() {
        None => page.field(
            0,
            "Pods Statuses",
            format_args!("{} Running / {} Succeeded / {} Failed", n("active"), n("succeeded"), n("failed")),
        ),
        Some(ready) => page.field(
            0,
            "Pods Statuses",
            format_args!(
                "{} Active ({ready} Ready) / {} Succeeded / {} Failed",
                n("active"),
                n("succeeded"),
                n("failed")
            ),
        ),
    }
    if spec["completionMode"] == "Indexed" {
        page.field(0, "Completed Indexes", or_none(&show(&status["completedIndexes"])));
    }
    pod::template(page, &spec["template"]);
}

pub fn cron_job(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    let spec = &object["spec"];
    let number_or = |value: &Value| value.as_i64().map_or("<unset>".to_owned(), |n| n.to_string());
    page.field(0, "Schedule", dig_str(spec, "schedule"));
    page.field(0, "Concurrency Policy", dig_str(spec, "concurrencyPolicy"));
    page.field(0, "Suspend", if spec["suspend"] == true { "True" } else { "False" });
    page.field(
        0,
        "Time Zone",
        match dig_str(spec, "timeZone") {
            "" => "<unset>",
            zone => zone,
        },
    );
    page.field(0, "Successful Job History Limit", number_or(&spec["successfulJobsHistoryLimit"]));
    page.field(0, "Failed Job History Limit", number_or(&spec["failedJobsHistoryLimit"]));
    match spec["startingDeadlineSeconds"].as_i64() {
        Some(seconds) => page.field(0, "Starting Deadline Seconds", format_args!("{seconds}s")),
        None => page.field(0, "Starting Deadline Seconds", "<unset>"),
    }
    let job = dig(spec, "jobTemplate.spec");
    page.field(
        0,
        "Selector",
        match selector_text(&job["selector"]).as_str() {
            "" => "<unset>",
            text => text,
        },
    );
    page.field(0, "Parallelism", number_or(&job["parallelism"]));
    page.field(0, "Completions", number_or(&job["completions"]));
    if let Some(seconds) = job["activeDeadlineSeconds"].as_i64() {
        page.field(0, "Active Deadline Seconds", format_args!("{seconds}s"));
    }
    pod::template(page, &job["template"]);
    page.field(0, "Last Schedule Time", time(dig(object, "status.lastScheduleTime")));
    let active: Vec<&str> = items(dig(object, "status.active")).map(|job| dig_str(job, "name")).collect();
    page.field(0, "Active Jobs", or_none(&active.join(", ")));
}
