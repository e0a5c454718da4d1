//! Watches over nodes: one that falls silent is marked Unknown, its state is put on it as taints, and pods that do
//! not tolerate those are moved away.
//! (<https://kubernetes.io/docs/concepts/architecture/nodes/#node-status>)

mod pace;
mod plan;
#[cfg(test)]
mod tests;
mod zones;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use knarr_client::{
    Informer, ObjectKey, Outcome, WorkQueue, call, errors,
    informer::{NODE_INDEX, Scope},
    lean::Pod,
    meta, worker,
};
use kube::api::DeleteParams;
use tokio::time::Instant;

use crate::{
    Context, Error,
    common::{pods, some_or_null},
};
use pace::Pace;
use plan::Silence;

pub const NAME: &str = "node-controller";
const WORKERS: usize = 4;
/// A new node has at least so long to say something for the first time.
const STARTUP_GRACE: Duration = Duration::from_secs(60);
const LATE: Duration = Duration::from_secs(2);
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// What a cluster is told about its nodes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A node whose Lease and status stand still for so long is not reachable.
    pub grace: Duration,
    /// The node in the server's own process, which says nothing about the network to the others.
    pub local: Option<String>,
}

struct Controller {
    context: Context,
    grace: Duration,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    pods: Informer<Pod>,
    /// What was last heard of each node, and when by this process's own clock: clocks of nodes may differ.
    heard: Mutex<HashMap<String, (plan::Heartbeat, Instant)>>,
    /// Whose pods may be taken away.
    pace: Arc<Pace>,
}

