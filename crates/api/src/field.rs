//! Where a validation error is and what it says, worded as `k8s.io/apimachinery/pkg/util/validation/field` words it:
//! users search for these sentences and programs match on them.

use std::fmt;

use serde_json::Value;

/// The path to a field, such as `spec.containers[0].name`.
///
/// It is a chain of borrowed steps that lives on the stack, so that a validation which finds nothing wrong
/// allocates nothing; it becomes text only inside a [`FieldError`].
#[derive(Clone, Copy, Debug)]
pub struct FieldPath<'a> {
    parent: Option<&'a FieldPath<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> FieldPath<'a> {
    /// The object itself; a child of it is written without a leading dot.
    pub const ROOT: FieldPath<'static> = FieldPath { parent: None, step: Step::Root };

    pub const fn new(name: &'a str) -> Self {
        FieldPath { parent: None, step: Step::Name(name) }
    }

    /// `self.name`
    pub const fn child<'b>(&'b self, name: &'b str) -> FieldPath<'b> {
        FieldPath { parent: Some(self), step: Step::Name(name) }
    }

    /// `self[3]`
    pub const fn index<'b>(&'b self, index: usize) -> FieldPath<'b> {
        FieldPath { parent: Some(self), step: Step::Index(index) }
    }

    /// `self[key]`
    pub const fn key<'b>(&'b self, key: &'b str) -> FieldPath<'b> {
        FieldPath { parent: Some(self), step: Step::Key(key) }
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below_root = match self.parent {
            None => true,
            Some(parent) => {
                parent.fmt(f)?;
                matches!(parent.step, Step::Root)
            }
        };
        match self.step {
            Step::Root => Ok(()),
            Step::Name(name) if below_root => f.write_str(name),
            Step::Name(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

/// The kinds of validation error; `reason` is what `details.causes[].reason` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl FieldErrorKind {
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with an object: `spec.replicas: Invalid value: -1: must be greater than or equal to 0`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct FieldError {
    pub kind: FieldErrorKind,
    pub field: String,
    /// Shown after the title by the kinds that show a value.
    pub value: Option<Value>,
    pub detail: String,
}

impl FieldError {
    fn new(kind: FieldErrorKind, path: &FieldPath<'_>, value: Option<Value>, detail: impl Into<String>) -> Self {
        Self { kind, field: path.to_string(), value, detail: detail.into() }
    }

    pub fn required(path: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, path, None, detail)
    }

    pub fn invalid(path: &FieldPath<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, path, Some(value.into()), detail)
    }

    pub fn type_invalid(path: &FieldPath<'_>, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::TypeInvalid, path, Some(value.into()), detail)
    }

    /// Lists what is supported, in the order given.
    pub fn not_supported<S: AsRef<str>>(path: &FieldPath<'_>, value: impl Into<Value>, supported: &[S]) -> Self {
        let mut detail = String::new();
        for (i, one) in supported.iter().enumerate() {
            detail.push_str(if i == 0 { "supported values: " } else { ", " });
            detail.push_str(&quote(one.as_ref()));
        }
        Self::new(FieldErrorKind::NotSupported, path, Some(value.into()), detail)
    }

    pub fn forbidden(path: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, path, None, detail)
    }

    pub fn duplicate(path: &FieldPath<'_>, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::Duplicate, path, Some(value.into()), "")
    }

    pub fn not_found(path: &FieldPath<'_>, value: impl Into<Value>) -> Self {
        Self::new(FieldErrorKind::NotFound, path, Some(value.into()), "")
    }

    /// The value itself is left out of the message: it is too long.
    pub fn too_long(path: &FieldPath<'_>, max_bytes: usize) -> Self {
        Self::new(FieldErrorKind::TooLong, path, None, format!("may not be more than {max_bytes} bytes"))
    }

    pub fn too_many(path: &FieldPath<'_>, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        Self::new(FieldErrorKind::TooMany, path, Some(actual.into()), format!("must have at most {max} {items}"))
    }

    pub fn internal(path: &FieldPath<'_>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Internal, path, None, detail)
    }

    /// The error without its field, as it stands in `details.causes[].message`.
    pub fn body(&self) -> String {
        let title = self.kind.title();
        let mut text = match (&self.kind, &self.value) {
            (FieldErrorKind::Required | FieldErrorKind::Forbidden, _) => title.to_owned(),
            (FieldErrorKind::TooLong | FieldErrorKind::Internal, _) | (_, None) => title.to_owned(),
            (_, Some(Value::String(value))) => format!("{title}: {}", quote(value)),
            (_, Some(value)) => format!("{title}: {value}"),
        };
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// A string in double quotes, escaped as Go's `%q` does it.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\u{b}' => quoted.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_and_errors_read_as_upstream_writes_them() {
        let spec = FieldPath::new("spec");
        let containers = spec.child("containers");
        let first = containers.index(0);
        let labels = FieldPath::ROOT.child("metadata");
        let labels = labels.child("labels");
        let rows = [
            (FieldError::required(&first.child("name"), ""), "spec.containers[0].name: Required value"),
            (
                FieldError::invalid(&spec.child("replicas"), -1, "must be greater than or equal to 0"),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                FieldError::invalid(&spec.child("selector"), json!({"matchLabels": {"a": "b"}}), "field is immutable"),
                r#"spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: field is immutable"#,
            ),
            (
                FieldError::not_supported(&first.child("imagePullPolicy"), "Soon", &["Always", "Never"]),
                r#"spec.containers[0].imagePullPolicy: Unsupported value: "Soon": supported values: "Always", "Never""#,
            ),
            (FieldError::duplicate(&labels.key("a"), "b"), r#"metadata.labels[a]: Duplicate value: "b""#),
            (FieldError::too_long(&spec, 63), "spec: Too long: may not be more than 63 bytes"),
            (FieldError::too_many(&spec, 3, 1), "spec: Too many: 3: must have at most 1 item"),
            (FieldError::forbidden(&spec, "no"), "spec: Forbidden: no"),
            (FieldError::not_found(&spec, "x\n"), r#"spec: Not found: "x\n""#),
        ];
        for (error, expected) in rows {
            assert_eq!(error.to_string(), expected);
        }
    }
}
