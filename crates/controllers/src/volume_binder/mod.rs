//! Binds claims to volumes, and says what becomes of a volume whose claim is gone. Making volumes and removing what
//! is behind them is provisioners' work; this controller tells them to.
//! (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/#lifecycle-of-a-volume-and-claim>)
//!
//! A volume is written first (`spec.claimRef`), on the condition that nobody else did: so two claims never get one
//! volume, and whoever finds a binding that was cut short can see whose it is.

mod claim;
mod consumers;
mod node;
#[cfg(test)]
mod tests;
mod volume;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use knarr_api::volume as rules;
use knarr_client::{
    Change, Informer, ObjectKey, Outcome, WorkQueue, call, errors,
    events::EventType,
    lean::Pod,
    meta::{self, BindingKey as Key},
    worker,
};
use serde_json::json;

use self::{claim::Step, volume::Fate};
use crate::{Context, Error};

pub const NAME: &str = "persistent-volume-binder";
/// As events name it.
const COMPONENT: &str = "persistentvolume-controller";
const WORKERS: usize = 8;
/// How often a claim that waits for a pod is looked at again: upstream's period for all claims.
const WAIT: Duration = Duration::from_secs(15);

struct Controller {
    context: Context,
    queue: WorkQueue<Key>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
}

/// What is said about an object.
type Said = (EventType, &'static str, String);

pub async fn run(context: Context) {
    let context = Context { recorder: context.recorder.for_component(COMPONENT), ..context };
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        claims: context.informers.of(),
        volumes: context.informers.of(),
        classes: context.informers.of(),
        nodes: context.informers.of(),
        pods: context.informers.of(),
        queue: queue.clone(),
        context,
    });
    let Controller { claims, volumes, classes, nodes, pods, .. } = &*controller;
    pods.add_index(consumers::BY_CLAIM, consumers::claims_of_waiting);
    let is_synced = claims.synced().await && volumes.synced().await && classes.synced().await;
    if !(is_synced && nodes.synced().await && pods.synced().await) {
        return;
    }
    claims.feed(&queue, of_claim);
    let all = claims.clone();
    volumes.feed(&queue, move |change| of_volume(change, &all));
    let all = claims.clone();
    classes.feed(&queue, move |_| pending(&all, |_| true));
    let all = claims.clone();
    nodes.feed(&queue, move |change| {
        // Nodes say all the time that they are there; only coming and going matters to claims.
        let ready = |node: &Option<Arc<Node>>| node.as_deref().is_some_and(node::takes_volumes);
        let differs = ready(&change.old) != ready(&change.new) || change.is_deletion();
        if differs { pending(&all, |_| true) } else { Vec::new() }
    });
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move {
            match key {
                Key::Claim(key) => controller.claim(&key).await,
                Key::Volume(name) => controller.volume(&name).await.map(|()| Outcome::Done),
            }
        }
    })
    .await;
}

fn of_claim(change: &Change<PersistentVolumeClaim>) -> Vec<Key> {
    let claim = change.latest();
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|name| !name.is_empty());
    [Key::Claim(ObjectKey::of(&**claim))].into_iter().chain(volume.map(Key::Volume)).collect()
}

/// The volume, the claim that it is for, and where it is for nobody those that may want it.
fn of_volume(change: &Change<PersistentVolume>, claims: &Informer<PersistentVolumeClaim>) -> Vec<Key> {
    let volume = change.latest();
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let mut keys = vec![Key::Volume(meta::name(&volume.metadata).to_owned())];
    match reference {
        Some(claim) => keys.push(Key::Claim(ObjectKey::new(
            claim.namespace.as_deref().unwrap_or_default(),
            claim.name.as_deref().unwrap_or_default(),
        ))),
        None => {
            let class = rules::class_of_volume(volume).to_owned();
            keys.extend(pending(claims, |claim| rules::class_of_claim(claim) == class));
        }
    }
    let name = meta::name(&volume.metadata);
    let names_it =
        |claim: &PersistentVolumeClaim| claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()) == Some(name);
    keys.extend(pending(claims, names_it));
    keys
}

fn pending(claims: &Informer<PersistentVolumeClaim>, which: impl Fn(&PersistentVolumeClaim) -> bool) -> Vec<Key> {
    let claims = claims.list();
    let wanted = claims.iter().filter(|claim| !rules::is_bound(claim) && which(claim));
    wanted.map(|claim| Key::Claim(ObjectKey::of(&**claim))).collect()
}

