//! Each refusal by its name, in upstream's words.

use std::fmt;

use super::{ApiError, Cause, Reason, details::Details};
use crate::field::{FieldError, quote};

/// `resource` is always the qualified plural name, `pods` or `deployments.apps`; `kind` likewise, `Pod` or
/// `Deployment.apps`.
impl ApiError {
    pub fn not_found(resource: &str, name: &str) -> Self {
        let message = format!("{resource} {} not found", quote(name));
        Self::with(Reason::NotFound, message, Details::of(resource, name))
    }

    /// A path that no handler serves, as clients know it from upstream.
    pub fn no_such_resource() -> Self {
        Self::with(Reason::NotFound, "the server could not find the requested resource".into(), Details::default())
    }

    pub fn already_exists(resource: &str, name: &str) -> Self {
        let message = format!("{resource} {} already exists", quote(name));
        Self::with(Reason::AlreadyExists, message, Details::of(resource, name))
    }

    /// No free name was found for a `generateName`.
    pub fn generate_name_conflict(resource: &str, name: &str) -> Self {
        let message = format!(
            "{resource} {} already exists, the server was not able to generate a unique name for the object",
            quote(name)
        );
        let details = Details { retry_after_seconds: 1, ..Details::of(resource, name) };
        Self::with(Reason::AlreadyExists, message, details)
    }

    pub fn conflict(resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {}: {why}", quote(name));
        Self::with(Reason::Conflict, message, Details::of(resource, name))
    }

    /// A write whose resourceVersion is not the stored one.
    pub fn stale(resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// Server-side apply met other managers' fields: one cause per field, with reason `FieldManagerConflict`.
    pub fn apply_conflict(causes: Vec<Cause>, message: impl Into<String>) -> Self {
        Self::with(Reason::Conflict, message.into(), Details { causes, ..Details::default() })
    }

    pub fn invalid(kind: &str, name: &str, errors: Vec<FieldError>) -> Self {
        let mut details = Details::of(kind, name);
        let mut texts: Vec<String> = Vec::with_capacity(errors.len());
        for error in &errors {
            details.causes.push(Cause {
                reason: error.kind.reason().into(),
                message: error.body(),
                field: error.field.clone(),
            });
            let text = error.to_string();
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let why = match texts.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(format!("[{}]", many.join(", "))),
        };
        let message = match why {
            Some(why) => format!("{kind} {} is invalid: {why}", quote(name)),
            None => format!("{kind} {} is invalid", quote(name)),
        };
        Self::with(Reason::Invalid, message, details)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// An empty name leaves the name out, an empty resource both.
    pub fn forbidden(resource: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = match (resource, name) {
            ("", _) => format!("forbidden: {why}"),
            (_, "") => format!("{resource} is forbidden: {why}"),
            _ => format!("{resource} {} is forbidden: {why}", quote(name)),
        };
        Self::with(Reason::Forbidden, message, Details::of(resource, name))
    }

    pub fn method_not_supported(resource: &str, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind {}", quote(resource));
        Self::with(Reason::MethodNotAllowed, message, Details::of(resource, ""))
    }

    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!("only the following media types are accepted: {}", accepted.join(", "));
        Self::new(Reason::NotAcceptable, message)
    }

    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let accepted = accepted.join(", ");
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {accepted}");
        Self::new(Reason::UnsupportedMediaType, message)
    }

    pub fn too_large(why: impl fmt::Display) -> Self {
        Self::new(Reason::RequestEntityTooLarge, format!("Request entity too large: {why}"))
    }

    pub fn timeout(why: impl fmt::Display, retry_after_seconds: u32) -> Self {
        let details = Details { retry_after_seconds, ..Details::default() };
        Self::with(Reason::Timeout, format!("Timeout: {why}"), details)
    }

    /// The operation may have happened; the client is to try again.
    pub fn server_timeout(resource: &str, operation: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "The {operation} operation against {resource} could not be completed at this time, please try again."
        );
        let details = Details { retry_after_seconds, ..Details::of(resource, operation) };
        Self::with(Reason::ServerTimeout, message, details)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details = Details { retry_after_seconds, ..Details::default() };
        Self::with(Reason::TooManyRequests, message.into(), details)
    }

    /// A resourceVersion or continue token that compaction has overtaken.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(Reason::Expired, message)
    }

    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(Reason::Gone, message)
    }

    pub fn internal(why: impl fmt::Display) -> Self {
        let why = why.to_string();
        let message = format!("Internal error occurred: {why}");
        let causes = vec![Cause { message: why, ..Cause::default() }];
        Self::with(Reason::InternalError, message, Details { causes, ..Details::default() })
    }

    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(Reason::ServiceUnavailable, message)
    }
}
