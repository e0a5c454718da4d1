//! What to do about one claim. Pure.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus},
    storage::v1::StorageClass,
};
use knarr_api::volume::{self as rules, LOCAL_PROVISIONER, NO_PROVISIONER};
use knarr_client::{events::EventType, lean::Pod, meta};

use super::{Said, ask, consumers, node, same};

pub struct World<'a> {
    pub volumes: &'a [Arc<PersistentVolume>],
    pub classes: &'a [Arc<StorageClass>],
    pub nodes: &'a [Arc<Node>],
    /// The pods that name the claim and have no node yet.
    pub consumers: &'a [Arc<Pod>],
}

#[derive(Debug)]
pub enum Step {
    Bind(Arc<PersistentVolume>),
    /// Without a volume: `Pending` or `Lost`.
    Phase(&'static str),
    Change(Box<PersistentVolumeClaim>),
    Say(Said),
    /// Nothing can be done before a pod is where it goes. Said again and again, as what is waited for changes without
    /// the claim.
    Wait(Said),
}

pub fn plan(claim: &PersistentVolumeClaim, world: &World<'_>) -> Vec<Step> {
    if meta::annotation(&claim.metadata, rules::BIND_COMPLETED).is_some() {
        return of_bound(claim, world);
    }
    match volume_name(claim) {
        "" => of_unbound(claim, world),
        name => of_named(claim, name, world),
    }
}

fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn volume<'a>(name: &str, world: &World<'a>) -> Option<&'a Arc<PersistentVolume>> {
    world.volumes.iter().find(|volume| meta::name(&volume.metadata) == name)
}

/// It was bound once: a volume that is gone now is a loss, and there is no way back from it.
fn of_bound(claim: &PersistentVolumeClaim, world: &World<'_>) -> Vec<Step> {
    let lost = |reason, message: &str| match phase(claim) {
        "Lost" => Vec::new(),
        _ => vec![Step::Phase("Lost"), Step::Say((EventType::Warning, reason, message.to_owned()))],
    };
    if volume_name(claim).is_empty() {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lost("ClaimLost", message);
    }
    let Some(volume) = volume(volume_name(claim), world) else {
        return lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if reference.is_some_and(|reference| reference.uid != claim.metadata.uid) {
        let message = "Two claims are bound to the same volume, this one is bound incorrectly";
        return lost("ClaimMisbound", message);
    }
    vec![Step::Bind(volume.clone())]
}

/// The user says which volume it is to be.
fn of_named(claim: &PersistentVolumeClaim, name: &str, world: &World<'_>) -> Vec<Step> {
    let wait = |said: Option<Said>| back_to_pending(claim).into_iter().chain(said.map(Step::Say)).collect();
    let Some(volume) = volume(name, world) else { return wait(None) };
    let is_kept_for_another =
        volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some()) && !rules::is_bound_to(volume, claim);
    if is_kept_for_another {
        let message = format!("volume {name:?} already bound to a different claim.");
        return wait(Some((EventType::Warning, "FailedBinding", message)));
    }
    match rules::mismatch(volume, claim).filter(|_| !rules::is_bound_to(volume, claim)) {
        Some(why) => {
            let message = format!("Cannot bind to requested volume {name:?}: {why}");
            wait(Some((EventType::Warning, "VolumeMismatch", message)))
        }
        None => vec![Step::Bind(volume.clone())],
    }
}

fn of_unbound(claim: &PersistentVolumeClaim, world: &World<'_>) -> Vec<Step> {
    let class = world.classes.iter().find(|class| meta::name(&class.metadata) == rules::class_of_claim(claim));
    let waits = class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if let Some(volume) = rules::find(claim, world.volumes.iter(), !waits, |_| true) {
        return vec![Step::Bind(volume.clone())];
    }
    let mut steps: Vec<Step> = back_to_pending(claim).into_iter().collect();
    if rules::named_class(claim).is_none()
        && let Some(class) = default_class(world.classes)
    {
        let mut changed = claim.clone();
        changed.spec.get_or_insert_default().storage_class_name = Some(class.to_owned());
        steps.push(Step::Change(Box::new(changed)));
    } else if waits && rules::selected_node(claim).is_none() {
        steps.push(Step::Wait(consumers::wait(world.consumers)));
    } else if rules::class_of_claim(claim).is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set".to_owned();
        steps.push(Step::Say((EventType::Normal, "FailedBinding", message)));
    } else {
        steps.extend(provision(claim, class, waits, world));
    }
    steps
}

