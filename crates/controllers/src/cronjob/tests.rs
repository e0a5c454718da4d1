use jiff::{Timestamp, tz::TimeZone};
use knarr_api::strategy::batch::schedule::Schedule;
use serde_json::{Value, json};

use super::{
    plan::*,
    schedule::{Due, Timetable},
    *,
};

fn cron_job(spec: Value, status: Value) -> CronJob {
    let mut value = json!({"metadata": {"name": "tick", "namespace": "d", "uid": "c", "creationTimestamp": "2024-01-01T00:00:00Z"},
        "spec": {"schedule": "*/5 * * * *", "concurrencyPolicy": "Allow", "successfulJobsHistoryLimit": 2,
            "failedJobsHistoryLimit": 1, "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}},
        "status": status});
    json_patch::merge(&mut value, &json!({"spec": spec}));
    serde_json::from_value(value).unwrap()
}

/// `name/end`, where the end is Complete, Failed or nothing.
fn job(text: &str) -> Arc<Job> {
    let (name, end) = text.split_once('/').unwrap();
    let conditions: Vec<_> =
        [end].iter().filter(|end| !end.is_empty()).map(|end| json!({"type": end, "status": "True"})).collect();
    let completed = (end == "Complete").then_some("2024-01-01T00:03:00Z");
    let job = json!({"metadata": {"name": name, "namespace": "d", "uid": name}, "status": {"conditions": conditions,
        "startTime": format!("2024-01-01T00:00:0{}Z", &name[name.len() - 1..]), "completionTime": completed}});
    Arc::new(serde_json::from_value(job).unwrap())
}

fn at(time: &str) -> Timestamp {
    format!("2024-01-01T{time}Z").parse().unwrap()
}

fn check(spec: Value, active: &[&str], jobs: &[&str], now: &str, expected: &str) {
    let refs: Vec<_> = active.iter().map(|name| json!({"name": name, "uid": name})).collect();
    let cron_job = cron_job(spec.clone(), json!({"active": refs}));
    let jobs: Vec<_> = jobs.iter().map(|text| job(text)).collect();
    let plan = plan::plan(&cron_job, &jobs, &["lost".to_owned()], at(now));
    let mut parts: Vec<String> = plan.notes.iter().map(|note| note.reason.to_owned()).collect();
    parts.extend(plan.delete.iter().map(|job| format!("-{}", meta::name(&job.metadata))));
    parts.extend(plan.create.iter().map(|(job, _)| format!("+{}", meta::name(&job.metadata))));
    parts.extend(plan.status.active.iter().flatten().map(|one| one.name.clone().unwrap()));
    parts.extend(plan.look_again.map(|wait| format!("again {}", wait.as_secs())));
    assert_eq!(parts.join(" "), expected, "{spec} {active:?}");
}

#[test]
fn jobs_are_made_when_they_are_due() {
    // 2024-01-01T00:05 is minute 28401125 of the epoch.
    check(json!({}), &[], &[], "00:04:00", "again 60");
    check(json!({}), &[], &[], "00:05:00", "+tick-28401125 again 300");
    check(json!({}), &[], &[], "00:12:00", "+tick-28401130 again 180");
    check(json!({"suspend": true}), &[], &[], "00:12:00", "");
    check(json!({"startingDeadlineSeconds": 60}), &[], &[], "00:12:00", "again 180");
    check(json!({"startingDeadlineSeconds": 300}), &[], &[], "00:12:00", "+tick-28401130 again 180");
    check(json!({}), &["tick-28401125"], &["tick-28401125/"], "00:06:00", "tick-28401125 again 240");
    check(json!({"schedule": "x"}), &[], &[], "00:06:00", "UnparseableSchedule");
    check(json!({"timeZone": "Mars/Olympus"}), &[], &[], "00:06:00", "UnknownTimeZone");
    check(json!({"schedule": "* * * * *"}), &[], &[], "03:00:00", "TooManyMissedTimes +tick-28401300 again 60");
}

#[test]
fn what_still_runs_counts_as_the_policy_says() {
    let policy = |name: &str| json!({"concurrencyPolicy": name});
    let (active, jobs) = (["old1"], ["old1/"]);
    check(policy("Allow"), &active, &jobs, "00:05:00", "+tick-28401125 old1 again 300");
    check(policy("Forbid"), &active, &jobs, "00:05:00", "JobAlreadyActive old1 again 300");
    check(policy("Forbid"), &active, &["old1/Complete"], "00:06:00", "SawCompletedJob +tick-28401125 again 240");
    check(policy("Replace"), &active, &jobs, "00:05:00", "-old1 +tick-28401125 again 300");
}

#[test]
fn what_ended_is_told_and_cleared_away() {
    let jobs = ["a1/Complete", "a3/Complete", "a2/Complete", "f1/Failed", "f2/Failed", "x1/"];
    check(json!({}), &["a3", "lost"], &jobs, "00:01:00", "SawCompletedJob UnexpectedJob MissingJob -a1 -f1 again 240");
    let plan = plan::plan(&cron_job(json!({}), json!({})), &[job("a1/Complete")], &[], at("00:04:00"));
    assert_eq!(plan.status.last_successful_time.map(|time| time.0), Some(at("00:03:00")));
}

#[test]
fn a_job_says_for_when_it_is() {
    let cron_job = cron_job(json!({"schedule": "30 9 * * *", "timeZone": "Europe/Berlin"}), json!({}));
    let (job, due) = plan::plan(&cron_job, &[], &[], at("08:31:00")).create.unwrap();
    let annotations = job.metadata.annotations.clone().unwrap();
    assert_eq!(annotations["batch.kubernetes.io/cronjob-scheduled-timestamp"], "2024-01-01T09:30:00+01:00");
    assert_eq!((due, job.metadata.labels.as_ref().map(|labels| labels.len())), (at("08:30:00"), Some(1)));
    let mut status = cron_job.status.unwrap();
    note_made(&mut status, &job, due);
    note_made(&mut status, &job, due);
    assert_eq!((status.active.unwrap().len(), status.last_schedule_time.unwrap().0), (1, due));
}

#[test]
fn the_latest_start_is_found_however_long_ago_the_last_was() {
    let rows = [
        ("* * * * *", "2031-05-05T05:05:30Z", "2031-05-05T05:05:00Z"),
        ("0 3 * * 1", "2031-05-05T05:05:30Z", "2031-05-05T03:00:00Z"),
        ("*/10 9-10 * * *", "2031-05-05T05:05:30Z", "2031-05-04T10:50:00Z"),
    ];
    for (schedule, now, expected) in rows {
        let timetable = Timetable { schedule: Schedule::parse(schedule).unwrap(), zone: TimeZone::UTC };
        let due = timetable.due(&cron_job(json!({}), json!({})), now.parse().unwrap());
        assert_eq!(due, Due { at: expected.parse().ok(), too_many: true }, "{schedule}");
    }
}