impl Controller {
    async fn claim(&self, key: &ObjectKey) -> Result<Outcome, Error> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let (volumes, classes, nodes) = (self.volumes.list(), self.classes.list(), self.nodes.list());
        let consumers = self.pods.by_index(consumers::BY_CLAIM, &key.to_string());
        let world = claim::World { volumes: &volumes, classes: &classes, nodes: &nodes, consumers: &consumers };
        let mut outcome = Outcome::Done;
        for step in claim::plan(&claim, &world) {
            match step {
                Step::Bind(volume) => self.bind(&volume, &claim).await?,
                Step::Phase(phase) => drop(self.set_claim_phase(&claim, phase).await?),
                Step::Change(changed) => {
                    let written = errors::optional(call::replace(&self.context.client, &*changed).await);
                    written.map_err(Error::api("writing the claim"))?;
                }
                Step::Say(said) => self.say(&*claim, said),
                Step::Wait(said) => {
                    self.say(&*claim, said);
                    outcome = Outcome::After(WAIT);
                }
            }
        }
        Ok(outcome)
    }

    fn say<K: kube::Resource<DynamicType = ()>>(&self, about: &K, (kind, reason, message): Said) {
        self.context.recorder.record(knarr_client::events::reference(about), kind, reason, message);
    }

    /// All that a binding consists of; what is there already is not written again.
    async fn bind(&self, volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), Error> {
        let client = &self.context.client;
        let mut volume = volume.clone();
        if let Some(kept) = rules::kept_for(&volume, claim) {
            volume = call::replace(client, &kept).await.map_err(Error::api("keeping the volume for the claim"))?;
        }
        if volume::phase(&volume) != "Bound" {
            volume = self.set_volume_phase(&volume, "Bound", None).await?;
        }
        let mut claim = claim.clone();
        if let Some(bound) = claim::bound_to(&claim, &volume) {
            claim = call::replace(client, &bound).await.map_err(Error::api("naming the volume in the claim"))?;
        }
        if let Some(status) = claim::bound_status(&claim, &volume) {
            let changed = PersistentVolumeClaim { status: Some(status), ..claim };
            call::replace_status(client, &changed).await.map_err(Error::api("writing the claim's status"))?;
        }
        Ok(())
    }

    async fn set_claim_phase(
        &self,
        claim: &PersistentVolumeClaim,
        phase: &str,
    ) -> Result<Option<PersistentVolumeClaim>, Error> {
        let mut changed = claim.clone();
        let status = changed.status.get_or_insert_default();
        status.phase = Some(phase.to_owned());
        (status.access_modes, status.capacity) = (None, None);
        let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
        written.map_err(Error::api("writing the claim's phase"))
    }

    async fn set_volume_phase(
        &self,
        volume: &PersistentVolume,
        phase: &str,
        message: Option<String>,
    ) -> Result<PersistentVolume, Error> {
        let mut changed = volume.clone();
        let status = changed.status.get_or_insert_default();
        (status.phase, status.message) = (Some(phase.to_owned()), message);
        call::replace_status(&self.context.client, &changed).await.map_err(Error::api("writing the volume's phase"))
    }

    async fn volume(&self, name: &str) -> Result<(), Error> {
        let Some(volume) = self.volumes.get("", name) else { return Ok(()) };
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone());
        let claim = match &reference {
            None => None,
            Some(reference) => {
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                let (namespace, name) = (text(&reference.namespace), text(&reference.name));
                match self.claims.get(&namespace, &name) {
                    Some(claim) if reference.uid == claim.metadata.uid => Some(claim),
                    // What follows from a claim that is gone cannot be taken back, so the cache is not enough.
                    _ => {
                        let fresh = call::get::<PersistentVolumeClaim>(&self.context.client, &namespace, &name).await;
                        fresh.map_err(Error::api("reading the claim"))?.map(Arc::new)
                    }
                }
            }
        };
        match volume::fate(&volume, claim.as_deref()) {
            Fate::Stay => Ok(()),
            Fate::Phase(phase) => self.set_volume_phase(&volume, phase, None).await.map(drop),
            Fate::BindClaim => {
                if let Some(claim) = claim {
                    self.queue.add(Key::Claim(ObjectKey::of(&*claim)));
                }
                Ok(())
            }
            Fate::Unbind(unbound) => {
                let written = errors::optional(call::replace(&self.context.client, &*unbound).await);
                written.map(drop).map_err(Error::api("letting go of the claim"))
            }
            Fate::Release => self.release(&volume).await,
        }
    }

    /// Nobody wants the volume any more: its reclaim policy says what becomes of it.
    async fn release(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let mut volume = volume.clone();
        if !matches!(volume::phase(&volume), "Released" | "Failed") {
            volume = self.set_volume_phase(&volume, "Released", None).await?;
        }
        let Some((reason, message)) = volume::cannot_reclaim(&volume) else { return Ok(()) };
        if volume::phase(&volume) != "Failed" {
            volume = self.set_volume_phase(&volume, "Failed", Some(message.clone())).await?;
            self.say(&volume, (EventType::Warning, reason, message));
        }
        Ok(())
    }
}

/// The annotations by which a provisioner knows a claim for its own.
fn ask(claim: &PersistentVolumeClaim, provisioner: &str) -> Option<PersistentVolumeClaim> {
    let keys = [rules::STORAGE_PROVISIONER, rules::BETA_STORAGE_PROVISIONER];
    if keys.iter().all(|key| meta::annotation(&claim.metadata, key) == Some(provisioner)) {
        return None;
    }
    let mut asked = claim.clone();
    let annotations = asked.metadata.annotations.get_or_insert_default();
    annotations.extend(keys.map(|key| (key.to_owned(), provisioner.to_owned())));
    Some(asked)
}

/// Compared as JSON, absent and empty alike.
fn same<T: serde::Serialize>(a: &T, b: &T) -> bool {
    json!(a) == json!(b)
}
