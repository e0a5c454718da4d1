//! `ApiError`: every refusal of the API as a `metav1.Status`, with upstream's codes, reasons and wording
//! (`k8s.io/apimachinery/pkg/api/errors`). Clients branch on the reason and people read the message.

mod details;
mod reason;
mod refusals;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::{Value, json};

pub use details::Cause;
use details::Details;
pub use reason::Reason;

/// A refusal. It is one pointer wide, so that a `Result` on the hot path stays small.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError(Box<Inner>);

#[derive(Clone, Debug, PartialEq)]
struct Inner {
    code: u16,
    reason: Reason,
    /// A reason that is nobody's here, as a webhook may give one.
    foreign_reason: String,
    message: String,
    details: Option<Details>,
    /// `metadata.continue`: where to go on after an expired page.
    continue_token: String,
    /// What the client is told beside the refusal.
    warnings: Vec<String>,
}

impl ApiError {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code: reason.code(),
            reason,
            foreign_reason: String::new(),
            message: message.into(),
            details: None,
            continue_token: String::new(),
            warnings: Vec::new(),
        }))
    }

    fn with(reason: Reason, message: String, details: Details) -> Self {
        let mut error = Self::new(reason, message);
        error.0.details = Some(details);
        error
    }

    /// Adds one cause, as admission and eviction do.
    #[must_use]
    pub fn with_cause(mut self, cause: Cause) -> Self {
        self.0.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// Names what the error is about where its constructor does not.
    #[must_use]
    pub fn about(mut self, qualified: &str, name: &str) -> Self {
        let causes = self.0.details.take().unwrap_or_default().causes;
        self.0.details = Some(Details { causes, ..Details::of(qualified, name) });
        self
    }

    #[must_use]
    pub fn with_uid(mut self, uid: &str) -> Self {
        self.0.details.get_or_insert_default().uid = uid.into();
        self
    }

    /// With what was found odd before the refusal, which comes first.
    pub fn warned(mut self, warnings: Vec<String>) -> Self {
        self.0.warnings.splice(0..0, warnings);
        self
    }

    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Says where a list can be gone on with, at the price of consistency.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.0.continue_token = token;
        self
    }

    /// Says something else than its constructor does.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.0.message = message.into();
        self
    }

    /// An admission webhook may answer with a code of its own.
    #[must_use]
    pub fn with_code(mut self, code: u16) -> Self {
        self.0.code = code;
        self
    }

    /// A reason as text: one of [`Reason`], or another's own.
    #[must_use]
    pub fn with_reason(mut self, reason: &str) -> Self {
        self.0.reason = Reason::of(reason);
        self.0.foreign_reason = if self.0.reason == Reason::Unknown { reason.to_owned() } else { String::new() };
        self
    }

    /// `details` as a Status of somebody else's has them; what is no part of them is left out.
    #[must_use]
    pub fn with_details(mut self, details: &Value) -> Self {
        self.0.details = details.is_object().then(|| Details::read(details));
        self
    }

    pub fn code(&self) -> u16 {
        self.0.code
    }

    pub fn reason(&self) -> Reason {
        self.0.reason
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What a `Retry-After` header should say; 0 for none.
    pub fn retry_after_seconds(&self) -> u32 {
        self.0.details.as_ref().map_or(0, |details| details.retry_after_seconds)
    }

    pub fn is_not_found(&self) -> bool {
        self.reason() == Reason::NotFound
    }

    pub fn is_conflict(&self) -> bool {
        self.reason() == Reason::Conflict
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason() == Reason::AlreadyExists
    }

    /// The whole `Status` object, as it is sent.
    pub fn to_value(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.0.message, "code": self.0.code,
        });
        let reason = if self.0.reason == Reason::Unknown { &self.0.foreign_reason } else { self.0.reason.as_str() };
        if !reason.is_empty() {
            status["reason"] = reason.into();
        }
        if !self.0.continue_token.is_empty() {
            status["metadata"]["continue"] = self.0.continue_token.as_str().into();
        }
        if let Some(details) = &self.0.details {
            status["details"] = details.to_value();
        }
        status
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ApiError {}
