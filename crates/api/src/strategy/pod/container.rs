use std::collections::HashSet;

use serde_json::Value;

use super::{claims, env, probe, resources, security, volume::Volumes};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::{check, rules::Errors},
    value::{int, is_empty, is_set, items, text, truth},
};

/// Init containers and containers: each for itself, and their names together.
pub(super) fn validate_all(spec: &Value, volumes: &Volumes<'_>, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut taken = HashSet::new();
    let list = path.child("containers");
    if items(&spec["containers"]).is_empty() {
        errors.push(FieldError::required(&list, ""));
    }
    for (i, container) in items(&spec["containers"]).iter().enumerate() {
        let path = list.index(i);
        unique_name(container, &mut taken, &path, errors);
        common(container, spec, volumes, &path, errors);
        running(container, &path, errors);
    }
    let list = path.child("initContainers");
    for (i, container) in items(&spec["initContainers"]).iter().enumerate() {
        let path = list.index(i);
        unique_name(container, &mut taken, &path, errors);
        common(container, spec, volumes, &path, errors);
        if container["restartPolicy"] == "Always" {
            running(container, &path, errors);
        } else {
            for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if is_set(&container[key]) {
                    let why = "may not be set for init containers without restartPolicy=Always";
                    errors.push(FieldError::forbidden(&path.child(key), why));
                }
            }
        }
    }
}

fn unique_name<'a>(container: &'a Value, taken: &mut HashSet<&'a str>, path: &FieldPath<'_>, errors: &mut Errors) {
    let name = text(&container["name"]);
    if !name.is_empty() && !taken.insert(name) {
        errors.push(FieldError::duplicate(&path.child("name"), name));
    }
}

/// What holds for every kind of container.
pub(super) fn common(
    container: &Value,
    spec: &Value,
    volumes: &Volumes<'_>,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    check::name(&container["name"], names::label, &path.child("name"), errors);
    let image = text(&container["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    } else if image != image.trim() {
        let why = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, why));
    }
    let termination = ["File", "FallbackToLogsOnError"];
    let key = "terminationMessagePolicy";
    check::one_of(&container[key], &termination, &path.child(key), errors);
    let pull = ["Always", "IfNotPresent", "Never"];
    check::one_of(&container["imagePullPolicy"], &pull, &path.child("imagePullPolicy"), errors);
    let restart = ["Always", "Never", "OnFailure"];
    check::optional_one_of(&container["restartPolicy"], &restart, &path.child("restartPolicy"), errors);
    restart_rules(container, path, errors);
    ports(&container["ports"], &path.child("ports"), errors);
    env::validate(container, &spec["volumes"], path, errors);
    mounts(container, volumes, path, errors);
    let requirements = path.child("resources");
    resources::validate(&container["resources"], &requirements, errors);
    claims::of_container(&container["resources"], spec, &requirements, errors);
    let host_users = spec["hostUsers"] != false;
    security::container(&container["securityContext"], host_users, &path.child("securityContext"), errors);
}

/// Exit codes that decide about a restart. To start a whole pod anew (`RestartAllContainers`) is not offered.
fn restart_rules(container: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("restartPolicyRules");
    let rules = items(&container["restartPolicyRules"]);
    if !rules.is_empty() && text(&container["restartPolicy"]).is_empty() {
        let why = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(&path.child("restartPolicy"), why));
    }
    for (i, rule) in rules.iter().enumerate() {
        let path = list.index(i);
        check::one_of(&rule["action"], &["Restart"], &path.child("action"), errors);
        let codes = path.child("exitCodes");
        if is_set(&rule["exitCodes"]) {
            check::one_of(&rule["exitCodes"]["operator"], &["In", "NotIn"], &codes.child("operator"), errors);
        } else {
            errors.push(FieldError::required(&codes, "must be specified"));
        }
    }
}

/// What only a container that keeps running may have.
fn running(container: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let lifecycle = &container["lifecycle"];
    let lifecycle_path = path.child("lifecycle");
    for hook in ["postStart", "preStop"] {
        if is_set(&lifecycle[hook]) {
            probe::handler(&lifecycle[hook], &probe::HOOKS, &lifecycle_path.child(hook), errors);
        }
    }
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if is_set(&container[key]) {
            probe::validate(&container[key], key, &path.child(key), errors);
        }
    }
}

fn ports(list: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut taken: Vec<&str> = Vec::new();
    for (i, port) in items(list).iter().enumerate() {
        let path = path.index(i);
        let name = text(&port["name"]);
        if !name.is_empty() {
            let faults = names::port_name(name);
            if faults.is_empty() && taken.contains(&name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            taken.push(name);
            check::faults(faults, name, &path.child("name"), errors);
        }
        if int(&port["containerPort"]) == 0 {
            errors.push(FieldError::required(&path.child("containerPort"), ""));
        } else {
            check::port(&port["containerPort"], &path.child("containerPort"), errors);
        }
        if int(&port["hostPort"]) != 0 {
            check::port(&port["hostPort"], &path.child("hostPort"), errors);
        }
        check::protocol(&port["protocol"], &path.child("protocol"), errors);
    }
}

fn mounts(container: &Value, volumes: &Volumes<'_>, path: &FieldPath<'_>, errors: &mut Errors) {
    let mut taken: Vec<&str> = Vec::new();
    let list = path.child("volumeMounts");
    for (i, mount) in items(&container["volumeMounts"]).iter().enumerate() {
        let path = list.index(i);
        let (name, at) = (text(&mount["name"]), text(&mount["mountPath"]));
        check::required(&mount["name"], &path.child("name"), errors);
        if !name.is_empty() && !volumes.contains(name) {
            errors.push(FieldError::not_found(&path.child("name"), name));
        }
        check::required(&mount["mountPath"], &path.child("mountPath"), errors);
        if taken.contains(&at) {
            errors.push(FieldError::invalid(&path.child("mountPath"), at, "must be unique"));
        }
        taken.push(at);
        for key in ["subPath", "subPathExpr"] {
            if !is_empty(&mount[key]) {
                check::descending_path(text(&mount[key]), &path.child(key), errors);
            }
        }
        if !is_empty(&mount["subPath"]) && !is_empty(&mount["subPathExpr"]) {
            let why = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&path.child("subPathExpr"), text(&mount["subPathExpr"]), why));
        }
        let propagation = path.child("mountPropagation");
        let modes = ["Bidirectional", "HostToContainer", "None"];
        check::optional_one_of(&mount["mountPropagation"], &modes, &propagation, errors);
        if mount["mountPropagation"] == "Bidirectional" && !truth(&container["securityContext"]["privileged"]) {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(&propagation, why));
        }
    }
    devices(container, volumes, &taken, path, errors);
}

fn devices(container: &Value, volumes: &Volumes<'_>, mounts: &[&str], path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("volumeDevices");
    for (i, device) in items(&container["volumeDevices"]).iter().enumerate() {
        let path = list.index(i);
        let (name, at) = (text(&device["name"]), text(&device["devicePath"]));
        check::required(&device["name"], &path.child("name"), errors);
        if !name.is_empty() && !volumes.contains(name) {
            errors.push(FieldError::not_found(&path.child("name"), name));
        }
        if check::required(&device["devicePath"], &path.child("devicePath"), errors) && mounts.contains(&at) {
            let why = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&path.child("devicePath"), at, why));
        }
    }
}
