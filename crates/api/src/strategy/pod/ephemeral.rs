use serde_json::Value;

use super::{container, volume::Volumes};
use crate::{
    field::{FieldError, FieldPath},
    strategy::rules::Errors,
    value::{is_empty, is_set, items, same, text},
};

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
        for key in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "restartPolicy"] {
            if is_set(&container[key]) && !is_empty(&container[key]) {
                let why = "cannot be set for an Ephemeral Container";
                errors.push(FieldError::forbidden(&path.child(key), why));
            }
        }
        if ["limits", "requests"].iter().any(|key| !is_empty(&container["resources"][*key])) {
            errors.push(FieldError::forbidden(&path.child("resources"), "cannot be set for an Ephemeral Container"));
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
