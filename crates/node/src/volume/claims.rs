//! Claims of a pod, followed to where their volume is on this node. That is asked of the API server itself and not of
//! a watch: the scheduler bound the claim a moment ago.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use knarr_api::{placement::node_selector_matches, volume as rules};
use knarr_client::{call, errors, meta};

use super::{VolumeError, nfs};
use crate::{csi, pod::containers::Containers};

/// Where a claim's volume lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    pub path: PathBuf,
    /// As `hostPath.type` has it; of a `local` volume, a directory that must be there.
    pub kind: String,
    /// It belongs to the pods that use it, so that it may be given to their group.
    pub owned: bool,
}

/// The kind of a place that is a device for containers, not a folder.
pub const DEVICE: &str = "BlockDevice";

/// The claims that were followed, by the volume's name in the pod.
pub type Places = HashMap<String, Place>;

/// The node that a volume has to reach.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    pub name: &'a str,
    pub labels: &'a BTreeMap<String, String>,
}

/// What a claim's volume turned out to be.
pub enum Found {
    Place(Place),
    /// A driver has to bring it here.
    Driver(Box<csi::Wish>),
    /// It is on a server.
    Share(nfs::Share),
}

/// Follows those claims that `wanted` asks for, by the volume's name in the pod. One that was followed stays where it
/// is: its binding cannot change any more.
pub async fn follow(
    client: &kube::Client,
    pod: &Pod,
    here: Here<'_>,
    wanted: impl Fn(&str) -> bool,
    followed: &mut Vec<(String, Found)>,
) -> Result<(), VolumeError> {
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let (name, is_own) = match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => (source.claim_name.clone(), false),
            (None, Some(_)) => (rules::own_claim_name(&pod.metadata, &volume.name), true),
            (None, None) => continue,
        };
        if !wanted(&volume.name) {
            continue;
        }
        let namespace = meta::namespace(&pod.metadata);
        let failed = |why: String| not_processed(volume, &format!("{namespace}/{name}"), &why);
        let claim = call::get::<PersistentVolumeClaim>(client, namespace, &name).await;
        let claim = claim
            .map_err(|error| failed(format!("failed to fetch PVC from API server: {}", errors::message(&error))))?;
        let claim = claim.ok_or_else(|| {
            failed(format!("failed to fetch PVC from API server: persistentvolumeclaims {name:?} not found"))
        })?;
        check_claim(&claim, pod, is_own).map_err(failed)?;
        let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        let found = call::get::<PersistentVolume>(client, "", bound).await;
        let found = found.map_err(|error| {
            failed(format!("failed to fetch PV {bound} from API server: {}", errors::message(&error)))
        })?;
        let found = found.ok_or_else(|| {
            failed(format!("failed to fetch PV {bound} from API server: persistentvolumes {bound:?} not found"))
        })?;
        check_reference(&found, &claim).map_err(failed)?;
        check_mode(&found, pod, &volume.name)
            .map_err(|cause| VolumeError::Process { volume: volume.name.clone(), cause })?;
        let refused = |cause| match rules::is_device(&found) {
            true => VolumeError::Map { volume: bound.to_owned(), cause },
            false => VolumeError::SetUp { volume: bound.to_owned(), cause },
        };
        check_place(&found, here).map_err(refused)?;
        let read_only = volume.persistent_volume_claim.as_ref().is_some_and(|claim| claim.read_only == Some(true));
        let driven =
            csi::Wish::of_claim(&volume.name, &claim, &found, read_only).map(|wish| Found::Driver(Box::new(wish)));
        let what = match driven.or_else(|| nfs::Share::of_claim(&found, read_only).map(Found::Share)) {
            Some(what) => what,
            None => Found::Place(place(&found).map_err(refused)?),
        };
        followed.push((volume.name.clone(), what));
    }
    Ok(())
}

fn not_processed(volume: &Volume, claim: &str, why: &str) -> VolumeError {
    VolumeError::Claim { volume: volume.name.clone(), claim: claim.to_owned(), cause: why.to_owned() }
}

