//! Pulling images from registries. Names are resolved by hickory: the C library's resolver would load parts of the host
//! into a static program.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::{StreamExt, TryStreamExt};

use super::{
    ImageError, ImageStore, Result, Unpacked,
    documents::{Config, Descriptor, OciIndex, OciManifest, architecture, choose},
    error::RegistryProblem,
    import::{sync, unpack_layer},
    reference,
    registry::{Credentials, Registry},
};

/// Layers of one image on their way at a time.
const LAYERS_AT_ONCE: usize = 3;
/// Configurations are small; what is not is none.
const MAX_DOCUMENT_BYTES: u64 = 16 << 20;

/// How far a pull is, for those who wait for it.
#[derive(Debug, Default)]
pub struct Progress {
    wanted_bytes: AtomicU64,
    fetched_bytes: AtomicU64,
}

impl Progress {
    /// What was fetched, of how much; layers that are there already count for neither.
    pub fn bytes(&self) -> (u64, u64) {
        (self.fetched_bytes.load(Ordering::Relaxed), self.wanted_bytes.load(Ordering::Relaxed))
    }

    pub(super) fn add(&self, fetched_bytes: u64) {
        self.fetched_bytes.fetch_add(fetched_bytes, Ordering::Relaxed);
    }
}

pub(super) async fn pull(
    store: &Arc<ImageStore>,
    name: &str,
    credentials: Option<Credentials>,
    progress: &Progress,
) -> Result<String> {
    let full = reference::normalise(name)?;
    let began = tokio::time::Instant::now();
    let registry = Registry::open(&full, store.registries.as_deref(), credentials)?;
    let pull = Pull { registry, name: full.clone(), progress };
    let (manifest, digest) = pull.manifest().await?;
    // Asked for with the puller's own credentials up to here; the content itself is fetched once for all.
    let turn = store.turn(&manifest.config.digest);
    let _turn = turn.lock().await;
    let config = pull.registry.document(&manifest.config, MAX_DOCUMENT_BYTES).await?;
    let parsed: Config = serde_json::from_slice(&config).map_err(|e| pull.damaged(&manifest.config, e))?;
    let mut image = parsed.image(&config);
    if image.layers.len() != manifest.layers.len() {
        return Err(pull.damaged(&manifest.config, "it lists another number of layers than the manifest"));
    }
    let wanted: Vec<(Descriptor, String)> = manifest.layers.iter().cloned().zip(image.layers.iter().cloned()).collect();
    for (descriptor, diff_id) in &wanted {
        if !store.has_layer(diff_id)? {
            progress.wanted_bytes.fetch_add(descriptor.size, Ordering::Relaxed);
        }
    }
    let unpacked: Vec<Option<Unpacked>> = futures::stream::iter(wanted)
        .map(|(descriptor, diff_id)| pull.layer(store, descriptor, diff_id))
        .buffered(LAYERS_AT_ONCE)
        .try_collect()
        .await?;
    if !full.contains('@') {
        image.names = [full.clone()].into();
    }
    image.digests = [format!("{}@{digest}", reference::repository(&full))].into();
    image.size_bytes = manifest.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size));
    let id = image.id.clone();
    tracing::info!(image = full, bytes = image.size_bytes, took = ?began.elapsed(), "image pulled");
    let store = store.clone();
    let commit = move || {
        sync(&store.directory);
        store.commit(vec![(image, config)], unpacked.into_iter().flatten().collect(), None)
    };
    blocking(commit).await?;
    Ok(id)
}

struct Pull<'a> {
    registry: Registry,
    name: String,
    progress: &'a Progress,
}

impl Pull<'_> {
    /// The manifest for this machine, and the digest the name stands for.
    async fn manifest(&self) -> Result<(OciManifest, String)> {
        let (bytes, digest) = self.registry.manifest(reference::tag_or_digest(&self.name)).await?;
        if let Ok(index) = serde_json::from_slice::<OciIndex>(&bytes) {
            let platform = || format!("linux/{}", architecture());
            let missing = || ImageError::Platform { image: self.name.clone(), platform: platform() };
            let chosen = choose(&index.manifests).ok_or_else(missing)?;
            let (bytes, _) = self.registry.manifest(&chosen.digest).await?;
            let manifest = serde_json::from_slice(&bytes).map_err(|e| self.damaged(chosen, e))?;
            return Ok((manifest, digest));
        }
        let unreadable = |e| ImageError::Registry {
            image: self.name.clone(),
            message: format!("the manifest is not one: {e}"),
            kind: RegistryProblem::Unavailable,
        };
        Ok((serde_json::from_slice(&bytes).map_err(unreadable)?, digest))
    }

    /// Fetches and unpacks a layer, unless it is there. Fetching comes first as a whole, so that a slow registry keeps
    /// no thread waiting.
    async fn layer(
        &self,
        store: &Arc<ImageStore>,
        descriptor: Descriptor,
        diff_id: String,
    ) -> Result<Option<Unpacked>> {
        if store.has_layer(&diff_id)? {
            return Ok(None);
        }
        let file = self.registry.layer(&descriptor, &store.directory, self.progress).await?;
        let (store, name) = (store.clone(), self.name.clone());
        blocking(move || unpack_layer(&store, file, &diff_id, &name)).await.map(Some)
    }

    fn damaged(&self, descriptor: &Descriptor, reason: impl ToString) -> ImageError {
        ImageError::Layer { image: self.name.clone(), layer: descriptor.digest.clone(), reason: reason.to_string() }
    }
}

/// Runs work that reads and writes much on a thread where that holds up no one.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
