//! The labels by which a namespace says which Pod Security Standard it holds its pods to.

use std::fmt;

use knarr_api::field::{FieldError, FieldPath};
use knarr_api::status::ApiError;
use serde_json::Value;

use super::pod_security_checks::{LATEST as EDITION_LATEST, Level};
use crate::contract::{AdmissionRequest, Operation};
use crate::json::{name, text};

pub(super) const PREFIX: &str = "pod-security.kubernetes.io/";
const MODES: [&str; 3] = ["enforce", "audit", "warn"];
const LATEST: &str = "latest";

/// What one mode asks for: a level, as an edition of the standards has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) level: Level,
    pub(super) minor: u32,
    version: String,
}

impl Policy {
    pub(super) fn of(namespace: &Value, mode: &str) -> Self {
        let level = match label(namespace, mode) {
            "" => Level::Privileged,
            word => Level::parse(word),
        };
        let version = match label(namespace, &format!("{mode}-version")) {
            "" => LATEST,
            version => version,
        };
        // What says nothing counts as the latest, as upstream has it.
        let minor = version.strip_prefix("v1.").and_then(|minor| minor.parse().ok()).unwrap_or(EDITION_LATEST);
        Self { level, minor, version: version.to_owned() }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level.as_str(), self.version)
    }
}

fn label<'a>(namespace: &'a Value, key: &str) -> &'a str {
    text(&namespace["metadata"]["labels"][format!("{PREFIX}{key}")])
}

/// Refuses labels that say nothing; those that a namespace has had all along do not stand in the way of a change.
pub(super) fn check_labels(request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let errors = faults(&request.object);
    if errors.is_empty() || request.old.is_some_and(|old| !faults(old).is_empty()) {
        return Ok(());
    }
    Err(ApiError::invalid("Namespace", name(&request.object), errors))
}

fn faults(namespace: &Value) -> Vec<FieldError> {
    let metadata = FieldPath::new("metadata");
    let path = metadata.child("labels");
    let mut errors = Vec::new();
    for mode in MODES {
        let level = label(namespace, mode);
        if !matches!(level, "" | "privileged" | "baseline" | "restricted") {
            let why = "must be one of privileged, baseline, restricted";
            errors.push(FieldError::invalid(&path.key(&format!("{PREFIX}{mode}")), level, why));
        }
        let key = format!("{mode}-version");
        let version = label(namespace, &key);
        let minor = version.strip_prefix("v1.").map(str::parse::<u32>);
        if !version.is_empty() && version != LATEST && !matches!(minor, Some(Ok(_))) {
            let why = "must be \"latest\" or \"v1.x\"";
            errors.push(FieldError::invalid(&path.key(&format!("{PREFIX}{key}")), version, why));
        }
    }
    errors
}
