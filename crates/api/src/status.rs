//! `ApiError`: every refusal of the API as a `metav1.Status`, with upstream's codes, reasons and wording
//! (`k8s.io/apimachinery/pkg/api/errors`). Clients branch on the reason and people read the message.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::field::{FieldError, quote};

/// The machine-readable half of an error: `status.reason`, and the code that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    Invalid,
    TooManyRequests,
    InternalError,
    ServerTimeout,
    ServiceUnavailable,
    Timeout,
    /// An error that has a code but no reason of its own.
    Unknown,
}

impl Reason {
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError | Self::ServerTimeout | Self::Unknown => 500,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Expired => "Expired",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Invalid => "Invalid",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::ServerTimeout => "ServerTimeout",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
            Self::Unknown => "",
        }
    }

    /// The reason that a word stands for; `Unknown` where it is none of these.
    pub fn of(word: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word).unwrap_or(Self::Unknown)
    }

    const ALL: [Self; 18] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::AlreadyExists,
        Self::Conflict,
        Self::Gone,
        Self::Expired,
        Self::RequestEntityTooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
        Self::TooManyRequests,
        Self::InternalError,
        Self::ServerTimeout,
        Self::ServiceUnavailable,
        Self::Timeout,
    ];
}

/// One of `details.causes`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

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

#[derive(Clone, Debug, Default, PartialEq)]
struct Details {
    name: String,
    group: String,
    /// A kind for `Invalid`, a resource's plural name for everything else: so upstream has it.
    kind: String,
    uid: String,
    causes: Vec<Cause>,
    retry_after_seconds: u32,
}

/// Splits `deployments.apps` or `Deployment.apps` at its first dot.
fn split_group(qualified: &str) -> (&str, &str) {
    qualified.split_once('.').unwrap_or((qualified, ""))
}

impl Details {
    fn of(qualified: &str, name: &str) -> Self {
        let (kind, group) = split_group(qualified);
        Self { name: name.into(), group: group.into(), kind: kind.into(), ..Self::default() }
    }
}

/// `resource` is always the qualified plural name, `pods` or `deployments.apps`; `kind` likewise, `Pod` or
/// `Deployment.apps`.
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
        let details = Some(details);
        Self(Box::new(Inner {
            code: reason.code(),
            reason,
            foreign_reason: String::new(),
            message,
            details,
            continue_token: String::new(),
            warnings: Vec::new(),
        }))
    }

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

impl Details {
    fn read(details: &Value) -> Self {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let cause = |cause: &Value| Cause {
            reason: text(cause, "reason"),
            message: text(cause, "message"),
            field: text(cause, "field"),
        };
        let seconds = details["retryAfterSeconds"].as_u64().unwrap_or(0);
        Self {
            name: text(details, "name"),
            group: text(details, "group"),
            kind: text(details, "kind"),
            uid: text(details, "uid"),
            causes: details["causes"].as_array().into_iter().flatten().map(cause).collect(),
            retry_after_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        }
    }

    fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (key, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)] {
            if !value.is_empty() {
                map.insert(key.into(), value.as_str().into());
            }
        }
        if !self.causes.is_empty() {
            map.insert("causes".into(), self.causes.iter().map(Cause::to_value).collect());
        }
        if self.retry_after_seconds > 0 {
            map.insert("retryAfterSeconds".into(), self.retry_after_seconds.into());
        }
        Value::Object(map)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut map = Map::new();
        for (key, value) in [("reason", &self.reason), ("message", &self.message), ("field", &self.field)] {
            if !value.is_empty() {
                map.insert(key.into(), value.as_str().into());
            }
        }
        Value::Object(map)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests;
