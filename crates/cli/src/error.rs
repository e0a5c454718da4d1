//! What went wrong, in the words in which kubectl says it.

use serde_json::Value;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a `metav1.Status`.
    #[error("{}", status_message(.0))]
    Status(Box<Value>),
    /// Said as it is, after `error: `.
    #[error("{0}")]
    Plain(String),
    /// Said as it is, with nothing before it.
    #[error("{0}")]
    Raw(String),
    /// The command was typed wrongly.
    #[error("{0}")]
    Usage(String),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Many(Vec<Error>),
    /// Everything has been said already; only the exit code is left.
    #[error("exit code {0}")]
    Exit(u8),
}

/// An [`Error::Plain`] with a formatted message.
#[macro_export]
macro_rules! fail {
    ($($words:tt)*) => { $crate::error::Error::Plain(format!($($words)*)) };
}

impl Error {
    pub fn reason(&self) -> &str {
        match self {
            Error::Status(status) => status["reason"].as_str().unwrap_or_default(),
            _ => "",
        }
    }

    /// The server's own words.
    pub fn message(&self) -> String {
        match self {
            Error::Status(status) => status["message"].as_str().unwrap_or_default().to_owned(),
            other => other.to_string(),
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.reason() == "NotFound"
    }

    /// `Ok` where nothing went wrong, the error itself where it is the only one.
    pub fn collected(mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Many(errors)),
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Exit(code) => *code,
            _ => 1,
        }
    }

    /// The text for standard error, without the last line break; `None` where there is nothing to say.
    pub fn report(&self, command: &str) -> Option<String> {
        Some(match self {
            Error::Exit(_) => return None,
            Error::Raw(text) => text.clone(),
            Error::Plain(text) if text.starts_with("error: ") => text.clone(),
            Error::Plain(text) => format!("error: {text}"),
            Error::Usage(text) => format!("error: {text}\nSee '{command} -h' for help and examples"),
            // Among several, kubectl does not mark the ones of its own.
            Error::Many(errors) => {
                let each = |error: &Error| match error {
                    Error::Plain(text) => Some(text.clone()),
                    other => other.report(command),
                };
                errors.iter().filter_map(each).collect::<Vec<_>>().join("\n")
            }
            Error::Status(status) if status["reason"] == "Invalid" => invalid(status),
            Error::Status(_) => self.to_string(),
        })
    }

    /// As [`Error::Status`], with words before the server's own, as kubectl adds them for a file.
    pub fn prefixed(self, prefix: &str) -> Error {
        match self {
            Error::Status(mut status) => {
                let message = format!("{prefix}: {}", status["message"].as_str().unwrap_or_default());
                status["message"] = message.into();
                Error::Status(status)
            }
            Error::Plain(text) => Error::Plain(format!("{prefix}: {text}")),
            other => other,
        }
    }
}

fn status_message(status: &Value) -> String {
    let message = status["message"].as_str().unwrap_or_default();
    match status["reason"].as_str().unwrap_or_default() {
        "" | "Unknown" => format!("Error from server: {message}"),
        reason => format!("Error from server ({reason}): {message}"),
    }
}

fn invalid(status: &Value) -> String {
    let details = &status["details"];
    let (kind, name) = (details["kind"].as_str().unwrap_or_default(), details["name"].as_str().unwrap_or_default());
    let cause = |cause: &Value| {
        let message = cause["message"].as_str().unwrap_or_default();
        match cause["field"].as_str().unwrap_or_default() {
            "" => message.to_owned(),
            field => format!("{field}: {message}"),
        }
    };
    let causes: Vec<String> = details["causes"].as_array().into_iter().flatten().map(cause).collect();
    let head = match kind.is_empty() && name.is_empty() {
        true if causes.is_empty() => {
            return format!("The request is invalid: {}", status["message"].as_str().unwrap_or_default());
        }
        true => "The request is invalid".to_owned(),
        false => format!("The {kind} \"{name}\" is invalid"),
    };
    match causes.as_slice() {
        [] => head,
        [one] => format!("{head}: {one}"),
        many => format!("{head}: \n{}", many.iter().map(|cause| format!("* {cause}")).collect::<Vec<_>>().join("\n")),
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            // Whoever reads the output has had enough of it.
            std::io::ErrorKind::BrokenPipe => Error::Exit(1),
            _ => Error::Plain(error.to_string()),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Error::Plain(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reports_read_like_kubectls() {
        let status = |value| Error::Status(Box::new(value));
        let cause = |field: &str| json!({"field": field, "message": "Required value"});
        let rows = [
            (
                status(json!({"reason": "NotFound", "message": "pods \"x\" not found"})),
                "Error from server (NotFound): pods \"x\" not found",
            ),
            (
                status(json!({"reason": "Invalid", "details": {"kind": "Pod", "name": "x", "causes": [cause("a")]}})),
                "The Pod \"x\" is invalid: a: Required value",
            ),
            (
                status(json!({"reason": "Invalid",
                    "details": {"kind": "Pod", "name": "x", "causes": [cause("a"), cause("b")]}})),
                "The Pod \"x\" is invalid: \n* a: Required value\n* b: Required value",
            ),
            (fail!("no"), "error: no"),
            (Error::Usage("what?".into()), "error: what?\nSee 'knarr get -h' for help and examples"),
        ];
        for (error, expected) in rows {
            assert_eq!(error.report("knarr get").as_deref(), Some(expected));
        }
    }
}
