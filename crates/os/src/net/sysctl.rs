//! Kernel settings below `/proc/sys/net`. The file system shows the settings of the reading thread's network
//! namespace.

use std::{fs, path::PathBuf};

use super::{NetError, Result};

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(name)
}

/// Reads a setting, such as `ipv4/ip_forward`.
pub fn read(name: &str) -> Result<String> {
    let path = path(name);
    match fs::read_to_string(&path) {
        Ok(value) => Ok(value.trim().to_owned()),
        Err(source) => Err(NetError::Sysctl { path, source }),
    }
}

/// Writes a setting. Nothing is written where it has this value already, so that a read-only `/proc/sys` (an
/// unprivileged outer container) does no harm when the host is set up well.
pub fn write(name: &str, value: &str) -> Result<()> {
    if read(name)? == value {
        return Ok(());
    }
    let path = path(name);
    fs::write(&path, value).map_err(|source| NetError::Sysctl { path, source })
}
