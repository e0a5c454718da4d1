//! Pods with users of their own: which of the host's numbers are whose. A file in a pod's folder says so before anything
//! is made of it, as the kubelet's does, and is all there is to know: a block is free when its pod's folder is gone, which
//! goes after the last process.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::PodSpec;
use knarr_cri::v1::{IdMapping, NamespaceMode, StatusRequest, UserNamespace};
use serde::{Deserialize, Serialize};

use super::worker::Worker;
use crate::checkpoint;

const FILE: &str = "userns";
/// How many users and groups a pod has.
const LENGTH: u32 = 1 << 16;
/// The first block is the host's own, and the last has the number that stands for nobody at all.
const BLOCKS: std::ops::Range<u32> = 1..(1 << 16) - 1;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

/// Gives pods their blocks.
#[derive(Debug)]
pub struct UserBlocks {
    pod_dir: PathBuf,
    /// Held from the look for a free block until it is written down whose it is.
    giving: Mutex<()>,
}

impl UserBlocks {
    pub fn new(pod_dir: PathBuf) -> Self {
        Self { pod_dir, giving: Mutex::default() }
    }

    /// The pod's block: the one it has, or else one that no other pod has. Blocking.
    pub fn of(&self, uid: &str) -> io::Result<UserNamespace> {
        let _giving = self.giving.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.pod_dir.join(uid);
        let record = match read(&folder)? {
            Some(record) => record,
            None => {
                fs::create_dir_all(&folder)?;
                let taken = self.taken()?;
                let free = BLOCKS.map(|block| block * LENGTH).find(|host_id| !taken.contains(host_id));
                let none = || io::Error::other("could not find an empty slot to allocate a user namespace");
                let one = vec![Mapping { host_id: free.ok_or_else(none)?, container_id: 0, length: LENGTH }];
                let record = Record { uid_mappings: one.clone(), gid_mappings: one };
                checkpoint::write(&folder.join(FILE), &record)?;
                record
            }
        };
        let ids = |mappings: &[Mapping]| -> Vec<IdMapping> {
            let id = |&Mapping { host_id, container_id, length }: &Mapping| IdMapping { host_id, container_id, length };
            mappings.iter().map(id).collect()
        };
        let (uids, gids) = (ids(&record.uid_mappings), ids(&record.gid_mappings));
        Ok(UserNamespace { mode: NamespaceMode::Pod as i32, uids, gids })
    }

    fn taken(&self) -> io::Result<BTreeSet<u32>> {
        let mut taken = BTreeSet::new();
        for pod in fs::read_dir(&self.pod_dir)? {
            let mappings = read(&pod?.path())?.into_iter().flat_map(|record| record.uid_mappings);
            taken.extend(mappings.map(|mapping| mapping.host_id));
        }
        Ok(taken)
    }
}

/// What a pod's folder says. One that says nothing that can be understood may not be taken for one without a block.
fn read(folder: &Path) -> io::Result<Option<Record>> {
    let path = folder.join(FILE);
    checkpoint::read(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

impl Worker {
    /// The users that the pod has for itself, if it wants any.
    pub(super) async fn users(&self, spec: &PodSpec) -> Result<Option<UserNamespace>, String> {
        if spec.host_users != Some(false) {
            return Ok(None);
        }
        let (blocks, uid): (Arc<UserBlocks>, String) = (self.ctx.users.clone(), self.uid.clone());
        let given = knarr_os::aside(move || blocks.of(&uid)).await.map_err(|error| error.to_string())?;
        given.map(Some).map_err(|error| error.to_string())
    }

    /// A runtime that does not know of user namespaces would make the pod with the host's users, and say nothing.
    pub(super) async fn check_users(&self, spec: &PodSpec, handler: &str) -> Result<(), String> {
        if spec.host_users != Some(false) {
            return Ok(());
        }
        let status = self.ctx.runtime.status(StatusRequest::default()).await.map_err(|error| error.to_string())?;
        let mut handlers = status.runtime_handlers.iter().filter(|known| known.name == handler);
        match handlers.any(|known| known.features.is_some_and(|features| features.user_namespaces)) {
            true => Ok(()),
            false => Err(format!("RuntimeClass handler {handler:?} does not support user namespaces")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(users: &UserNamespace) -> u32 {
        assert_eq!(users.uids, users.gids);
        assert_eq!((users.uids[0].container_id, users.uids[0].length), (0, 65_536));
        users.uids[0].host_id
    }

    #[test]
    fn no_block_is_given_twice_and_a_restart_forgets_none() {
        let dir = tempfile::tempdir().unwrap();
        let blocks = UserBlocks::new(dir.path().to_owned());
        fs::create_dir(dir.path().join("of the host's users")).unwrap();
        assert_eq!(["a", "b", "c"].map(|uid| first(&blocks.of(uid).unwrap())), [65_536, 131_072, 196_608]);
        assert_eq!(first(&blocks.of("b").unwrap()), 131_072, "a pod keeps what it has");
        let again = UserBlocks::new(dir.path().to_owned());
        assert_eq!(["d", "b"].map(|uid| first(&again.of(uid).unwrap())), [262_144, 131_072]);
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        assert_eq!(
            ["e", "f"].map(|uid| first(&again.of(uid).unwrap())),
            [65_536, 327_680],
            "what is free is given again"
        );
        let text = fs::read_to_string(dir.path().join("b").join(FILE)).unwrap();
        let one = r#"[{"hostId":131072,"containerId":0,"length":65536}]"#;
        assert_eq!(text, format!(r#"{{"uidMappings":{one},"gidMappings":{one}}}"#));
    }

    #[test]
    fn many_at_once_have_different_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let blocks = UserBlocks::new(dir.path().to_owned());
        let given = std::thread::scope(|scope| {
            let ask = |n: u32| {
                let blocks = &blocks;
                scope.spawn(move || first(&blocks.of(&n.to_string()).unwrap()))
            };
            let asked: Vec<_> = (0..32).map(ask).collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect::<BTreeSet<u32>>()
        });
        assert_eq!(given, (1..=32).map(|n| n * 65_536).collect());
    }

    #[test]
    fn where_a_record_cannot_be_read_nothing_is_given() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a").join(FILE), "half of").unwrap();
        let error = UserBlocks::new(dir.path().to_owned()).of("b").unwrap_err().to_string();
        assert!(error.contains("a/userns"), "{error}");
    }

    #[test]
    fn the_last_block_ends_before_the_number_of_nobody() {
        assert_eq!((BLOCKS.end - 1) * LENGTH + (LENGTH - 1), 0xfffe_ffff);
    }
}
