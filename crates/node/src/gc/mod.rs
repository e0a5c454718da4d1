//! Garbage: images that no container is made from, and what is left of pods that have ended. Images go when their disk
//! fills up or they are too old ([`plan`]); both go when the disk is so short that pods would have to end otherwise.
//! (<https://kubernetes.io/docs/concepts/architecture/garbage-collection/#containers-images>)

mod plan;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use knarr_cri::{
    CriError,
    v1::{
        ImageFsInfoRequest, ImageSpec, ImageStatusRequest, ListContainersRequest, ListImagesRequest,
        ListPodSandboxRequest, PodSandboxState, RemoveContainerRequest, RemoveImageRequest, RemovePodSandboxRequest,
    },
};
use tokio::{
    sync::{Mutex, OnceCell},
    time::sleep,
};

use plan::{Image, Records};
pub use plan::{ImageGc, ImageGcError};

use crate::{
    pod::{context::Context, labels, manager::Manager},
    register::Room,
};

const PERIOD: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Runtime(#[from] CriError),
    #[error("cannot read how full the disk of images is")]
    Disk(#[from] std::io::Error),
    #[error("invalid capacity 0 on image filesystem")]
    Capacity,
    #[error(
        "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only found {freed} \
         bytes eligible to free."
    )]
    TooLittle { wanted: u64, freed: u64 },
    #[error("wanted to free {wanted} bytes, but freed {freed} bytes space with errors in image deletion: {errors}")]
    Removal { wanted: u64, freed: u64, errors: String },
}

pub struct Collector {
    ctx: Arc<Context>,
    manager: Manager,
    /// Nothing before the first look.
    records: Mutex<Option<Records>>,
    image_folder: OnceCell<PathBuf>,
}

impl Collector {
    pub fn new(ctx: Arc<Context>, manager: Manager) -> Self {
        Self { ctx, manager, records: Mutex::default(), image_folder: OnceCell::new() }
    }

    pub async fn run(&self) {
        let mut failed = false;
        loop {
            let outcome = self.collect().await;
            if let Err(error) = &outcome {
                tracing::warn!(%error, "images that nobody needs were not all removed; will retry");
                // The first time the runtime may just not be up yet.
                if failed {
                    self.ctx.node_warning("ImageGCFailed", error.to_string());
                }
            }
            failed = outcome.is_err();
            sleep(PERIOD).await;
        }
    }

    /// Where images lie, if the runtime says so.
    pub async fn image_folder(&self) -> Option<PathBuf> {
        let ask = || async {
            let answer = self.ctx.images.image_fs_info(ImageFsInfoRequest::default()).await.map_err(drop)?;
            let usage = answer.image_filesystems.into_iter().next();
            usage.and_then(|usage| usage.fs_id).map(|id| PathBuf::from(id.mountpoint)).ok_or(())
        };
        self.image_folder.get_or_try_init(ask).await.ok().cloned()
    }

    /// Whether images have a file system of their own.
    pub async fn images_are_apart(&self, node: &Path) -> bool {
        let device = |path: &Path| Room::of(path).ok().map(|room| room.device);
        self.image_folder().await.is_some_and(|images| device(&images) != device(node))
    }

    /// Removes as many images as the disk is too full, and those that are too old.
    async fn collect(&self) -> Result<(), CollectError> {
        let folder = self.image_folder().await.unwrap_or_else(|| self.ctx.pod_dir.clone());
        let room = tokio::task::spawn_blocking(move || Room::of(&folder)).await.map_err(std::io::Error::other)??;
        if room.capacity_bytes == 0 {
            self.ctx.node_warning("InvalidDiskCapacity", CollectError::Capacity.to_string());
            return Err(CollectError::Capacity);
        }
        let wanted = self.ctx.image_gc.excess(room.available_bytes, room.capacity_bytes);
        let freed = self.free(wanted).await?;
        if freed < wanted {
            let error = CollectError::TooLittle { wanted, freed };
            self.ctx.node_warning("FreeDiskSpaceFailed", error.to_string());
            return Err(error);
        }
        Ok(())
    }

    /// All that may go, however full the disk is.
    pub async fn delete_unused_images(&self) {
        if let Err(error) = self.free(u64::MAX).await {
            tracing::warn!(%error, "images that nobody needs were not all removed");
        }
    }

