//! How full volumes are. Measuring walks folders and asks file systems, on threads for that.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Pod, Volume};
use knarr_api::volume as rules;

use super::host_path;
use crate::disk::Footprint;

/// As far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub capacity: Option<u64>,
    pub available: Option<u64>,
    pub used: Option<u64>,
    pub inodes: Option<u64>,
    pub inodes_free: Option<u64>,
    pub inodes_used: Option<u64>,
}

impl Usage {
    pub fn of_file_system(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        let size = |blocks: u64| Some(blocks * found.f_frsize);
        Ok(Self {
            capacity: size(found.f_blocks),
            available: size(found.f_bavail),
            used: size(found.f_blocks - found.f_bfree),
            inodes: Some(found.f_files),
            inodes_free: Some(found.f_ffree),
            inodes_used: Some(found.f_files - found.f_ffree),
        })
    }

    /// What is below it, of what its file system has.
    pub fn of_folder(path: &Path) -> io::Result<Self> {
        let below = Footprint::below(path);
        Ok(Self { used: Some(below.bytes), inodes_used: Some(below.inodes), ..Self::of_file_system(path)? })
    }

    fn of_device(path: &Path) -> io::Result<Self> {
        Ok(Self { capacity: Some(File::open(path)?.seek(SeekFrom::End(0))?), ..Self::default() })
    }
}

/// One volume of a pod that can be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measurable {
    pub volume: String,
    pub claim: Option<String>,
    pub path: PathBuf,
    /// It takes of the node's own disk, which its pod's share is counted of.
    pub is_ephemeral: bool,
    /// It is a file system of its own, or a device: what it holds is not counted file by file.
    pub is_whole: bool,
}

impl Measurable {
    /// `None` where it cannot be read now.
    pub fn usage(&self) -> Option<Usage> {
        let device = || self.path.metadata().is_ok_and(|found| found.file_type().is_block_device());
        let found = match self.is_whole {
            true if device() => Usage::of_device(&self.path),
            true => Usage::of_file_system(&self.path),
            false => Usage::of_folder(&self.path),
        };
        found.ok()
    }
}

/// The volumes of a pod but images, and what is the host's: that is not the pod's.
pub fn measurable(pod: &Pod, dir: &Path) -> Vec<Measurable> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let one = |volume: &Volume| {
        let path = host_path(pod, dir, &volume.name).filter(|_| volume.host_path.is_none())?;
        let claim = match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => Some(source.claim_name.clone()),
            (None, Some(_)) => Some(rules::own_claim_name(&pod.metadata, &volume.name)),
            (None, None) => None,
        };
        let on_disk = volume.empty_dir.as_ref().map(|source| source.medium.as_deref() != Some("Memory"));
        Some(Measurable {
            volume: volume.name.clone(),
            is_whole: claim.is_some() || volume.nfs.is_some() || volume.csi.is_some() || on_disk == Some(false),
            is_ephemeral: on_disk == Some(true) || volume.config_map.is_some(),
            claim,
            path,
        })
    };
    volumes.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn volumes_are_measured_by_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let pod: Pod = from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [], "volumes": [
            {"name": "disk", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}},
            {"name": "files", "configMap": {"name": "c"}}, {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "claimed", "persistentVolumeClaim": {"claimName": "c"}},
            {"name": "own", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
            {"name": "host", "hostPath": {"path": "/"}}, {"name": "image", "image": {"reference": "i"}},
        ]}}))
        .unwrap();
        let claims = dir.path().join("volumes/kubernetes.io~claim");
        std::fs::create_dir_all(&claims).unwrap();
        std::os::unix::fs::symlink(dir.path(), claims.join("claimed")).unwrap();
        let found = measurable(&pod, dir.path());
        let told: Vec<_> =
            found.iter().map(|one| (&*one.volume, one.claim.as_deref(), one.is_ephemeral, one.is_whole)).collect();
        assert_eq!(
            told,
            [
                ("disk", None, true, false),
                ("memory", None, false, true),
                ("files", None, true, false),
                ("secret", None, false, false),
                ("claimed", Some("c"), false, true),
            ],
            "a claim whose volume is not there yet cannot be measured"
        );
        std::fs::create_dir_all(&found[0].path).unwrap();
        std::fs::write(found[0].path.join("file"), vec![1; 100_000]).unwrap();
        let usage = found[0].usage().unwrap();
        assert!((100_000..200_000).contains(&usage.used.unwrap()), "{usage:?}");
        assert_eq!(usage.inodes_used, Some(2));
        assert!(usage.capacity > usage.used && usage.available < usage.capacity);
        assert_eq!(found[1].usage(), None);
        assert_eq!(found[4].usage().unwrap().capacity, usage.capacity);
    }
}
