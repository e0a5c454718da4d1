//! Claims of devices on their node: drivers that registered prepare them before a pod's containers are made, and undo
//! that once the last pod that uses a claim has ended.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>)

mod drivers;
mod ledger;
#[cfg(test)]
mod tests;
pub mod wire;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::join_all;
use k8s_openapi::api::{
    core::v1::{Container, Pod},
    resource::v1::ResourceClaim,
};
use knarr_api::device::{ClaimName, check_made_for, claim_name, is_reserved_for};
use knarr_client::{call, errors, meta};
use knarr_grpc::client::Failure;
use tokio::sync::OwnedMutexGuard;

pub use drivers::Drivers;
use ledger::{Entry, Ledger};
use wire::Claim;

#[derive(Debug, thiserror::Error)]
pub enum ClaimsError {
    #[error("the claims of the pod are not known yet: ResourceClaim not created yet")]
    NotMade,
    #[error("failed to fetch ResourceClaim {name} referenced by pod {pod}: {why}")]
    Fetch { name: String, pod: String, why: String },
    #[error("{0}")]
    NotOwner(String),
    #[error("claim {0} is not allocated yet")]
    NotAllocated(String),
    #[error("pod {pod}({pod_uid}) is not allowed to use ResourceClaim {claim}({claim_uid})")]
    NotReserved { pod: String, pod_uid: String, claim: String, claim_uid: String },
    #[error("DRA driver {0} is not registered")]
    NoDriver(String),
    #[error("{call} failed for driver {driver}: {source_text}")]
    Call { call: &'static str, driver: String, source_text: String },
    #[error("{call} failed for ResourceClaim {claim}: {why}")]
    Refused { call: &'static str, claim: String, why: String },
    #[error("{call} skipped ResourceClaim {claim}")]
    Skipped { call: &'static str, claim: String },
    #[error("unable to get resource for namespace: {namespace}, claim: {claim}")]
    NotPrepared { namespace: String, claim: String },
    #[error("what is prepared cannot be noted")]
    Ledger(#[source] io::Error),
}

const PREPARE: &str = "NodePrepareResources";
const UNPREPARE: &str = "NodeUnprepareResources";

pub struct Claims {
    client: kube::Client,
    pub drivers: Arc<Drivers>,
    ledger: Mutex<Ledger>,
    /// By claim: whoever has it prepared or the contrary is alone in that. Drivers may take their time, and other claims
    /// must not wait for them.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Claims {
    pub fn open(client: kube::Client, checkpoint: PathBuf) -> io::Result<Self> {
        let ledger = Mutex::new(Ledger::open(checkpoint)?);
        Ok(Self { client, drivers: Arc::default(), ledger, turns: Mutex::default() })
    }

    /// Has all claims of a pod prepared; asks nobody where they are.
    pub async fn prepare(&self, pod: &Pod) -> Result<(), ClaimsError> {
        let names = names(pod)?;
        if names.is_empty() || self.is_prepared(pod, &names) {
            return Ok(());
        }
        let mut claims = Vec::new();
        for (name, is_own) in &names {
            claims.push(self.fetch(pod, name, *is_own).await?);
        }
        let uids: BTreeSet<&str> = claims.iter().map(|claim| meta::uid(&claim.metadata)).collect();
        let _turns = self.turns(&uids).await;
        let mut wanted: BTreeMap<String, Vec<Claim>> = BTreeMap::new();
        let noted = self.ledger().change(|entries| {
            for claim in &claims {
                let uid = meta::uid(&claim.metadata);
                let entry = entries.entry(uid.to_owned()).or_insert_with(|| Entry {
                    namespace: meta::namespace(&claim.metadata).to_owned(),
                    name: meta::name(&claim.metadata).to_owned(),
                    ..Entry::default()
                });
                entry.pods.insert(meta::uid(&pod.metadata).to_owned());
                for driver in drivers_of(claim) {
                    entry.drivers.entry(driver.to_owned()).or_default();
                }
                let open: Vec<_> = entry.drivers.iter().filter(|(_, devices)| devices.is_none()).collect();
                for (driver, _) in open {
                    wanted.entry(driver.clone()).or_default().push(entry.claim(uid));
                }
            }
        });
        noted.map_err(ClaimsError::Ledger)?;
        let asked = wanted.into_iter().map(|(driver, claims)| self.ask_to_prepare(driver, claims));
        join_all(asked).await.into_iter().collect()
    }

    async fn ask_to_prepare(&self, driver: String, claims: Vec<Claim>) -> Result<(), ClaimsError> {
        let answer = self.driver(&driver)?.prepare(claims.clone()).await;
        let mut answer = answer.map_err(|failure| failed(PREPARE, &driver, &failure))?;
        let mut outcome = Ok(());
        for claim in claims {
            let name = claim.name;
            let answered = match answer.remove(&claim.uid) {
                None => Err(ClaimsError::Skipped { call: PREPARE, claim: name }),
                Some(prepared) if !prepared.error.is_empty() => {
                    Err(ClaimsError::Refused { call: PREPARE, claim: name, why: prepared.error })
                }
                Some(prepared) => {
                    let noted = self.ledger().change(|entries| {
                        if let Some(entry) = entries.get_mut(&claim.uid) {
                            entry.drivers.insert(driver.clone(), Some(prepared.devices));
                        }
                    });
                    noted.map_err(ClaimsError::Ledger)
                }
            };
            outcome = outcome.and(answered);
        }
        outcome
    }

    /// The names of the devices that a container gets with its claims.
    pub fn devices(&self, pod: &Pod, container: &Container) -> Result<Vec<String>, ClaimsError> {
        let wanted = container.resources.as_ref().and_then(|resources| resources.claims.as_deref()).unwrap_or_default();
        let namespace = meta::namespace(&pod.metadata);
        let mut devices = Vec::new();
        for wish in wanted {
            let missing = |claim: &str| ClaimsError::NotPrepared { namespace: namespace.into(), claim: claim.into() };
            let mut of_pod = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
            let claim = of_pod.find(|claim| claim.name == wish.name).ok_or_else(|| missing(&wish.name))?;
            let name = match claim_name(claim, statuses(pod)) {
                ClaimName::Named(name) | ClaimName::Made(name) => name,
                ClaimName::NotNeeded => continue,
                ClaimName::NotYet => return Err(ClaimsError::NotMade),
            };
            let ledger = self.ledger();
            let entry = ledger.entries.values().find(|entry| is_for(entry, pod, name) && entry.is_prepared());
            let given = entry.ok_or_else(|| missing(name))?.devices(wish.request.as_deref());
            for device in given {
                if !devices.contains(device) {
                    devices.push(device.clone());
                }
            }
        }
        Ok(devices)
    }

    /// A pod has ended. What no other uses is given back to its drivers.
    pub async fn release(&self, pod_uid: &str) -> Result<(), ClaimsError> {
        let uses = |entry: &Entry| entry.pods.contains(pod_uid);
        let held: Vec<String> =
            self.ledger().entries.iter().filter(|(_, entry)| uses(entry)).map(|(uid, _)| uid.clone()).collect();
        if held.is_empty() {
            return Ok(());
        }
        let _turns = self.turns(&held.iter().map(String::as_str).collect()).await;
        let mut unused: BTreeMap<String, Vec<Claim>> = BTreeMap::new();
        let noted = self.ledger().change(|entries| {
            for uid in &held {
                let Some(entry) = entries.get_mut(uid) else { continue };
                // Its last user stays noted until all drivers are done with it.
                if entry.pods.len() > 1 {
                    entry.pods.remove(pod_uid);
                } else if uses(entry) {
                    let claim = entry.claim(uid);
                    // From here on it has to be prepared anew, whatever comes of this.
                    for (driver, devices) in &mut entry.drivers {
                        *devices = None;
                        unused.entry(driver.clone()).or_default().push(claim.clone());
                    }
                }
            }
        });
        noted.map_err(ClaimsError::Ledger)?;
        let asked = unused.into_iter().map(|(driver, claims)| self.ask_to_unprepare(driver, claims));
        let outcome: Result<(), ClaimsError> = join_all(asked).await.into_iter().collect();
        // Also those that have no driver.
        let noted =
            self.ledger().change(|entries| entries.retain(|_, entry| !(uses(entry) && entry.drivers.is_empty())));
        outcome.and(noted.map_err(ClaimsError::Ledger))
    }

    async fn ask_to_unprepare(&self, driver: String, claims: Vec<Claim>) -> Result<(), ClaimsError> {
        let answer = self.driver(&driver)?.unprepare(claims.clone()).await;
        let mut answer = answer.map_err(|failure| failed(UNPREPARE, &driver, &failure))?;
        let mut outcome = Ok(());
        for claim in claims {
            let name = claim.name;
            let answered = match answer.remove(&claim.uid) {
                None => Err(ClaimsError::Skipped { call: UNPREPARE, claim: name }),
                Some(done) if !done.error.is_empty() => {
                    Err(ClaimsError::Refused { call: UNPREPARE, claim: name, why: done.error })
                }
                Some(_) => {
                    let noted = self.ledger().change(|entries| {
                        entries.get_mut(&claim.uid).map(|entry| entry.drivers.remove(&driver));
                    });
                    noted.map_err(ClaimsError::Ledger)
                }
            };
            outcome = outcome.and(answered);
        }
        outcome
    }

    /// Gives back what is held for pods that are not there any more.
    pub async fn keep_only(&self, is_there: impl Fn(&str) -> bool) {
        let pods: BTreeSet<String> = self
            .ledger()
            .entries
            .values()
            .flat_map(|entry| &entry.pods)
            .filter(|uid| !is_there(uid))
            .cloned()
            .collect();
        for uid in pods {
            if let Err(error) = self.release(&uid).await {
                tracing::warn!(pod = uid, %error, "the claims of a pod that is gone stay prepared; will retry");
            }
        }
    }

    fn is_prepared(&self, pod: &Pod, names: &[(String, bool)]) -> bool {
        let ledger = self.ledger();
        names.iter().all(|(name, _)| {
            let mut entries = ledger.entries.values();
            entries.any(|entry| is_for(entry, pod, name) && entry.is_prepared())
        })
    }

    async fn fetch(&self, pod: &Pod, name: &str, is_own: bool) -> Result<ResourceClaim, ClaimsError> {
        let (namespace, pod_name) = (meta::namespace(&pod.metadata), meta::name(&pod.metadata).to_owned());
        let fetched = call::get::<ResourceClaim>(&self.client, namespace, name).await;
        let failed = |why| ClaimsError::Fetch { name: name.to_owned(), pod: pod_name.clone(), why };
        let claim = fetched.map_err(|error| failed(errors::message(&error)))?;
        let claim = claim.ok_or_else(|| failed(format!("resourceclaims.resource.k8s.io {name:?} not found")))?;
        if is_own {
            check_made_for(&claim, &pod.metadata).map_err(ClaimsError::NotOwner)?;
        }
        if !knarr_api::device::is_allocated(&claim) {
            return Err(ClaimsError::NotAllocated(name.to_owned()));
        }
        let pod_uid = meta::uid(&pod.metadata).to_owned();
        if !is_reserved_for(&claim, &pod_uid) {
            let claim_uid = meta::uid(&claim.metadata).to_owned();
            return Err(ClaimsError::NotReserved { pod: pod_name, pod_uid, claim: name.to_owned(), claim_uid });
        }
        Ok(claim)
    }

    fn driver(&self, name: &str) -> Result<Arc<wire::Driver>, ClaimsError> {
        self.drivers.get(name).ok_or_else(|| ClaimsError::NoDriver(name.to_owned()))
    }

    /// In their order, so that no two wait for each other.
    async fn turns(&self, claims: &BTreeSet<&str>) -> Vec<OwnedMutexGuard<()>> {
        let locks: Vec<_> = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            claims.iter().map(|uid| turns.entry((*uid).to_owned()).or_default().clone()).collect()
        };
        let mut guards = Vec::new();
        for lock in locks {
            guards.push(lock.lock_owned().await);
        }
        guards
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(call: &'static str, driver: &str, failure: &Failure) -> ClaimsError {
    ClaimsError::Call { call, driver: driver.to_owned(), source_text: failure.to_string() }
}

fn is_for(entry: &Entry, pod: &Pod, name: &str) -> bool {
    entry.name == name
        && entry.namespace == meta::namespace(&pod.metadata)
        && entry.pods.contains(meta::uid(&pod.metadata))
}

fn statuses(pod: &Pod) -> &[k8s_openapi::api::core::v1::PodResourceClaimStatus] {
    let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref());
    statuses.unwrap_or_default()
}

/// The claims of a pod by name, and whether each has to be its own.
fn names(pod: &Pod) -> Result<Vec<(String, bool)>, ClaimsError> {
    let mut names = Vec::new();
    for claim in pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()) {
        let known = match claim_name(claim, statuses(pod)) {
            ClaimName::Named(name) => (name.to_owned(), false),
            ClaimName::Made(name) => (name.to_owned(), true),
            ClaimName::NotNeeded => continue,
            ClaimName::NotYet => return Err(ClaimsError::NotMade),
        };
        if !names.contains(&known) {
            names.push(known);
        }
    }
    Ok(names)
}

/// Those that have something of what the claim was given.
fn drivers_of(claim: &ResourceClaim) -> BTreeSet<&str> {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    let results = allocation.and_then(|allocation| allocation.devices.as_ref());
    results.into_iter().flat_map(|devices| devices.results.iter().flatten()).map(|one| one.driver.as_str()).collect()
}
