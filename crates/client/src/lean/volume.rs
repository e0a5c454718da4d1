//! The volumes of a pod that somebody else than its node has to know of.

use k8s_openapi::api::core::v1::{EphemeralVolumeSource, PersistentVolumeClaimVolumeSource};
use knarr_api::volume::own_claim_name;
use serde::{Deserialize, Deserializer, Serialize};

use super::Pod;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    pub name: String,
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    pub ephemeral: Option<Box<EphemeralVolumeSource>>,
}

impl Pod {
    /// The name of the claim behind each of its volumes, and whether it is one that is made for the pod.
    pub fn claims(&self) -> impl Iterator<Item = (String, bool)> {
        let volumes = self.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        volumes.map(|volume| match &volume.persistent_volume_claim {
            Some(source) => (source.claim_name.clone(), false),
            None => (own_claim_name(&self.metadata, &volume.name), true),
        })
    }

    pub fn uses_claim(&self, name: &str) -> bool {
        self.claims().any(|(claim, _)| claim == name)
    }
}

pub(super) fn claims<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Volume>>, D::Error> {
    let Some(mut volumes) = Option::<Vec<Volume>>::deserialize(deserializer)? else { return Ok(None) };
    volumes.retain(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some());
    volumes.shrink_to_fit();
    Ok((!volumes.is_empty()).then_some(volumes))
}
