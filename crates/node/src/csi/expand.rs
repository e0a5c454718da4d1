//! Volumes that are there and may have changed: grown by their controller, so that the node has to make their file
//! system larger, or of a driver that wants to renew them from time to time.
//! (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/#csi-volume-expansion>)

use std::path::PathBuf;

use k8s_openapi::{
    api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    apimachinery::pkg::api::resource::Quantity,
};
use knarr_api::volume as rules;
use knarr_client::{call, errors, events, events::EventType, meta};
use knarr_csi::messages::{CapacityRange, NodeExpandVolumeRequest};

use super::{Csi, CsiError, Wish};
use crate::volume::Place;

const EXPAND: &str = "MountVolume.NodeExpandVolume";
const PENDING: &str = "FileSystemResizePending";

impl Csi {
    pub(super) async fn refresh(&self, wish: &Wish, pod: &Pod) -> Result<Place, CsiError> {
        if let Some((namespace, name)) = &wish.claim {
            let fails = |cause: String| CsiError::new(EXPAND, &wish.name, cause);
            let why = |error: kube::Error| fails(errors::message(&error));
            let claim = call::get::<PersistentVolumeClaim>(&self.client, namespace, name).await.map_err(why)?;
            if let Some(claim) = claim.filter(is_pending)
                && let Some(volume) = call::get::<PersistentVolume>(&self.client, "", &wish.name).await.map_err(why)?
            {
                self.expand(wish, &claim, &volume, pod).await.map_err(fails)?;
            }
        }
        let known = self.known.get("", &wish.driver);
        if known.is_some_and(|known| known.spec.requires_republish == Some(true)) {
            return self.publish(wish, pod).await;
        }
        match self.found(wish, meta::uid(&pod.metadata)) {
            Some(place) => Ok(place),
            None => self.publish(wish, pod).await,
        }
    }

    async fn expand(
        &self,
        wish: &Wish,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
        pod: &Pod,
    ) -> Result<(), String> {
        let driver = self.driver(&wish.driver);
        let driver = driver
            .ok_or_else(|| format!("driver name {} not found in the list of registered CSI drivers", wish.driver))?;
        let can = driver.capabilities().await.map_err(|error| error.to_string())?;
        let size = rules::capacity(volume);
        if can.expands {
            let secret = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()?.node_expand_secret_ref.as_ref());
            let staging = if can.stages { self.staging(wish) } else { PathBuf::new() };
            let path = self.target(meta::uid(&pod.metadata), wish);
            let request = NodeExpandVolumeRequest {
                volume_id: wish.handle.clone(),
                volume_path: path.to_string_lossy().into_owned(),
                capacity_range: Some(CapacityRange { required_bytes: size.value(), limit_bytes: 0 }),
                staging_target_path: staging.to_string_lossy().into_owned(),
                volume_capability: Some(wish.capability(can, None)),
                secrets: self.secrets("NodeExpandSecretRef", secret).await?,
            };
            driver.call(&request).await.map_err(|error| error.to_string())?;
        }
        let written = call::replace_status(&self.client, &finished(claim, &size.to_string())).await;
        written.map_err(|error| format!("mark PVC resize finished failed: {}", errors::message(&error)))?;
        let message = format!("MountVolume.NodeExpandVolume succeeded for volume {:?}", wish.name);
        let about = events::reference(pod);
        self.recorder.record(about, EventType::Normal, "FileSystemResizeSuccessful", message);
        Ok(())
    }
}

/// Its volume has grown, and the node has its part still to do.
fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    let conditions = claim.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == PENDING && condition.status == "True")
}

/// The claim has what it asked for.
fn finished(claim: &PersistentVolumeClaim, size: &str) -> PersistentVolumeClaim {
    let mut claim = claim.clone();
    let status = claim.status.get_or_insert_default();
    status.capacity.get_or_insert_default().insert("storage".to_owned(), Quantity(size.to_owned()));
    status.conditions.get_or_insert_default().retain(|one| !matches!(&*one.type_, PENDING | "Resizing"));
    status.allocated_resource_statuses = None;
    claim
}
