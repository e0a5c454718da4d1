//! How many volumes of a driver a node can take, as the node's CSINode says.
//! (<https://kubernetes.io/docs/concepts/storage/storage-limits/>)

use std::collections::BTreeSet;

use knarr_api::volume;
use knarr_client::{ObjectKey, lean::Pod, meta};

use super::Picture;

/// Tells a volume of a driver from every other. One that is not made yet is its claim's.
pub(super) type Id<'a> = (&'a str, String);

/// The drivers' volumes behind a pod's claims.
pub(super) fn of_pod<'a>(pod: &Pod, picture: &'a Picture) -> impl Iterator<Item = Id<'a>> {
    let namespace = meta::namespace(&pod.metadata);
    pod.claims().filter_map(move |(name, _)| {
        let key = ObjectKey::new(namespace, &name);
        let claim = picture.claim(&key)?;
        let bound = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        match bound.and_then(|name| picture.volume(name)) {
            Some(volume) => {
                let source = volume.spec.as_ref()?.csi.as_ref()?;
                Some((source.driver.as_str(), source.volume_handle.clone()))
            }
            None => {
                let class = picture.class(volume::class_of_claim(claim))?;
                Some((class.provisioner.as_str(), format!("claim {key}")))
            }
        }
    })
}

/// Whether a node whose pods are these can take these volumes too.
pub(super) fn allow<'a>(
    node: &str,
    wanted: &BTreeSet<Id<'_>>,
    pods: impl Iterator<Item = &'a Pod>,
    picture: &Picture,
) -> bool {
    let limits = picture.limits(node);
    let counts = |driver: &str| limits.is_some_and(|limits| limits.contains_key(driver));
    if !wanted.iter().any(|(driver, _)| counts(driver)) {
        return true;
    }
    let mut all: BTreeSet<Id<'_>> =
        pods.flat_map(|pod| of_pod(pod, picture)).filter(|(driver, _)| counts(driver)).collect();
    let new: BTreeSet<&str> = wanted.iter().filter(|id| !all.contains(*id)).map(|(driver, _)| *driver).collect();
    all.extend(wanted.iter().filter(|(driver, _)| counts(driver)).cloned());
    // What is there already stays, even where it is too much.
    limits
        .into_iter()
        .flatten()
        .filter(|(driver, _)| new.contains(driver.as_str()))
        .all(|(driver, most)| all.iter().filter(|(of, _)| of == driver).count() <= usize::try_from(*most).unwrap_or(0))
}