    /// Gives back so many bytes where there are as many, and says how many it were.
    async fn free(&self, wanted: u64) -> Result<u64, CollectError> {
        let mut records = self.records.lock().await;
        let images = self.images().await?;
        let (now, first) = (self.ctx.now(), records.is_none());
        let records = records.get_or_insert_default();
        records.look(&images, now, first);
        let (mut freed, mut errors) = (0_u64, Vec::new());
        for image in records.plan(&images, &self.ctx.image_gc, wanted, now) {
            tracing::info!(image = image.id, bytes = image.size_bytes, "removing an image that nobody needs");
            let spec = ImageSpec { image: image.id, ..ImageSpec::default() };
            match self.ctx.images.remove_image(RemoveImageRequest { image: Some(spec) }).await {
                Ok(_) => freed += image.size_bytes,
                Err(error) => errors.push(error.to_string()),
            }
        }
        match errors.is_empty() {
            true => Ok(freed),
            false => Err(CollectError::Removal { wanted, freed, errors: errors.join(", ") }),
        }
    }

    async fn images(&self) -> Result<Vec<Image>, CriError> {
        let (used, now) = (self.used().await?, self.ctx.now());
        let listed = self.ctx.images.list_images(ListImagesRequest::default()).await?.images;
        self.ctx.records.prune(&listed, now);
        let image = |image: knarr_cri::v1::Image| {
            let told = image.spec.as_ref().and_then(|spec| spec.annotations.get(knarr_cri::LAST_USED));
            let in_use = image.repo_tags.iter().chain(&image.repo_digests).any(|name| used.contains(name));
            Image {
                in_use: in_use || used.contains(&image.id),
                last_used: told.and_then(|time| time.parse().ok()),
                size_bytes: image.size,
                pinned: image.pinned,
                id: image.id,
            }
        };
        Ok(listed.into_iter().map(image).collect())
    }

    /// Names and ids of the images that containers are made from, also those that have ended, and that pods have as
    /// volumes.
    async fn used(&self) -> Result<BTreeSet<String>, CriError> {
        let containers = self.ctx.runtime.list_containers(ListContainersRequest::default()).await?.containers;
        let names = containers
            .into_iter()
            .flat_map(|container| [container.image_id, container.image_ref, container.image.unwrap_or_default().image]);
        let mut used: BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
        let pods = self.manager.pods();
        let volumes = pods.iter().flat_map(|pod| pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()));
        let shown: BTreeSet<String> = volumes.filter_map(|volume| volume.image.as_ref()?.reference.clone()).collect();
        for image in shown {
            let image = Some(ImageSpec { image, ..ImageSpec::default() });
            let answer = self.ctx.images.image_status(ImageStatusRequest { image, verbose: false }).await?;
            used.extend(answer.image.map(|image| image.id));
        }
        Ok(used)
    }

    /// Removes what the runtime still has of pods that have ended, and their logs with it. Of pods that go on, the
    /// newest run of each container stays; older ones their own workers clear away.
    pub async fn delete_dead_containers(&self) {
        let over = |pod: &Arc<Pod>| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let pods = self.manager.pods().into_iter().filter(over);
        let pods: BTreeMap<String, Arc<Pod>> =
            pods.map(|pod| (pod.metadata.uid.clone().unwrap_or_default(), pod)).collect();
        if let Err(error) = self.forget(&pods).await {
            tracing::warn!(%error, "what is left of pods that have ended was not all removed");
        }
    }

    async fn forget(&self, pods: &BTreeMap<String, Arc<Pod>>) -> Result<(), CriError> {
        let runtime = &self.ctx.runtime;
        let owner = |all: &BTreeMap<String, String>| all.get(labels::POD_UID).and_then(|uid| pods.get(uid)).cloned();
        let mut cleared = BTreeSet::new();
        for container in runtime.list_containers(ListContainersRequest::default()).await?.containers {
            if let Some(pod) = owner(&container.labels) {
                let request = RemoveContainerRequest { container_id: container.id };
                match runtime.remove_container(request).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
                cleared.insert(self.ctx.log_folder(&pod));
            }
        }
        for sandbox in runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items {
            if sandbox.state == PodSandboxState::SandboxNotready as i32 && owner(&sandbox.labels).is_some() {
                runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.id }).await?;
            }
        }
        for folder in cleared {
            if let Err(error) = tokio::fs::remove_dir_all(&folder).await
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %folder.display(), %error, "cannot remove a pod's logs");
            }
        }
        Ok(())
    }
}
