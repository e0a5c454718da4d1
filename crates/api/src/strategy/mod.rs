//! What differs between resources on their way into the store. Everything else is the generic path's.
//!
//! A resource's rules are one constant of the type [`rules::Rules`] in the file of its group; what it leaves out is
//! what most resources want.

mod rules;

use std::borrow::Cow;

use serde_json::Value;

use crate::{field::FieldError, meta::NameRule};

/// Which part of an object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object itself: everything but what its subresources own (`status` above all).
    Main,
    /// A subresource that has the object's own shape, such as `status`, `resize` or `ephemeralcontainers`.
    Subresource(&'static str),
}

/// The rules of one resource. Each method is pure; the default bodies are what most resources want.
///
/// Order on create: `default`, `prepare_create`, (admission), `validate_create`.
/// Order on update: `default`, `prepare_update`, (admission), `validate_update`.
pub trait Strategy: Send + Sync {
    /// The syntax of the resource's names, for [`crate::meta::validate_create`].
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// Fills in the documented defaults. Running it twice changes nothing.
    fn default(&self, _object: &mut Value) {}

    /// Drops what a client may not set (`status` where the resource has that subresource) and sets what the
    /// server owns (`metadata.generation`, a pod's `status.qosClass`).
    fn prepare_create(&self, object: &mut Value);

    /// Keeps from `old` what this write may not change (identity in `metadata` included), and bumps
    /// `metadata.generation` where the wished-for state differs.
    fn prepare_update(&self, new: &mut Value, old: &Value, part: Part);

    /// All that is wrong with a new object, in upstream's words; object metadata is checked by the caller.
    fn validate_create(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// All that is wrong with a change, immutable fields included.
    fn validate_update(&self, _new: &Value, _old: &Value, _part: Part) -> Vec<FieldError> {
        Vec::new()
    }

    /// Texts for `Warning` headers (deprecated fields, duplicate keys).
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// The fields that field selectors may name, beside `metadata.name` and `metadata.namespace`.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }

    /// The value of one of [`Strategy::selectable_fields`]; empty where the object has none.
    fn field<'a>(&self, _object: &'a Value, _field: &str) -> Cow<'a, str> {
        Cow::Borrowed("")
    }

    /// How long a deletion waits by default; `None` where the resource is deleted at once. For a pod:
    /// `spec.terminationGracePeriodSeconds`, and 0 where it was never scheduled or has ended.
    fn deletion_grace_seconds(&self, _object: &Value) -> Option<i64> {
        None
    }

    /// True where PUT to a name that does not exist creates it (Lease, Event, ...), as upstream documents.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// True where PUT without a resourceVersion is let through.
    fn allow_unconditional_update(&self) -> bool {
        true
    }
}

/// The rules of a built-in kind; kinds without an entry of their own are plain data.
pub fn of_kind(group: &str, kind: &str) -> &'static dyn Strategy {
    let _ = (group, kind);
    &rules::Rules::DATA
}

/// The rules of a custom resource, whose validation is its schema's.
pub fn custom(has_status: bool) -> &'static dyn Strategy {
    static WITH_STATUS: rules::Rules =
        rules::Rules { generation: rules::Generation::Content, ..rules::Rules::WITH_STATUS };
    static PLAIN: rules::Rules = rules::Rules { generation: rules::Generation::Content, ..rules::Rules::DATA };
    if has_status { &WITH_STATUS } else { &PLAIN }
}
