//! The Node object and its heartbeat. The status is written when it says something new, and every five minutes;
//! in between, the Lease is the sign of life.

mod extended;
mod heard;
mod lease;
mod machine;
mod object;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeStatus, ObjectReference, Taint};
use knarr_client::{Clock, Informer, Recorder, errors, events::EventType, meta};
use knarr_cri::{
    ImageService, RuntimeService,
    v1::{ListImagesRequest, StatusRequest},
};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{devices::Devices, evict::Pressures, pod::downward::Allocatable, shutdown};

pub use heard::Heard;
pub use lease::run as heartbeat;
pub use machine::{Load, Machine, Room, most_processes, processes};
use object::Standing;

const LOOK: Duration = Duration::from_secs(10);
/// Until the node is ready it is looked at more often: people wait for it.
const LOOK_UNREADY: Duration = Duration::from_millis(50);
const UNREADY_FAST: u32 = 200;
const REPORT_AT_LEAST: SignedDuration = SignedDuration::from_secs(300);
const MAX_IMAGES: usize = 50;

pub struct Registrar {
    pub name: String,
    pub ip: IpAddr,
    pub port: u16,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub machine_identity: String,
    pub max_pods: u32,
    pub machine: Machine,
    pub allocatable: Allocatable,
    pub pressures: watch::Receiver<Pressures>,
    pub shutting_down: watch::Receiver<bool>,
    pub devices: Arc<Devices>,
    /// Name and version, as `knarr://0.1.0`.
    pub runtime_version: String,
    pub client: kube::Client,
    pub runtime: Arc<dyn RuntimeService>,
    pub heard: Heard,
    pub images: Arc<dyn ImageService>,
    pub node: Informer<Node>,
    pub recorder: Recorder,
    pub clock: Clock,
}

impl Registrar {
    pub async fn run(self) {
        let mut reported: Option<(NodeStatus, Timestamp)> = None;
        let mut unready_looks = 0;
        let mut changes = self.node.subscribe();
        let (mut pressures, mut shutting_down) = (self.pressures.clone(), self.shutting_down.clone());
        let mut devices = self.devices.subscribe();
        self.tell("Starting", "Starting kubelet.".to_owned());
        loop {
            let ready = match self.look(&mut reported).await {
                Ok(ready) => ready,
                // The server understood and says no: a label that nodes may not have, most likely.
                Err(error)
                    if unready_looks == 0 && errors::code(&error).is_some_and(|code| matches!(code, 403 | 422)) =>
                {
                    tracing::error!(node = self.name, error = errors::message(&error), "the node is not let in");
                    false
                }
                Err(error) => {
                    tracing::debug!(%error, "the node's status was not written; will retry");
                    false
                }
            };
            unready_looks = if ready { 0 } else { unready_looks + 1 };
            let pause = match unready_looks {
                0 => LOOK,
                looks if looks < UNREADY_FAST => LOOK_UNREADY,
                _ => Duration::from_secs(1),
            };
            // A node that was given up while it was out of reach is back at once, not at the next look; and what
            // somebody says that it has can be had at once, and what it is short of is known at once.
            let next = Instant::now() + pause;
            loop {
                tokio::select! {
                    () = sleep_until(next) => break,
                    Ok(()) = pressures.changed() => break,
                    Ok(()) = shutting_down.changed() => break,
                    Ok(()) = devices.changed() => break,
                    change = changes.next() => match change {
                        None => return,
                        Some(change) if change.new.as_ref().is_some_and(|node| wants_a_look(node)) => break,
                        Some(_) => {}
                    },
                }
            }
        }
    }

