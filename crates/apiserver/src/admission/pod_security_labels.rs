//! The labels by which a namespace says which Pod Security Standard it holds its pods to.

use std::fmt;

use knarr_api::field::{FieldError, FieldPath};
use knarr_api::status::ApiError;
use serde_json::Value;

use super::pod_security_checks::{LATEST as EDITION_LATEST, Level};
use crate::contract::{AdmissionRequest, Operation};
use crate::json::name;

pub(super) const PREFIX: &str = "pod-security.kubernetes.io/";
const LATEST: &str = "latest";

/// What one mode asks for: a level, as an edition of the standards has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) level: Level,
    pub(super) minor: u32,
}

impl Policy {
    /// What a namespace without labels asks for.
    pub(super) const PRIVILEGED: Self = Self { level: Level::Privileged, minor: EDITION_LATEST };
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minor {
            EDITION_LATEST => write!(f, "{}:{LATEST}", self.level.as_str()),
            minor => write!(f, "{}:v1.{minor}", self.level.as_str()),
        }
    }
}

/// What a namespace asks for in each mode, and what is wrong with how it says so.
#[derive(Debug)]
pub(super) struct Standards {
    pub(super) enforce: Policy,
    pub(super) audit: Policy,
    pub(super) warn: Policy,
    pub(super) faults: Vec<FieldError>,
}

impl Standards {
    pub(super) fn of(namespace: &Value) -> Self {
        let mut faults = Vec::new();
        let mut mode = |mode: &str, of_nonsense: Level| Policy {
            level: level(namespace, mode, of_nonsense, &mut faults),
            minor: minor(namespace, &format!("{mode}-version"), &mut faults),
        };
        // A word that says nothing is as strict as can be where pods are refused, and says nothing where they are only
        // talked about.
        let (enforce, audit, warn) =
            (mode("enforce", Level::Restricted), mode("audit", Level::Privileged), mode("warn", Level::Privileged));
        Self { enforce, audit, warn, faults }
    }

    /// True where no mode asks for anything.
    pub(super) fn are_none(&self) -> bool {
        let all = [&self.enforce, &self.audit, &self.warn];
        self.faults.is_empty() && all.iter().all(|policy| policy.level == Level::Privileged)
    }
}

fn label<'a>(namespace: &'a Value, key: &str) -> Option<&'a str> {
    namespace["metadata"]["labels"].get(format!("{PREFIX}{key}"))?.as_str()
}

fn fault(key: &str, value: &str, why: &str) -> FieldError {
    let metadata = FieldPath::new("metadata");
    FieldError::invalid(&metadata.child("labels").key(&format!("{PREFIX}{key}")), value, why)
}

fn level(namespace: &Value, mode: &str, of_nonsense: Level, faults: &mut Vec<FieldError>) -> Level {
    let Some(word) = label(namespace, mode) else { return Level::Privileged };
    Level::parse(word).unwrap_or_else(|| {
        faults.push(fault(mode, word, "must be one of privileged, baseline, restricted"));
        of_nonsense
    })
}

fn minor(namespace: &Value, key: &str, faults: &mut Vec<FieldError>) -> u32 {
    let Some(version) = label(namespace, key) else { return EDITION_LATEST };
    let is_number = |digits: &&str| {
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'))
    };
    let digits = version.strip_prefix("v1.").filter(is_number);
    match digits.and_then(|digits| digits.parse().ok()) {
        Some(minor) => minor,
        None if version == LATEST => EDITION_LATEST,
        None => {
            faults.push(fault(key, version, "must be \"latest\" or \"v1.x\""));
            EDITION_LATEST
        }
    }
}

/// Refuses labels that say nothing; those that a namespace has had all along do not stand in the way of a change.
pub(super) fn check_labels(request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let faults = Standards::of(&request.object).faults;
    if faults.is_empty() || request.old.is_some_and(|old| Standards::of(old).faults == faults) {
        return Ok(());
    }
    Err(ApiError::invalid("Namespace", name(&request.object), faults))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_say_what_each_mode_asks_for() {
        let rows = [
            (json!({}), "privileged:latest privileged:latest privileged:latest", 0),
            (
                json!({"enforce": "baseline", "enforce-version": "v1.20", "audit": "restricted", "warn-version": "latest"}),
                "baseline:v1.20 restricted:latest privileged:latest",
                0,
            ),
            (
                json!({"enforce": "tight", "audit": "tight", "warn": "tight"}),
                "restricted:latest privileged:latest privileged:latest",
                3,
            ),
            (json!({"enforce": ""}), "restricted:latest privileged:latest privileged:latest", 1),
            (
                json!({"enforce-version": "v1.07", "audit-version": "v1.+7", "warn-version": "v2.0"}),
                "privileged:latest privileged:latest privileged:latest",
                3,
            ),
            (json!({"audit-version": "v1.0"}), "privileged:latest privileged:v1.0 privileged:latest", 0),
        ];
        for (labels, expected, faults) in rows {
            let all = labels.as_object().unwrap();
            let keyed: serde_json::Map<_, _> =
                all.iter().map(|(key, value)| (format!("{PREFIX}{key}"), value.clone())).collect();
            let standards = Standards::of(&json!({ "metadata": { "labels": keyed } }));
            let said = format!("{} {} {}", standards.enforce, standards.audit, standards.warn);
            assert_eq!((&*said, standards.faults.len()), (expected, faults), "{labels}");
            let quiet = faults == 0 && !expected.contains("baseline") && !expected.contains("restricted");
            assert_eq!(standards.are_none(), quiet, "{labels}");
        }
    }
}
