//! Bringing a volume to a pod: attached by its controller, staged once for the node, published for the pod.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::{
    api::{
        core::v1::{Node, Pod, Secret, SecretReference},
        storage::v1::{CSIDriver, VolumeAttachment},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_api::volume as rules;
use knarr_client::{call, errors, meta};
use knarr_csi::{
    Driver,
    messages::{Capabilities, NodePublishVolumeRequest, NodeStageVolumeRequest},
};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::{
    Csi, CsiError, Wish, is_mounted,
    record::{self, Progress, Record},
    wish::Step,
};
use crate::volume::{DEVICE, Place, request_token};

type Map = BTreeMap<String, String>;

/// As long as kubelets wait before they say that a volume does not come.
const ATTACH_LIMIT: Duration = Duration::from_secs(123);
/// Looks at the Node even where no change of it was heard.
const ATTACH_LOOK: Duration = Duration::from_secs(10);

impl Csi {
    /// Brings the volume there and says where it is. Doing it again does no harm.
    pub(super) async fn publish(&self, wish: &Wish, pod: &Pod) -> Result<Place, CsiError> {
        let known = self.known.get("", &wish.driver);
        let known = known.as_deref();
        wish.check_mode(known).map_err(wish.fails(Step::Publish))?;
        let uid = meta::uid(&pod.metadata);
        let file = record::in_pod(&self.pod_dir(uid), &wish.name);
        let path = self.target(uid, wish);
        let on_disk = |error: io::Error| format!("failed to save volume info data: {error}");
        let earlier = record::read(&file).map_err(on_disk).map_err(wish.fails(Step::Publish))?;
        let attachment = || rules::attachment_name(&wish.driver, &wish.handle, &self.node_name);
        let mut record = Record {
            driver_name: wish.driver.clone(),
            volume_handle: wish.handle.clone(),
            attachment_id: wish.is_attached(known).then(attachment),
            path,
            progress: earlier.map_or(Progress::Wanted, |earlier| earlier.progress),
        };
        record::write(&file, &record).map_err(on_disk).map_err(wish.fails(Step::Publish))?;
        let attached = match &record.attachment_id {
            Some(name) => self.attached(wish, name).await?,
            None => Map::new(),
        };
        let step = if wish.is_persistent() { Step::Stage } else { Step::Publish };
        let driver = self.driver(&wish.driver).ok_or_else(|| not_registered(wish)).map_err(wish.fails(step))?;
        let can = driver.capabilities().await.map_err(|error| error.to_string()).map_err(wish.fails(step))?;
        let group = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.fs_group);
        let asked = Asked { wish, known, driver: &driver, can, group, attached };
        let held = self.volume(&wish.driver, &wish.handle);
        let mut is_staged = held.lock().await;
        if wish.is_persistent() && can.stages && !*is_staged {
            self.stage(&asked, &record).await.map_err(wish.fails(Step::Stage))?;
            *is_staged = true;
        }
        if record.progress == Progress::Wanted {
            record.progress = Progress::Asked;
            record::write(&file, &record).map_err(on_disk).map_err(wish.fails(Step::Publish))?;
        }
        self.publish_staged(&asked, pod, &record).await.map_err(wish.fails(Step::Publish))?;
        let given = wish.is_given(known, can);
        record.progress = Progress::Done { given };
        record::write(&file, &record).map_err(on_disk).map_err(wish.fails(Step::Publish))?;
        Ok(place(wish, record.path, given))
    }

    /// Where the volume is, if an earlier agent brought it there.
    pub(super) fn found(&self, wish: &Wish, uid: &str) -> Option<Place> {
        let record = record::read(&record::in_pod(&self.pod_dir(uid), &wish.name)).ok().flatten()?;
        let Progress::Done { given } = record.progress else { return None };
        is_there(&record.path).then(|| place(wish, record.path, given))
    }

    /// Waits until the volume is attached to this node for good, and answers what its controller says about it. The
    /// node says first that it uses the volume: then nobody detaches it who has not heard that.
    async fn attached(&self, wish: &Wish, name: &str) -> Result<Map, CsiError> {
        let fails = wish.fails(Step::Attach);
        self.tell_in_use().await.map_err(fails)?;
        let unique = rules::unique_name(&wish.driver, &wish.handle);
        let deadline = Instant::now() + ATTACH_LIMIT;
        let mut changes = self.node.subscribe();
        loop {
            let node = call::get::<Node>(&self.client, "", &self.node_name).await;
            let node = node.map_err(|error| fails(errors::message(&error)))?;
            let status = node.and_then(|node| node.status).unwrap_or_default();
            if status.volumes_attached.unwrap_or_default().iter().any(|one| one.name == unique) {
                break;
            }
            let look = (Instant::now() + ATTACH_LOOK).min(deadline);
            let _ = timeout_at(look, changes.next()).await;
            if Instant::now() >= deadline {
                let volume = &wish.volume;
                return Err(CsiError(format!(
                    "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[{volume}], \
                     failed to process volumes=[]: timed out waiting for the condition"
                )));
            }
        }
        self.attachment(wish, name).await.map_err(fails)
    }

    async fn attachment(&self, wish: &Wish, name: &str) -> Result<Map, String> {
        let found = call::get::<VolumeAttachment>(&self.client, "", name).await;
        let found = found.map_err(|error| errors::message(&error));
        let found = found.and_then(|found| found.ok_or_else(|| format!("volumeattachments {name:?} not found")));
        let found =
            found.map_err(|why| format!("volume {} has GET error for volume attachment {name}: {why}", wish.handle))?;
        if found.metadata.deletion_timestamp.is_some() {
            return Err("volume attachment is being deleted".to_owned());
        }
        let status = found.status.filter(|status| status.attached);
        let status = status.ok_or_else(|| format!("volume attachment {name} is not attached"))?;
        Ok(status.attachment_metadata.unwrap_or_default())
    }

    async fn stage(&self, asked: &Asked<'_>, of_pod: &Record) -> Result<(), String> {
        let Asked { wish, driver, can, group, attached, .. } = asked;
        let secrets = self.secrets("NodeStageSecretRef", wish.stage_secret.as_ref()).await?;
        let path = self.staging(wish);
        let record = Record { path: path.clone(), progress: Progress::Asked, ..of_pod.clone() };
        let file = self.staged_record(&wish.driver, &wish.handle);
        record::write(&file, &record).map_err(|error| format!("failed to save volume info data: {error}"))?;
        make(&path)?;
        let request = NodeStageVolumeRequest {
            volume_id: wish.handle.clone(),
            publish_context: attached.clone(),
            staging_target_path: path.to_string_lossy().into_owned(),
            volume_capability: Some(wish.capability(*can, *group)),
            secrets,
            volume_context: wish.attributes.clone(),
        };
        driver.call(&request).await.map(drop).map_err(|error| error.to_string())
    }

    async fn publish_staged(&self, asked: &Asked<'_>, pod: &Pod, record: &Record) -> Result<(), String> {
        let Asked { wish, known, driver, can, group, attached } = asked;
        let mut secrets = self.secrets("NodePublishSecretRef", wish.publish_secret.as_ref()).await?;
        let mut context = wish.context(pod, *known);
        if let Some(tokens) = self.tokens(pod, *known).await? {
            let is_secret = known.is_some_and(|known| known.spec.service_account_token_in_secrets == Some(true));
            let with = if is_secret { &mut secrets } else { &mut context };
            with.insert("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), tokens);
        }
        // The driver makes the last part itself.
        record.path.parent().map_or(Ok(()), make)?;
        let is_staged = wish.is_persistent() && can.stages;
        let staging = is_staged.then(|| self.staging(wish));
        let request = NodePublishVolumeRequest {
            volume_id: wish.handle.clone(),
            publish_context: attached.clone(),
            staging_target_path: staging.unwrap_or_default().to_string_lossy().into_owned(),
            target_path: record.path.to_string_lossy().into_owned(),
            volume_capability: Some(wish.capability(*can, *group)),
            readonly: wish.read_only,
            secrets,
            volume_context: context,
        };
        driver.call(&request).await.map(drop).map_err(|error| error.to_string())
    }

    pub(super) async fn secrets(&self, what: &str, reference: Option<&SecretReference>) -> Result<Map, String> {
        let Some(SecretReference { name: Some(name), namespace: Some(namespace) }) = reference else {
            return Ok(Map::new());
        };
        let found = call::get::<Secret>(&self.client, namespace, name).await.map_err(|error| errors::message(&error));
        let found = found.and_then(|found| found.ok_or_else(|| format!("secrets {name:?} not found")));
        let secret = found.map_err(|why| {
            let why = format!("failed to find the secret {name} in the namespace {namespace} with error: {why}");
            format!("fetching {what} {namespace}/{name} failed: kubernetes.io/csi: {why}")
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(secret.data.unwrap_or_default().iter().map(|(key, value)| (key.clone(), text(&value.0))).collect())
    }

    /// The pod's tokens for the audiences that the driver names, as JSON.
    async fn tokens(&self, pod: &Pod, known: Option<&CSIDriver>) -> Result<Option<String>, String> {
        let wanted = known.and_then(|known| known.spec.token_requests.clone()).unwrap_or_default();
        let mut tokens = BTreeMap::new();
        for wish in wanted {
            let token = request_token(&self.client, pod, &wish.audience, wish.expiration_seconds, self.clock.now());
            let (token, expires_at) = token.await.map_err(|error| {
                let why = errors::message(&error);
                format!("kubernetes.io/csi: mounter.SetUpAt failed to get service accoount token attributes: {why}")
            })?;
            tokens.insert(wish.audience, json!({"token": token, "expirationTimestamp": expires_at}));
        }
        Ok((!tokens.is_empty()).then(|| json!(tokens).to_string()))
    }

    /// Says in the Node's status which volumes may be mounted here; returns when the API has it.
    pub(super) async fn tell_in_use(&self) -> Result<(), String> {
        let mut told = self.in_use.lock().await;
        let staged = record::in_folder(&self.places.staged_dir).map(|all| all.into_iter().map(|(_, record)| record));
        let all = self.published().and_then(|published| Ok(published.into_iter().chain(staged?)));
        let all = all.map_err(|error| format!("the records of volumes cannot be read: {error}"))?;
        let attached = all.filter(|record| record.attachment_id.is_some());
        let names: BTreeSet<String> =
            attached.map(|record| rules::unique_name(&record.driver_name, &record.volume_handle)).collect();
        let node = self.node.get("", &self.node_name);
        let shown = node.and_then(|node| node.status.clone()?.volumes_in_use).unwrap_or_default();
        let shown = shown.into_iter().collect::<BTreeSet<_>>();
        // Both, since what is shown may be from before what was told.
        if told.as_ref() == Some(&names) && shown == names || told.is_none() && names.is_empty() && shown.is_empty() {
            return Ok(());
        }
        let metadata = ObjectMeta { name: Some(self.node_name.clone()), ..ObjectMeta::default() };
        let node = Node { metadata, ..Node::default() };
        let patch = json!({"status": {"volumesInUse": names}});
        let done = call::merge_subresource(&self.client, &node, "status", patch).await;
        done.map_err(|error| format!("failed to update node status: {}", errors::message(&error)))?;
        *told = Some(names);
        Ok(())
    }
}

/// What one publication is made from.
struct Asked<'a> {
    wish: &'a Wish,
    known: Option<&'a CSIDriver>,
    driver: &'a Driver,
    can: Capabilities,
    group: Option<i64>,
    /// What the controller of the driver says about the attached volume.
    attached: Map,
}

fn place(wish: &Wish, path: PathBuf, given: bool) -> Place {
    let kind = if wish.is_device { DEVICE } else { "" };
    Place { path, kind: kind.to_owned(), owned: given }
}

/// Drivers mount file systems, and devices most of the time; they may make a node for one instead.
fn is_there(path: &Path) -> bool {
    is_mounted(path) || fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device())
}

fn not_registered(wish: &Wish) -> String {
    let why = format!("driver name {} not found in the list of registered CSI drivers", wish.driver);
    match wish.is_persistent() {
        true => format!("kubernetes.io/csi: attacher.MountDevice failed to create newCsiDriverClient: {why}"),
        false => format!("kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: {why}"),
    }
}

fn make(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("failed to create dir {:?}: {error}", path.display().to_string()))
}