    /// Looks at the node and writes what is new; true where it could run pods and the API knows it.
    async fn look(&self, reported: &mut Option<(NodeStatus, Timestamp)>) -> Result<bool, kube::Error> {
        let now = self.clock.now();
        let api: Api<Node> = Api::all(self.client.clone());
        let mut standing = self.standing().await;
        let is_well = standing.not_ready.is_none();
        if *self.shutting_down.borrow() {
            standing.not_ready.get_or_insert_with(|| shutdown::NOT_READY.to_owned());
        }
        let cached = self.node.get("", &self.name).and_then(|node| node.status.clone());
        let images = self.images().await;
        let pressures = self.pressures.borrow().clone();
        let facts = object::Facts {
            name: &self.name,
            ip: self.ip,
            port: self.port,
            max_pods: self.max_pods,
            machine: &self.machine,
            allocatable: self.allocatable,
            pressures: &pressures,
            runtime: &self.runtime_version,
            standing: &standing,
            images: &images,
            given: extended::given(cached.as_ref()),
            devices: self.devices.counts(),
            now,
        };
        let before = reported.as_ref().map(|(status, _)| status.clone()).or(cached);
        let status = object::status(&facts, before.as_ref());
        if let Some((last, at)) = reported
            && object::same(&status, last)
            && now.duration_since(*at) < REPORT_AT_LEAST
        {
            // Someone may have deleted the object, or changed it under us.
            let holds = !self.node.is_synced()
                || self
                    .node
                    .get("", &self.name)
                    .and_then(|node| node.status.clone())
                    .is_some_and(|known| object::same(&status, &known));
            if holds {
                return Ok(is_well);
            }
        }
        self.write(&api, &facts, &status).await?;
        let was_ready = reported.as_ref().is_some_and(|(last, _)| is_ready(last));
        if is_ready(&status) && !was_ready {
            tracing::info!(node = self.name, "node is ready");
        }
        for reason in object::changed(before.as_ref(), &status).into_iter().filter_map(object::event_reason) {
            self.tell(reason, format!("Node {} status is now: {reason}", self.name));
        }
        *reported = Some((status, now));
        Ok(is_well)
    }

    fn tell(&self, reason: &str, message: String) {
        self.recorder.record(reference(&self.name), EventType::Normal, reason, message);
    }

    /// Patches the node's status, after registering it where that is still to do.
    async fn write(&self, api: &Api<Node>, facts: &object::Facts<'_>, status: &NodeStatus) -> Result<(), kube::Error> {
        let labels = object::labels(&self.name, &self.machine, &self.labels);
        let annotations = BTreeMap::from([(meta::MACHINE.to_owned(), self.machine_identity.clone())]);
        let mut patch = json!({"status": status});
        match self.node.get("", &self.name) {
            Some(known) => {
                extended::withdraw(known.status.as_ref(), &mut patch);
                self.refresh_metadata(api, &known, labels, annotations).await?;
            }
            None => match api
                .create(&PostParams::default(), &object::node(facts, &labels, &annotations, &self.taints))
                .await
            {
                Ok(made) if made.status.as_ref().is_some_and(|made| object::same(status, made)) => return Ok(()),
                Ok(_) => {}
                Err(error) if errors::is_already_exists(&error) => {
                    let known = api.get(&self.name).await?;
                    self.refresh_metadata(api, &known, labels, annotations).await?;
                }
                Err(error) => return Err(error),
            },
        }
        api.patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
    }

    async fn refresh_metadata(
        &self,
        api: &Api<Node>,
        known: &Node,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), kube::Error> {
        let missing = |wanted: BTreeMap<String, String>, present: &Option<BTreeMap<String, String>>| {
            let known = |key: &String| present.as_ref().and_then(|present| present.get(key));
            wanted.into_iter().filter(|(key, value)| known(key) != Some(value)).collect::<BTreeMap<_, _>>()
        };
        let labels = missing(labels, &known.metadata.labels);
        let annotations = missing(annotations, &known.metadata.annotations);
        if labels.is_empty() && annotations.is_empty() {
            return Ok(());
        }
        let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
        api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    async fn standing(&self) -> Standing {
        let answer = self.runtime.status(StatusRequest { verbose: false }).await;
        self.heard.standing(answer, self.clock.now())
    }

    async fn images(&self) -> Vec<ContainerImage> {
        let list =
            self.images.list_images(ListImagesRequest::default()).await.map(|list| list.images).unwrap_or_default();
        let mut images: Vec<_> = list
            .into_iter()
            .map(|image| ContainerImage {
                names: Some(image.repo_digests.into_iter().chain(image.repo_tags).collect()),
                size_bytes: i64::try_from(image.size).ok(),
            })
            .collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
        images.truncate(MAX_IMAGES);
        images
    }
}

/// What events about the node are about; by custom it carries its name as UID.
pub fn reference(name: &str) -> ObjectReference {
    let name = Some(name.to_owned());
    ObjectReference { kind: Some("Node".to_owned()), uid: name.clone(), name, ..ObjectReference::default() }
}

fn wants_a_look(node: &Node) -> bool {
    is_given_up(node) || node.status.as_ref().is_some_and(extended::are_news)
}

fn is_given_up(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "Unknown")
}

fn is_ready(status: &NodeStatus) -> bool {
    let ready = status.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
    ready.is_some_and(|condition| condition.status == "True")
}
