use serde_json::Value;

use super::policies;
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    selector::LabelSelector,
    strategy::{
        Dependents, Part, check, defaults, pod,
        rules::{Errors, Rules},
    },
    value::{get, int, is_empty, is_set, keep, object_at, object_mut, same, set_default, text, truth},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");
const LONGEST_MANAGER: usize = 63;

pub(crate) static JOB: Rules = Rules {
    default,
    create,
    update: |new, _, part| {
        if part == Part::Main {
            label_like_template(new);
        }
    },
    validate: |job, errors| {
        validate_spec(&job["spec"], &SPEC, errors);
        selector(&job["spec"], errors);
    },
    validate_update: |new, old, part, errors| {
        if part == Part::Main {
            update(new, old, errors);
        }
    },
    warnings: |job| pod::warnings(&job["spec"]["template"]["spec"], "spec.template.spec"),
    fields: &["status.successful"],
    field: |job, field| match field {
        "status.successful" => int(&job["status"]["succeeded"]).to_string().into(),
        _ => crate::strategy::rules::by_path(job, field),
    },
    dependents: Dependents::Orphaned,
    ..Rules::WITH_STATUS
};

fn default(job: &mut Value) {
    let Some(spec) = defaults::spec(job) else { return };
    // A job that says neither runs one pod once; one that says only its parallelism is a work queue.
    if get(spec, "completions").is_null() && get(spec, "parallelism").is_null() {
        set_default(spec, "completions", 1);
    }
    set_default(spec, "parallelism", 1);
    let per_index = is_set(get(spec, "backoffLimitPerIndex"));
    set_default(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    set_default(spec, "completionMode", "NonIndexed");
    set_default(spec, "suspend", false);
    set_default(spec, "manualSelector", false);
    let replacement = if is_set(get(spec, "podFailurePolicy")) { "Failed" } else { "TerminatingOrFailed" };
    set_default(spec, "podReplacementPolicy", replacement);
    pod::default_template(spec);
}

/// Gives the job a selector of its own, by its uid, so that no two jobs ever claim the same pods.
fn create(job: &mut Value) {
    if !truth(&job["spec"]["manualSelector"]) {
        let (uid, name) = (text(&job["metadata"]["uid"]).to_owned(), text(&job["metadata"]["name"]).to_owned());
        if let Some(spec) = object_mut(job, "spec") {
            generate_selector(spec, &uid, &name);
        }
    }
    label_like_template(job);
}

fn generate_selector(spec: &mut crate::value::Object, uid: &str, name: &str) {
    if let Some(selector) = object_at(spec, "selector")
        && let Some(labels) = object_at(selector, "matchLabels")
    {
        labels.insert("batch.kubernetes.io/controller-uid".into(), uid.into());
    }
    if let Some(template) = object_at(spec, "template")
        && let Some(meta) = object_at(template, "metadata")
        && let Some(labels) = object_at(meta, "labels")
    {
        let all = [
            ("controller-uid", uid),
            ("batch.kubernetes.io/controller-uid", uid),
            ("job-name", name),
            ("batch.kubernetes.io/job-name", name),
        ];
        for (key, value) in all {
            labels.insert(key.into(), value.into());
        }
    }
}

/// A job without labels of its own has those of its pods.
fn label_like_template(job: &mut Value) {
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    if is_empty(&job["metadata"]["labels"]) && !is_empty(labels) {
        let labels = labels.clone();
        if let Some(meta) = object_mut(job, "metadata") {
            meta.insert("labels".into(), labels);
        }
    }
}

/// What holds for a job and for the template of one.
pub(super) fn validate_spec(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "maxFailedIndexes",
        "backoffLimitPerIndex",
    ];
    check::none_negative(spec, &numbers, path, errors);
    let mode = path.child("completionMode");
    check::optional_one_of(&spec["completionMode"], &["Indexed", "NonIndexed"], &mode, errors);
    if spec["completionMode"] == "Indexed" && !is_set(&spec["completions"]) {
        let why = "when completion mode is Indexed";
        errors.push(FieldError::required(&path.child("completions"), why));
    }
    managed_by(&spec["managedBy"], &path.child("managedBy"), errors);
    policies::per_index(spec, path, errors);
    policies::success(spec, path, errors);
    let replacement = path.child("podReplacementPolicy");
    let policies: &[&str] = match is_set(&spec["podFailurePolicy"]) {
        true => &["Failed"],
        false => &["Failed", "TerminatingOrFailed"],
    };
    check::optional_one_of(&spec["podReplacementPolicy"], policies, &replacement, errors);
    policies::failure(spec, path, errors);

    let template = path.child("template");
    pod::validate_template(&spec["template"], &template, errors);
    let restart = &spec["template"]["spec"]["restartPolicy"];
    let restart_path = template.child("spec");
    let restart_path = restart_path.child("restartPolicy");
    if restart == "Always" {
        errors.push(FieldError::required(&restart_path, r#"valid values: "OnFailure", "Never""#));
    } else {
        check::optional_one_of(restart, &["OnFailure", "Never"], &restart_path, errors);
    }
}

/// The name of another controller, under a domain: `acme.io/jobs`.
fn managed_by(name: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if !is_set(name) {
        return;
    }
    if text(name).len() > LONGEST_MANAGER {
        errors.push(FieldError::too_long(path, LONGEST_MANAGER));
    }
    match text(name).split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty()) {
        None => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(path, name.clone(), why));
        }
        Some((domain, _)) => check::faults(names::subdomain(domain), domain, path, errors),
    }
}

fn selector(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("selector");
    if spec["selector"].is_null() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    check::label_selector(&spec["selector"], &path, errors);
    let labels = &spec["template"]["metadata"]["labels"];
    if LabelSelector::from_value(&spec["selector"]).is_ok_and(|selector| !selector.matches_value(labels)) {
        let template = SPEC.child("template");
        let meta = template.child("metadata");
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&meta.child("labels"), labels.clone(), why));
    }
}

fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let (spec, before) = (&new["spec"], &old["spec"]);
    for key in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        check::immutable(&spec[key], &before[key], &SPEC.child(key), errors);
    }
    // An indexed job grows and shrinks as long as both numbers do so together.
    let elastic = spec["completionMode"] == "Indexed"
        && is_set(&spec["completions"])
        && spec["completions"] == spec["parallelism"];
    if !elastic {
        check::immutable(&spec["completions"], &before["completions"], &SPEC.child("completions"), errors);
    }
    let mut template = spec["template"].clone();
    if truth(&before["suspend"]) && old["status"]["startTime"].is_null() {
        keep_scheduling(&mut template, &before["template"]);
    }
    if !same(&template, &before["template"]) {
        errors.push(FieldError::invalid(&SPEC.child("template"), spec["template"].clone(), "field is immutable"));
    }
}

/// Before a suspended job first starts, where its pods go may still change.
fn keep_scheduling(template: &mut Value, old: &Value) {
    if let Some(meta) = template.get_mut("metadata") {
        keep(meta, &old["metadata"], "labels");
        keep(meta, &old["metadata"], "annotations");
    }
    if let Some(spec) = template.get_mut("spec") {
        for key in ["affinity", "nodeSelector", "schedulingGates", "tolerations"] {
            keep(spec, &old["spec"], key);
        }
        let Some(containers) = spec.get_mut("containers").and_then(Value::as_array_mut) else { return };
        for (container, before) in containers.iter_mut().zip(crate::value::items(&old["spec"]["containers"])) {
            keep(container, before, "resources");
        }
    }
}
