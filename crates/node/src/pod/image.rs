//! Images: whether one is there, and pulling it with the pod's secrets where it is not.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knarr_client::events::EventType;
use knarr_cri::{
    CriError,
    v1::{Image, ImageSpec, ImageStatusRequest, ListImagesRequest, PullImageRequest},
};
use tracing::Instrument;

use super::{
    containers::Entry,
    context::{Context, field_path},
    hear::Report,
    references::Snapshot,
    track::{Failure, ImageState},
    worker::Worker,
};
use crate::images::keyring::{Credential, Keyring, Source};

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
            let step = tracing::debug_span!(target: knarr_cri::POD_START, "image");
            let state = self.look_for(&entry, &wanted, snapshot).instrument(step).await?;
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
        let named = self.spec().into_iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        let keyring = Keyring::of_secrets(named.filter_map(|reference| snapshot.secret(&reference.name).ok()?));
        let credentials: Vec<Credential> = keyring.lookup(shown).into_iter().cloned().collect();
        let sources: Vec<Source> = credentials.iter().filter_map(|credential| credential.source.clone()).collect();
        let may_have = |found: &Image| !self.ctx.records.must_pull(shown, &found.id, &sources, now);
        // Of one that others' credentials brought here, the pod is not even told that it is there.
        if let Some(found) = present.filter(may_have) {
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
        self.spawn_pull(entry, wanted.clone(), image, credentials);
        Ok(ImageState::Pulling)
    }

    /// A pull goes on without a secret that is not there, but it will hardly work.
    fn tell_missing_secrets(&self, snapshot: &Snapshot) {
        let named = self.spec().into_iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        let missing: Vec<_> =
            named.map(|secret| &*secret.name).filter(|name| !matches!(snapshot.secret(name), Ok(Some(_)))).collect();
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.ctx.warning(&self.pod, "FailedToRetrieveImagePullSecret", message);
        }
    }

    fn spawn_pull(&self, entry: &Entry, wanted: Wanted, image: String, credentials: Vec<Credential>) {
        let (ctx, pod, reports) = (self.ctx.clone(), self.pod.clone(), self.reports.clone());
        let (name, shown, field) = (entry.name().to_owned(), wanted.reference.clone(), field_path(entry));
        let step = tracing::debug_span!(target: knarr_cri::POD_START, "pull");
        let work = async move {
            let queued = ctx.now();
            let permit = ctx.pulls.acquire().await;
            let begun = ctx.now();
            let result = noted(&ctx, &shown, pull(&ctx, &pod, &image, credentials)).await;
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
                Err(message) => {
                    let tell = |what: String| wanted.tell(&ctx, &pod, &field, EventType::Warning, "Failed", what);
                    tell(format!("Failed to pull image {shown:?}: {message}"));
                    tell("Error: ErrImagePull".to_owned());
                    Pulled::Failed { message }
                }
            };
            // The worker may be gone by now; nobody wants the image then.
            let _ = reports.send(Report::Pulled { name, wanted, result }).await;
        };
        tokio::spawn(work.instrument(step));
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

/// Keeps the records of a pull: what is there after it is the pod's whose credentials brought it.
async fn noted(
    ctx: &Arc<Context>,
    image: &str,
    pull: impl Future<Output = Result<(String, u64, Option<Source>), String>>,
) -> Result<(String, u64), String> {
    if let Err(error) = ctx.records.intend(image) {
        return Err(format!("Failed to record image pull intent for container image {image:?}: {error}"));
    }
    match pull.await {
        Ok((reference, size, source)) => {
            ctx.records.pulled(image, &reference, source.as_ref(), ctx.now());
            let listed = ctx.now();
            if let Ok(all) = ctx.images.list_images(ListImagesRequest::default()).await {
                ctx.records.prune(&all.images, listed);
            }
            Ok((reference, size))
        }
        Err(message) => {
            ctx.records.failed(image);
            Err(message)
        }
    }
}

/// Tries each credential that fits the registry, or none where there is none. Answers the reference, the size, and whose
/// credential it was.
async fn pull(
    ctx: &Arc<Context>,
    pod: &Pod,
    image: &str,
    credentials: Vec<Credential>,
) -> Result<(String, u64, Option<Source>), String> {
    let sandbox = knarr_cri::v1::PodSandboxConfig { labels: super::cri::identity(pod), ..Default::default() };
    let attempts: Vec<Option<Credential>> =
        if credentials.is_empty() { vec![None] } else { credentials.into_iter().map(Some).collect() };
    let mut causes: Vec<String> = Vec::new();
    for credential in attempts {
        let (auth, source) = credential.map_or((None, None), |credential| (Some(credential.auth), credential.source));
        let request = PullImageRequest {
            image: Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() }),
            auth,
            sandbox_config: Some(sandbox.clone()),
        };
        let cause = match ctx.images.pull_image(request).await {
            Ok(response) => {
                let size = find(ctx, &response.image_ref).await.ok().flatten().map_or(0, |image| image.size);
                return Ok((response.image_ref, size, source));
            }
            Err(CriError::NotFound { .. }) => format!("failed to resolve reference {image:?}: {image}: not found"),
            Err(other) => other.to_string(),
        };
        let message = format!("failed to pull and unpack image {image:?}: {cause}");
        if !causes.contains(&message) {
            causes.push(message);
        }
    }
    match causes.len() {
        1 => Err(causes.remove(0)),
        _ => Err(format!("[{}]", causes.join(", "))),
    }
}
