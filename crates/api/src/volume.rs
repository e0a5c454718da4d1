//! Which volume a claim can be bound to: what the scheduler, the binding controller and the provisioner of a node
//! must see alike. (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/>)

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use serde_json::Value;

use crate::{quantity::Quantity, selector::LabelSelector, value::text};

/// On a claim whose binding was once complete: from then on a missing volume is a loss.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or volume that was not bound by its user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: for which node its volume is to be made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a claim: who is to make its volume.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
pub const BETA_STORAGE_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// Keeps a volume until its provisioner has removed what is behind it.
pub const PROVISIONER_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
/// The provisioner of classes whose volumes people make.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";
/// The provisioner that is built in: directories on the nodes themselves.
pub const LOCAL_PROVISIONER: &str = "knarr.dev/local";
/// The label by which a volume on a node says where it is.
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// The fields of a volume's spec that do not say what it is made of. `persistentvolumesource` is the name by which
/// messages speak of all those that do.
const NOT_SOURCES: [&str; 10] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
    "persistentvolumesource",
];

/// Where claims and volumes named their class before their spec did; it goes before the spec.
pub const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// SHA-256 in digits, which names of what belongs to volumes are made of.
pub fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the object is called by which a driver's volume is attached to a node.
pub fn attachment_name(driver: &str, handle: &str, node: &str) -> String {
    format!("csi-{}", digest(&format!("{handle}{driver}{node}")))
}

/// What a Node's status calls a driver's volume.
pub fn unique_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

type Annotations = Option<BTreeMap<String, String>>;

fn annotation<'a>(annotations: &'a Annotations, key: &str) -> Option<&'a str> {
    annotations.as_ref()?.get(key).map(String::as_str)
}

/// The class that a claim names; `None` where it names none and may yet be given the default one, which the empty
/// name forbids.
pub fn named_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    let spec = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata.annotations, BETA_CLASS).or(spec)
}

/// The class that a claim or a volume names, or nothing.
pub fn class_in(object: &Value) -> &str {
    text(object["metadata"]["annotations"].get(BETA_CLASS).unwrap_or(&object["spec"]["storageClassName"]))
}

pub fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    named_class(claim).unwrap_or_default()
}

pub fn class_of_volume(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata.annotations, BETA_CLASS).or(spec).unwrap_or_default()
}

/// What the claim is called that is made for an ephemeral volume of a pod.
pub fn own_claim_name(pod: &ObjectMeta, volume: &str) -> String {
    format!("{}-{volume}", pod.name.as_deref().unwrap_or_default())
}

/// True where a claim was made for this pod's own volume.
pub fn is_made_for(claim: &PersistentVolumeClaim, pod: &ObjectMeta) -> bool {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == pod.uid.as_ref())
}

fn is_reference_to(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    let uid = reference.uid.as_deref().unwrap_or_default();
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (uid.is_empty() || claim.metadata.uid.as_deref() == Some(uid))
}

/// True where the volume is kept for the claim, be it by its user or by a binding that is complete.
pub fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| is_reference_to(reference, claim))
}

/// The volume as one that is kept for the claim; `None` where it says so already.
pub fn kept_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<PersistentVolume> {
    let known = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if known.is_some_and(|known| known.uid == claim.metadata.uid) {
        return None;
    }
    let by_user = is_bound_to(volume, claim);
    let mut kept = volume.clone();
    kept.spec.get_or_insert_default().claim_ref = Some(reference(claim));
    if !by_user {
        let annotations = kept.metadata.annotations.get_or_insert_default();
        annotations.insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
    }
    Some(kept)
}

/// What a volume says of the claim that it is for.
pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        resource_version: claim.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// True where the claim is bound for good.
pub fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let named = claim.spec.as_ref().is_some_and(|spec| spec.volume_name.as_ref().is_some_and(|name| !name.is_empty()));
    named && annotation(&claim.metadata.annotations, BIND_COMPLETED).is_some()
}

/// True where a field of a volume's spec says what the volume is made of: `nfs`, `csi`, ...
pub fn is_source(field: &str) -> bool {
    !NOT_SOURCES.contains(&field)
}

