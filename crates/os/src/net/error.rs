use std::{io, path::PathBuf};

pub type Result<T> = std::result::Result<T, NetError>;

/// Why a change of the kernel's network state did not happen.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("cannot open a netlink socket; the network needs root and CAP_NET_ADMIN")]
    Open {
        #[source]
        source: io::Error,
    },
    /// The kernel refused one message of a request.
    #[error("cannot {action} {name:?}")]
    Refused {
        action: &'static str,
        name: Box<str>,
        #[source]
        source: io::Error,
    },
    #[error("the netlink socket failed")]
    Socket {
        #[source]
        source: io::Error,
    },
    #[error("cannot enter the network namespace {path}")]
    Namespace {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the kernel setting {path}")]
    Sysctl {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("there is no network link {name:?}")]
    NoLink { name: Box<str> },
}

impl NetError {
    /// The kernel's own code, where it gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open { source }
            | Self::Refused { source, .. }
            | Self::Socket { source }
            | Self::Namespace { source, .. }
            | Self::Sysctl { source, .. } => source.raw_os_error(),
            Self::NoLink { .. } => Some(nix::libc::ENODEV),
        }
    }

    /// True where the object to be made is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(nix::libc::EEXIST)
    }

    /// True where the object to be used or removed is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self.errno(), Some(nix::libc::ENOENT | nix::libc::ENODEV | nix::libc::ESRCH | nix::libc::ENXIO))
    }
}
