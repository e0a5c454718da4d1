use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use knarr_api::quota::{
    amounts::{self, Amounts},
    concerns, in_scope, unspecified, usage,
};
use knarr_api::registry::Resource;
use knarr_api::status::ApiError;
use serde_json::Value;
use tokio::time::Instant;

use super::{denied, is_of};
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation, Stage};
use crate::json::{items, name, text};

/// How long a write that was let through counts although it is not in the watch cache.
const PENDING: Duration = Duration::from_secs(10);

/// A write that was let through a moment ago.
struct Pending {
    name: String,
    /// Which object it is: another may have had the name before, and be on its way out.
    uid: String,
    /// What it was made from; 0 for a creation. Whatever is stored of the object after that is this write, or one that
    /// made it fail.
    after: u64,
    object: Arc<Value>,
    until: Instant,
}

fn uid(object: &Value) -> &str {
    text(&object["metadata"]["uid"])
}

fn revision(object: &Value) -> u64 {
    text(&object["metadata"]["resourceVersion"]).parse().unwrap_or(0)
}

/// Refuses what a namespace's quota has no room for. What is used is counted from the objects themselves, so
/// it is right after every deletion; the quota's status, which a controller writes, is for people to read.
pub struct ResourceQuota {
    lookup: Arc<dyn Lookup>,
    /// By namespace and qualified resource.
    pending: Mutex<HashMap<(String, String), Vec<Pending>>>,
}

impl ResourceQuota {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup, pending: Mutex::default() }
    }

    /// The quotas that speak of an object, with those of their limits that do.
    fn quotas(&self, request: &AdmissionRequest<'_>) -> Vec<(Value, Amounts)> {
        let quotas = self.lookup.list(builtin::resource_quotas(), request.namespace);
        let quotas = quotas.iter().map(|stored| stored.value());
        let quotas = quotas.filter(|quota| in_scope(quota, request.resource, &request.object));
        let limits = quotas.map(|quota| {
            let hard = amounts::read(&quota["spec"]["hard"]);
            let hard = hard.into_iter().filter(|(name, _)| concerns(request.resource, name)).collect();
            (quota, hard)
        });
        limits.filter(|(_, hard): &(Value, Amounts)| !hard.is_empty()).collect()
    }

    /// What all objects of a resource use within a quota, the one that is asked about left out.
    fn used(
        &self,
        resource: &'static Resource,
        namespace: &str,
        quota: &Value,
        but: &str,
        pending: &[Pending],
    ) -> Amounts {
        // Of one object there may be what is stored and what is on its way: the larger of each amount counts, since
        // nobody knows yet which of them stays.
        let mut underway: BTreeMap<&str, Amounts> = BTreeMap::new();
        let own = |object: &Value| in_scope(quota, resource, object).then(|| usage(resource, object));
        for pending in pending.iter().filter(|pending| pending.name != but) {
            if let Some(amounts) = own(&pending.object) {
                amounts::raise(underway.entry(&pending.name).or_default(), &amounts);
            }
        }
        let mut used = Amounts::new();
        for stored in self.lookup.list(resource, namespace) {
            if stored.name() == but {
                continue;
            }
            let mut amounts = own(&stored.value()).unwrap_or_default();
            if let Some(next) = underway.remove(stored.name()) {
                amounts::raise(&mut amounts, &next);
            }
            amounts::add(&mut used, &amounts);
        }
        underway.values().for_each(|amounts| amounts::add(&mut used, amounts));
        used
    }

    /// What goes away at once is not waited for; what has finalizers stays for a while, and counts.
    fn forget(&self, request: &AdmissionRequest<'_>) {
        let Some(old) = request.old.filter(|old| items(&old["metadata"]["finalizers"]).is_empty()) else { return };
        let key = (request.namespace.to_owned(), request.resource.qualified_name());
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pending) = all.get_mut(&key) {
            pending.retain(|pending| pending.uid != uid(old) || pending.after > 0);
            if pending.is_empty() {
                all.remove(&key);
            }
        }
    }

    fn check(&self, request: &AdmissionRequest<'_>, quotas: &[(Value, Amounts)]) -> Result<(), ApiError> {
        let (resource, namespace) = (request.resource, request.namespace);
        let wanted = usage(resource, &request.object);
        let before = request.old.map(|old| usage(resource, old)).unwrap_or_default();

        // One at a time in a namespace: two requests must not both take the last place.
        let mut all = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = all.entry((namespace.to_owned(), resource.qualified_name())).or_default();
        let now = Instant::now();
        let own = request.name;
        let is_settled = |pending: &Pending| match self.lookup.get(resource, namespace, &pending.name) {
            Some(stored) if pending.after > 0 => stored.resource_version > pending.after,
            Some(stored) => uid(&stored.value()) == pending.uid,
            // What was changed and is not there any more is gone; what is made may be yet to come.
            None => pending.after > 0,
        };
        pending.retain(|p| p.until > now && !is_settled(p));

        for (quota, hard) in quotas {
            // What does not grow is let through even where the quota was lowered below it.
            let grows =
                |name: &String| wanted.get(name).is_some_and(|new| before.get(name).is_none_or(|old| new > old));
            let limits: Vec<_> = hard.iter().filter(|(name, _)| grows(name)).collect();
            if limits.is_empty() {
                continue;
            }
            let used = self.used(resource, namespace, quota, own, pending);
            let over = |name: &String| {
                let used = used.get(name).map_or(wanted[name], |used| *used + wanted[name]);
                used > hard[name]
            };
            let over: Vec<&String> = limits.into_iter().map(|(name, _)| name).filter(|name| over(name)).collect();
            if !over.is_empty() {
                return Err(denied(request, exceeded(quota, &over, &wanted, &used, hard)));
            }
        }
        if !request.dry_run {
            let object = Arc::new(request.object.clone());
            let after = request.old.map_or(0, revision);
            // One that is tried again takes its own place.
            pending.retain(|p| p.name != own || p.after != after || p.object != object);
            let uid = uid(&object).to_owned();
            pending.push(Pending { name: own.to_owned(), uid, after, object, until: now + PENDING });
        }
        Ok(())
    }
}

