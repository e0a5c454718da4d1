//! The built-in provisioner of volumes: directories below this node's data directory, for claims whose pod goes here.
//! It is to the cluster what an external provisioner is that runs on every node.
//! (<https://kubernetes.io/docs/concepts/storage/storage-classes/#provisioner>)
//!
//! A volume is a `local` one, so that everybody sees where it lies, and tied to this node. Its size is what its claim
//! asks for and nothing enforces it: all volumes share the disk of the data directory.

mod disk;
mod plan;
#[cfg(test)]
mod tests;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use knarr_api::volume as rules;
use knarr_client::{
    Informer, Informers, ObjectKey, Outcome, Recorder, WorkQueue, call, errors,
    meta::{self, BindingKey as Key},
    worker,
};
use kube::api::DeleteParams;
use tokio_util::sync::CancellationToken;

use self::plan::Fate;

const NAME: &str = "local-provisioner";
/// As events name it.
pub const COMPONENT: &str = rules::LOCAL_PROVISIONER;
const WORKERS: usize = 4;
/// When a wish that cannot be met is looked at again, should the class have changed meanwhile.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);

pub struct Config {
    pub node_name: String,
    /// Holds the volumes and nothing else.
    pub dir: PathBuf,
    pub informers: Informers,
    pub recorder: Recorder,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{what} failed")]
    Api {
        what: &'static str,
        #[source]
        source: kube::Error,
    },
    #[error("the directory {path} cannot be {what}")]
    Disk {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("storageclass.storage.k8s.io {0:?} not found")]
    NoClass(String),
}

struct Provisioner {
    config: Config,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
}

/// Runs until cancelled.
pub async fn run(config: Config, cancel: CancellationToken) {
    let cancel = cancel.child_token();
    let _ends = cancel.clone().drop_guard();
    let queue = WorkQueue::new(cancel);
    let informers = config.informers.clone();
    let this =
        Arc::new(Provisioner { claims: informers.of(), volumes: informers.of(), classes: informers.of(), config });
    let Provisioner { claims, volumes, classes, .. } = &*this;
    if !(claims.synced().await && volumes.synced().await && classes.synced().await) {
        return;
    }
    let node = this.config.node_name.clone();
    claims.feed(&queue, move |change| {
        let claim = change.new.as_ref().filter(|claim| plan::is_wanted(claim, &node))?;
        Some(Key::Claim(ObjectKey::of(&**claim)))
    });
    let node = this.config.node_name.clone();
    volumes.feed(&queue, move |change| {
        let volume = change.new.as_ref().filter(|volume| plan::is_of(volume, &node))?;
        Some(Key::Volume(meta::name(&volume.metadata).to_owned()))
    });
    worker::run(NAME, queue, WORKERS, move |key| {
        let this = this.clone();
        async move {
            match key {
                Key::Claim(key) => this.provide(&key).await,
                Key::Volume(name) => this.reclaim(&name).await,
            }
        }
    })
    .await;
}

impl Provisioner {
    async fn provide(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        if !plan::is_wanted(&claim, &self.config.node_name) || claim.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let name = plan::volume_name(&claim);
        if self.volumes.get("", &name).is_some() {
            return Ok(Outcome::Done);
        }
        let message = format!("External provisioner is provisioning volume for claim \"{key}\"");
        self.config.recorder.normal(&*claim, "Provisioning", message);
        match self.make(&claim, &name).await {
            Ok(None) => {
                let message = format!("Successfully provisioned volume {name}");
                self.config.recorder.normal(&*claim, "ProvisioningSucceeded", message);
                Ok(Outcome::Done)
            }
            Ok(Some(refusal)) => {
                self.failed(&claim, &refusal);
                Ok(Outcome::After(REFUSED_AGAIN))
            }
            Err(error) => {
                self.failed(&claim, &with_cause(&error));
                Err(error)
            }
        }
    }

    fn failed(&self, claim: &PersistentVolumeClaim, why: &str) {
        let class = rules::class_of_claim(claim);
        let message = format!("failed to provision volume with StorageClass {class:?}: {why}");
        self.config.recorder.warning(claim, "ProvisioningFailed", message);
    }

    /// The directory first: a volume that is seen is there. Says why where the wish cannot be met.
    async fn make(&self, claim: &PersistentVolumeClaim, name: &str) -> Result<Option<String>, Error> {
        let class = rules::class_of_claim(claim);
        let class = self.classes.get("", class).ok_or_else(|| Error::NoClass(class.to_owned()))?;
        if let Some(refusal) = plan::refusal(claim, &class) {
            return Ok(Some(refusal));
        }
        let path = self.config.dir.join(name);
        let (dir, made) = (self.config.dir.clone(), name.to_owned());
        let done = blocking(move || disk::make(&dir, &made)).await;
        done.map_err(|source| Error::Disk { what: "made", path: path.clone(), source })?;
        let volume = plan::volume(claim, &class, &path, &self.config.node_name);
        match call::create(self.config.informers.client(), &volume).await {
            Err(error) if !errors::is_already_exists(&error) => {
                Err(Error::Api { what: "creating the PersistentVolume", source: error })
            }
            _ => Ok(None),
        }
    }

    async fn reclaim(&self, name: &str) -> Result<Outcome, Error> {
        let Some(seen) = self.volumes.get("", name) else { return Ok(Outcome::Done) };
        if plan::fate(&seen) == Fate::Stay {
            return Ok(Outcome::Done);
        }
        // What is removed is gone for good, so what the watch says is not enough.
        let client = self.config.informers.client();
        let volume = call::get::<PersistentVolume>(client, "", name).await;
        let volume = volume.map_err(|source| Error::Api { what: "reading the PersistentVolume", source })?;
        let Some(volume) = volume.filter(|volume| plan::is_of(volume, &self.config.node_name)) else {
            return Ok(Outcome::Done);
        };
        match plan::fate(&volume) {
            Fate::Stay => return Ok(Outcome::Done),
            Fate::LetGo => {}
            Fate::Remove => {
                let (dir, gone) = (self.config.dir.clone(), name.to_owned());
                let told = plan::path(&volume);
                let removed = blocking(move || disk::remove(&dir, &gone, &told)).await;
                if let Err(source) = removed {
                    let error = Error::Disk { what: "removed", path: plan::path(&volume), source };
                    self.config.recorder.warning(&volume, "VolumeFailedDelete", with_cause(&error));
                    return Err(error);
                }
            }
        }
        let failed = |source| Error::Api { what: "letting go of the PersistentVolume", source };
        if let Some(unheld) = plan::without_finalizer(&volume) {
            errors::optional(call::replace(client, &unheld).await).map_err(failed)?;
        }
        if plan::fate(&volume) == Fate::Remove && volume.metadata.deletion_timestamp.is_none() {
            call::delete(client, &volume, DeleteParams::default()).await.map_err(failed)?;
        }
        Ok(Outcome::Done)
    }
}

fn with_cause(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
