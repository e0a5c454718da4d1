//! How large each ReplicaSet may be.

use std::cmp::Ordering;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use knarr_client::meta;

use super::plan::is_recreate;
use crate::common::intstr::{Round, resolve};

/// What `spec.replicas` was when the set was last sized.
pub const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// That plus the surge.
pub const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";

pub fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

pub fn oldest_first(a: &ReplicaSet, b: &ReplicaSet) -> Ordering {
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    created(a).cmp(&created(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

pub struct Limits {
    pub max_surge: i32,
    pub max_unavailable: i32,
}

impl Limits {
    pub fn of(deployment: &Deployment) -> Self {
        let wanted = wanted(deployment);
        let rolling = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
        if is_recreate(deployment) || wanted == 0 {
            let max_surge = match rolling {
                Some(rolling) if !is_recreate(deployment) => {
                    rolling.max_surge.as_ref().map_or(0, |surge| resolve(surge, wanted, Round::Up))
                }
                _ => 0,
            };
            return Self { max_surge, max_unavailable: 0 };
        }
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let max_surge = surge.map_or(0, |surge| resolve(surge, wanted, Round::Up));
        let mut max_unavailable = unavailable.map_or(0, |unavailable| resolve(unavailable, wanted, Round::Down));
        if max_surge == 0 && max_unavailable == 0 {
            // Percentages of a small number may both round to nothing, and then nothing could move.
            max_unavailable = 1;
        }
        Self { max_surge, max_unavailable: max_unavailable.min(wanted) }
    }
}

/// The new set's next size, given how many replicas all sets have and it has.
pub fn new_size(deployment: &Deployment, all: i32, new: i32) -> i32 {
    let wanted = wanted(deployment);
    if is_recreate(deployment) {
        return wanted;
    }
    let room = wanted + Limits::of(deployment).max_surge - all;
    if room <= 0 { new } else { new + room.min(wanted - new) }
}

/// Sets size and the annotations that go with it; false where all was so already.
pub fn resize(deployment: &Deployment, set: &mut ReplicaSet, size: i32) -> bool {
    let wanted = wanted(deployment);
    let maximum = wanted + Limits::of(deployment).max_surge;
    let mut changed = replicas(set) != size;
    if let Some(spec) = &mut set.spec {
        spec.replicas = Some(size);
    }
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in [(DESIRED, wanted.to_string()), (MAXIMUM, maximum.to_string())] {
        changed |= annotations.insert(key.to_owned(), value.clone()) != Some(value);
    }
    changed
}

/// New sizes after `spec.replicas` changed, as (is the new set, index into `old`, size).
pub fn proportional(deployment: &Deployment, new: Option<&ReplicaSet>, old: &[ReplicaSet]) -> Vec<(bool, usize, i32)> {
    let wanted = wanted(deployment);
    let sets = || {
        let old = old.iter().enumerate().map(|(index, set)| (false, index, set));
        old.chain(new.map(|set| (true, 0, set)))
    };
    let mut active: Vec<_> = sets().filter(|(_, _, set)| replicas(set) > 0).collect();
    if active.len() <= 1 {
        // One that is active, else the new one, else the newest.
        let chosen = active.first().copied().or_else(|| new.map(|set| (true, 0, set))).or_else(|| sets().last());
        return chosen.map(|(is_new, index, _)| (is_new, index, wanted)).into_iter().collect();
    }
    if new.is_some_and(|new| is_saturated(deployment, new)) {
        return active.iter().filter(|(is_new, ..)| !is_new).map(|(_, index, _)| (false, *index, 0)).collect();
    }
    if is_recreate(deployment) {
        return Vec::new();
    }
    let all: i32 = active.iter().map(|(_, _, set)| replicas(set)).sum();
    let allowed = if wanted > 0 { wanted + Limits::of(deployment).max_surge } else { 0 };
    let to_add = allowed - all;
    // The largest first; of equals, the newer when growing and the older when shrinking.
    active.sort_by(|(_, _, a), (_, _, b)| {
        let age = if to_add > 0 { oldest_first(b, a) } else { oldest_first(a, b) };
        replicas(b).cmp(&replicas(a)).then(age)
    });
    let mut added = 0;
    let mut sizes: Vec<_> = Vec::with_capacity(active.len());
    for (is_new, index, set) in active {
        let share = share(deployment, set, to_add, added);
        added += share;
        sizes.push((is_new, index, replicas(set) + share));
    }
    if let Some((_, _, size)) = sizes.first_mut() {
        // What rounding left over.
        *size = (*size + to_add - added).max(0);
    }
    sizes
}

/// The new set has all pods and all are available: whatever else runs can go.
fn is_saturated(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let desired = meta::annotation(&set.metadata, DESIRED).and_then(|desired| desired.parse::<i32>().ok());
    let wanted = wanted(deployment);
    replicas(set) == wanted && desired == Some(wanted) && available(set) == wanted
}

fn share(deployment: &Deployment, set: &ReplicaSet, to_add: i32, added: i32) -> i32 {
    let left = to_add - added;
    if left == 0 {
        return 0;
    }
    let fraction = fraction(deployment, set);
    if to_add > 0 { fraction.min(left) } else { fraction.max(left) }
}

/// By how much the set would change if all kept their share of the whole.
fn fraction(deployment: &Deployment, set: &ReplicaSet) -> i32 {
    let (size, wanted) = (replicas(set), wanted(deployment));
    if wanted == 0 {
        return -size;
    }
    let maximum = wanted + Limits::of(deployment).max_surge;
    let before = meta::annotation(&set.metadata, MAXIMUM).and_then(|maximum| maximum.parse::<i32>().ok());
    let before = before.or_else(|| deployment.status.as_ref()?.replicas).filter(|before| *before > 0);
    let Some(before) = before else { return 0 };
    (f64::from(size) * f64::from(maximum) / f64::from(before)).round() as i32 - size
}
