//! What is attached to one node, and what is not any more. Pure.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        core::v1::{AttachedVolume, Node, PersistentVolume},
        storage::v1::{VolumeAttachment, VolumeAttachmentSource, VolumeAttachmentSpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_api::volume as rules;
use knarr_client::{events::EventType, lean::Pod, meta};

use crate::common::pods;

/// A node that says nothing any more is waited for so long; then what it used is taken from it.
const PATIENCE: SignedDuration = SignedDuration::from_mins(6);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A volume that pods of the node use.
pub struct Wanted {
    pub volume: Arc<PersistentVolume>,
    pub pods: Vec<Arc<Pod>>,
}

pub struct World<'a> {
    /// The node's.
    pub name: &'a str,
    /// `None` where it is no more.
    pub node: Option<&'a Node>,
    pub wanted: &'a [Wanted],
    /// Of the node, and of the wanted volumes anywhere.
    pub attachments: &'a [Arc<VolumeAttachment>],
}

#[derive(Debug)]
pub enum Step {
    Attach(Box<VolumeAttachment>),
    /// The node as it is to be told what is attached; before anything is detached.
    Report(Box<Node>),
    Detach(Arc<VolumeAttachment>),
    Say(Arc<Pod>, EventType, &'static str, String),
    /// Looks again then.
    Wait(Duration),
}

/// `volume` finds one by name, `users` the pods that use it anywhere. `waiting` remembers since when attachments wait
/// for the node to let go.
pub fn plan(
    world: &World<'_>,
    volume: &dyn Fn(&str) -> Option<Arc<PersistentVolume>>,
    users: &dyn Fn(&PersistentVolume) -> Vec<Arc<Pod>>,
    waiting: &mut HashMap<String, Timestamp>,
    now: Timestamp,
) -> Vec<Step> {
    let status = world.node.and_then(|node| node.status.clone()).unwrap_or_default();
    let in_use = status.volumes_in_use.unwrap_or_default();
    let here = world.attachments.iter().filter(|attachment| attachment.spec.node_name == world.name);
    let mut steps = Vec::new();
    let (mut attached, mut detach) = (Vec::new(), Vec::new());
    for attachment in here {
        let Some(name) = attachment.spec.source.persistent_volume_name.as_deref() else { continue };
        let unique = volume(name).and_then(|volume| unique_name(&volume)).or_else(|| {
            // The volume is no more; what the node uses still has the name that the attachment was made of.
            let is_it = |unique: &&String| attachment_of(unique, world.name) == attachment.metadata.name;
            in_use.iter().find(is_it).cloned()
        });
        let wanted = world.wanted.iter().find(|wanted| meta::name(&wanted.volume.metadata) == name);
        let is_attached = attachment.status.as_ref().is_some_and(|status| status.attached);
        let is_going = attachment.metadata.deletion_timestamp.is_some();
        let is_used = unique.as_ref().is_some_and(|unique| in_use.contains(unique));
        match wanted {
            Some(wanted) => {
                waiting.remove(meta::name(&attachment.metadata));
                let error = attachment.status.as_ref().and_then(|status| status.attach_error.as_ref()?.message.clone());
                if let Some(error) = error.filter(|_| !is_attached && !is_going) {
                    let message = format!("AttachVolume.Attach failed for volume {name:?} : {error}");
                    steps.extend(wanted.pods.iter().map(|pod| failed(pod, message.clone())));
                }
                attached.extend(unique.filter(|_| is_attached && !is_going));
            }
            None if is_going => {}
            None if is_used && world.node.is_some_and(|node| !is_out_of_service(node)) => {
                let since = *waiting.entry(meta::name(&attachment.metadata).to_owned()).or_insert(now);
                let left = PATIENCE - now.duration_since(since);
                if left.is_positive() || world.node.is_some_and(is_ready) {
                    attached.extend(unique.filter(|_| is_attached));
                    steps.push(Step::Wait(Duration::try_from(left).unwrap_or(Duration::from_secs(60))));
                } else {
                    detach.push(Step::Detach(attachment.clone()));
                }
            }
            None => detach.push(Step::Detach(attachment.clone())),
        }
    }
    steps.extend(report(world, attached));
    steps.extend(detach);
    if world.node.is_some() {
        steps.extend(world.wanted.iter().flat_map(|wanted| attach(world, wanted, users)));
    }
    steps
}

/// Tells the node, and the pods whose volumes are new there.
fn report(world: &World<'_>, mut attached: Vec<String>) -> Vec<Step> {
    let Some(node) = world.node else { return Vec::new() };
    attached.sort();
    let known = node.status.iter().flat_map(|status| status.volumes_attached.iter().flatten());
    let (known, foreign): (Vec<_>, Vec<_>) = known.cloned().partition(|one| one.name.starts_with("kubernetes.io/csi/"));
    let mut before: Vec<_> = known.into_iter().map(|one| one.name).collect();
    before.sort();
    if before == attached {
        return Vec::new();
    }
    let new = world.wanted.iter().filter(|wanted| {
        unique_name(&wanted.volume).is_some_and(|name| attached.contains(&name) && !before.contains(&name))
    });
    let said: Vec<Step> = new
        .flat_map(|wanted| {
            let name = meta::name(&wanted.volume.metadata);
            let message = format!("AttachVolume.Attach succeeded for volume {name:?} ");
            let say =
                |pod: &Arc<Pod>| Step::Say(pod.clone(), EventType::Normal, "SuccessfulAttachVolume", message.clone());
            wanted.pods.iter().map(say).collect::<Vec<_>>()
        })
        .collect();
    let mut changed = node.clone();
    let all = attached.into_iter().map(|name| AttachedVolume { name, device_path: String::new() });
    changed.status.get_or_insert_default().volumes_attached = Some(foreign.into_iter().chain(all).collect());
    [Step::Report(Box::new(changed))].into_iter().chain(said).collect()
}

fn attach(world: &World<'_>, wanted: &Wanted, users: &dyn Fn(&PersistentVolume) -> Vec<Arc<Pod>>) -> Vec<Step> {
    let name = meta::name(&wanted.volume.metadata);
    let of_volume =
        |attachment: &&Arc<VolumeAttachment>| attachment.spec.source.persistent_volume_name.as_deref() == Some(name);
    let (here, elsewhere): (Vec<_>, Vec<_>) = world
        .attachments
        .iter()
        .filter(of_volume)
        .map(|attachment| attachment.spec.node_name.as_str())
        .partition(|node| *node == world.name);
    if !here.is_empty() {
        return Vec::new();
    }
    if !elsewhere.is_empty() && is_for_one_node(&wanted.volume) {
        let others = users(&wanted.volume);
        let others = others.iter().filter(|pod| elsewhere.contains(&pods::node_name(pod)) && !pods::is_terminal(pod));
        let mut others: Vec<&str> = others.map(|pod| meta::name(&pod.metadata)).collect();
        others.sort_unstable();
        let why = match others.is_empty() {
            true => "Volume is already exclusively attached to one node and can't be attached to another".to_owned(),
            false => format!("Volume is already used by pod(s) {}", others.join(", ")),
        };
        let message = format!("Multi-Attach error for volume {name:?} {why}");
        return wanted.pods.iter().map(|pod| failed(pod, message.clone())).collect();
    }
    let Some(source) = wanted.volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) else { return Vec::new() };
    let name = rules::attachment_name(&source.driver, &source.volume_handle, world.name);
    vec![Step::Attach(Box::new(VolumeAttachment {
        metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
        spec: VolumeAttachmentSpec {
            attacher: source.driver.clone(),
            node_name: world.name.to_owned(),
            source: VolumeAttachmentSource {
                persistent_volume_name: wanted.volume.metadata.name.clone(),
                ..VolumeAttachmentSource::default()
            },
        },
        status: None,
    }))]
}

fn failed(pod: &Arc<Pod>, message: String) -> Step {
    Step::Say(pod.clone(), EventType::Warning, "FailedAttachVolume", message)
}

fn unique_name(volume: &PersistentVolume) -> Option<String> {
    let source = volume.spec.as_ref()?.csi.as_ref()?;
    Some(rules::unique_name(&source.driver, &source.volume_handle))
}

fn attachment_of(unique: &str, node: &str) -> Option<String> {
    let (driver, handle) = unique.strip_prefix("kubernetes.io/csi/")?.split_once('^')?;
    Some(rules::attachment_name(driver, handle, node))
}

fn is_for_one_node(volume: &PersistentVolume) -> bool {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    !modes.is_empty() && !modes.iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany")
}

/// Somebody says of it that it is off, and that nothing of it runs.
fn is_out_of_service(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.key == OUT_OF_SERVICE)
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
