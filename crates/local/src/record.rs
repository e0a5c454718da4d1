//! What is noted on the disk: what cannot be asked of the kernel, because it has to outlive a cut of power.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{LocalError, Range, error::At};

/// `cluster.json`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ClusterRecord {
    pub name: String,
    pub range: Range,
    /// The link on the host that the nodes hang on, and the name of the nftables table beside it.
    pub bridge: String,
    /// The image archives that every node imports, if any.
    pub images: Option<PathBuf>,
    /// What was `net.ipv4.ip_forward` before this cluster changed it.
    pub former_forwarding: Option<String>,
    /// The files that the cluster's context was merged into.
    pub kubeconfigs: BTreeSet<PathBuf>,
}

/// `node.json`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct NodeRecord {
    /// The host name too.
    pub name: String,
    pub address: Ipv4Addr,
    /// The words after the program's name.
    pub arguments: Vec<String>,
}

/// Reads a record; `None` where there is none.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LocalError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from).at("read", path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at("read", path),
    }
}

/// Replaces a record in one step. Its owner alone can read it.
pub fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), LocalError> {
    let next = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        file.sync_all()?;
        fs::rename(&next, path)
    };
    write().at("write", path)
}
