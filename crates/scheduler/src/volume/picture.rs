use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass},
};
use knarr_api::volume;
use knarr_client::{Change, ObjectKey, meta};

use super::Plan;

/// Claims, volumes and classes as the watches show them, and what was decided about them meanwhile.
#[derive(Default)]
pub struct Picture {
    claims: HashMap<ObjectKey, Arc<PersistentVolumeClaim>>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    /// The names of volumes that a claim may yet get.
    open: BTreeSet<String>,
    classes: HashMap<String, Arc<StorageClass>>,
    /// By node and driver: how many volumes the node can take.
    limits: HashMap<String, BTreeMap<String, i32>>,
    /// The drivers that say how much they can still make.
    telling: BTreeSet<String>,
    capacities: BTreeMap<ObjectKey, Arc<CSIStorageCapacity>>,
    /// By volume: the claim that gets it, until the volume says so itself.
    reserved: HashMap<String, ObjectKey>,
    /// By claim: the node that its volume is made for, until the claim says so itself.
    selected: HashMap<ObjectKey, String>,
}

impl Picture {
    pub fn claim(&self, key: &ObjectKey) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(key)
    }

    pub fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.get(name)
    }

    pub fn class(&self, name: &str) -> Option<&StorageClass> {
        self.classes.get(name).map(Arc::as_ref)
    }

    pub fn limits(&self, node: &str) -> Option<&BTreeMap<String, i32>> {
        self.limits.get(node)
    }

    pub fn says_capacity(&self, driver: &str) -> bool {
        self.telling.contains(driver)
    }

    pub fn capacities(&self) -> impl Iterator<Item = &CSIStorageCapacity> {
        self.capacities.values().map(Arc::as_ref)
    }

    pub fn selected(&self, claim: &ObjectKey) -> Option<&str> {
        self.selected.get(claim).map(String::as_str)
    }

    /// The volumes that a claim may get: those of nobody, and those that are kept for it.
    pub fn free_for<'a>(&'a self, claim: &'a ObjectKey) -> impl Iterator<Item = &'a Arc<PersistentVolume>> {
        let names = self.open.iter().filter(move |name| self.reserved.get(*name).is_none_or(|other| other == claim));
        names.filter_map(|name| self.volumes.get(name))
    }

    pub fn reserve(&mut self, plan: &Plan, node: &str) {
        for (volume, claim) in &plan.bindings {
            self.reserved.insert(meta::name(&volume.metadata).to_owned(), ObjectKey::of(&**claim));
        }
        for claim in &plan.provisions {
            self.selected.insert(ObjectKey::of(&**claim), node.to_owned());
        }
    }

    /// What was decided did not come about.
    pub fn release(&mut self, plan: &Plan) {
        for (volume, _) in &plan.bindings {
            self.reserved.remove(meta::name(&volume.metadata));
        }
        for claim in &plan.provisions {
            self.selected.remove(&ObjectKey::of(&**claim));
        }
    }

    pub fn claim_changed(&mut self, change: &Change<PersistentVolumeClaim>) {
        let key = ObjectKey::of(&**change.latest());
        match &change.new {
            Some(claim) => {
                if volume::selected_node(claim).is_some() || volume::is_bound(claim) {
                    self.selected.remove(&key);
                }
                self.claims.insert(key, claim.clone());
            }
            None => {
                self.selected.remove(&key);
                self.claims.remove(&key);
            }
        }
    }

    pub fn volume_changed(&mut self, change: &Change<PersistentVolume>) {
        let name = meta::name(&change.latest().metadata).to_owned();
        let Some(volume) = &change.new else {
            self.open.remove(&name);
            self.reserved.remove(&name);
            self.volumes.remove(&name);
            return;
        };
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        match phase {
            Some("Bound" | "Released" | "Failed") => self.open.remove(&name),
            _ => self.open.insert(name.clone()),
        };
        if volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some()) {
            self.reserved.remove(&name);
        }
        self.volumes.insert(name, volume.clone());
    }

    pub fn class_changed(&mut self, change: &Change<StorageClass>) {
        let name = meta::name(&change.latest().metadata).to_owned();
        match &change.new {
            Some(class) => drop(self.classes.insert(name, class.clone())),
            None => drop(self.classes.remove(&name)),
        }
    }

    pub fn csi_node_changed(&mut self, change: &Change<CSINode>) {
        let name = meta::name(&change.latest().metadata).to_owned();
        let drivers = change.new.iter().flat_map(|node| &node.spec.drivers);
        let limits = drivers.filter_map(|driver| Some((driver.name.clone(), driver.allocatable.as_ref()?.count?)));
        let limits: BTreeMap<String, i32> = limits.collect();
        match limits.is_empty() {
            true => drop(self.limits.remove(&name)),
            false => drop(self.limits.insert(name, limits)),
        }
    }

    pub fn driver_changed(&mut self, change: &Change<CSIDriver>) {
        let name = meta::name(&change.latest().metadata).to_owned();
        match change.new.as_ref().is_some_and(|driver| driver.spec.storage_capacity == Some(true)) {
            true => self.telling.insert(name),
            false => self.telling.remove(&name),
        };
    }

    pub fn capacity_changed(&mut self, change: &Change<CSIStorageCapacity>) {
        let key = ObjectKey::of(&**change.latest());
        match &change.new {
            Some(capacity) => drop(self.capacities.insert(key, capacity.clone())),
            None => drop(self.capacities.remove(&key)),
        }
    }
}
