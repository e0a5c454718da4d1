use std::error::Error;

pub type Result<T> = std::result::Result<T, CriError>;

/// What a CRI call can answer besides success; the variants are the gRPC codes that kubelets tell apart.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    #[error("{what} {id:?} is not there")]
    NotFound { what: &'static str, id: String },
    #[error("{what} {id:?} exists already")]
    AlreadyExists { what: &'static str, id: String },
    #[error("{message}")]
    InvalidArgument { message: String },
    /// The thing exists but its state forbids the call, such as `exec` in a container that has ended.
    #[error("{message}")]
    FailedPrecondition { message: String },
    #[error("{what} took longer than {seconds} s")]
    DeadlineExceeded { what: String, seconds: u64 },
    #[error("{message}")]
    PermissionDenied { message: String },
    /// Worth trying again later: a registry that does not answer, a shim that is restarting.
    #[error("{message}")]
    Unavailable { message: String },
    #[error("{message}")]
    Internal {
        message: String,
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

impl CriError {
    /// An internal error with its cause.
    pub fn internal(message: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Internal { message: message.into(), source: Some(source.into()) }
    }

    /// True where the caller asked for something that does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}
