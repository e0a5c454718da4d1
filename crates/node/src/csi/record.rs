//! What a driver was asked for, on the disk, so that it is undone after a crash as well. Records lie in the node's own
//! directory; the volumes themselves are where drivers expect them, which other kubelets of this machine may use too.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::volume::volume_path;

const FILE: &str = "vol_data.json";

/// One volume at one place; named as in upstream's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub driver_name: String,
    pub volume_handle: String,
    /// Where a controller attaches the volume first: the name of its VolumeAttachment.
    #[serde(rename = "attachmentID", skip_serializing_if = "Option::is_none")]
    pub attachment_id: Option<String>,
    /// Where the driver was told to mount it.
    pub path: PathBuf,
    pub progress: Progress,
}

/// How far a volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Progress {
    /// Nothing was asked of the driver yet.
    Wanted,
    /// The driver may have mounted it, and has to be asked to undo that.
    Asked,
    /// It was mounted. The node may have to give it to the pod's group.
    Done { given: bool },
}

impl Record {
    pub fn is_of(&self, other: &Self) -> bool {
        (&self.driver_name, &self.volume_handle) == (&other.driver_name, &other.volume_handle)
    }
}

/// Where a pod's record of a volume is.
pub fn in_pod(pod_dir: &Path, name: &str) -> PathBuf {
    volume_path(pod_dir, "csi", name).join(FILE)
}

/// The records of one pod, each with its file.
pub fn of_pod(pod_dir: &Path) -> io::Result<Vec<(PathBuf, Record)>> {
    let folder = volume_path(pod_dir, "csi", "");
    each(&folder, |path| path.join(FILE))
}

pub fn has_any(pod_dir: &Path) -> bool {
    of_pod(pod_dir).map_or(true, |records| !records.is_empty())
}

/// The records in one folder: of what is staged, whoever uses it.
pub fn in_folder(folder: &Path) -> io::Result<Vec<(PathBuf, Record)>> {
    let mut records = each(folder, Path::to_owned)?;
    records.retain(|(path, _)| path.extension().is_some_and(|extension| extension == "json"));
    Ok(records)
}

fn each(folder: &Path, file: impl Fn(&Path) -> PathBuf) -> io::Result<Vec<(PathBuf, Record)>> {
    let mut found = Vec::new();
    for entry in entries(folder)? {
        let path = file(&entry);
        if let Some(record) = read(&path)? {
            found.push((path, record));
        }
    }
    Ok(found)
}

pub fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// A file that was never finished says nothing: what it was to record had not been begun.
pub fn read(path: &Path) -> io::Result<Option<Record>> {
    match fs::read(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        bytes => serde_json::from_slice(&bytes?).map(Some).map_err(io::Error::other),
    }
}

pub fn write(path: &Path, record: &Record) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let new = path.with_extension("new");
    fs::write(&new, serde_json::to_vec(record)?)?;
    fs::rename(new, path)
}

/// Removes a record, and the pod's folder for it.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    if let Some(folder) = path.parent().filter(|_| path.ends_with(FILE)) {
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}
