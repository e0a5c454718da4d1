//! Pulling images from registries (the OCI distribution specification), by `oci-client` over rustls. Names are
//! resolved by hickory: the C library's resolver would load parts of the host into a static program.

use std::{io::Seek, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    errors::{OciDistributionError, OciErrorCode},
    secrets::RegistryAuth,
};

use super::{
    ImageError, ImageStore, Result, Unpacked,
    documents::{Config, Descriptor, OciIndex, OciManifest, architecture, choose},
    error::RegistryProblem,
    import::{sync, unpack_layer},
    limited::Limited,
    reference,
};

/// Who to be to a registry.
#[derive(Clone)]
pub enum Credentials {
    Basic { username: String, password: String },
    Token(String),
}

const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Layers of one image on their way at a time.
const LAYERS_AT_ONCE: usize = 3;
/// Configurations are small; what is not is none.
const MAX_DOCUMENT_BYTES: usize = 16 << 20;

pub(super) async fn pull(store: &Arc<ImageStore>, name: &str, credentials: Option<Credentials>) -> Result<String> {
    let full = reference::normalise(name)?;
    let parsed: Reference =
        full.parse().map_err(|e| ImageError::Name { name: name.to_owned(), reason: format!("{e}") })?;
    let began = tokio::time::Instant::now();
    let pull = Pull { client: client(&parsed), reference: parsed, auth: auth(credentials), name: full.clone() };
    let (manifest, digest) = pull.manifest().await?;
    // Asked for with the puller's own credentials up to here; the content itself is fetched once for all.
    let turn = store.turn(&manifest.config.digest);
    let _turn = turn.lock().await;
    let config = pull.blob(&manifest.config).await?;
    let parsed: Config = serde_json::from_slice(&config).map_err(|e| pull.damaged(&manifest.config, e))?;
    let mut image = parsed.image(&config);
    if image.layers.len() != manifest.layers.len() {
        return Err(pull.damaged(&manifest.config, "it lists another number of layers than the manifest"));
    }
    let wanted: Vec<(Descriptor, String)> = manifest.layers.iter().cloned().zip(image.layers.iter().cloned()).collect();
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
        store.commit(vec![image], unpacked.into_iter().flatten().collect(), None)
    };
    blocking(commit).await?;
    Ok(id)
}

struct Pull {
    client: Client,
    reference: Reference,
    auth: RegistryAuth,
    name: String,
}

impl Pull {
    /// The manifest for this machine, and the digest the name stands for.
    async fn manifest(&self) -> Result<(OciManifest, String)> {
        let (bytes, digest) = self.fetch(&self.reference).await?;
        if let Ok(index) = serde_json::from_slice::<OciIndex>(&bytes) {
            let platform = || format!("linux/{}", architecture());
            let missing = || ImageError::Platform { image: self.name.clone(), platform: platform() };
            let chosen = choose(&index.manifests).ok_or_else(missing)?;
            let exact = self.reference.clone_with_digest(chosen.digest.clone());
            let (bytes, _) = self.fetch(&exact).await?;
            let manifest = serde_json::from_slice(&bytes).map_err(|e| self.damaged(chosen, e))?;
            return Ok((manifest, digest));
        }
        let manifest = serde_json::from_slice(&bytes);
        Ok((
            manifest
                .map_err(|e| self.problem(RegistryProblem::Unavailable, format!("the manifest is not one: {e}")))?,
            digest,
        ))
    }

    async fn fetch(&self, reference: &Reference) -> Result<(bytes::Bytes, String)> {
        self.client.pull_manifest_raw(reference, &self.auth, &ACCEPTED).await.map_err(|e| self.refused(e))
    }

    /// A document of the image, kept in memory: not a layer.
    async fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let mut bytes = Limited::new(MAX_DOCUMENT_BYTES);
        self.client
            .pull_blob(&self.reference, descriptor.digest.as_str(), &mut bytes)
            .await
            .map_err(|e| self.refused(e))?;
        Ok(bytes.into_bytes())
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
        let path = store.directory.join(format!("blob-{}", uuid::Uuid::new_v4().simple()));
        let failed = |e| ImageError::io("write", &path, e);
        let file =
            tokio::fs::File::options().create_new(true).read(true).write(true).open(&path).await.map_err(failed)?;
        // Without a name it is gone when this program is.
        let _ = tokio::fs::remove_file(&path).await;
        let mut file = file;
        let fetched = self.client.pull_blob(&self.reference, descriptor.digest.as_str(), &mut file).await;
        fetched.map_err(|e| self.refused(e))?;
        let mut file = file.into_std().await;
        file.rewind().map_err(failed)?;
        let (store, name) = (store.clone(), self.name.clone());
        blocking(move || unpack_layer(&store, file, &diff_id, &name)).await.map(Some)
    }

    fn damaged(&self, descriptor: &Descriptor, reason: impl ToString) -> ImageError {
        ImageError::Layer { image: self.name.clone(), layer: descriptor.digest.clone(), reason: reason.to_string() }
    }

    fn problem(&self, kind: RegistryProblem, message: String) -> ImageError {
        ImageError::Registry { image: self.name.clone(), message, kind }
    }

    fn refused(&self, error: OciDistributionError) -> ImageError {
        let kind = match &error {
            OciDistributionError::AuthenticationFailure(_) | OciDistributionError::UnauthorizedError { .. } => {
                RegistryProblem::Denied
            }
            OciDistributionError::ImageManifestNotFoundError(_) => RegistryProblem::NotFound,
            OciDistributionError::RegistryError { envelope, .. } => {
                let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|e| codes.contains(&e.code));
                match () {
                    () if has(&[OciErrorCode::ManifestUnknown, OciErrorCode::NameUnknown, OciErrorCode::NotFound]) => {
                        RegistryProblem::NotFound
                    }
                    () if has(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) => RegistryProblem::Denied,
                    () => RegistryProblem::Unavailable,
                }
            }
            _ => RegistryProblem::Unavailable,
        };
        self.problem(kind, crate::shim::error_line(&error))
    }
}

fn client(reference: &Reference) -> Client {
    // reqwest takes the process's provider; one that is set already stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = reference.resolve_registry();
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    // As container engines do: a registry on this machine needs no certificate.
    let protocol = if local { ClientProtocol::Http } else { ClientProtocol::Https };
    Client::new(ClientConfig {
        protocol,
        connect_timeout: Some(Duration::from_secs(15)),
        read_timeout: Some(Duration::from_secs(60)),
        ..ClientConfig::default()
    })
}

fn auth(credentials: Option<Credentials>) -> RegistryAuth {
    match credentials {
        None => RegistryAuth::Anonymous,
        Some(Credentials::Basic { username, password }) => RegistryAuth::Basic(username, password),
        Some(Credentials::Token(token)) => RegistryAuth::Bearer(token),
    }
}

/// Runs work that reads and writes much on a thread where that holds up no one.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(e) => std::panic::resume_unwind(e.into_panic()),
    }
}
