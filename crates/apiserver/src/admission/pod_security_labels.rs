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
#[derive(Clone, Debug)]
pub(super) struct Standards {
    pub(super) enforce: Policy,
    pub(super) audit: Policy,
    pub(super) warn: Policy,
    pub(super) faults: Vec<FieldError>,
}

impl Default for Standards {
    fn default() -> Self {
        let none = Policy::PRIVILEGED;
        Self { enforce: none, audit: none, warn: none, faults: Vec::new() }
    }
}

impl Standards {
    /// What the labels do not say is as it is in `defaults`.
    pub(super) fn of(namespace: &Value, defaults: &Self) -> Self {
        let mut faults = Vec::new();
        let mut mode = |mode: &str, default: Policy, of_nonsense: Level| Policy {
            level: level(namespace, mode, of_nonsense, &mut faults).unwrap_or(default.level),
            minor: minor(namespace, &format!("{mode}-version"), &mut faults).unwrap_or(default.minor),
        };
        // A word that says nothing is as strict as can be where pods are refused, and says nothing where they are only
        // talked about.
        let enforce = mode("enforce", defaults.enforce, Level::Restricted);
        let audit = mode("audit", defaults.audit, Level::Privileged);
        let mut warn = mode("warn", defaults.warn, Level::Privileged);
        // Who makes what makes pods is to hear of what would be refused.
        let is_enforced = label(namespace, "enforce").and_then(Level::parse).is_some();
        if is_enforced && label(namespace, "warn").is_none() && enforce.level > warn.level {
            warn.level = enforce.level;
            if label(namespace, "warn-version").is_none() {
                warn.minor = enforce.minor;
            }
        }
        Self { enforce, audit, warn, faults }
    }

    /// What is asked for by the namespace's own labels, as one line; nothing of modes that ask for nothing.
    pub(super) fn of_labels(&self, namespace: &Value) -> String {
        let is_said =
            |mode: &str| [mode, format!("{mode}-version").as_str()].iter().any(|key| label(namespace, key).is_some());
        let modes = [("enforce", self.enforce), ("audit", self.audit), ("warn", self.warn)];
        let said = modes.iter().filter(|(mode, policy)| policy.level != Level::Privileged && is_said(mode));
        said.map(|(mode, policy)| format!("{mode}={policy}")).collect::<Vec<_>>().join(", ")
    }

    /// True where the same is asked for.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let modes = [(self.enforce, other.enforce), (self.audit, other.audit), (self.warn, other.warn)];
        modes.iter().all(|(a, b)| a == b || (a.level, b.level) == (Level::Privileged, Level::Privileged))
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

pub(super) const LEVEL_FAULT: &str = "must be one of privileged, baseline, restricted";
pub(super) const VERSION_FAULT: &str = "must be \"latest\" or \"v1.x\"";

fn level(namespace: &Value, mode: &str, of_nonsense: Level, faults: &mut Vec<FieldError>) -> Option<Level> {
    let word = label(namespace, mode)?;
    Some(Level::parse(word).unwrap_or_else(|| {
        faults.push(fault(mode, word, LEVEL_FAULT));
        of_nonsense
    }))
}

fn minor(namespace: &Value, key: &str, faults: &mut Vec<FieldError>) -> Option<u32> {
    let version = label(namespace, key)?;
    Some(parse_minor(version).unwrap_or_else(|| {
        faults.push(fault(key, version, VERSION_FAULT));
        EDITION_LATEST
    }))
}

pub(super) fn parse_minor(version: &str) -> Option<u32> {
    let is_number = |digits: &&str| {
        digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.len() == 1 || !digits.starts_with('0'))
    };
    match version.strip_prefix("v1.").filter(is_number) {
        Some(digits) => digits.parse().ok(),
        None => (version == LATEST).then_some(EDITION_LATEST),
    }
}

/// Refuses labels that say nothing; those that a namespace has had all along do not stand in the way of a change.
pub(super) fn check_labels(request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    let faults_of = |namespace| Standards::of(namespace, &Standards::default()).faults;
    let faults = faults_of(&request.object);
    if faults.is_empty() || request.old.is_some_and(|old| faults_of(old) == faults) {
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
                "baseline:v1.20 restricted:latest baseline:latest",
                0,
            ),
            (
                json!({"enforce": "baseline", "enforce-version": "v1.20"}),
                "baseline:v1.20 privileged:latest baseline:v1.20",
                0,
            ),
            (
                json!({"enforce": "baseline", "warn": "privileged"}),
                "baseline:latest privileged:latest privileged:latest",
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
            let standards = Standards::of(&json!({ "metadata": { "labels": keyed } }), &Standards::default());
            let said = format!("{} {} {}", standards.enforce, standards.audit, standards.warn);
            assert_eq!((&*said, standards.faults.len()), (expected, faults), "{labels}");
            let quiet = faults == 0 && !expected.contains("baseline") && !expected.contains("restricted");
            assert_eq!(standards.are_none(), quiet, "{labels}");
        }
    }

    #[test]
    fn what_labels_do_not_say_is_the_default() {
        let baseline = Policy { level: Level::Baseline, minor: 30 };
        let defaults = Standards { enforce: baseline, warn: baseline, ..Standards::default() };
        assert!(Standards::of(&json!({}), &defaults).is_like(&defaults));
        let labels = json!({ format!("{PREFIX}enforce"): "privileged", format!("{PREFIX}warn-version"): "latest" });
        let namespace = json!({ "metadata": { "labels": labels } });
        let relaxed = Standards::of(&namespace, &defaults);
        assert_eq!((relaxed.enforce.level, relaxed.audit.level), (Level::Privileged, Level::Privileged));
        assert_eq!(relaxed.of_labels(&namespace), "warn=baseline:latest");
    }
}
