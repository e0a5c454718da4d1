//! Server-side apply: who owns which field, and how an applied configuration is merged into the live object.
//!
//! Every write goes through here. A plain create, update or patch calls [`track_update`], which gives the fields that
//! it changed to its manager. An apply calls [`apply`], which merges the configuration, refuses to change what others
//! own, and removes what this manager applied before and no longer does.
//!
//! Call them on the object as the client wished it, defaults filled in, before admission changes it: what admission
//! adds belongs to nobody.

mod managers;
mod merge;
mod operation;
mod overlay;
mod set;
#[cfg(test)]
mod tests;
mod walk;

use jiff::Timestamp;
use serde_json::Value;

use crate::schema::TypeRef;

pub use operation::{LAST_APPLIED, apply, track_update};
pub use overlay::overlay;

/// Who writes, when, and to which part of the object.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The type of the object; `None` where a custom resource has no schema, and types are told from values.
    pub schema: Option<TypeRef<'a>>,
    /// The field manager; for updates, where the client names none, the first word of its user agent.
    pub manager: &'a str,
    /// `status`, `scale`, ...; empty for the object itself.
    pub subresource: &'a str,
    pub now: Timestamp,
    /// Paths that this write can't change (the strategy resets them), and so never owns; see [`reset_fields`].
    pub reset: &'a [&'a [&'a str]],
}

/// An applied configuration on its way into an object.
#[derive(Clone, Copy, Debug)]
pub struct ApplyRequest<'a> {
    pub writer: Writer<'a>,
    /// The stored object; `None` where the apply creates it.
    pub live: Option<&'a Value>,
    /// What the client sent, `apiVersion` and `kind` included.
    pub config: &'a Value,
    /// Take over fields that others own.
    pub force: bool,
}

/// One field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The other manager as messages show it: `"kubectl-edit" using apps/v1`.
    pub manager: String,
    /// `.spec.template.spec.containers[name="nginx"].image`
    pub field: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Answer 409 Conflict, each conflict a cause of type FieldManagerConflict.
    #[error("{}", conflict_message(.conflicts))]
    Conflicts { conflicts: Vec<Conflict> },
    /// Answer 400 Bad Request.
    #[error("{message}")]
    Malformed { message: String },
    /// The configuration does not fit its type: answer 500 without a reason, as upstream does.
    #[error("{message}")]
    Untyped { message: String },
}

/// The paths that a write to the object itself, or to one of its subresources, can't change.
pub fn reset_fields(has_status: bool, subresource: &str) -> &'static [&'static [&'static str]] {
    match subresource {
        "" if has_status => &[&["status"]],
        "status" => &[&["spec"]],
        _ => &[],
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [only] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", only.manager, only.field);
    }
    let mut managers: Vec<&str> = conflicts.iter().map(|c| c.manager.as_str()).collect();
    managers.sort_unstable();
    managers.dedup();
    let mut lines = Vec::new();
    for manager in managers {
        lines.push(format!("conflicts with {manager}:"));
        lines.extend(conflicts.iter().filter(|c| c.manager == manager).map(|c| format!("- {}", c.field)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
