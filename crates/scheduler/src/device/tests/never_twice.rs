//! No device is ever two claims' at once, whatever the watch has shown so far and whatever becomes of writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::resource::v1::ResourceClaim;
use knarr_client::{Change, ObjectKey};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};
use serde_json::json;

use super::{claim, cluster, one, pod, two_nodes};
use crate::{
    cluster::Cluster,
    decide::{Decision, decide},
    device::{Step, reserve},
    tests::Setting,
};

const CLAIMS: usize = 12;
const STEPS: usize = 400;

/// What the API server has, and what the scheduler has not been told yet.
struct World {
    cluster: Cluster,
    claims: BTreeMap<String, Arc<ResourceClaim>>,
    untold: Vec<Change<ResourceClaim>>,
    /// Decided, and not written.
    writes: Vec<Step>,
    /// Claims that a write was lost of which never arrived.
    doubted: BTreeSet<String>,
    version: u64,
}

impl World {
    fn change(&mut self, name: &str, apply: impl FnOnce(&mut ResourceClaim)) -> u64 {
        self.version += 1;
        let old = self.claims[name].clone();
        let mut new = ResourceClaim::clone(&old);
        apply(&mut new);
        new.metadata.resource_version = Some(self.version.to_string());
        let new = Arc::new(new);
        self.claims.insert(name.to_owned(), new.clone());
        self.untold.push(Change { old: Some(old), new: Some(new) });
        self.version
    }

    fn tell(&mut self) {
        if !self.untold.is_empty() {
            self.cluster.devices.claim_changed(&self.untold.remove(0));
        }
    }

    fn decide(&mut self, name: &str, random: &mut SmallRng) {
        if self.writes.iter().any(|step| step.key.name == name) {
            return;
        }
        let pod = pod(&format!("pod-{name}"), &[name]);
        if let Decision::Place(index) = decide(&pod, &self.cluster, &mut 0, random, &Setting::default()) {
            let plan = reserve(&pod, &mut self.cluster, index);
            self.writes.extend(plan.steps.into_iter().filter(|step| step.allocation.is_some()));
        }
    }

    /// The write arrives, is refused or is lost on its way, and its answer arrives or is lost.
    fn write(&mut self, random: &mut SmallRng) {
        if self.writes.is_empty() {
            return;
        }
        let step = self.writes.swap_remove(random.random_range(0..self.writes.len()));
        let name = step.key.name.clone();
        let there = self.claims[&name].status.as_ref().and_then(|status| status.allocation.clone());
        let allocation = step.allocation.as_deref().cloned();
        let is_refused = there.is_some() && there != allocation || random.random_bool(0.2);
        if is_refused {
            return self.cluster.devices.release(&step);
        }
        let before = knarr_client::meta::version(&self.claims[&name].metadata);
        if random.random_bool(0.1) {
            self.doubted.insert(name);
            return self.cluster.devices.doubt(&step, before);
        }
        let version = self.change(&name, |claim| claim.status.get_or_insert_default().allocation = allocation);
        match random.random_bool(0.7) {
            true => self.cluster.devices.written(&step, version),
            false => self.cluster.devices.doubt(&step, before),
        }
    }

    fn check(&self, seed: u64, step: usize) {
        let mut holders = BTreeMap::new();
        for (name, claim) in &self.claims {
            let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
            let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
            for result in devices.iter().flat_map(|devices| devices.results.iter().flatten()) {
                let before = holders.insert((result.pool.clone(), result.device.clone()), name);
                assert_eq!(before, None, "seed {seed}, step {step}: {result:?} is also {name}'s");
            }
        }
    }
}

#[test]
fn no_device_is_two_claims_at_once() {
    let mut given = 0;
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let names: Vec<String> = (0..CLAIMS).map(|i| format!("c{i}")).collect();
        let values: Vec<_> =
            names.iter().map(|name| claim(name, one(json!({"count": random.random_range(1..=2)})))).collect();
        let claims = values.iter().map(|value| Arc::new(serde_json::from_value(value.clone()).unwrap()));
        let mut world = World {
            cluster: cluster(&two_nodes(), &values),
            claims: names.iter().cloned().zip(claims).collect(),
            untold: Vec::new(),
            writes: Vec::new(),
            doubted: BTreeSet::new(),
            version: 1,
        };
        for step in 0..STEPS {
            let name = names.choose(&mut random).unwrap();
            match random.random_range(0..10) {
                0..4 => world.decide(name, &mut random),
                4..6 => world.write(&mut random),
                6..9 => world.tell(),
                // Its last user went.
                _ if knarr_api::device::is_allocated(&world.claims[name]) => {
                    given += 1;
                    world.change(name, |claim| claim.status.get_or_insert_default().allocation = None);
                }
                _ => {}
            }
            world.check(seed, step);
        }
        // In the calm afterwards everything is free again, or somebody's.
        while !world.untold.is_empty() {
            world.tell();
        }
        for name in &names {
            let is_free = !knarr_api::device::is_allocated(&world.claims[name]);
            let key = ObjectKey::new("ns", name);
            let waits = world.writes.iter().any(|step| step.key == key) || world.doubted.contains(name);
            assert!(!is_free || waits || world.cluster.devices.decided(&key).is_none(), "seed {seed}: {name} leaks");
        }
    }
    assert!(given > 500, "hardly anything was given: {given}");
}
