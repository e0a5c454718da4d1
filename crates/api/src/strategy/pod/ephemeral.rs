use serde_json::Value;

use super::{container, volume::Volumes};
use crate::{
    field::{FieldError, FieldPath},
    strategy::rules::Errors,
    value::{entries, is_empty, items, same, text},
};

/// A field that is not here was thought of for containers that are started again, probed, counted or resized.
const ALLOWED: [&str; 17] = [
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "name",
    "securityContext",
    "stdin",
    "stdinOnce",
    "targetContainerName",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "tty",
    "volumeDevices",
    "volumeMounts",
    "workingDir",
];

/// Ephemeral containers come with less than others, because nothing restarts or probes them.
pub(super) fn validate(spec: &Value, volumes: &Volumes<'_>, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("ephemeralContainers");
    let others = || items(&spec["containers"]).iter().chain(items(&spec["initContainers"]));
    let mut taken: Vec<&str> = others().map(|container| text(&container["name"])).collect();
    let regular = taken.len();
    for (i, container) in items(&spec["ephemeralContainers"]).iter().enumerate() {
        let path = list.index(i);
        let name = text(&container["name"]);
        if !name.is_empty() && taken.contains(&name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        taken.push(name);
        container::common(container, spec, volumes, &path, errors);
        let target = text(&container["targetContainerName"]);
        if !target.is_empty() && !taken[..regular].contains(&target) {
            errors.push(FieldError::not_found(&path.child("targetContainerName"), target));
        }
        let forbid = |path: &FieldPath<'_>| FieldError::forbidden(path, "cannot be set for an Ephemeral Container");
        let own = entries(container).filter(|(key, value)| !ALLOWED.contains(&key.as_str()) && !is_empty(value));
        errors.extend(own.map(|(key, _)| forbid(&path.child(key.as_str()))));
        let mounts = path.child("volumeMounts");
        for (i, mount) in items(&container["volumeMounts"]).iter().enumerate() {
            let set = ["subPath", "subPathExpr"].into_iter().filter(|key| !is_empty(&mount[*key]));
            errors.extend(set.map(|key| forbid(&mounts.index(i).child(key))));
        }
    }
}

/// They may be added through their subresource, never changed or removed.
pub(super) fn validate_update(new: &Value, old: &Value, errors: &mut Errors) {
    let path = super::SPEC.child("ephemeralContainers");
    for before in items(&old["spec"]["ephemeralContainers"]) {
        let name = crate::field::quote(text(&before["name"]));
        let mut now = items(&new["spec"]["ephemeralContainers"]).iter();
        match now.find(|container| container["name"] == before["name"]) {
            None => {
                let why = format!("existing ephemeral containers {name} may not be removed\n");
                errors.push(FieldError::forbidden(&path, why));
            }
            Some(after) if !same(after, before) => {
                let why = format!("existing ephemeral containers {name} may not be changed\n");
                errors.push(FieldError::forbidden(&path, why));
            }
            Some(_) => {}
        }
    }
}
