use serde_json::{Value, json};

use super::{SPEC, runs_forever, selector_and_template, selector_is_immutable, template_warnings};
use crate::{
    field::FieldError,
    selector::LabelSelector,
    strategy::{
        Dependents, check, defaults, pod,
        rules::{Errors, Rules},
    },
    value::{get, is_empty, object_at, set_default},
};

pub(crate) static REPLICA_SET: Rules = Rules {
    initial_status: Some(|| json!({"replicas": 0})),
    default: |object| {
        if let Some(spec) = defaults::spec(object) {
            set_default(spec, "replicas", 1);
            defaults::drop_zero(spec, &["minReadySeconds"]);
            pod::default_template(spec);
        }
    },
    validate: |object, errors| {
        let spec = &object["spec"];
        selector_and_template(spec, "deployment", errors);
        runs_forever(&spec["template"], "ReplicaSet", errors);
        check::none_negative(spec, &["replicas", "minReadySeconds"], &SPEC, errors);
    },
    validate_update: selector_is_immutable,
    warnings: template_warnings,
    fields: &["status.replicas"],
    ..Rules::WITH_STATUS
};

pub(crate) static REPLICATION_CONTROLLER: Rules = Rules {
    initial_status: Some(|| json!({"replicas": 0})),
    default: default_controller,
    validate: validate_controller,
    warnings: template_warnings,
    fields: &["status.replicas"],
    dependents: Dependents::Orphaned,
    ..Rules::WITH_STATUS
};

/// The oldest controller takes its selector and its own labels from the template where they are missing.
fn default_controller(object: &mut Value) {
    let labels = object["spec"]["template"]["metadata"]["labels"].clone();
    if !is_empty(&labels) {
        if let Some(meta) = object.as_object_mut().and_then(|object| object_at(object, "metadata"))
            && is_empty(get(meta, "labels"))
        {
            meta.insert("labels".into(), labels.clone());
        }
        if let Some(spec) = defaults::spec(object)
            && is_empty(get(spec, "selector"))
        {
            spec.insert("selector".into(), labels);
        }
    }
    if let Some(spec) = defaults::spec(object) {
        set_default(spec, "replicas", 1);
        pod::default_template(spec);
    }
}

fn validate_controller(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    check::none_negative(spec, &["replicas", "minReadySeconds"], &SPEC, errors);
    if is_empty(&spec["selector"]) {
        errors.push(FieldError::required(&SPEC.child("selector"), ""));
    }
    let template = SPEC.child("template");
    if spec["template"].is_null() {
        errors.push(FieldError::required(&template, ""));
        return;
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if !LabelSelector::from_map(&spec["selector"]).matches_value(labels) {
        let meta = template.child("metadata");
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&meta.child("labels"), labels.clone(), why));
    }
    pod::validate_template(&spec["template"], &template, errors);
    runs_forever(&spec["template"], "ReplicationController", errors);
}
