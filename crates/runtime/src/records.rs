//! Records on disk: a directory per sandbox and container, with CRI's own message as it came and what the runtime
//! added. A directory without a whole record was cut short while being made and is swept away.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use prost::Message;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::shim::spec::{Identity, load, replace, store};

const CONFIG_FILE: &str = "config.pb";
const META_FILE: &str = "meta.json";

/// What is known of a sandbox besides its config.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxMeta {
    pub id: String,
    pub created_at_ns: i64,
    pub ready: bool,
    pub ips: Vec<IpAddr>,
    /// The pod's control group.
    pub cgroup: PathBuf,
}

/// What is known of a container besides its config.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerMeta {
    pub id: String,
    pub sandbox_id: String,
    pub created_at_ns: i64,
    pub started_at_ns: i64,
    pub image_id: String,
    pub image_ref: String,
    pub pid: i32,
    pub identity: Identity,
    pub cgroup: PathBuf,
    /// What the image wants to be stopped with.
    pub stop_signal: i32,
    pub log_path: Option<PathBuf>,
}

/// Writes a record; the meta file comes last and makes it whole.
pub fn save<C: Message, M: Serialize>(directory: &Path, config: &C, meta: &M) -> io::Result<()> {
    // Never half of it: an empty message reads as one without labels, and a pod whose sandbox has none looks as if it
    // had lost it.
    replace(&directory.join(CONFIG_FILE), &config.encode_to_vec())?;
    store(&directory.join(META_FILE), meta)
}

pub fn save_meta<M: Serialize>(directory: &Path, meta: &M) -> io::Result<()> {
    store(&directory.join(META_FILE), meta)
}

/// Reads every whole record below a directory, and removes the rest.
pub fn load_all<C: Message + Default, M: DeserializeOwned>(directory: &Path) -> io::Result<Vec<(C, M)>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let config = fs::read(path.join(CONFIG_FILE)).ok().and_then(|bytes| C::decode(bytes.as_slice()).ok());
        match (config, load(&path.join(META_FILE))) {
            (Some(config), Ok(meta)) => records.push((config, meta)),
            _ => {
                tracing::warn!(path = %path.display(), "removing a record that was never finished");
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use knarr_cri::v1::PodSandboxConfig;

    use super::*;

    #[test]
    fn a_record_that_is_written_again_is_whole_at_every_moment() {
        let dir = tempfile::tempdir().unwrap();
        let config = |name: &str| PodSandboxConfig { hostname: name.into(), ..PodSandboxConfig::default() };
        save(dir.path(), &config("first"), &1).unwrap();
        let mut old = fs::File::open(dir.path().join(CONFIG_FILE)).unwrap();
        save(dir.path(), &config("second"), &2).unwrap();
        let mut bytes = Vec::new();
        old.read_to_end(&mut bytes).unwrap();
        assert_eq!(PodSandboxConfig::decode(&*bytes).unwrap(), config("first"), "the file was replaced, not rewritten");
        let now = fs::read(dir.path().join(CONFIG_FILE)).unwrap();
        assert_eq!(PodSandboxConfig::decode(&*now).unwrap(), config("second"));
    }
}
