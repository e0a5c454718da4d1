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
    /// In the words that other engines have for it.
    #[error("failed to set MOUNT_ATTR_IDMAP on {path}: {}{}", kernels_words(.error), hint(.error))]
    IdMap { path: String, error: io::Error },
    #[error(
        "{what} {id} is none of the pod's own, which end before {length}: set hostUsers to true or choose a lower one"
    )]
    Unmapped { what: &'static str, id: u32, length: u32 },
    /// What a child said of its end.
    #[error("{message}")]
    Reported { message: String },
    #[error("the runtime has gone before the container was started")]
    Abandoned,
}

/// What the kernel says, without the number and as container engines write it: it ends up where people search for
/// `no such file or directory` or `exec format error`.
fn kernels_words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) if error.raw_os_error().is_some() => {
            let mut letters = words.chars();
            letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
        }
        _ => text,
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidInput => " (maybe the filesystem used doesn't support idmap mounts on this kernel?)",
        _ => "",
    }
}

/// An error with all its causes on one line.
pub fn line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let part = e.downcast_ref::<io::Error>().map_or_else(|| e.to_string(), kernels_words);
        if !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_come_without_their_number() {
        let source = io::Error::from_raw_os_error(2);
        let error = SetupError::Exec { program: "/nope".to_owned(), source };
        assert_eq!(line(&error), "exec: \"/nope\": no such file or directory");
        let source = io::Error::other("Odd (os error in a text)");
        assert_eq!(
            line(&SetupError::Exec { program: "x".to_owned(), source }),
            "exec: \"x\": Odd (os error in a text)"
        );
    }
}
