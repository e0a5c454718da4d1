//! Which volumes a container sees, and where.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Component, Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Pod, VolumeDevice, VolumeMount};
use knarr_cri::v1::{Device, ImageSpec, Mount, MountPropagation};

use super::subpath::{self, Failure};
use crate::pod::{containers::Entry, expand::expand_with};

/// Why a container cannot be configured. The causes tell of the host's files, so they go to the log only.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error("cannot find volume {volume:?} to pass into container {container:?}")]
    NoDevice { volume: String, container: String },
    #[error("error SubPath `{0}` must not be an absolute path")]
    Absolute(String),
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    BackStep(String),
    #[error("missing value for {0}")]
    Unset(String),
    #[error("failed to create subPath directory for volumeMount {volume:?} of container {container:?}")]
    Create { volume: String, container: String },
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    Prepare { volume: String, container: String },
}

/// The mounts of one container, in the order of its spec, with the images that its volumes are, as the runtime knows
/// them. Binds subPaths and makes folders that they name and that do
/// not exist. Blocking, but only where there are subPaths.
pub fn container_mounts(
    pod: &Pod,
    entry: &Entry,
    dir: &Path,
    env: &[(String, String)],
    images: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, MountError> {
    let known = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mounter = Mounter { pod, container: entry.name(), dir, known, images };
    let mounts = entry.spec.volume_mounts.iter().flatten().enumerate();
    mounts.map(|(index, mount)| mounter.one(index, mount)).collect()
}

/// The volumes that one container has as devices. Blocking, for the reading of links.
pub fn container_devices(pod: &Pod, entry: &Entry, dir: &Path) -> Result<Vec<Device>, MountError> {
    let one = |device: &VolumeDevice| {
        let no_device = || MountError::NoDevice { volume: device.name.clone(), container: entry.name().to_owned() };
        let path = super::host_path(pod, dir, &device.name).ok_or_else(no_device)?;
        let permissions = if super::is_read_only(pod, &device.name) { "r" } else { "mrw" };
        Ok(Device {
            container_path: device.device_path.clone(),
            host_path: path.to_string_lossy().into_owned(),
            permissions: permissions.to_owned(),
        })
    };
    entry.spec.volume_devices.iter().flatten().map(one).collect()
}

struct Mounter<'a> {
    pod: &'a Pod,
    container: &'a str,
    dir: &'a Path,
    known: HashMap<&'a str, &'a str>,
    images: &'a BTreeMap<String, String>,
}

impl Mounter<'_> {
    fn one(&self, index: usize, mount: &VolumeMount) -> Result<Mount, MountError> {
        if let Some(image) = self.images.get(&mount.name) {
            return Ok(Mount {
                container_path: absolute(&mount.mount_path),
                image: Some(ImageSpec { image: image.clone(), ..ImageSpec::default() }),
                image_sub_path: sub_path(mount, &self.known)?.unwrap_or_default().into_owned(),
                readonly: true,
                ..Mount::default()
            });
        }
        let names = || (mount.name.clone(), self.container.to_owned());
        let volume = super::host_path(self.pod, self.dir, &mount.name).ok_or_else(|| {
            let (volume, container) = names();
            MountError::NoVolume { volume, container }
        })?;
        let host_path = match sub_path(mount, &self.known)? {
            None => volume,
            Some(sub_path) => self.bound(index, mount, &volume, &sub_path).map_err(|failure| {
                let (volume, container) = names();
                let (error, cause) = match failure {
                    Failure::Create(cause) => (MountError::Create { volume, container }, cause),
                    Failure::Prepare(cause) => (MountError::Prepare { volume, container }, cause),
                };
                tracing::warn!(sub_path = &*sub_path, %cause, "{error}");
                error
            })?,
        };
        let readonly = mount.read_only == Some(true) || super::is_read_only(self.pod, &mount.name);
        Ok(Mount {
            container_path: absolute(&mount.mount_path),
            host_path: host_path.to_string_lossy().into_owned(),
            readonly,
            propagation: match mount.mount_propagation.as_deref() {
                Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
                Some("Bidirectional") => MountPropagation::PropagationBidirectional,
                _ => MountPropagation::PropagationPrivate,
            } as i32,
            recursive_read_only: readonly
                && mount.recursive_read_only.as_deref().is_some_and(|kind| kind != "Disabled"),
            ..Mount::default()
        })
    }

    fn bound(&self, index: usize, mount: &VolumeMount, volume: &Path, sub_path: &str) -> Result<PathBuf, Failure> {
        let opened = subpath::open(volume, Path::new(sub_path))?;
        let target = subpath::target(self.dir, &mount.name, self.container, index);
        subpath::bind(&opened, &target).map_err(Failure::Prepare)?;
        Ok(target)
    }
}

/// The part of the volume that is mounted, where it is not the whole.
fn sub_path<'a>(mount: &'a VolumeMount, known: &HashMap<&str, &str>) -> Result<Option<Cow<'a, str>>, MountError> {
    let given = |path: &'a Option<String>| path.as_deref().filter(|path| !path.is_empty());
    let path = match (given(&mount.sub_path_expr), given(&mount.sub_path)) {
        (Some(expression), _) => Cow::Owned(expanded(expression, known)?),
        (None, Some(path)) => Cow::Borrowed(path),
        (None, None) => return Ok(None),
    };
    if Path::new(&*path).is_absolute() {
        return Err(MountError::Absolute(path.into_owned()));
    }
    if Path::new(&*path).components().any(|part| part == Component::ParentDir) {
        return Err(MountError::BackStep(path.into_owned()));
    }
    Ok(Some(path).filter(|path| !path.is_empty()))
}

/// Unlike in a command, every variable has to have a value: without one, another part of the volume would be mounted.
fn expanded(expression: &str, known: &HashMap<&str, &str>) -> Result<String, MountError> {
    let mut missing = BTreeSet::new();
    let path = expand_with(expression, |name| {
        let value = known.get(name).copied().unwrap_or_default();
        if value.is_empty() {
            missing.insert(name.to_owned());
        }
        Some(value)
    });
    match missing.is_empty() {
        true => Ok(path),
        false => Err(MountError::Unset(Vec::from_iter(missing).join(", "))),
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}
