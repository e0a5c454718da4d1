//! Errors as upstream's validator makes them: the field's path stands in the message too.

use serde_json::Value;

use crate::field::{FieldError, FieldErrorKind, quote};

/// The path to what is checked; empty for the whole object.
#[derive(Clone, Copy)]
pub(super) struct Place<'a>(pub &'a str);

impl Place<'_> {
    /// The whole object has no path, and upstream says so in Go's way.
    fn field(self) -> String {
        match self.0.strip_prefix('.').unwrap_or(self.0) {
            "" => "<nil>".to_owned(),
            path => path.to_owned(),
        }
    }

    pub fn error(self, kind: FieldErrorKind, value: impl Into<Value>, detail: String) -> FieldError {
        FieldError { kind, field: self.field(), value: Some(value.into()), detail }
    }

    /// `spec.x: Invalid value: 3: spec.x in body should ...`
    pub fn invalid(self, value: impl Into<Value>, says: &str) -> FieldError {
        self.error(FieldErrorKind::Invalid, value, format!("{} in body {says}", self.0))
    }

    /// `found` is the name of the type there is, or the text that is not of a format.
    pub fn wrong_type(self, expected: &str, found: &str) -> FieldError {
        let detail = format!("{} in body must be of type {expected}: {}", self.0, quote(found));
        self.error(FieldErrorKind::TypeInvalid, found, detail)
    }

    pub fn required(self, name: &str) -> FieldError {
        let path = format!("{}.{name}", self.0);
        FieldError { kind: FieldErrorKind::Required, field: Place(&path).field(), value: None, detail: String::new() }
    }

    pub fn forbidden(self, name: &str) -> FieldError {
        let detail = format!("{}.{name} in body is a forbidden property", self.0);
        self.error(FieldErrorKind::Invalid, name, detail)
    }

    /// Upstream does not know the field of these; it stands in the message.
    pub fn composite(self, says: &str) -> FieldError {
        Place("").error(FieldErrorKind::Invalid, "", format!("{} {says}", quote(self.0)))
    }
}
