//! Short questions about `kube::Error`, which controllers ask often.

/// The HTTP status code where the API server answered; `None` where the request did not get that far.
pub fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// The `metav1.Status` reason where the API server answered.
pub fn reason(error: &kube::Error) -> Option<&str> {
    match error {
        kube::Error::Api(status) => Some(status.reason.as_str()),
        _ => None,
    }
}

/// The text that goes into an Event or a condition: the server's own message where there is one.
pub fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

pub fn is_not_found(error: &kube::Error) -> bool {
    code(error) == Some(404)
}

/// Another write came first, or a precondition does not hold.
pub fn is_conflict(error: &kube::Error) -> bool {
    reason(error) == Some("Conflict")
}

pub fn is_already_exists(error: &kube::Error) -> bool {
    reason(error) == Some("AlreadyExists")
}

pub fn is_invalid(error: &kube::Error) -> bool {
    reason(error) == Some("Invalid")
}

/// A creation was refused because its namespace is going away; trying again is pointless.
pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
                || status.message.contains("because it is being terminated")
        }
        _ => false,
    }
}

/// Turns "it is not there" into `None`.
pub fn optional<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
