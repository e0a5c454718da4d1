use serde_json::{Value, json};

use super::{SPEC, at_most_all, default_rolling, runs_forever, selector_and_template, template_warnings};
use crate::{
    field::FieldError,
    meta::names,
    strategy::{
        Part, check, defaults, pod,
        rules::{Errors, Rules},
        storage,
    },
    value::{is_set, items, items_mut, keep, object_at, same, set_default, text},
};

pub(crate) static STATEFUL_SET: Rules = Rules {
    initial_status: Some(|| json!({"replicas": 0, "availableReplicas": 0})),
    default,
    validate,
    warnings: template_warnings,
    validate_update: |new, old, part, errors| {
        if part == Part::Main {
            update(&new["spec"], &old["spec"], errors);
        }
    },
    ..Rules::WITH_STATUS
};

fn default(object: &mut Value) {
    let Some(spec) = defaults::spec(object) else { return };
    set_default(spec, "podManagementPolicy", "OrderedReady");
    set_default(spec, "replicas", 1);
    set_default(spec, "revisionHistoryLimit", 10);
    defaults::drop_zero(spec, &["minReadySeconds"]);
    default_rolling(spec, "updateStrategy", [("partition", 0)]);
    if let Some(retention) = object_at(spec, "persistentVolumeClaimRetentionPolicy") {
        set_default(retention, "whenDeleted", "Retain");
        set_default(retention, "whenScaled", "Retain");
    }
    for claim in items_mut(spec, "volumeClaimTemplates").iter_mut().filter_map(Value::as_object_mut) {
        set_default(claim, "apiVersion", "v1");
        set_default(claim, "kind", "PersistentVolumeClaim");
        pod::claim_template_default(claim);
        if let Some(status) = object_at(claim, "status") {
            set_default(status, "phase", "Pending");
        }
    }
    pod::default_template(spec);
}

fn validate(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    let policy = &spec["podManagementPolicy"];
    let path = SPEC.child("podManagementPolicy");
    match text(policy) {
        "OrderedReady" | "Parallel" => {}
        "" => errors.push(FieldError::required(&path, "")),
        _ => errors.push(FieldError::invalid(&path, policy.clone(), "must be 'OrderedReady' or 'Parallel'")),
    }
    update_strategy(&spec["updateStrategy"], errors);
    let retention = SPEC.child("persistentVolumeClaimRetentionPolicy");
    for key in ["whenDeleted", "whenScaled"] {
        let value = &spec["persistentVolumeClaimRetentionPolicy"][key];
        check::optional_one_of(value, &["Delete", "Retain"], &retention.child(key), errors);
    }
    let numbers = ["replicas", "minReadySeconds", "revisionHistoryLimit"];
    check::none_negative(spec, &numbers, &SPEC, errors);
    let ordinals = SPEC.child("ordinals");
    check::not_negative(&spec["ordinals"]["start"], &ordinals.child("start"), errors);
    check::optional_name(&spec["serviceName"], names::label, &SPEC.child("serviceName"), errors);
    let list = SPEC.child("volumeClaimTemplates");
    for (i, claim) in items(&spec["volumeClaimTemplates"]).iter().enumerate() {
        let path = list.index(i);
        let meta = path.child("metadata");
        check::name(&claim["metadata"]["name"], names::subdomain, &meta.child("name"), errors);
        storage::validate_claim_spec(&claim["spec"], &path.child("spec"), errors);
    }
    selector_and_mounts(spec, errors);
    runs_forever(&spec["template"], "StatefulSet", errors);
}

/// Mounts may name a claim template; the pod gets that volume when it is made, so it is put in for the check.
fn selector_and_mounts(spec: &Value, errors: &mut Errors) {
    let claims = items(&spec["volumeClaimTemplates"]);
    if claims.is_empty() {
        return selector_and_template(spec, "statefulset", errors);
    }
    let mut with_volumes = spec.clone();
    if let Some(pod) = with_volumes.pointer_mut("/template/spec").and_then(Value::as_object_mut) {
        set_default(pod, "volumes", json!([]));
        if let Some(Value::Array(volumes)) = pod.get_mut("volumes") {
            for claim in claims {
                let name = &claim["metadata"]["name"];
                volumes.retain(|volume| volume["name"] != *name);
                volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
            }
        }
    }
    selector_and_template(&with_volumes, "statefulset", errors);
}

fn update_strategy(strategy: &Value, errors: &mut Errors) {
    let path = SPEC.child("updateStrategy");
    let rolling = &strategy["rollingUpdate"];
    let rolling_path = path.child("rollingUpdate");
    match text(&strategy["type"]) {
        "" => errors.push(FieldError::required(&path, "")),
        "OnDelete" if is_set(rolling) => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(&rolling_path, rolling.clone(), why));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            check::not_negative(&rolling["partition"], &rolling_path.child("partition"), errors);
            let unavailable = &rolling["maxUnavailable"];
            if is_set(unavailable) {
                let path = rolling_path.child("maxUnavailable");
                check::int_or_percent(unavailable, &path, errors);
                at_most_all(unavailable, &path, errors);
                if check::is_zero_int_or_percent(unavailable) {
                    errors.push(FieldError::invalid(&path, unavailable.clone(), "cannot be 0"));
                }
            }
        }
        _ => errors.push(FieldError::invalid(&path, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'")),
    }
}

const MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let mut masked = new.clone();
    for key in MUTABLE {
        keep(&mut masked, old, key);
    }
    if !same(&masked, old) {
        let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                   'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                   'minReadySeconds' are forbidden";
        errors.push(FieldError::forbidden(&SPEC, why));
    }
}
