use std::{error::Error, io};

use knarr_os::OsError;

/// Why a process could not be made what its spec asks for.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error("unable to find user {name}: no matching entries in passwd file")]
    NoUser { name: String },
    #[error("unable to find group {name}: no matching entries in group file")]
    NoGroup { name: String },
    #[error("exec: {program:?}: executable file not found in $PATH")]
    NotFound { program: String },
    #[error("exec: {program:?}")]
    Exec {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("the working directory {path:?} cannot be entered")]
    WorkingDirectory {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("mount {target:?} cannot be made")]
    Mount {
        target: String,
        #[source]
        source: io::Error,
    },
    #[error("{what} holds a NUL byte, which no program can be given")]
    Nul { what: &'static str },
    /// What a child said of its end.
    #[error("{message}")]
    Reported { message: String },
    #[error("the runtime has gone before the container was started")]
    Abandoned,
}

/// An error with all its causes on one line.
pub fn line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let part = e.to_string();
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = e.source();
    }
    text
}
