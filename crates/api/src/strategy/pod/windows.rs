//! Options of Windows containers, which no node of this cluster runs.

use serde_json::Value;

use crate::{
    field::{FieldError, FieldPath},
    strategy::rules::Errors,
    value::{is_set, items},
};

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// A pod that says it is for Linux must not have them.
pub(super) fn validate(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if spec["os"]["name"] != "linux" {
        return;
    }
    let mut forbid = |holder: &Value, path: &FieldPath<'_>| {
        if is_set(&holder["securityContext"]["windowsOptions"]) {
            let context = path.child("securityContext");
            let why = "windows options cannot be set for a linux pod";
            errors.push(FieldError::forbidden(&context.child("windowsOptions"), why));
        }
    };
    forbid(spec, path);
    for list in LISTS {
        let containers = path.child(list);
        for (i, container) in items(&spec[list]).iter().enumerate() {
            forbid(container, &containers.index(i));
        }
    }
}

/// Any other is accepted, as upstream does, and whoever writes it hears that they do nothing.
pub(super) fn warnings(spec: &Value, at: &str, warnings: &mut Vec<String>) {
    let mut warn = |holder: &Value, at: String| {
        if is_set(&holder["securityContext"]["windowsOptions"]) {
            warnings.push(format!("{at}.securityContext.windowsOptions: has no effect, all nodes run Linux"));
        }
    };
    warn(spec, at.to_owned());
    for list in LISTS {
        for (i, container) in items(&spec[list]).iter().enumerate() {
            warn(container, format!("{at}.{list}[{i}]"));
        }
    }
}
