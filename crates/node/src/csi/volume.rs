use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use knarr_client::meta;

use super::{Csi, Wish};
use crate::volume::{Bring, Place, VolumeError};

/// A volume that its driver brings.
pub struct Driven {
    csi: Arc<Csi>,
    wish: Wish,
}

impl Driven {
    pub fn new(csi: Arc<Csi>, wish: Wish) -> Self {
        Self { csi, wish }
    }
}

#[async_trait]
impl Bring for Driven {
    /// An earlier agent may have had it brought: pods go on while their driver registers.
    fn found(&self, pod: &Pod) -> Option<Place> {
        self.csi.found(&self.wish, meta::uid(&pod.metadata))
    }

    async fn bring(&self, pod: &Pod) -> Result<Place, VolumeError> {
        Ok(self.csi.publish(&self.wish, pod).await?)
    }

    async fn refresh(&self, pod: &Pod) -> Result<Place, VolumeError> {
        Ok(self.csi.refresh(&self.wish, pod).await?)
    }
}
