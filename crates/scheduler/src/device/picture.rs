use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::api::resource::v1::{AllocationResult, Device, DeviceClass, ResourceClaim, ResourceSlice};
use knarr_api::device::selector::Subject;
use knarr_client::{Change, ObjectKey, meta};

use super::{Plan, Step};

/// One device of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    pub driver: String,
    pub pool: String,
    pub device: String,
}

/// The driver, and the pool's name.
pub type PoolId = (String, String);

/// Slices, classes and claims as the watches show them, and what was decided about claims and not seen yet.
#[derive(Default)]
pub struct Picture {
    slices: HashMap<String, Slice>,
    /// The names of each pool's slices.
    pools: BTreeMap<PoolId, BTreeSet<String>>,
    /// By node: the pools that have slices of its own, and how many.
    local: HashMap<String, BTreeMap<PoolId, usize>>,
    /// Those whose slices choose their nodes by other means.
    roaming: BTreeMap<PoolId, usize>,
    classes: HashMap<String, Arc<DeviceClass>>,
    claims: HashMap<ObjectKey, Claim>,
    in_use: HashMap<DeviceId, usize>,
}

pub struct Slice {
    pub object: Arc<ResourceSlice>,
    /// Each of its devices as expressions see it, or why it cannot be looked at.
    pub subjects: Vec<Result<Subject, String>>,
}

struct Claim {
    object: Arc<ResourceClaim>,
    decided: Option<Decided>,
    /// What of `in_use` is its.
    taken: Vec<DeviceId>,
}

/// What this scheduler gave a claim.
struct Decided {
    allocation: Arc<AllocationResult>,
    /// Since when the API server says so; before that, or while that is not known, whatever the watch shows is older.
    written: Option<u64>,
    /// A write to the claim of this version may have been heard although its answer was not; a later version tells.
    doubt: Option<u64>,
    /// Writes under way. While there is one, nothing that the watch shows is the last word.
    in_flight: usize,
}

impl Slice {
    pub fn devices(&self) -> impl Iterator<Item = (&Device, &Result<Subject, String>)> {
        self.object.spec.devices.iter().flatten().zip(&self.subjects)
    }
}

impl Claim {
    fn devices(&self) -> Vec<DeviceId> {
        let allocation = self.decided.as_ref().map(|decided| &*decided.allocation);
        let allocation = allocation.or(self.object.status.as_ref().and_then(|status| status.allocation.as_ref()));
        let results = allocation.and_then(|allocation| allocation.devices.as_ref());
        let results = results.into_iter().flat_map(|devices| devices.results.iter().flatten());
        // Who administers a device takes it from nobody.
        let taken = results.filter(|result| result.admin_access != Some(true));
        taken
            .map(|result| DeviceId {
                driver: result.driver.clone(),
                pool: result.pool.clone(),
                device: result.device.clone(),
            })
            .collect()
    }
}

impl Picture {
    pub fn claim(&self, key: &ObjectKey) -> Option<&Arc<ResourceClaim>> {
        self.claims.get(key).map(|claim| &claim.object)
    }

    /// What was decided for a claim, and is not seen on it yet.
    pub fn decided(&self, key: &ObjectKey) -> Option<&Arc<AllocationResult>> {
        self.claims.get(key)?.decided.as_ref().map(|decided| &decided.allocation)
    }

    pub fn class(&self, name: &str) -> Option<&Arc<DeviceClass>> {
        self.classes.get(name)
    }

    pub fn is_in_use(&self, device: &DeviceId) -> bool {
        self.in_use.contains_key(device)
    }

    /// The pools that may have devices for a node.
    pub fn pools_of(&self, node: &str) -> BTreeSet<&PoolId> {
        self.local.get(node).into_iter().flat_map(BTreeMap::keys).chain(self.roaming.keys()).collect()
    }

    pub fn slices_of(&self, pool: &PoolId) -> impl Iterator<Item = &Slice> {
        self.pools.get(pool).into_iter().flatten().filter_map(|name| self.slices.get(name))
    }

    /// Decides for good, so that the next pod finds the devices taken. Each step has to be followed by what became of
    /// it.
    pub fn reserve(&mut self, plan: &Plan) {
        for step in &plan.steps {
            let Some(allocation) = &step.allocation else { continue };
            // What was decided before, and may be written down, is what the plan says again.
            self.change(&step.key, |claim| {
                let allocation = allocation.clone();
                let new = || Decided { allocation, written: None, doubt: None, in_flight: 0 };
                claim.decided.get_or_insert_with(new).in_flight += 1;
            });
        }
    }

