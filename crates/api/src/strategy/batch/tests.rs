use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{super::Strategy, JOB, schedule::Schedule};
use crate::strategy::{Part, batch::CRON_JOB};

fn job() -> Value {
    json!({"metadata": {"name": "pi", "namespace": "d", "uid": "u-1"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})
}

fn texts(errors: Vec<crate::field::FieldError>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn a_new_job_selects_its_own_pods() {
    let mut object = job();
    JOB.default(&mut object);
    JOB.prepare_create(&mut object);
    assert_eq!(texts(JOB.validate_create(&object)), [""; 0]);
    let spec = &object["spec"];
    assert_eq!(spec["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}}));
    assert_eq!(spec["template"]["metadata"]["labels"]["job-name"], "pi");
    assert_eq!(object["metadata"]["labels"], spec["template"]["metadata"]["labels"]);
    let shown = [&spec["completions"], &spec["parallelism"], &spec["backoffLimit"], &spec["suspend"]];
    assert_eq!(shown, [&json!(1), &json!(1), &json!(6), &json!(false)]);
    assert_eq!(spec["podReplacementPolicy"], "TerminatingOrFailed");
}

#[test]
fn a_job_that_restarts_always_or_changes_its_template_is_refused() {
    let mut object = job();
    object["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
    JOB.default(&mut object);
    JOB.prepare_create(&mut object);
    assert_eq!(
        texts(JOB.validate_create(&object)),
        [r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#]
    );

    let mut old = job();
    JOB.default(&mut old);
    JOB.prepare_create(&mut old);
    let mut new = old.clone();
    new["spec"]["parallelism"] = json!(3);
    assert_eq!(texts(JOB.validate_update(&new, &old, Part::Main)), [""; 0]);
    new["spec"]["template"]["spec"]["nodeSelector"] = json!({"a": "b"});
    let errors = texts(JOB.validate_update(&new, &old, Part::Main));
    assert!(errors.len() == 1 && errors[0].ends_with("field is immutable"), "{errors:?}");
    old["spec"]["suspend"] = json!(true);
    assert_eq!(texts(JOB.validate_update(&new, &old, Part::Main)), [""; 0]);
}

#[test]
fn schedules_come_due_as_cron_does() {
    let rows = [
        ("*/15 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:15:00Z"),
        ("0 0 * * *", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("@hourly", "2026-01-01T00:59:59Z", "2026-01-01T01:00:00Z"),
        ("30 6 * * mon-fri", "2026-01-02T07:00:00Z", "2026-01-05T06:30:00Z"),
        ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 12 1 JAN ?", "2026-01-01T12:00:00Z", "2027-01-01T12:00:00Z"),
        ("@every 90s", "2026-01-01T00:00:00Z", "2026-01-01T00:01:30Z"),
    ];
    for (written, after, expected) in rows {
        let after: Timestamp = after.parse().unwrap();
        let next = Schedule::parse(written).unwrap().next(after, &TimeZone::UTC).unwrap();
        assert_eq!(next.to_string(), expected, "{written}");
    }
    let bad = [
        "",
        "* * * *",
        "60 * * * *",
        "* * 0 * *",
        "*/0 * * * *",
        "1-2-3 * * * *",
        "a * * * *",
        "@never",
        "5-1 * * * *",
    ];
    for written in bad {
        assert!(Schedule::parse(written).is_err(), "{written}");
    }
}

#[test]
fn a_cron_job_says_what_is_wrong_with_its_schedule() {
    let mut object =
        json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * *", "jobTemplate": {"spec": job()["spec"]}}});
    CRON_JOB.default(&mut object);
    assert_eq!(
        texts(CRON_JOB.validate_create(&object)),
        [r#"spec.schedule: Invalid value: "* * *": expected exactly 5 fields, found 3: [* * *]"#]
    );
    object["spec"]["schedule"] = json!("@daily");
    object["spec"]["concurrencyPolicy"] = json!("Maybe");
    assert_eq!(
        texts(CRON_JOB.validate_create(&object)),
        [r#"spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace""#]
    );
}

#[test]
fn faults_of_policies() {
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 5});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let rule = |rule: Value| indexed(json!({"successPolicy": {"rules": [rule]}}));
    let failure = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let rows = [
        (rule(json!({"succeededIndexes": "0,2-4", "succeededCount": 3})), ""),
        (
            json!({"successPolicy": {"rules": []}}),
            "spec.successPolicy: Invalid value: {\"rules\":[]}: requires indexed completion mode",
        ),
        (
            rule(json!({})),
            "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
        ),
        (
            rule(json!({"succeededCount": 6})),
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)",
        ),
        (
            rule(json!({"succeededIndexes": "0-1", "succeededCount": 3})),
            "spec.successPolicy.rules[0].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
        ),
        (json!({"managedBy": "acme.io/jobs"}), ""),
        (
            json!({"managedBy": "me"}),
            "spec.managedBy: Invalid value: \"me\": must be a domain-prefixed path (such as \"acme.io/foo\")",
        ),
        (
            indexed(json!({"maxFailedIndexes": 1})),
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
        ),
        (
            failure(json!({"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [3]}})),
            "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
        ),
        (
            failure(json!({"action": "Ignore", "onExitCodes": {"operator": "In", "values": [3, 0]}})),
            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
        ),
    ];
    for (spec, expected) in rows {
        let mut object = job();
        object["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        JOB.default(&mut object);
        JOB.prepare_create(&mut object);
        assert_eq!(texts(JOB.validate_create(&object)).join("; "), expected, "{spec}");
    }
}

#[test]
fn a_cron_job_knows_its_time_zone() {
    for (zone, expected) in [
        ("Europe/Berlin", ""),
        ("Etc/UTC", ""),
        ("Mars/Olympus", "spec.timeZone: Invalid value: \"Mars/Olympus\": unknown time zone Mars/Olympus"),
        ("", "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string"),
    ] {
        let mut object = json!({"metadata": {"name": "c"},
            "spec": {"schedule": "@daily", "timeZone": zone, "jobTemplate": {"spec": job()["spec"]}}});
        CRON_JOB.default(&mut object);
        assert_eq!(texts(CRON_JOB.validate_create(&object)).join("; "), expected);
    }
}
