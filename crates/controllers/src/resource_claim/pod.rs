//! Makes what a pod claims by templates, and writes down what that is called.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::{core::v1::PodResourceClaim, resource::v1::ResourceClaim};
use knarr_api::device::{
    ClaimName, MAX_USERS, POD_CLAIM, check_made_for, claim_name, is_allocated, is_reserved_for, user, users,
};
use knarr_client::{ObjectKey, Outcome, call, errors, lean::Pod, meta};
use serde_json::{Value, json};

use super::{Caches, plan};
use crate::{Context, Error, common::pods};

type Made = HashMap<ObjectKey, HashMap<String, String>>;

pub struct Maker {
    context: Context,
    caches: Arc<Caches>,
    /// By a pod and the name of its claim: what was made, and may not be in the caches yet. Goes with the pod.
    made: Mutex<Made>,
}

impl Maker {
    pub fn new(context: Context, caches: Arc<Caches>) -> Self {
        Self { context, caches, made: Mutex::default() }
    }

    pub async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.caches.pods.get(&key.namespace, &key.name) else {
            self.made().remove(&key);
            return Ok(Outcome::Done);
        };
        if pod.metadata.deletion_timestamp.is_some() || pods::is_terminal(&pod) {
            self.made().remove(&key);
            return Ok(Outcome::Done);
        }
        let mut new = Vec::new();
        let mut lacks_template = false;
        for wanted in pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten()) {
            match self.settle(&pod, wanted).await {
                Ok(Settled::Known) => {}
                Ok(Settled::New(name)) => new.push(json!({"name": wanted.name, "resourceClaimName": name})),
                // The pod is looked at again when the template comes.
                Ok(Settled::NoTemplate(template)) => {
                    lacks_template = true;
                    let why = format!(
                        "resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found"
                    );
                    self.complain(&pod, wanted, &why);
                }
                Err(source) if errors::is_namespace_terminating(&source) => return Ok(Outcome::Done),
                Err(source) => {
                    self.complain(&pod, wanted, &format!("create ResourceClaim: {}", errors::message(&source)));
                    return Err(Error::Api { what: "making the claim of a pod", source });
                }
            }
        }
        if !new.is_empty() {
            self.write(&pod, new).await?;
        }
        if !lacks_template && !pods::node_name(&pod).is_empty() {
            self.reserve(&pod).await?;
        }
        Ok(Outcome::Done)
    }

    async fn settle(&self, pod: &Pod, wanted: &PodResourceClaim) -> Result<Settled, kube::Error> {
        let namespace = meta::namespace(&pod.metadata);
        let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref());
        match claim_name(wanted, statuses.unwrap_or_default()) {
            ClaimName::Named(_) | ClaimName::NotNeeded => return Ok(Settled::Known),
            ClaimName::Made(name) => {
                let claim = self.caches.claims.get(namespace, name);
                if claim.is_some_and(|claim| check_made_for(&claim, &pod.metadata).is_ok()) {
                    return Ok(Settled::Known);
                }
            }
            ClaimName::NotYet => {}
        }
        let Some(template_name) = &wanted.resource_claim_template_name else { return Ok(Settled::Known) };
        if let Some(name) = self.find(pod, wanted).await? {
            return Ok(Settled::New(name));
        }
        let Some(template) = self.caches.templates.get(namespace, template_name) else {
            return Ok(Settled::NoTemplate(template_name.clone()));
        };
        let made = call::create(&self.context.client, &plan::make(pod, wanted, &template)).await?;
        let name = meta::name(&made.metadata).to_owned();
        self.made().entry(ObjectKey::of(pod)).or_default().insert(wanted.name.clone(), name.clone());
        Ok(Settled::New(name))
    }

    /// One that was made before, and that the pod's status may not have got to name.
    async fn find(&self, pod: &Pod, wanted: &PodResourceClaim) -> Result<Option<String>, kube::Error> {
        let namespace = meta::namespace(&pod.metadata);
        let is_it = |claim: &Arc<ResourceClaim>| {
            meta::annotation(&claim.metadata, POD_CLAIM) == Some(&wanted.name)
                && meta::is_controlled_by(&claim.metadata, meta::uid(&pod.metadata))
        };
        if let Some(claim) = self.caches.claims.in_namespace(namespace).iter().find(|claim| is_it(claim)) {
            return Ok(Some(meta::name(&claim.metadata).to_owned()));
        }
        let made = self.made().get(&ObjectKey::of(pod)).and_then(|made| made.get(&wanted.name)).cloned();
        let Some(name) = made else { return Ok(None) };
        // Either the cache lags, or it was deleted since.
        let there = call::get::<ResourceClaim>(&self.context.client, namespace, &name).await?;
        Ok(there.filter(|claim| check_made_for(claim, &pod.metadata).is_ok()).map(|_| name))
    }

    async fn write(&self, pod: &Pod, new: Vec<Value>) -> Result<(), Error> {
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"resourceClaimStatuses": new}});
        let written = call::strategic_status(&self.context.client, pod, patch).await;
        errors::optional(written).map(drop).map_err(Error::api("writing what a pod's claims are called"))
    }

    /// A pod that went past the scheduler may use what others use already.
    async fn reserve(&self, pod: &Pod) -> Result<(), Error> {
        for key in super::claims_of(pod) {
            let Some(claim) = self.caches.claims.get(&key.namespace, &key.name) else { continue };
            let uid = meta::uid(&pod.metadata);
            if !is_allocated(&claim) || is_reserved_for(&claim, uid) || users(&claim).len() >= MAX_USERS {
                continue;
            }
            let mut reserved = ResourceClaim::clone(&claim);
            reserved.status.get_or_insert_default().reserved_for.get_or_insert_default().push(user(&pod.metadata));
            let written = call::replace_status(&self.context.client, &reserved).await;
            written.map_err(Error::api("reserving a claim for a pod"))?;
        }
        Ok(())
    }

    fn complain(&self, pod: &Pod, wanted: &PodResourceClaim, why: &str) {
        let message = format!("PodResourceClaim {}: {why}", wanted.name);
        self.context.recorder.warning(pod, "FailedResourceClaimCreation", message);
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Settled {
    /// There is nothing to write down.
    Known,
    New(String),
    NoTemplate(String),
}
