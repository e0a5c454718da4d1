use serde_json::Value;

use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::{check, rules::Errors},
    value::{int, is_set, items, text},
};

const PROBES: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
pub(super) const HOOKS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "sleep"];

/// `kind` is the probe's field name.
pub(super) fn validate(probe: &Value, kind: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    handler(probe, &PROBES, path, errors);
    let numbers = ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
    check::none_negative(probe, &numbers, path, errors);
    if kind != "readinessProbe" && int(&probe["successThreshold"]) != 1 {
        errors.push(FieldError::invalid(
            &path.child("successThreshold"),
            probe["successThreshold"].clone(),
            "must be 1",
        ));
    }
    let grace = &probe["terminationGracePeriodSeconds"];
    if is_set(grace) {
        let path = path.child("terminationGracePeriodSeconds");
        if kind == "readinessProbe" {
            errors.push(FieldError::invalid(&path, grace.clone(), "must not be set for readinessProbes"));
        } else if int(grace) <= 0 {
            errors.push(FieldError::invalid(&path, grace.clone(), check::MUST_BE_POSITIVE));
        }
    }
}

/// Exactly one of the ways to ask a container something.
pub(super) fn handler(handler: &Value, kinds: &[&'static str], path: &FieldPath<'_>, errors: &mut Errors) {
    let mut given = 0;
    for kind in kinds.iter().filter(|kind| is_set(&handler[**kind])) {
        let path = path.child(kind);
        given += 1;
        if given > 1 {
            errors.push(FieldError::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        let action = &handler[*kind];
        match *kind {
            "exec" => {
                check::required(&action["command"], &path.child("command"), errors);
            }
            "httpGet" => http_get(action, &path, errors),
            "sleep" if int(&action["seconds"]) < 0 => {
                let why = "must be non-negative";
                errors.push(FieldError::invalid(&path, int(&action["seconds"]), why));
            }
            "sleep" => {}
            _ => check::port(&action["port"], &path.child("port"), errors),
        }
    }
    if given == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn http_get(get: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    check::required(&get["path"], &path.child("path"), errors);
    check::port(&get["port"], &path.child("port"), errors);
    check::one_of(&get["scheme"], &["HTTP", "HTTPS"], &path.child("scheme"), errors);
    let list = path.child("httpHeaders");
    for (i, header) in items(&get["httpHeaders"]).iter().enumerate() {
        let name = text(&header["name"]);
        check::faults(names::http_header_name(name), name, &list.index(i).child("name"), errors);
    }
}
