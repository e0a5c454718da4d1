use std::{fmt::Display, io};

pub type Result<T> = std::result::Result<T, OsError>;

/// A refused operation on the host: what was tried, on what, and why the kernel said no.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {object}")]
pub struct OsError {
    /// A verb phrase that completes "cannot ...".
    pub action: &'static str,
    /// The path, process or name the operation was on.
    pub object: String,
    #[source]
    pub source: io::Error,
}

impl OsError {
    pub fn new(action: &'static str, object: impl Display, source: impl Into<io::Error>) -> Self {
        Self { action, object: object.to_string(), source: source.into() }
    }

    /// True where the object simply is not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// The error and its cause on one line, for the places that carry text only.
    pub fn line(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// Adds what was tried, and on what, to a bare errno.
pub trait Context<T> {
    fn os(self, action: &'static str, object: impl Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn os(self, action: &'static str, object: impl Display) -> Result<T> {
        self.map_err(|source| OsError::new(action, object, source))
    }
}
