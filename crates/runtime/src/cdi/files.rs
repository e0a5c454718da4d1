//! All devices that are described on this host.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    CdiError,
    format::{Edits, Spec},
};

/// No description is longer.
const MAX_BYTES: u64 = 8 << 20;

pub struct Found {
    pub path: PathBuf,
    /// What all devices of the file bring, and this one alone.
    pub common: Edits,
    pub own: Edits,
    /// The place of its directory in the order of what counts.
    rank: usize,
}

/// By qualified names: `VENDOR/CLASS=NAME`. A file that cannot be read keeps nobody from devices of another.
pub fn read(dirs: &[&Path]) -> Result<BTreeMap<String, Found>, CdiError> {
    let mut all = BTreeMap::<String, Found>::new();
    for (rank, dir) in dirs.iter().enumerate() {
        for path in files(dir) {
            let spec = match spec(&path) {
                Ok(spec) => spec,
                Err(why) => {
                    tracing::warn!(path = %path.display(), why, "a description of devices cannot be read");
                    continue;
                }
            };
            for device in spec.devices {
                let name = format!("{}={}", spec.kind, device.name);
                if let Some(other) = all.get(&name).filter(|other| other.rank == rank) {
                    let (first, second) = (other.path.clone(), path.clone());
                    return Err(CdiError::Conflict { device: name, first, second });
                }
                let (common, own) = (spec.container_edits.clone(), device.container_edits);
                all.insert(name, Found { path: path.clone(), common, own, rank });
            }
        }
    }
    Ok(all)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %dir.display(), %error, "descriptions of devices cannot be read");
            }
            return Vec::new();
        }
    };
    let is_one = |path: &PathBuf| matches!(path.extension().and_then(|e| e.to_str()), Some("json" | "yaml"));
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_one).collect();
    files.sort();
    files
}

fn spec(path: &Path) -> Result<Spec, String> {
    let text = |error: io::Error| error.to_string();
    if fs::metadata(path).map_err(text)?.len() > MAX_BYTES {
        return Err(format!("it is larger than {MAX_BYTES} bytes"));
    }
    let bytes = fs::read(path).map_err(text)?;
    // All JSON is YAML, but this reader of YAML takes longer.
    let read = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
        _ => serde_yaml::from_slice(&bytes).map_err(|error| error.to_string()),
    };
    let spec: Spec = read?;
    if spec.cdi_version.is_empty() || !spec.kind.contains('/') {
        return Err("it has no cdiVersion, or no kind of the form VENDOR/CLASS".to_owned());
    }
    Ok(spec)
}
