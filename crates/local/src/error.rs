use std::{io, path::PathBuf};

use knarr_os::{OsError, net::NetError};

pub type Result<T> = std::result::Result<T, LocalError>;

/// Why something about a local cluster did not work.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error(transparent)]
    Os(#[from] OsError),
    #[error("{during}")]
    Net {
        during: &'static str,
        #[source]
        source: NetError,
    },
    #[error("cannot {action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("all ranges from 172.30.0.0/24 to 172.30.255.0/24 are in use on this host; name a free one with --network")]
    NoFreeRange,
    #[error("the range {range} is in use on this host already (by {link}); name another with --network")]
    RangeTaken { range: crate::Range, link: String },
    #[error("{text:?} is no range of 256 addresses, such as 172.30.7.0/24")]
    NoRange { text: String },
    #[error("the cluster {cluster} has no addresses left for another node")]
    Full { cluster: String },
    #[error("the node {node} runs already")]
    Runs { node: String },
    #[error("the node {node} does not start: {said}")]
    NoStart { node: String, said: String },
    #[error("the node {node} does not end")]
    NoEnd { node: String },
    #[error("the node {node} does not stand still")]
    NotFrozen { node: String },
}

/// Says what was under way when netlink refused.
pub(crate) trait During<T> {
    fn during(self, during: &'static str) -> Result<T>;
}

impl<T> During<T> for knarr_os::net::Result<T> {
    fn during(self, during: &'static str) -> Result<T> {
        self.map_err(|source| LocalError::Net { during, source })
    }
}

/// Says what was tried on which file.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| LocalError::File { action, path: path.into(), source })
    }
}