fn back_to_pending(claim: &PersistentVolumeClaim) -> Option<Step> {
    (phase(claim) != "Pending").then_some(Step::Phase("Pending"))
}

/// Asks whoever makes volumes of the class.
fn provision(
    claim: &PersistentVolumeClaim,
    class: Option<&Arc<StorageClass>>,
    waits: bool,
    world: &World<'_>,
) -> Vec<Step> {
    let failed = |why: String| vec![Step::Say((EventType::Warning, "ProvisioningFailed", why))];
    let Some(class) = class else {
        return failed(format!("storageclass.storage.k8s.io {:?} not found", rules::class_of_claim(claim)));
    };
    let provisioner = class.provisioner.as_str();
    if provisioner == NO_PROVISIONER || provisioner.starts_with("kubernetes.io/") {
        return failed(format!("no volume plugin matched name: {provisioner}"));
    }
    let mut changed = ask(claim, provisioner);
    if provisioner == LOCAL_PROVISIONER {
        match node::choose(claim, class, waits, world) {
            Ok(None) => {}
            Ok(Some(node)) => {
                let with_node = changed.get_or_insert_with(|| claim.clone());
                let annotations = with_node.metadata.annotations.get_or_insert_default();
                annotations.insert(rules::SELECTED_NODE.to_owned(), node);
            }
            // The scheduler, or the next look, chooses anew.
            Err(node::Gone) => {
                let mut forgotten = changed.unwrap_or_else(|| claim.clone());
                forgotten.metadata.annotations.get_or_insert_default().remove(rules::SELECTED_NODE);
                return vec![Step::Change(Box::new(forgotten))];
            }
        }
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
         system administrator. If volume creation is delayed, please verify that the provisioner is running and \
         correctly registered."
    );
    let say = Step::Say((EventType::Normal, "ExternalProvisioning", message));
    changed.map(|claim| Step::Change(Box::new(claim))).into_iter().chain([say]).collect()
}

/// The class that is marked as the default; of several the newest, then the first by name.
pub fn default_class(classes: &[Arc<StorageClass>]) -> Option<&str> {
    let keys = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
    let is_default =
        |class: &&Arc<StorageClass>| keys.iter().any(|key| meta::annotation(&class.metadata, key) == Some("true"));
    let created = |class: &StorageClass| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let marked = classes.iter().filter(is_default);
    let newest = marked
        .min_by(|a, b| created(b).cmp(&created(a)).then_with(|| meta::name(&a.metadata).cmp(meta::name(&b.metadata))));
    newest.map(|class| meta::name(&class.metadata))
}

/// The claim as one that is bound to the volume; `None` where it says so already.
pub fn bound_to(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaim> {
    let mut bound = claim.clone();
    let by_user = volume_name(claim) == meta::name(&volume.metadata);
    let annotations = bound.metadata.annotations.get_or_insert_default();
    annotations.insert(rules::BIND_COMPLETED.to_owned(), "yes".to_owned());
    if !by_user {
        annotations.insert(rules::BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    bound.spec.get_or_insert_default().volume_name = volume.metadata.name.clone();
    (!same(&bound, claim)).then_some(bound)
}

/// The status of a bound claim; `None` where it has it already. Its capacity and attributes are the volume's when it
/// becomes bound: later they change only when an expansion or a modification is complete.
pub fn bound_status(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<PersistentVolumeClaimStatus> {
    let known = claim.status.clone().unwrap_or_default();
    let offer = volume.spec.clone().unwrap_or_default();
    let was_bound = phase(claim) == "Bound" && known.capacity.is_some();
    let status = PersistentVolumeClaimStatus {
        phase: Some("Bound".to_owned()),
        access_modes: offer.access_modes,
        capacity: if was_bound { known.capacity.clone() } else { offer.capacity },
        current_volume_attributes_class_name: match was_bound {
            true => known.current_volume_attributes_class_name.clone(),
            false => offer.volume_attributes_class_name.filter(|name| !name.is_empty()),
        },
        ..known.clone()
    };
    (!same(&status, &known)).then_some(status)
}
