//! Which volumes a container sees, and where.

use std::{
    collections::HashMap,
    fs, io,
    path::{Component, Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Pod, VolumeMount};
use knarr_cri::v1::{Mount, MountPropagation};

use crate::pod::{containers::Entry, expand::expand};

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("volumeMount {0:?} names no volume of the pod")]
    NoVolume(String),
    #[error("subPath {sub_path:?} of volume {volume:?} must be relative and may not contain '..'")]
    UpAndOut { volume: String, sub_path: String },
    #[error("failed to expand subPathExpr {0:?}: it names a variable that is not set")]
    Unset(String),
    #[error("subPath {sub_path:?} of volume {volume:?} leaves the volume")]
    Escapes { volume: String, sub_path: String },
    #[error("failed to prepare subPath for volumeMount {volume:?}: {path}: {source}")]
    Disk { volume: String, path: PathBuf, source: io::Error },
}

/// The mounts of one container, in the order of its spec. Makes folders that a subPath names and that do not
/// exist. Blocking, but only where there are subPaths.
pub fn container_mounts(
    pod: &Pod,
    entry: &Entry,
    dir: &Path,
    env: &[(String, String)],
) -> Result<Vec<Mount>, MountError> {
    let known: HashMap<&str, &str> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mounts = entry.spec.volume_mounts.iter().flatten();
    mounts.map(|mount| one(pod, mount, dir, &known)).collect()
}

fn one(pod: &Pod, mount: &VolumeMount, dir: &Path, known: &HashMap<&str, &str>) -> Result<Mount, MountError> {
    let volume = super::host_path(pod, dir, &mount.name).ok_or_else(|| MountError::NoVolume(mount.name.clone()))?;
    let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
        (_, Some(expression)) if !expression.is_empty() => {
            let text = expand(expression, known);
            if text.contains("$(") {
                return Err(MountError::Unset(expression.clone()));
            }
            Some(text)
        }
        (Some(path), _) if !path.is_empty() => Some(path.clone()),
        _ => None,
    };
    let host_path = match sub_path {
        Some(sub_path) => inside(&volume, &mount.name, &sub_path)?,
        None => volume,
    };
    let readonly = mount.read_only == Some(true) || super::is_read_only(pod, &mount.name);
    Ok(Mount {
        container_path: absolute(&mount.mount_path),
        host_path: host_path.to_string_lossy().into_owned(),
        readonly,
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
            Some("Bidirectional") => MountPropagation::PropagationBidirectional,
            _ => MountPropagation::PropagationPrivate,
        } as i32,
        recursive_read_only: readonly && mount.recursive_read_only.as_deref().is_some_and(|kind| kind != "Disabled"),
        ..Mount::default()
    })
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// A subPath inside its volume, made where it does not exist. Links are followed only as long as they stay
/// inside: a container may have put them there.
fn inside(volume: &Path, name: &str, sub_path: &str) -> Result<PathBuf, MountError> {
    let relative = Path::new(sub_path);
    let normal = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    if !relative.components().all(normal) {
        return Err(MountError::UpAndOut { volume: name.to_owned(), sub_path: sub_path.to_owned() });
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| MountError::Disk { volume: name.to_owned(), path, source }
    };
    let root = fs::canonicalize(volume).map_err(failed(volume))?;
    let mut at = root.clone();
    for part in relative.components().filter(|part| matches!(part, Component::Normal(_))) {
        let next = at.join(part);
        if fs::symlink_metadata(&next).is_err() {
            fs::create_dir(&next).map_err(failed(&next))?;
        }
        at = fs::canonicalize(&next).map_err(failed(&next))?;
        if !at.starts_with(&root) {
            return Err(MountError::Escapes { volume: name.to_owned(), sub_path: sub_path.to_owned() });
        }
    }
    Ok(at)
}
