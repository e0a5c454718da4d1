//! What a claim was given, and who uses it.

use serde_json::Value;

use super::{
    MAX_ITEMS, check,
    claim::{reference, request_names, toleration},
    configuration, driver, each, slice, unique,
};
use crate::{
    device::{MAX_DEVICES, MAX_USERS},
    field::{FieldError, FieldPath},
    meta::names,
    strategy::rules::Errors,
    value::{is_set, items, text},
};

const STATUS: FieldPath<'static> = FieldPath::new("status");

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let (status, before, devices) = (&new["status"], &old["status"], &new["spec"]["devices"]);
    let users = STATUS.child("reservedFor");
    each(&status["reservedFor"], MAX_USERS, &users, errors, |user, path, errors| {
        for key in ["resource", "name", "uid"] {
            check::required(&user[key], &path.child(key), errors);
        }
    });
    unique(&status["reservedFor"], Some("uid"), &users, errors);
    let uids = |status: &Value| -> Vec<String> {
        items(&status["reservedFor"]).iter().map(|user| text(&user["uid"]).to_owned()).collect()
    };
    if !items(&status["reservedFor"]).is_empty() {
        if !is_set(&status["allocation"]) {
            errors.push(FieldError::forbidden(&users, "may not be specified when `allocated` is not set"));
        } else if is_set(&new["metadata"]["deletionTimestamp"]) {
            let known = uids(before);
            if uids(status).iter().any(|uid| !known.contains(uid)) {
                let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
                errors.push(FieldError::forbidden(&users, why));
            }
        }
    }
    let allocation = STATUS.child("allocation");
    match (is_set(&before["allocation"]), is_set(&status["allocation"])) {
        (true, true) => check::immutable(&status["allocation"], &before["allocation"], &allocation, errors),
        (false, true) => result(&status["allocation"], devices, &allocation, errors),
        _ => {}
    }
    let given = items(&status["allocation"]["devices"]["results"]);
    each(&status["devices"], usize::MAX, &STATUS.child("devices"), errors, |device, path, errors| {
        let keys = ["driver", "pool", "device"];
        if !given.iter().any(|result| keys.iter().all(|key| result[*key] == device[*key])) {
            let why = "must be an allocated device in the claim";
            errors.push(FieldError::invalid(path, device["device"].clone(), why));
        }
    });
}

fn result(allocation: &Value, asked: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let (devices, inner) = (&allocation["devices"], path.child("devices"));
    each(&devices["results"], MAX_DEVICES, &inner.child("results"), errors, |result, path, errors| {
        reference(&result["request"], asked, &path.child("request"), errors);
        driver(&result["driver"], &path.child("driver"), errors);
        slice::pool_name(&result["pool"], &path.child("pool"), errors);
        check::name(&result["device"], names::label, &path.child("device"), errors);
        each(&result["tolerations"], usize::MAX, &path.child("tolerations"), errors, toleration);
    });
    each(&devices["config"], 2 * MAX_ITEMS, &inner.child("config"), errors, |config, path, errors| {
        check::one_of(&config["source"], &["FromClaim", "FromClass"], &path.child("source"), errors);
        request_names(config, asked, path, errors);
        configuration(config, path, errors);
    });
    if is_set(&allocation["nodeSelector"]) {
        check::node_selector(&allocation["nodeSelector"], &path.child("nodeSelector"), errors);
    }
}
