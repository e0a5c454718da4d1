//! NFS, by the kernel's own client: what `mount.nfs` does beside calling it is to look up the server and to try one
//! version of the protocol after the other. (nfs(5))

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{NFSVolumeSource, PersistentVolume, Pod};
use knarr_client::{dial, meta};
use knarr_os::mount::{self, is_mounted};
use rustix::io::Errno;

use super::{Bring, Place, VolumeError, volume_path};

/// Of the protocol, the best first.
const VERSIONS: [&str; 4] = ["vers=4.2", "vers=4.1", "vers=4.0", "vers=3"];

/// A directory of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// As folders and events name it: the PersistentVolume, or the volume in the pod.
    name: String,
    server: String,
    path: String,
    options: Vec<String>,
}

impl Share {
    pub fn inline(name: &str, source: &NFSVolumeSource) -> Self {
        let only = (source.read_only == Some(true)).then(|| "ro".to_owned());
        Self {
            name: name.to_owned(),
            server: source.server.clone(),
            path: source.path.clone(),
            options: only.into_iter().collect(),
        }
    }

    /// `None` where the volume is of another kind.
    pub fn of_claim(volume: &PersistentVolume, read_only: bool) -> Option<Self> {
        let spec = volume.spec.as_ref()?;
        let mut share = Self::inline(meta::name(&volume.metadata), spec.nfs.as_ref()?);
        share.options.extend(read_only.then(|| "ro".to_owned()));
        share.options.extend(spec.mount_options.iter().flatten().cloned());
        Some(share)
    }

    /// What the kernel is told in turn until it has a version that the server speaks.
    fn attempts(&self, address: IpAddr) -> Vec<Vec<String>> {
        let mut told: Vec<String> =
            self.options.iter().flat_map(|option| option.split(',')).map(str::to_owned).collect();
        let is_version = |option: &String| ["vers=", "nfsvers=", "v3", "v4"].iter().any(|way| option.starts_with(way));
        let is_chosen = told.iter().any(is_version);
        told.push(format!("addr={address}"));
        if is_chosen {
            return vec![told];
        }
        VERSIONS.map(|version| told.iter().cloned().chain([version.to_owned()]).collect::<Vec<_>>()).to_vec()
    }

    async fn mount(&self, target: &Path) -> Result<(), String> {
        let addresses = dial::resolve(&self.server).await.map_err(|error| error.to_string())?;
        let address = *addresses.first().ok_or_else(|| format!("lookup {}: no such host", self.server))?;
        // An address of the newer kind is set off from the path.
        let host = if self.server.contains(':') { format!("[{}]", self.server) } else { self.server.clone() };
        let (source, attempts, target) = (format!("{host}:{}", self.path), self.attempts(address), target.to_owned());
        let mounted = tokio::task::spawn_blocking(move || first_of(&source, &attempts, &target));
        let mounted = mounted.await.map_err(io::Error::other).and_then(|done| done);
        mounted.map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NODEV) => {
                "mount failed: unknown filesystem type 'nfs': this kernel has no NFS client".to_owned()
            }
            _ => format!("mount failed: {error}"),
        })
    }
}

fn first_of(source: &str, attempts: &[Vec<String>], target: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let mut last = Ok(());
    for options in attempts {
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        last = mount::from(source, "nfs", target, &options).map_err(|error| error.source);
        match &last {
            Err(error) if Errno::from_io_error(error) == Some(Errno::PROTONOSUPPORT) => {}
            _ => return last,
        }
    }
    last
}

/// One at its place in a pod's folder; what is mounted there goes with the folder.
pub struct Mounted {
    share: Share,
    target: PathBuf,
}

impl Mounted {
    pub fn new(share: Share, pod_dir: &Path) -> Self {
        let target = volume_path(pod_dir, "nfs", &share.name);
        Self { share, target }
    }
}

#[async_trait]
impl Bring for Mounted {
    fn found(&self, _: &Pod) -> Option<Place> {
        let real = self.target.parent()?.canonicalize().ok()?.join(self.target.file_name()?);
        // Its files are the server's: the pod's group is nothing to them.
        let place = Place { path: self.target.clone(), kind: String::new(), owned: false };
        is_mounted(&real).unwrap_or(false).then_some(place)
    }

    async fn bring(&self, pod: &Pod) -> Result<Place, VolumeError> {
        let failed = |cause: String| VolumeError::SetUp { volume: self.share.name.clone(), cause };
        if let Some(place) = self.found(pod) {
            return Ok(place);
        }
        self.share.mount(&self.target).await.map_err(failed)?;
        self.found(pod).ok_or_else(|| failed("mount failed: it is not in the mount table".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn versions_are_tried_unless_one_is_chosen() {
        let share = |options: &[&str]| {
            let spec = json!({"nfs": {"server": "s", "path": "/x", "readOnly": true}, "mountOptions": options});
            let volume: PersistentVolume = from_value(json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap();
            Share::of_claim(&volume, false).unwrap()
        };
        let address = "192.0.2.1".parse().unwrap();
        let tried = share(&["hard", "timeo=600,noatime"]).attempts(address);
        assert_eq!(tried.len(), 4);
        assert_eq!(tried[0], ["ro", "hard", "timeo=600", "noatime", "addr=192.0.2.1", "vers=4.2"]);
        assert_eq!(share(&["nfsvers=4.1"]).attempts(address), [["ro", "nfsvers=4.1", "addr=192.0.2.1"]]);
    }

    #[tokio::test]
    async fn what_the_kernel_lacks_is_said() {
        assert!(rustix::process::geteuid().is_root(), "this test mounts; run it as root");
        let dir = tempfile::tempdir().unwrap();
        let share = Share { name: "v".into(), server: "127.0.0.1".into(), path: "/none".into(), options: Vec::new() };
        let mounted = Mounted::new(share, dir.path());
        let said = mounted.bring(&Pod::default()).await.unwrap_err().to_string();
        assert!(said.starts_with("MountVolume.SetUp failed for volume \"v\" : mount failed: "), "{said}");
        if !fs::read_to_string("/proc/filesystems").unwrap().contains("nfs") {
            assert!(said.ends_with("this kernel has no NFS client"), "{said}");
        }
    }
}
