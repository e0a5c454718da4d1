//! Images: whether one is there, and pulling it with the pod's secrets where it is not.

use std::{collections::BTreeMap, sync::Arc};

use base64::Engine as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use knarr_client::events::EventType;
use knarr_cri::{
    CriError,
    v1::{AuthConfig, Image, ImageSpec, ImageStatusRequest, PullImageRequest},
};
use serde_json::Value;

use super::{
    containers::Entry,
    context::{Context, field_path},
    hear::Report,
    references::Snapshot,
    track::{Failure, ImageState},
    worker::Worker,
};

pub enum Pulled {
    Ok { reference: String },
    Failed { message: String },
}

/// The image as the runtime is asked for it: a name without tag or digest means its `latest`.
pub fn with_tag(image: &str) -> Result<String, String> {
    let invalid = |why: &str| {
        Err(format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {why}"))
    };
    if image.is_empty() {
        return invalid("invalid reference format");
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    let (repository, tag) = match last.split_once(':') {
        Some((_, tag)) => (&name[..name.len() - tag.len() - 1], Some(tag)),
        None => (name, None),
    };
    // The first part may be a registry, whose name may have capitals and a port; the rest may not.
    let parts: Vec<&str> = repository.split('/').collect();
    let registry = parts.len() > 1 && (parts[0].contains(['.', ':']) || parts[0] == "localhost");
    let allowed = |part: &&str| {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        part.chars().all(|c| edge(c) || matches!(c, '.' | '_' | '-')) && part.starts_with(edge) && part.ends_with(edge)
    };
    if parts.iter().skip(usize::from(registry)).any(|part| part.chars().any(|c| c.is_ascii_uppercase())) {
        return invalid("repository name must be lowercase");
    }
    let tag_fits = |tag: &str| {
        !tag.is_empty()
            && tag.len() <= 128
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
            && !tag.starts_with(['.', '-'])
    };
    let digest_fits =
        |digest: &str| digest.split_once(':').is_some_and(|(kind, hex)| !kind.is_empty() && hex.len() >= 32);
    let fits = parts.iter().skip(usize::from(registry)).all(allowed)
        && tag.is_none_or(tag_fits)
        && digest.is_none_or(digest_fits);
    if !fits {
        return invalid("invalid reference format");
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

/// One image that a container needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The volume that it is; the container's own is none.
    volume: Option<String>,
    reference: String,
    pull_policy: Option<String>,
}

impl Wanted {
    /// The images that the container mounts, then its own.
    fn of(entry: &Entry, pod: &Pod) -> Vec<Self> {
        let mounted = |name: &str| entry.spec.volume_mounts.iter().flatten().any(|mount| mount.name == name);
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let images = volumes.filter(|volume| mounted(&volume.name)).filter_map(|volume| {
            let source = volume.image.as_ref()?;
            Some(Self {
                volume: Some(volume.name.clone()),
                reference: source.reference.clone().unwrap_or_default(),
                pull_policy: source.pull_policy.clone(),
            })
        });
        let (reference, pull_policy) = (entry.image().to_owned(), entry.spec.image_pull_policy.clone());
        images.chain([Self { volume: None, reference, pull_policy }]).collect()
    }

    /// `imagePullPolicy`, by default `Always` for `latest` and `IfNotPresent` for the rest.
    fn policy(&self, image: &str) -> &'static str {
        match self.pull_policy.as_deref() {
            Some("Always") => "Always",
            Some("Never") => "Never",
            Some("IfNotPresent") => "IfNotPresent",
            _ if image.ends_with(":latest") => "Always",
            _ => "IfNotPresent",
        }
    }

    /// Tells of it: an event of the container's, or of the whole pod's where it is a volume.
    fn tell(&self, ctx: &Context, pod: &Pod, field: &str, kind: EventType, reason: &str, message: String) {
        match (&self.volume, kind) {
            (None, kind) => ctx.container_event(pod, field, kind, reason, message),
            (Some(_), EventType::Normal) => ctx.normal(pod, reason, message),
            (Some(_), EventType::Warning) => ctx.warning(pod, reason, message),
        }
    }
}

impl Worker {
    /// Looks for the images of a container, one after the other; one that has to be pulled is pulled by a task of its
    /// own. The answer is in the track.
    pub(super) async fn ensure_image(&mut self, name: &str, snapshot: &Snapshot) -> Result<(), CriError> {
        let Some(entry) = self.entry(name).cloned() else { return Ok(()) };
        for wanted in Wanted::of(&entry, &self.pod) {
            let known = |volume: &String| self.tracks.get(name).is_some_and(|t| t.image_volumes.contains_key(volume));
            if wanted.volume.as_ref().is_some_and(known) {
                continue;
            }
            let state = self.look_for(&entry, &wanted, snapshot).await?;
            let now = self.ctx.now();
            let track = self.tracks.entry(name.to_owned()).or_default();
            match (state, wanted.volume) {
                (ImageState::Present { reference }, Some(volume)) => {
                    track.image_volumes.insert(volume, reference);
                }
                (state, _) => {
                    if matches!(state, ImageState::Failed { .. }) {
                        track.pull.advance(now, now);
                    }
                    track.image = state;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn look_for(&self, entry: &Entry, wanted: &Wanted, snapshot: &Snapshot) -> Result<ImageState, CriError> {
        let now = self.ctx.now();
        let shown = &wanted.reference;
        let field = field_path(entry);
        let tell = |kind, reason: &str, message: String| {
            wanted.tell(&self.ctx, &self.pod, &field, kind, reason, message);
        };
        let fail = |reason, message| {
            let failure = Failure { reason, message, at: now };
            Ok(ImageState::Failed { image: shown.clone(), failure })
        };
        let image = match with_tag(shown) {
            Ok(image) => image,
            Err(message) => {
                tell(EventType::Warning, "InspectFailed", message.clone());
                tell(EventType::Warning, "Failed", "Error: InvalidImageName".to_owned());
                return fail("InvalidImageName", message);
            }
        };
        let policy = wanted.policy(&image);
        let present = if policy == "Always" { None } else { find(&self.ctx, &image).await? };
        if let Some(found) = present {
            let message =
                format!("Container image {shown:?} already present on machine and can be accessed by the pod");
            tell(EventType::Normal, "Pulled", message);
            return Ok(ImageState::Present { reference: found.id });
        }
        if policy == "Never" {
            let message = format!("Container image {shown:?} is not present with pull policy of Never");
            tell(EventType::Warning, "ErrImageNeverPull", message.clone());
            tell(EventType::Warning, "Failed", "Error: ErrImageNeverPull".to_owned());
            return fail("ErrImageNeverPull", message);
        }
        tell(EventType::Normal, "Pulling", format!("Pulling image {shown:?}"));
        self.tell_missing_secrets(snapshot);
        self.spawn_pull(entry, wanted.clone(), image, credentials_for(shown, &self.pod, snapshot));
        Ok(ImageState::Pulling)
    }

    /// A pull goes on without a secret that is not there, but it will hardly work.
    fn tell_missing_secrets(&self, snapshot: &Snapshot) {
        let named = self.spec().into_iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        let missing: Vec<_> =
            named.map(|secret| &*secret.name).filter(|name| snapshot.secret(name).is_none()).collect();
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.ctx.warning(&self.pod, "FailedToRetrieveImagePullSecret", message);
        }
    }

    fn spawn_pull(&self, entry: &Entry, wanted: Wanted, image: String, credentials: Vec<AuthConfig>) {
        let (ctx, pod, reports) = (self.ctx.clone(), self.pod.clone(), self.reports.clone());
        let (name, shown, field) = (entry.name().to_owned(), wanted.reference.clone(), field_path(entry));
        tokio::spawn(async move {
            let queued = ctx.now();
            let permit = ctx.pulls.acquire().await;
            let begun = ctx.now();
            let result = pull(&ctx, &pod, &image, credentials).await;
            drop(permit);
            let now = ctx.now();
            let result = match result {
                Ok((reference, size)) => {
                    let took = |since: Timestamp| format!("{:.3}s", now.duration_since(since).as_secs_f64());
                    let message = format!(
                        "Successfully pulled image {shown:?} in {} ({} including waiting). Image size: {size} bytes.",
                        took(begun),
                        took(queued)
                    );
                    wanted.tell(&ctx, &pod, &field, EventType::Normal, "Pulled", message);
                    Pulled::Ok { reference }
                }
                Err(error) => {
                    let cause = match &error {
                        CriError::NotFound { .. } => {
                            format!("failed to resolve reference {image:?}: {image}: not found")
                        }
                        other => other.to_string(),
                    };
                    let message = format!("failed to pull and unpack image {image:?}: {cause}");
                    let tell = |what: String| wanted.tell(&ctx, &pod, &field, EventType::Warning, "Failed", what);
                    tell(format!("Failed to pull image {shown:?}: {message}"));
                    tell("Error: ErrImagePull".to_owned());
                    Pulled::Failed { message }
                }
            };
            // The worker may be gone by now; nobody wants the image then.
            let _ = reports.send(Report::Pulled { name, wanted, result }).await;
        });
    }

    pub(super) fn pulled(&mut self, name: &str, wanted: Wanted, result: Pulled, now: Timestamp) {
        let track = self.tracks.entry(name.to_owned()).or_default();
        track.image = match (result, wanted.volume) {
            (Pulled::Ok { reference }, None) => ImageState::Present { reference },
            (Pulled::Ok { reference }, Some(volume)) => {
                track.image_volumes.insert(volume, reference);
                // There are others to look for.
                ImageState::Unknown
            }
            (Pulled::Failed { message }, _) => {
                track.pull.advance(now, now);
                let failure = Failure { reason: "ErrImagePull", message, at: now };
                ImageState::Failed { image: wanted.reference, failure }
            }
        };
    }
}

pub async fn find(ctx: &Context, image: &str) -> Result<Option<Image>, CriError> {
    let spec = ImageSpec { image: image.to_owned(), ..ImageSpec::default() };
    match ctx.images.image_status(ImageStatusRequest { image: Some(spec), verbose: false }).await {
        Ok(response) => Ok(response.image),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tries each credential that fits the registry, or none where there is none. Answers the reference and size.
async fn pull(
    ctx: &Arc<Context>,
    pod: &Pod,
    image: &str,
    credentials: Vec<AuthConfig>,
) -> Result<(String, u64), CriError> {
    let sandbox = knarr_cri::v1::PodSandboxConfig { labels: super::cri::identity(pod), ..Default::default() };
    let attempts: Vec<Option<AuthConfig>> =
        if credentials.is_empty() { vec![None] } else { credentials.into_iter().map(Some).collect() };
    let mut last = None;
    for auth in attempts {
        let request = PullImageRequest {
            image: Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() }),
            auth,
            sandbox_config: Some(sandbox.clone()),
        };
        match ctx.images.pull_image(request).await {
            Ok(response) => {
                let size = find(ctx, &response.image_ref).await.ok().flatten().map_or(0, |image| image.size);
                return Ok((response.image_ref, size));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| CriError::InvalidArgument { message: "no way to pull".to_owned() }))
}

/// The registry that an image names; images without one are Docker Hub's.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
        _ => "docker.io",
    }
}

/// Credentials for an image from the pod's `imagePullSecrets`, those for a longer path first.
pub fn credentials_for(image: &str, pod: &Pod, snapshot: &Snapshot) -> Vec<AuthConfig> {
    let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let registry = registry(image);
    let full = if image.starts_with(registry) { image.to_owned() } else { format!("{registry}/{image}") };
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for secret in names.filter_map(|reference| snapshot.secret(&reference.name)) {
        for (server, entry) in registries(secret) {
            let place = server.trim_start_matches("https://").trim_start_matches("http://");
            let place = place.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
            let place = if matches!(place, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { place };
            let inside =
                full.strip_prefix(place).is_some_and(|rest| rest.starts_with(['/', ':', '@']) || rest.is_empty());
            if inside && let Some(auth) = auth_config(&server, &entry) {
                found.push((place.len(), auth));
            }
        }
    }
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

/// The entries of `.dockerconfigjson`, or of the older `.dockercfg`.
fn registries(secret: &Secret) -> BTreeMap<String, Value> {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap_or_default();
    let entries = match (data(".dockerconfigjson"), data(".dockercfg")) {
        (Some(bytes), _) => parse(bytes).get("auths").cloned().unwrap_or_default(),
        (None, Some(bytes)) => parse(bytes),
        (None, None) => Value::Null,
    };
    entries.as_object().map(|map| map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()).unwrap_or_default()
}

fn auth_config(server: &str, entry: &Value) -> Option<AuthConfig> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (mut username, mut password) = (text("username"), text("password"));
    if username.is_empty()
        && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text("auth"))
        && let Some((user, secret)) = String::from_utf8_lossy(&bytes).split_once(':')
    {
        (username, password) = (user.to_owned(), secret.to_owned());
    }
    let (identity_token, registry_token) = (text("identitytoken"), text("registrytoken"));
    let empty = username.is_empty() && identity_token.is_empty() && registry_token.is_empty();
    (!empty).then(|| AuthConfig {
        username,
        password,
        auth: String::new(),
        server_address: server.to_owned(),
        identity_token,
        registry_token,
    })
}
