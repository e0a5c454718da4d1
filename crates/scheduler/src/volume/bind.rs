//! Carries out what was decided about a pod's volumes, and waits until others have done their part: the controller
//! that binds, and whoever makes volumes.

use std::{collections::HashMap, time::Duration};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use knarr_api::volume;
use knarr_client::{
    ObjectKey, call, errors,
    meta::{self, version},
};
use tokio::sync::{Notify, Semaphore};

use super::{Picture, Plan, reaches};
use crate::terms::Labels;

/// As long as upstream waits (`bindTimeoutSeconds`); then a node is looked for anew.
const DEADLINE: Duration = Duration::from_secs(600);
/// Pods that wait for their volumes at once; what is more is tried again later.
const MAX_WAITS: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("binding volumes: {}", errors::message(.0))]
    Api(kube::Error),
    #[error("binding volumes: {0}")]
    Failed(String),
    #[error("binding volumes: context deadline exceeded")]
    Deadline,
    #[error("binding volumes: too many pods wait for theirs")]
    Busy,
    #[error("binding volumes: the pod is gone")]
    Gone,
}

/// How far the volumes of a pod are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    Bound,
    Waiting,
    /// It will not come about; a node has to be looked for anew.
    Failed(String),
}

/// What was written, by resourceVersion: what the watches show of before says nothing.
#[derive(Debug, Default)]
pub struct Written {
    /// 0 where it is the volume that was written, and the claim has still to follow.
    pub(super) claims: HashMap<ObjectKey, u64>,
    pub(super) volumes: HashMap<String, u64>,
}

pub struct Volumes {
    client: kube::Client,
    waits: Semaphore,
    changed: Notify,
}

impl Volumes {
    pub fn new(client: kube::Client) -> Self {
        Self { client, waits: Semaphore::new(MAX_WAITS), changed: Notify::new() }
    }

    /// A claim or a volume changed.
    pub fn look_again(&self) {
        self.changed.notify_waiters();
    }

    /// Returns when all claims of the plan are bound. `progress` is asked after every change; it says `None` where the
    /// pod itself is gone.
    pub async fn bind(
        &self,
        plan: &Plan,
        node: &str,
        progress: impl Fn(&Written) -> Option<Progress>,
    ) -> Result<(), BindError> {
        if plan.is_empty() {
            return Ok(());
        }
        let _place = self.waits.try_acquire().map_err(|_| BindError::Busy)?;
        let written = self.write(plan, node).await?;
        let until_bound = async {
            loop {
                // Listening before looking: what changes in between is not missed.
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                match progress(&written) {
                    Some(Progress::Bound) => return Ok(()),
                    Some(Progress::Failed(why)) => return Err(BindError::Failed(why)),
                    Some(Progress::Waiting) => changed.await,
                    None => return Err(BindError::Gone),
                }
            }
        };
        tokio::time::timeout(DEADLINE, until_bound).await.map_err(|_| BindError::Deadline)?
    }

    /// Volumes are kept for their claims, and claims say where their volume is wanted. Each write holds only for the
    /// object as it was when that was decided.
    async fn write(&self, plan: &Plan, node: &str) -> Result<Written, BindError> {
        let mut written = Written::default();
        for (volume, claim) in &plan.bindings {
            let version = match volume::kept_for(volume, claim) {
                Some(kept) => version(&call::replace(&self.client, &kept).await.map_err(BindError::Api)?.metadata),
                None => version(&volume.metadata),
            };
            written.volumes.insert(meta::name(&volume.metadata).to_owned(), version);
            written.claims.insert(ObjectKey::of(&**claim), 0);
        }
        for claim in &plan.provisions {
            let version = if volume::selected_node(claim) == Some(node) {
                version(&claim.metadata)
            } else {
                let mut selected = PersistentVolumeClaim::clone(claim);
                let annotations = selected.metadata.annotations.get_or_insert_default();
                annotations.insert(volume::SELECTED_NODE.to_owned(), node.to_owned());
                version(&call::replace(&self.client, &selected).await.map_err(BindError::Api)?.metadata)
            };
            written.claims.insert(ObjectKey::of(&**claim), version);
        }
        Ok(written)
    }
}

impl Written {
    /// How far the claims are, by what the watches show.
    pub fn progress(&self, picture: &Picture, node: &str, labels: &Labels) -> Progress {
        for (name, written) in &self.volumes {
            match picture.volume(name) {
                None => return Progress::Failed(format!("PersistentVolume {name:?} is gone")),
                Some(volume) if version(&volume.metadata) < *written => return Progress::Waiting,
                Some(volume) if volume.spec.as_ref().is_none_or(|spec| spec.claim_ref.is_none()) => {
                    return Progress::Failed(format!("PersistentVolume {name:?} is bound to the claim no more"));
                }
                Some(_) => {}
            }
        }
        let all = self.claims.iter().map(|(key, written)| self.claim(key, *written, picture, node, labels));
        all.fold(Progress::Bound, |worst, one| match (worst, one) {
            (Progress::Failed(why), _) | (_, Progress::Failed(why)) => Progress::Failed(why),
            (Progress::Bound, Progress::Bound) => Progress::Bound,
            _ => Progress::Waiting,
        })
    }

    fn claim(&self, key: &ObjectKey, written: u64, picture: &Picture, node: &str, labels: &Labels) -> Progress {
        let Some(claim) = picture.claim(key) else {
            return Progress::Failed(format!("persistentvolumeclaim {:?} not found", key.name));
        };
        if version(&claim.metadata) < written {
            return Progress::Waiting;
        }
        if !volume::is_bound(claim) {
            let is_provision = written > 0;
            return match volume::selected_node(claim) {
                Some(selected) if selected == node => Progress::Waiting,
                _ if !is_provision => Progress::Waiting,
                _ => Progress::Failed(format!("provisioning failed for PVC {:?}", key.name)),
            };
        }
        let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        match picture.volume(name) {
            // The watch of volumes may be behind that of claims.
            None => Progress::Waiting,
            Some(volume) if reaches(volume, node, labels) => Progress::Bound,
            Some(_) => Progress::Failed(format!("PersistentVolume {name:?} is not where the pod goes")),
        }
    }
}
