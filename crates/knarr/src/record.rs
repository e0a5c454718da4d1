//! What a data directory says of itself, in `cluster.json`: which layout it has, and what of the cluster is kept
//! neither in the store nor by any component.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use knarr_cri_grpc::client::Endpoint;
use serde::{Deserialize, Serialize};

/// The layout that this program writes. Raised by a change that an earlier program would misread.
const FORMAT: u32 = 1;

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Record {
    format: u32,
    /// The version that wrote it last, for the message of an earlier one.
    knarr: String,
    /// A host may change its name; the node and the pods on it must not.
    pub node_name: String,
    /// The files that the context was merged into, so that a reset finds them.
    pub kubeconfigs: BTreeSet<PathBuf>,
    /// The socket of the runtime that has the pods, where that is not the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Where plugins find the node, so that a reset removes the folders made there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubelet_dir: Option<PathBuf>,
}

/// What can be told of a record before its fields are known to mean what they mean here.
#[derive(Deserialize)]
struct Preface {
    format: u32,
    knarr: String,
}

impl Record {
    pub fn new(node_name: &str, runtime: Option<&Endpoint>) -> Self {
        Self {
            format: FORMAT,
            knarr: crate::version::SHORT.into(),
            node_name: node_name.into(),
            kubeconfigs: BTreeSet::new(),
            runtime: runtime.map(ToString::to_string),
            kubelet_dir: None,
        }
    }

    /// Reads the record; `None` where the directory has had no cluster yet.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let damaged =
            || format!("{} is damaged: restore it from a backup, or remove it to have a new one made", path.display());
        let Preface { format, knarr } = serde_json::from_slice(&text).with_context(damaged)?;
        if format > FORMAT {
            bail!(
                "{} was written by knarr {knarr}, whose layout this knarr {} does not know: use that version or a \
                 later one, or another --data-dir",
                path.parent().unwrap_or(path).display(),
                crate::version::SHORT,
            );
        }
        serde_json::from_slice(&text).map(Some).with_context(damaged)
    }

    /// Replaces the record in one step.
    pub fn write(&self, path: &Path) -> Result<()> {
        let next = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&next)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&next, path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.json");
        assert_eq!(Record::read(&path).unwrap(), None);
        let mut record = Record::new("node-1", None);
        record.kubeconfigs.insert("/root/.kube/config".into());
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(record));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.json");
        for (text, reason) in [
            (r#"{"format": 2, "knarr": "9.9.9", "changed": true}"#, "written by knarr 9.9.9"),
            (r#"{"format": 1, "knarr": "0.1.0"}"#, "is damaged"),
            ("", "is damaged"),
        ] {
            fs::write(&path, text).unwrap();
            let refused = Record::read(&path).unwrap_err().to_string();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }
}
