//! Whether a resize that is wished for can be had: at once, later, or never here.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::json;

use super::Allocation;
use crate::pod::{
    admit::{Admitted, Offer, capacity},
    containers::Containers,
    demand::Demand,
    qos::{QosClass, class, milli},
    worker::Worker,
};

/// Between two looks at whether there is room by now.
const DEFERRED_RETRY: SignedDuration = SignedDuration::from_secs(10);

/// Where a resize stands, as the pod's conditions say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resize {
    pub pending: Option<Pending>,
    pub in_progress: Option<InProgress>,
}

/// The node does not agree to it, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub reason: &'static str,
    pub message: String,
    pub generation: Option<i64>,
}

/// Agreed to and not yet in force, and why it could not be brought into force at the last attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InProgress {
    pub error: Option<String>,
    pub generation: Option<i64>,
}

/// Takes the pod's new amounts in, or says why not.
fn decide(admitted: &mut Admitted, wished: &Pod, offer: &Offer<'_>) -> Result<(), (&'static str, String)> {
    if crate::pod::is_static(wished) {
        return Err(("Infeasible", "In-place resize of static-pods is not supported".to_owned()));
    }
    let demand = Demand::of(wished);
    for resource in ["memory", "cpu"] {
        let (requested, capacity) = (demand.amount(resource), capacity(resource, offer).unwrap_or(0));
        if requested > capacity {
            let message =
                format!("Node didn't have enough capacity: {resource}, requested: {requested}, capacity: {capacity}");
            return Err(("Infeasible", message));
        }
    }
    admitted.resize(wished, offer).map_err(|verdict| ("Deferred", verdict.cause().to_owned()))
}

impl Worker {
    fn changes_own_processors(&self) -> bool {
        self.ctx.cpus.are_fixed()
            && class(&self.pod) == QosClass::Guaranteed
            && processors(&self.pod) != processors(&self.wished)
    }

    fn decide_with_room(&self, now: Timestamp) -> Result<(), (&'static str, String)> {
        self.ctx.with_offer(|offer| {
            let mut admitted = self.ctx.admitted();
            self.ctx.resizes.serve_before(&self.uid, &self.wished, now, &mut admitted, offer);
            let answer = decide(&mut admitted, &self.wished, offer);
            if answer.is_err() {
                // What it was promised still counts, and no room that it was given meanwhile.
                _ = admitted.admit(&self.pod, offer, true);
            }
            answer
        })
    }

    /// Agrees to what the spec wishes for, where there is room for it. Says when to ask again.
    pub(in crate::pod) async fn consider_resize(&mut self, now: Timestamp) -> Option<Timestamp> {
        // With the amounts that were promised it is the same pod, which is so for nearly all pods at nearly all times.
        if Arc::ptr_eq(&self.pod, &self.wished) {
            if self.resize.pending.take().is_some() {
                self.ctx.resizes.leave(&self.uid);
            }
            return None;
        }
        let wished = Allocation::of(&self.wished);
        if self.allocated.as_ref() == Some(&wished) {
            self.ctx.resizes.leave(&self.uid);
            self.resize.pending = None;
            return None;
        }
        let answer = match self.changes_own_processors() {
            true => {
                let why = "Resize is infeasible for Guaranteed Pods alongside CPU Manager policy \"static\"";
                Err(("Infeasible", why.to_owned()))
            }
            false => self.decide_with_room(now),
        };
        let generation = self.wished.metadata.generation;
        match answer {
            Ok(()) => {
                if let Err(error) = wished.save(self.volumes.dir()).await {
                    tracing::warn!(pod = self.uid, %error, "a resize cannot be written down; will retry");
                    // What it was promised still counts.
                    _ = self.ctx.with_offer(|offer| self.ctx.admitted().admit(&self.pod, offer, true));
                    return Some(now + DEFERRED_RETRY);
                }
                self.ctx.resizes.leave(&self.uid);
                // It may have become smaller.
                self.ctx.resizes.wake();
                self.allocated = Some(wished);
                self.adopt_allocation();
                self.resize = Resize { pending: None, in_progress: Some(InProgress { error: None, generation }) };
                // What failed before was another resize.
                self.resize_retry = None;
                self.ctx.normal(&self.pod, "ResizeStarted", told("Pod resize started", &self.pod, None));
                None
            }
            Err((reason, message)) => {
                let pending = Pending { reason, message, generation };
                if self.resize.pending.as_ref() != Some(&pending) {
                    let text = told(&format!("Pod resize {reason}"), &self.wished, Some(&pending.message));
                    self.ctx.warning(&self.pod, &format!("Resize{reason}"), text);
                }
                self.resize.pending = Some(pending);
                match reason {
                    "Deferred" => self.ctx.resizes.join(&self.uid, &self.wished, now, &self.handle.wake),
                    _ => self.ctx.resizes.leave(&self.uid),
                }
                (reason == "Deferred").then(|| now + DEFERRED_RETRY)
            }
        }
    }
}

/// What each container asks for of the processors.
fn processors(pod: &Pod) -> Vec<i64> {
    let containers = Containers::of(pod).entries.into_iter().map(|entry| entry.spec.resources);
    containers.map(|resources| milli(resources.and_then(|resources| resources.requests).as_ref(), "cpu")).collect()
}

/// An event about a resize names all amounts, as upstream's do.
pub(super) fn told(what: &str, pod: &Pod, error: Option<&str>) -> String {
    let spec = pod.spec.clone().unwrap_or_default();
    let list = |containers: &[Container]| {
        let one = |container: &Container| json!({"name": container.name, "resources": container.resources.clone().unwrap_or_default()});
        containers.iter().map(one).collect::<Vec<_>>()
    };
    let mut summary = serde_json::Map::new();
    if let Some(init) = spec.init_containers.filter(|init| !init.is_empty()) {
        summary.insert("initContainers".to_owned(), list(&init).into());
    }
    summary.insert("containers".to_owned(), list(&spec.containers).into());
    summary.insert("generation".to_owned(), pod.metadata.generation.unwrap_or_default().into());
    if let Some(error) = error {
        summary.insert("error".to_owned(), error.into());
    }
    format!("{what}: {}", serde_json::Value::Object(summary))
}