/// Who made the volume; `None` where a person did.
pub fn provisioned_by(volume: &PersistentVolume) -> Option<&str> {
    annotation(&volume.metadata.annotations, PROVISIONED_BY)
}

pub fn selected_node(claim: &PersistentVolumeClaim) -> Option<&str> {
    annotation(&claim.metadata.annotations, SELECTED_NODE)
}

pub fn requested(claim: &PersistentVolumeClaim) -> Quantity {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    storage(requests)
}

pub fn capacity(volume: &PersistentVolume) -> Quantity {
    storage(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()))
}

/// The amount of `storage` in a list; none is zero.
pub fn storage(list: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>) -> Quantity {
    let amount = list.and_then(|list| list.get("storage")).and_then(|amount| amount.0.parse().ok());
    amount.unwrap_or(Quantity::ZERO)
}

fn mode(mode: Option<&String>) -> &str {
    mode.map_or("Filesystem", String::as_str)
}

/// What has no class for its attributes may say so by an empty name.
fn same_attributes(offer: &PersistentVolumeSpec, wish: &PersistentVolumeClaimSpec) -> bool {
    let offered = offer.volume_attributes_class_name.as_deref().unwrap_or_default();
    offered == wish.volume_attributes_class_name.as_deref().unwrap_or_default()
}

/// Containers get it as a device, not as files.
pub fn is_device(volume: &PersistentVolume) -> bool {
    mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref())) == "Block"
}

/// Why a volume that a claim names is not for it, in upstream's words.
pub fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let (Some(offer), Some(wish)) = (&volume.spec, &claim.spec) else { return Some("it has no spec") };
    if capacity(volume) < requested(claim) {
        return Some("requested PV is too small");
    }
    if class_of_volume(volume) != class_of_claim(claim) {
        return Some("storageClassName does not match");
    }
    if !same_attributes(offer, wish) {
        return Some("volumeAttributesClassName does not match");
    }
    if mode(offer.volume_mode.as_ref()) != mode(wish.volume_mode.as_ref()) {
        return Some("incompatible volumeMode");
    }
    (!offers_modes(offer, wish)).then_some("incompatible accessMode")
}

fn offers_modes(offer: &PersistentVolumeSpec, wish: &PersistentVolumeClaimSpec) -> bool {
    let offered = offer.access_modes.as_deref().unwrap_or_default();
    wish.access_modes.iter().flatten().all(|mode| offered.contains(mode))
}

