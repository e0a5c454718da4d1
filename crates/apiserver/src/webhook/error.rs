//! What can go wrong with one webhook, in upstream's words: people search for these sentences.

use knarr_api::{
    field::quote,
    status::{ApiError, Reason},
};
use serde_json::Value;

use crate::json::text;

/// Why a webhook did not agree.
#[derive(Debug)]
pub(super) enum CallError {
    /// It could not be asked, or its answer not be understood. `failurePolicy` says what comes of that.
    Calling { why: String, code: u16 },
    /// It was asked and said no.
    Rejected(ApiError),
    /// Its answer cannot be carried out.
    Internal(ApiError),
}

impl CallError {
    pub fn invalid_response(why: impl std::fmt::Display) -> Self {
        Self::Calling { why: format!("received invalid webhook response: {why}"), code: 503 }
    }

    pub fn code(&self) -> u16 {
        match self {
            Self::Calling { code, .. } => *code,
            Self::Rejected(error) => error.code(),
            Self::Internal(_) => 0,
        }
    }

    /// The kind of error as upstream's metrics name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Calling { .. } => "calling_webhook_error",
            Self::Rejected(_) => "no_error",
            Self::Internal(_) => "apiserver_internal_error",
        }
    }

    /// What the client is told.
    pub fn into_api(self, webhook: &str) -> ApiError {
        match self {
            Self::Calling { why, .. } => {
                ApiError::internal(format_args!("failed calling webhook {}: {why}", quote(webhook)))
            }
            Self::Rejected(error) | Self::Internal(error) => error,
        }
    }
}

/// The refusal that a webhook's answer asks for: code, reason and details are the webhook's own, and the message says
/// who spoke.
pub(super) fn denied(webhook: &str, result: &Value) -> ApiError {
    let denied_by = format!("admission webhook {} denied the request", quote(webhook));
    let message = match (text(&result["message"]), text(&result["reason"])) {
        ("", "") => format!("{denied_by} without explanation"),
        ("", reason) => format!("{denied_by}: {reason}"),
        (message, _) => format!("{denied_by}: {message}"),
    };
    let code = result["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0);
    // Whoever refuses cannot say that all went well.
    let code = if (400..600).contains(&code) { code } else { 400 };
    let mut error = ApiError::new(Reason::Unknown, message).with_code(code);
    if let Some(reason) = result["reason"].as_str().filter(|reason| !reason.is_empty()) {
        error = error.with_reason(reason);
    }
    error.with_details(&result["details"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_keep_what_the_webhook_says() {
        let who = "admission webhook \"a.b.c\" denied the request";
        for (result, code, reason, message) in [
            (json!(null), 400, "", format!("{who} without explanation")),
            (json!({"reason": "Because"}), 400, "Because", format!("{who}: Because")),
            (json!({"message": "no", "code": 403, "reason": "Forbidden"}), 403, "Forbidden", format!("{who}: no")),
            (json!({"message": "no", "code": 200, "status": "Success"}), 400, "", format!("{who}: no")),
        ] {
            let status = denied("a.b.c", &result).to_value();
            assert_eq!(status["code"], code, "{result}");
            assert_eq!(status["reason"].as_str().unwrap_or_default(), reason, "{result}");
            assert_eq!(status["message"], message, "{result}");
            assert_eq!(status["status"], "Failure");
        }
        let details = json!({"name": "x", "kind": "pods", "causes": [{"message": "m", "field": "f"}]});
        let status = denied("a.b.c", &json!({"details": details})).to_value();
        assert_eq!(status["details"], details);
    }
}