fn check_claim(claim: &PersistentVolumeClaim, pod: &Pod, is_own: bool) -> Result<(), String> {
    if is_own && !rules::is_made_for(claim, &pod.metadata) {
        let (namespace, pod) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata));
        let claim = meta::name(&claim.metadata);
        return Err(format!("PVC {namespace}/{claim} was not created for pod {namespace}/{pod} (pod is not owner)"));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".to_owned());
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Bound") || !rules::is_bound(claim) {
        return Err("PVC is not bound".to_owned());
    }
    Ok(())
}

fn check_reference(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let name = meta::name(&volume.metadata);
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    match reference.and_then(|reference| reference.uid.as_deref()) {
        None => Err(format!(
            "found PV object {name:?} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        )),
        Some(uid) if uid != meta::uid(&claim.metadata) => Err(format!(
            "found PV object {name:?} but its pv.Spec.ClaimRef.UID {uid:?} does not point to claim.UID {:?}",
            meta::uid(&claim.metadata)
        )),
        Some(_) => Ok(()),
    }
}

/// A volume of files is mounted, a block device is given as such: containers must want it as what it is.
fn check_mode(found: &PersistentVolume, pod: &Pod, name: &str) -> Result<(), String> {
    let containers = Containers::of(pod);
    let mut specs = containers.entries.iter().map(|entry| &entry.spec);
    let (mode, field, wrong) = if rules::is_device(found) {
        let wrong = specs.any(|spec| spec.volume_mounts.iter().flatten().any(|mount| mount.name == name));
        ("Block", "volumeMounts", wrong)
    } else {
        let wrong = specs.any(|spec| spec.volume_devices.iter().flatten().any(|device| device.name == name));
        ("Filesystem", "volumeDevices", wrong)
    };
    if wrong { Err(format!("volume {name} has volumeMode {mode}, but is specified in {field}")) } else { Ok(()) }
}

/// Pure: why no volume of any kind could be used here.
fn check_place(volume: &PersistentVolume, here: Here<'_>) -> Result<(), String> {
    let spec = volume.spec.clone().unwrap_or_default();
    let affinity = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    if !affinity.is_none_or(|selector| node_selector_matches(selector, here.name, here.labels)) {
        return Err("NodeAffinity check failed: no matching NodeSelectorTerms".to_owned());
    }
    if rules::is_device(volume) && spec.csi.is_none() && spec.local.is_none() {
        let kind = source_kind(volume);
        return Err(format!("{kind} volumes cannot be block devices (volumeMode: Block)"));
    }
    Ok(())
}

/// Pure: where the volume is, if it is of this node's own file systems.
fn place(volume: &PersistentVolume) -> Result<Place, String> {
    let spec = volume.spec.clone().unwrap_or_default();
    if spec.mount_options.as_ref().is_some_and(|options| !options.is_empty()) {
        return Err("mountOptions are not supported: this node uses directories that are there already".to_owned());
    }
    if let Some(source) = spec.local {
        if source.fs_type.is_some_and(|kind| !kind.is_empty()) {
            return Err("local.fsType is not supported: the path must be a directory".to_owned());
        }
        let is_device = rules::is_device(volume);
        let kind = if is_device { DEVICE } else { "Directory" };
        return Ok(Place { path: source.path.into(), kind: kind.to_owned(), owned: !is_device });
    }
    if let Some(source) = spec.host_path {
        return Ok(Place { path: source.path.into(), kind: source.type_.unwrap_or_default(), owned: false });
    }
    let kind = source_kind(volume);
    Err(format!("{kind} volumes are not supported by this node"))
}

/// The field of the spec that says what the volume is made of.
fn source_kind(volume: &PersistentVolume) -> String {
    let value = k8s_openapi::serde_json::to_value(&volume.spec).unwrap_or_default();
    let mut keys = value.as_object().into_iter().flat_map(|spec| spec.keys());
    keys.find(|key| rules::is_source(key)).cloned().unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn a_volume_is_used_where_it_is_and_as_what_it_is() {
        let on = |node: &str| {
            json!({"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}})
        };
        let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), "n1".to_owned())]);
        for (spec, expected) in [
            (json!({"local": {"path": "/v"}, "nodeAffinity": on("n1")}), "/v Directory true"),
            (
                json!({"local": {"path": "/v"}, "nodeAffinity": on("n2")}),
                "NodeAffinity check failed: no matching NodeSelectorTerms",
            ),
            (json!({"hostPath": {"path": "/h", "type": "DirectoryOrCreate"}}), "/h DirectoryOrCreate false"),
            (
                json!({"local": {"path": "/v", "fsType": "ext4"}}),
                "local.fsType is not supported: the path must be a directory",
            ),
            (json!({"local": {"path": "/dev/v"}, "volumeMode": "Block"}), "/dev/v BlockDevice false"),
            (
                json!({"hostPath": {"path": "/v"}, "volumeMode": "Block"}),
                "hostPath volumes cannot be block devices (volumeMode: Block)",
            ),
            (
                json!({"local": {"path": "/v"}, "mountOptions": ["noatime"]}),
                "mountOptions are not supported: this node uses directories that are there already",
            ),
            (
                json!({"fc": {"targetWWNs": ["50060e801049cfd1"], "lun": 0}}),
                "fc volumes are not supported by this node",
            ),
        ] as [(Value, &str); 8]
        {
            let volume: PersistentVolume = from_value(json!({"metadata": {"name": "v"}, "spec": spec})).unwrap();
            let here = Here { name: "n1", labels: &labels };
            let said = match check_place(&volume, here).and_then(|()| place(&volume)) {
                Ok(place) => format!("{} {} {}", place.path.display(), place.kind, place.owned),
                Err(why) => why,
            };
            assert_eq!(said, expected, "{spec}");
        }
    }

    #[test]
    fn a_volume_is_wanted_as_what_it_is() {
        let mount = json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]});
        let device = json!({"volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]});
        for (mode, wish, expected) in [
            (json!(null), &mount, Ok(())),
            (json!("Filesystem"), &mount, Ok(())),
            (json!("Block"), &device, Ok(())),
            (json!("Block"), &mount, Err("volume v has volumeMode Block, but is specified in volumeMounts")),
            (json!(null), &device, Err("volume v has volumeMode Filesystem, but is specified in volumeDevices")),
        ] {
            let mut container = wish.clone();
            container["name"] = json!("a");
            let spec = json!({"containers": [container], "volumes": [{"name": "v"}]});
            let pod: Pod = from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            let volume = json!({"metadata": {"name": "pv"}, "spec": {"volumeMode": mode}});
            let volume: PersistentVolume = from_value(volume).unwrap();
            assert_eq!(check_mode(&volume, &pod, "v"), expected.map_err(str::to_owned), "{mode} {wish}");
            assert_eq!(check_mode(&volume, &pod, "other"), Ok(()));
        }
    }

    #[test]
    fn a_claim_is_followed_once_it_is_bound() {
        let pod: Pod = from_value(json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}})).unwrap();
        let claim = |change: Value| {
            let mut object = json!({
                "metadata": {"name": "p-v", "namespace": "d", "uid": "c", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
                "spec": {"volumeName": "v"}, "status": {"phase": "Bound"},
            });
            for (pointer, value) in change.as_object().unwrap() {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                object.pointer_mut(parent).unwrap()[key] = value.clone();
            }
            from_value::<PersistentVolumeClaim>(object).unwrap()
        };
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]);
        for (change, is_own, expected) in [
            (json!({}), false, Ok(())),
            (json!({"/status/phase": "Pending"}), false, Err("PVC is not bound")),
            (json!({"/metadata/deletionTimestamp": "2026-01-01T00:00:00Z"}), false, Err("PVC is being deleted")),
            (json!({}), true, Err("PVC d/p-v was not created for pod d/p (pod is not owner)")),
            (json!({"/metadata/ownerReferences": owner}), true, Ok(())),
        ] {
            let said = check_claim(&claim(change.clone()), &pod, is_own);
            assert_eq!(said, expected.map_err(str::to_owned), "{change}");
        }
    }
}