pub async fn run(context: Context, settings: Settings) {
    let queue = WorkQueue::new(context.cancel.clone());
    let lease_scope = Scope { namespace: Some(LEASE_NAMESPACE.to_owned()), ..Scope::default() };
    let nodes: Informer<Node> = context.informers.of();
    let leases: Informer<Lease> = context.informers.with_params(lease_scope);
    let pods: Informer<Pod> = context.informers.of();
    pods.index_by_node();
    if !(nodes.synced().await && leases.synced().await && pods.synced().await) {
        return;
    }
    let pace = Arc::new(Pace::new(settings.local, &nodes.list()));
    nodes.feed_keys(&queue);
    let (all, told) = (nodes.clone(), pace.clone());
    nodes.feed(&queue, move |change| {
        let silent = if told.saw(change) { all.list() } else { Vec::new() };
        silent.into_iter().filter(|node| !plan::is_ready(node)).map(|node| ObjectKey::of(&*node))
    });
    leases.feed(&queue, |change| [ObjectKey::new("", meta::name(&change.latest().metadata))]);
    let tainted = nodes.clone();
    pods.feed(&queue, move |change| {
        let node = tainted.get("", pods::node_name(change.new.as_ref()?))?;
        plan::no_execute_taints(&node).next()?;
        Some(ObjectKey::of(&*node))
    });
    let grace = settings.grace;
    let controller =
        Arc::new(Controller { context, grace, nodes, leases, pods, heard: Mutex::default(), pace: pace.clone() });
    let work = worker::run(NAME, queue.clone(), WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    });
    tokio::select! {
        biased;
        () = work => {}
        () = pace.keep(&queue) => {}
    }
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(node) = self.nodes.get("", &key.name) else {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&key.name);
            return self.clear_lease(&key.name).await.map(|()| Outcome::Done);
        };
        let mut node = (*node).clone();
        let now = self.context.clock.now();
        let silence = self.listen(&node);
        let mut again = silence.left;
        if silence.is_over_grace()
            && let Some(status) = plan::status_of_silent(&node, now)
        {
            let was_ready = plan::is_ready(&node);
            node.status = Some(status);
            let written = call::replace_status(&self.context.client, &node).await;
            let Some(written) = errors::optional(written).map_err(Error::api("marking a silent node"))? else {
                return Ok(Outcome::Done);
            };
            node = written;
            if was_ready {
                let message = format!("Node {} status is now: NodeNotReady", key.name);
                self.context.recorder.normal(&node, "NodeNotReady", message);
            }
        }
        let taints = plan::taints(&node, self.pace.verdict(&key.name), now);
        let lease = plan::lease_duration(&node, self.grace);
        if taints.is_some() || lease.is_some() {
            let mut patch = serde_json::json!({"metadata": {"resourceVersion": node.metadata.resource_version}});
            if let Some(taints) = taints {
                patch["spec"] = serde_json::json!({"taints": some_or_null(taints)});
            }
            if let Some(lease) = lease {
                patch["metadata"]["annotations"] = serde_json::json!({meta::LEASE_DURATION: lease});
            }
            let patched = errors::optional(call::merge(&self.context.client, &node, patch).await);
            match patched.map_err(Error::api("tainting a node"))? {
                Some(patched) => node = patched,
                None => return Ok(Outcome::Done),
            }
        }
        let on_node = self.pods.by_index(NODE_INDEX, &key.name);
        if !plan::is_ready(&node) && plan::has_ready_condition(&node) {
            self.mark_pods_unready(&on_node).await?;
        }
        let evictions = plan::evictions(&node, &on_node, now);
        again = [again, evictions.next_after].into_iter().flatten().min();
        join_all(evictions.due.iter().map(|pod| self.evict(pod))).await.into_iter().collect::<Result<(), _>>()?;
        Ok(again.map_or(Outcome::Done, |after| Outcome::After(after + Duration::from_millis(100))))
    }

    /// The Lease of a node that is no more. Leases change too often for the garbage collector to watch them.
    async fn clear_lease(&self, name: &str) -> Result<(), Error> {
        let Some(lease) = self.leases.get(LEASE_NAMESPACE, name) else { return Ok(()) };
        // One without an owner is of a node that is just being registered.
        let is_owned = lease.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
        let node = call::get::<Node>(&self.context.client, "", name).await.map_err(Error::api("looking for a node"))?;
        if is_owned && node.is_none() {
            let deleted = call::delete(&self.context.client, &*lease, DeleteParams::default()).await;
            deleted.map_err(Error::api("removing the Lease of a node"))?;
        }
        Ok(())
    }

    fn listen(&self, node: &Node) -> Silence {
        let name = meta::name(&node.metadata);
        let lease = self.leases.get(LEASE_NAMESPACE, name);
        let heartbeat = plan::heartbeat(node, lease.as_deref());
        let grace = if heartbeat.is_never() { self.grace.max(STARTUP_GRACE) } else { self.grace };
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let entry = heard.entry(name.to_owned()).or_insert_with(|| (heartbeat.clone(), now));
        // Who looks much later than it meant to has been stopped itself, and heard nobody meanwhile.
        let was_away = plan::is_ready(node) && entry.1.elapsed() > grace + LATE;
        if entry.0 != heartbeat || was_away {
            *entry = (heartbeat, now);
        }
        let since = self.pace.healed().map_or(entry.1, |healed| healed.max(entry.1));
        Silence { left: grace.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) }
    }

    /// Nobody is there to say whether these pods still answer; Services must not send anybody to them.
    async fn mark_pods_unready(&self, on_node: &[Arc<Pod>]) -> Result<(), Error> {
        let ready = on_node.iter().filter(|pod| pods::is_ready(pod));
        let writes = ready.map(|pod| async move {
            let now = self.context.clock.now();
            let conditions = plan::conditions_unready(pod, now);
            let patch =
                serde_json::json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": conditions}});
            let patched =
                errors::optional(call::merge_subresource(&self.context.client, &**pod, "status", patch).await);
            if patched.map_err(Error::api("marking a pod of a silent node"))?.is_some() {
                self.context.recorder.warning(&**pod, "NodeNotReady", "Node is not ready");
            }
            Ok(())
        });
        join_all(writes).await.into_iter().collect()
    }

    async fn evict(&self, pod: &Arc<Pod>) -> Result<(), Error> {
        let key = ObjectKey::of(&**pod);
        let conditions = plan::conditions_disrupted(pod, self.context.clock.now());
        let patch = serde_json::json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": conditions}});
        let patched = call::merge_subresource(&self.context.client, &**pod, "status", patch).await;
        if errors::optional(patched).map_err(Error::api("marking a pod before its eviction"))?.is_none() {
            return Ok(());
        }
        self.context.recorder.normal(&**pod, "TaintManagerEviction", format!("Marking for deletion Pod {key}"));
        let deleted = call::delete(&self.context.client, &**pod, DeleteParams::default()).await;
        deleted.map(drop).map_err(Error::api("evicting a pod"))
    }
}
