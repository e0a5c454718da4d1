//! Undoing what was done: unpublished when its pod ends, unstaged when no pod of the node has it. What cannot be undone
//! now is tried again, also after the agent was started anew.

use std::{fs, io, path::Path, time::Duration};

use knarr_csi::messages::{NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest};

use super::{
    Csi, CsiError, is_mounted,
    record::{self, Progress, Record},
};
use crate::volume::remove_pod_folder;

const UNMOUNT: &str = "UnmountVolume.TearDown";
const UNSTAGE: &str = "UnmountDevice";
/// The folders that are made for a pod's volume, up to the pod's own.
const OF_POD: usize = 4;
/// Between two tries of what is left.
const RETRY: Duration = Duration::from_secs(10);
/// A look where nothing is known to be left.
const LOOK: Duration = Duration::from_secs(300);

impl Csi {
    /// Takes a pod's volumes back. Nothing of the pod may use them any more.
    pub async fn release(&self, pod_dir: &Path) -> Result<(), CsiError> {
        let unreadable = |error: io::Error| CsiError::new(UNMOUNT, &pod_dir.display().to_string(), error);
        let records = record::of_pod(pod_dir).map_err(unreadable)?;
        if records.is_empty() {
            return Ok(());
        }
        for (file, record) in &records {
            let held = self.volume(&record.driver_name, &record.volume_handle);
            let mut is_staged = held.lock().await;
            let fails = |why: String| CsiError::new(UNMOUNT, &record.volume_handle, why);
            self.unpublish(record).await.map_err(fails)?;
            record::remove(file).map_err(|error| fails(error.to_string()))?;
            *is_staged &= self.is_kept_staged(record).await;
        }
        if let Err(error) = self.tell_in_use().await {
            tracing::warn!(error, "the API could not be told which volumes are used no more; will retry");
            self.sweep.notify_one();
        }
        Ok(())
    }

    async fn unpublish(&self, record: &Record) -> Result<(), String> {
        if record.progress != Progress::Wanted {
            let driver = self.driver(&record.driver_name);
            let driver = driver.ok_or_else(|| not_registered(record))?;
            let (volume_id, target_path) = (record.volume_handle.clone(), shown(&record.path));
            let request = NodeUnpublishVolumeRequest { volume_id, target_path };
            driver.call(&request).await.map_err(|error| error.to_string())?;
        }
        remove_target(&record.path, OF_POD).map_err(|error| format!("failed to clean mount dir: {error}"))
    }

    /// Whether others use what is staged; it is unstaged where nobody does. What failed is left to the next sweep, for
    /// which no pod waits.
    async fn is_kept_staged(&self, record: &Record) -> bool {
        match self.try_unstage(record).await {
            Ok(done) => !done,
            Err(why) => {
                let error = CsiError::new(UNSTAGE, &record.volume_handle, why);
                tracing::warn!(%error, "a volume could not be unstaged; will retry");
                self.sweep.notify_one();
                false
            }
        }
    }

    async fn try_unstage(&self, record: &Record) -> Result<bool, String> {
        let on_disk = |error: io::Error| error.to_string();
        if self.published().map_err(on_disk)?.iter().any(|other| other.is_of(record)) {
            return Ok(false);
        }
        let file = self.staged_record(&record.driver_name, &record.volume_handle);
        let Some(staged) = record::read(&file).map_err(on_disk)? else { return Ok(true) };
        let driver = self.driver(&record.driver_name).ok_or_else(|| not_registered(record))?;
        let (volume_id, staging_target_path) = (staged.volume_handle, shown(&staged.path));
        let request = NodeUnstageVolumeRequest { volume_id, staging_target_path };
        driver.call(&request).await.map_err(|error| error.to_string())?;
        remove_target(&staged.path, 1).map_err(on_disk)?;
        record::remove(&file).map_err(on_disk)?;
        Ok(true)
    }

    /// Looks again and again for what nobody wants any more: volumes of pods that are not known, and what is staged for
    /// no pod. Begin with it when it is known which pods are wanted.
    pub async fn tidy(&self, is_known: impl Fn(&str) -> bool) {
        if let Err(error) = self.make_object().await {
            tracing::warn!(%error, "no CSINode for this node yet; the first driver makes it");
        }
        loop {
            let failed = self.sweep(&is_known).await.err();
            if let Some(error) = &failed {
                tracing::warn!(error, "volumes that nobody uses are not all gone; will retry");
                // Whoever failed woke this; a moment later it may go better.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let pause = if failed.is_some() { RETRY } else { LOOK };
            let _ = tokio::time::timeout(pause, self.sweep.notified()).await;
        }
    }

    /// What one volume lacks is nothing to the others; the last failure is told.
    pub(super) async fn sweep(&self, is_known: &impl Fn(&str) -> bool) -> Result<(), String> {
        let on_disk = |error: io::Error| error.to_string();
        let mut done = Ok(());
        for pod in record::entries(&self.places.pod_dir).map_err(on_disk)? {
            let uid = pod.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_known(&uid) || record::of_pod(&pod).map_err(on_disk)?.is_empty() {
                continue;
            }
            match self.release(&pod).await {
                Ok(()) => remove_pod_folder(&pod).map_err(on_disk)?,
                Err(error) => done = Err(error.to_string()),
            }
        }
        for (_, record) in record::in_folder(&self.places.staged_dir).map_err(on_disk)? {
            let held = self.volume(&record.driver_name, &record.volume_handle);
            let mut is_staged = held.lock().await;
            if !self.published().map_err(on_disk)?.iter().any(|other| other.is_of(&record)) {
                *is_staged = false;
                if let Err(why) = self.try_unstage(&record).await {
                    done = Err(CsiError::new(UNSTAGE, &record.volume_handle, why).to_string());
                }
            }
        }
        self.tell_in_use().await?;
        done
    }
}

fn not_registered(record: &Record) -> String {
    format!("driver name {} not found in the list of registered CSI drivers", record.driver_name)
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Removes where a volume was mounted, and folders above it as far as they were made for it and are empty. Never what
/// is still mounted, nor what is in it.
fn remove_target(path: &Path, folders: usize) -> io::Result<()> {
    if is_mounted(path) {
        return Err(io::Error::other(format!("{} is still mounted", path.display())));
    }
    let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other?,
    }
    for folder in path.ancestors().skip(1).take(folders) {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

/// Unmounts all that drivers mounted, without them: nothing of a node runs any more. Removes the folders made for it, as
/// far as nobody else has anything in them.
pub fn reset(kubelet_dir: &Path, pod_dir: &Path, staged_dir: &Path) -> io::Result<()> {
    let mut records = record::in_folder(staged_dir)?;
    for pod in record::entries(pod_dir)? {
        records.extend(record::of_pod(&pod)?);
    }
    for (_, record) in records {
        if let Ok(real) = record.path.canonicalize() {
            knarr_os::mount::unmount_below(&real).map_err(io::Error::other)?;
        }
        remove_target(&record.path, OF_POD)?;
    }
    let drivers = kubelet_dir.join("plugins/kubernetes.io/csi");
    let ours = record::entries(&drivers)?.into_iter().chain([drivers.clone()]);
    for folder in ours.chain([kubelet_dir.join("plugins/kubernetes.io"), kubelet_dir.join("pods")]) {
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}