    /// Nobody knows what became of a write to the claim of this version.
    pub fn doubt(&mut self, step: &Step, version: u64) {
        self.ended(step, |decided| decided.doubt = decided.doubt.max(Some(version)));
    }

    /// The API server has it, as of this version.
    pub fn written(&mut self, step: &Step, version: u64) {
        self.ended(step, |decided| decided.written = decided.written.max(Some(version)));
    }

    /// The API server would not have it, or was not asked.
    pub fn release(&mut self, step: &Step) {
        self.ended(step, |_| {});
    }

    fn ended(&mut self, step: &Step, apply: impl FnOnce(&mut Decided)) {
        if step.allocation.is_none() {
            return;
        }
        self.change(&step.key, |claim| {
            if let Some(decided) = &mut claim.decided {
                decided.in_flight = decided.in_flight.saturating_sub(1);
                apply(decided);
            }
            claim.settle();
        });
    }

    /// None of the plan was written.
    pub fn release_all(&mut self, plan: &Plan) {
        plan.steps.iter().for_each(|step| self.release(step));
    }

    pub fn claim_changed(&mut self, change: &Change<ResourceClaim>) {
        let key = ObjectKey::of(&**change.latest());
        match &change.new {
            Some(object) => {
                let new = || Claim { object: object.clone(), decided: None, taken: Vec::new() };
                self.claims.entry(key.clone()).or_insert_with(new);
                self.change(&key, |claim| {
                    // Another of the same name has nothing of what was decided for the one before.
                    if claim.object.metadata.uid != object.metadata.uid {
                        claim.decided = None;
                    }
                    claim.object = object.clone();
                    claim.settle();
                });
            }
            None => {
                if let Some(claim) = self.claims.remove(&key) {
                    self.give_back(&claim.taken);
                }
            }
        }
    }

    pub fn class_changed(&mut self, change: &Change<DeviceClass>) {
        let name = meta::name(&change.latest().metadata).to_owned();
        match &change.new {
            Some(class) => drop(self.classes.insert(name, class.clone())),
            None => drop(self.classes.remove(&name)),
        }
    }

    pub fn slice_changed(&mut self, change: &Change<ResourceSlice>) {
        let name = meta::name(&change.latest().metadata);
        if let Some(gone) = self.slices.remove(name) {
            self.place(&gone.object, name, false);
        }
        if let Some(object) = &change.new {
            let devices = object.spec.devices.iter().flatten();
            let subjects = devices.map(|device| Subject::of(&object.spec.driver, device)).collect();
            self.place(object, name, true);
            self.slices.insert(name.to_owned(), Slice { object: object.clone(), subjects });
        }
    }

    fn place(&mut self, slice: &ResourceSlice, name: &str, is_there: bool) {
        let pool = (slice.spec.driver.clone(), slice.spec.pool.name.clone());
        let names = self.pools.entry(pool.clone()).or_default();
        if is_there {
            names.insert(name.to_owned());
        } else {
            names.remove(name);
        }
        if names.is_empty() {
            self.pools.remove(&pool);
        }
        let counts = match &slice.spec.node_name {
            Some(node) => self.local.entry(node.clone()).or_default(),
            None => &mut self.roaming,
        };
        let count = counts.entry(pool.clone()).or_default();
        *count = if is_there { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            counts.remove(&pool);
        }
        if let Some(node) = slice.spec.node_name.as_ref().filter(|node| self.local[*node].is_empty()) {
            self.local.remove(node);
        }
    }

    fn change(&mut self, key: &ObjectKey, apply: impl FnOnce(&mut Claim)) {
        let Some(claim) = self.claims.get_mut(key) else { return };
        apply(claim);
        let now = claim.devices();
        let before = std::mem::replace(&mut claim.taken, now.clone());
        for device in now {
            *self.in_use.entry(device).or_default() += 1;
        }
        self.give_back(&before);
    }

    fn give_back(&mut self, devices: &[DeviceId]) {
        for device in devices {
            if let Some(count) = self.in_use.get_mut(device) {
                *count -= 1;
                if *count == 0 {
                    self.in_use.remove(device);
                }
            }
        }
    }
}

impl Claim {
    /// Once the watch shows what became of all writes, what it shows counts instead of what was decided.
    fn settle(&mut self) {
        let version = meta::version(&self.object.metadata);
        let Some(decided) = &mut self.decided else { return };
        decided.doubt.take_if(|base| version > *base);
        let is_seen = decided.written.is_none_or(|written| version >= written);
        if decided.in_flight == 0 && decided.doubt.is_none() && is_seen {
            self.decided = None;
        }
    }
}