/// The volume for a claim: the one that is kept for it, else the smallest of the free ones that is large enough.
/// `may_bind` says whether a free one may be taken at all; `suits` is asked last, about the place of a volume.
pub fn find<'a, V: AsRef<PersistentVolume>>(
    claim: &PersistentVolumeClaim,
    volumes: impl Iterator<Item = &'a V>,
    may_bind: bool,
    suits: impl Fn(&PersistentVolume) -> bool,
) -> Option<&'a V> {
    let wish = claim.spec.as_ref()?;
    let (size, class) = (requested(claim), class_of_claim(claim));
    let selector = wish.selector.as_ref().map(|selector| {
        let value = serde_json::to_value(selector).unwrap_or_default();
        LabelSelector::from_value(&value).unwrap_or_else(|_| LabelSelector::nothing())
    });
    let mut smallest: Option<(Quantity, &V)> = None;
    for candidate in volumes {
        let volume = candidate.as_ref();
        let Some(offer) = &volume.spec else { continue };
        let kept = is_bound_to(volume, claim);
        let own_size = capacity(volume);
        if (offer.claim_ref.is_some() && !kept)
            || own_size < size
            || mode(offer.volume_mode.as_ref()) != mode(wish.volume_mode.as_ref())
            || volume.metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        if kept {
            // One in the wrong place, or of other attributes, is still the only one for this claim.
            return (same_attributes(offer, wish) && suits(volume)).then_some(candidate);
        }
        let labels = volume.metadata.labels.as_ref();
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
        let is_free = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available");
        if may_bind
            && is_free
            && class_of_volume(volume) == class
            && same_attributes(offer, wish)
            && offers_modes(offer, wish)
            && selector.as_ref().is_none_or(|selector| selector.matches(label))
            && smallest.as_ref().is_none_or(|(other, _)| own_size < *other)
            && suits(volume)
        {
            smallest = Some((own_size, candidate));
        }
    }
    smallest.map(|(_, volume)| volume)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, from_value, json};

    use super::*;

    fn volume(name: &str, size: &str, change: Value) -> Arc<PersistentVolume> {
        let mut object = json!({
            "metadata": {"name": name, "labels": {"tier": "fast"}},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "manual"},
            "status": {"phase": "Available"},
        });
        json_patch::merge(&mut object, &change);
        Arc::new(from_value(object).unwrap())
    }

    fn claim(change: Value) -> PersistentVolumeClaim {
        let mut object = json!({
            "metadata": {"name": "data", "namespace": "d", "uid": "u1"},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "manual",
                "resources": {"requests": {"storage": "5Gi"}}},
        });
        json_patch::merge(&mut object, &change);
        from_value(object).unwrap()
    }

    #[test]
    fn the_smallest_that_is_large_enough_unless_one_is_kept() {
        let kept = |uid: &str| json!({"spec": {"claimRef": {"namespace": "d", "name": "data", "uid": uid}}});
        let sizes =
            || vec![volume("s", "1Gi", json!({})), volume("l", "20Gi", json!({})), volume("m", "8Gi", json!({}))];
        let with = |extra: Arc<PersistentVolume>| [sizes(), vec![extra]].concat();
        for (volumes, wish, may_bind, expected) in [
            (sizes(), json!({}), true, Some("m")),
            (sizes(), json!({}), false, None),
            (sizes(), json!({"spec": {"resources": {"requests": {"storage": "21Gi"}}}}), true, None),
            (sizes(), json!({"spec": {"accessModes": ["ReadWriteMany"]}}), true, None),
            (sizes(), json!({"spec": {"volumeMode": "Block"}}), true, None),
            (sizes(), json!({"spec": {"storageClassName": ""}}), true, None),
            (sizes(), json!({"spec": {"selector": {"matchLabels": {"tier": "fast"}}}}), true, Some("m")),
            (sizes(), json!({"spec": {"selector": {"matchLabels": {"tier": "slow"}}}}), true, None),
            (with(volume("k", "50Gi", kept(""))), json!({}), false, Some("k")),
            (with(volume("k", "50Gi", kept("u1"))), json!({}), true, Some("k")),
            (with(volume("k", "6Gi", kept("other"))), json!({}), true, Some("m")),
            (with(volume("k", "1Gi", kept("u1"))), json!({}), true, Some("m")),
            (with(volume("r", "6Gi", json!({"status": {"phase": "Released"}}))), json!({}), true, Some("m")),
            (
                with(volume("x", "6Gi", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))),
                json!({}),
                true,
                Some("m"),
            ),
        ] {
            let claim = claim(wish.clone());
            let found = find(&claim, volumes.iter(), may_bind, |_| true);
            let found = found.and_then(|volume| volume.metadata.name.as_deref());
            assert_eq!(found, expected, "{wish} {may_bind}");
        }
        assert!(find(&claim(json!({})), with(volume("k", "6Gi", kept("u1"))).iter(), true, |_| false).is_none());
    }

    #[test]
    fn a_named_volume_must_be_as_the_claim_says() {
        for (size, change, expected) in [
            ("5Gi", json!({}), None),
            ("4Gi", json!({}), Some("requested PV is too small")),
            ("5Gi", json!({"spec": {"storageClassName": "other"}}), Some("storageClassName does not match")),
            ("5Gi", json!({"spec": {"volumeAttributesClassName": ""}}), None),
            (
                "5Gi",
                json!({"spec": {"volumeAttributesClassName": "fast"}}),
                Some("volumeAttributesClassName does not match"),
            ),
            ("5Gi", json!({"spec": {"volumeMode": "Block"}}), Some("incompatible volumeMode")),
            ("5Gi", json!({"spec": {"accessModes": ["ReadOnlyMany"]}}), Some("incompatible accessMode")),
        ] {
            assert_eq!(mismatch(&volume("v", size, change.clone()), &claim(json!({}))), expected, "{change}");
        }
    }
}