fn exceeded(quota: &Value, over: &[&String], wanted: &Amounts, used: &Amounts, hard: &Amounts) -> String {
    let list = |amounts: &Amounts| {
        let zero = knarr_api::quantity::Quantity::ZERO;
        let parts = over.iter().map(|name| format!("{name}={}", amounts.get(*name).unwrap_or(&zero)));
        parts.collect::<Vec<_>>().join(",")
    };
    format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        name(quota),
        list(wanted),
        list(used),
        list(hard)
    )
}

#[async_trait]
impl Admission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn stage(&self) -> Stage {
        Stage::Last
    }

    fn counts(&self, _resource: &'static Resource, namespace: &str) -> bool {
        !self.lookup.list(builtin::resource_quotas(), namespace).is_empty()
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        // A pod that is resized in place asks for more like any other.
        let is_counted =
            request.subresource.is_empty() || is_of(request, "", "pods") && request.subresource == "resize";
        if !is_counted || request.namespace.is_empty() {
            return Ok(());
        }
        match request.operation {
            Operation::Create | Operation::Update => {}
            Operation::Delete => {
                self.forget(request);
                return Ok(());
            }
            Operation::Connect => return Ok(()),
        }
        let quotas = self.quotas(request);
        if quotas.is_empty() {
            return Ok(());
        }
        if request.operation == Operation::Create {
            for (quota, hard) in &quotas {
                let silent = unspecified(hard, request.resource, &request.object);
                if !silent.is_empty() {
                    let why = format!("failed quota: {}: must specify {}", name(quota), silent.join("; "));
                    return Err(denied(request, why));
                }
            }
        }
        self.check(request, &quotas)
    }
}
