//! CRI's errors as gRPC's, and back.

use std::{error::Error, time::Duration};

use knarr_cri::CriError;
use knarr_grpc::{client::Failure, code, server::Status};

/// What a call was about: a container, and its ID.
pub type Subject<'a> = Option<(&'static str, &'a str)>;

/// What a failure means to who called.
pub fn from_failure(failure: &Failure, subject: Subject<'_>, limit: Duration) -> CriError {
    match (failure.code(), subject) {
        (code::NOT_FOUND, Some((what, id))) => return CriError::NotFound { what, id: id.to_owned() },
        (code::DEADLINE_EXCEEDED, _) => {
            return CriError::DeadlineExceeded { what: failure.message().to_owned(), seconds: limit.as_secs() };
        }
        _ => {}
    }
    let message = failure.to_string();
    match failure.code() {
        code::INVALID_ARGUMENT => CriError::InvalidArgument { message },
        code::FAILED_PRECONDITION => CriError::FailedPrecondition { message },
        code::PERMISSION_DENIED => CriError::PermissionDenied { message },
        code::UNAVAILABLE => CriError::Unavailable { message },
        _ => CriError::Internal { message, source: None },
    }
}

/// What an error is called on the wire, with its causes.
pub fn to_status(error: CriError) -> Status {
    let code = match &error {
        CriError::NotFound { .. } => code::NOT_FOUND,
        CriError::AlreadyExists { .. } => code::ALREADY_EXISTS,
        CriError::InvalidArgument { .. } => code::INVALID_ARGUMENT,
        CriError::FailedPrecondition { .. } => code::FAILED_PRECONDITION,
        CriError::DeadlineExceeded { .. } => code::DEADLINE_EXCEEDED,
        CriError::PermissionDenied { .. } => code::PERMISSION_DENIED,
        CriError::Unavailable { .. } => code::UNAVAILABLE,
        CriError::Internal { .. } => code::UNKNOWN,
    };
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    Status { code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_kubelets_would() {
        let refused = |code, message: &str| Failure::Refused { code, message: message.into() };
        for (failure, subject, expected) in [
            (refused(2, "no such plugin"), None, "rpc error: code = Unknown desc = no such plugin"),
            (refused(5, "image \"a\": not found"), None, "rpc error: code = NotFound desc = image \"a\": not found"),
            (refused(5, "whatever"), Some(("container", "abc")), "container \"abc\" is not there"),
            (Failure::Lost("gone".into()), None, "rpc error: code = Unavailable desc = gone"),
            (refused(99, "odd"), None, "rpc error: code = Unknown desc = odd"),
        ] {
            assert_eq!(from_failure(&failure, subject, Duration::from_secs(1)).to_string(), expected);
        }
    }

    /// What goes out as one kind of error comes back as the same.
    #[test]
    fn kinds_survive_the_way() {
        let message = || "why".to_owned();
        for error in [
            CriError::NotFound { what: "container", id: "abc".into() },
            CriError::InvalidArgument { message: message() },
            CriError::FailedPrecondition { message: message() },
            CriError::PermissionDenied { message: message() },
            CriError::Unavailable { message: message() },
            CriError::DeadlineExceeded { what: message(), seconds: 1 },
            CriError::internal("outer", "inner"),
        ] {
            let kind = std::mem::discriminant(&error);
            let Status { code, message } = to_status(error);
            let failure = Failure::Refused { code, message };
            let back = from_failure(&failure, Some(("container", "abc")), Duration::from_secs(1));
            assert_eq!(std::mem::discriminant(&back), kind, "{back}");
        }
    }
}
