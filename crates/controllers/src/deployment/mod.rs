//! Rolls a Deployment from one ReplicaSet to the next.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>)

mod plan;
mod revision;
mod scale;
mod status;
#[cfg(test)]
mod tests;

use std::{ops::ControlFlow, sync::Arc};

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use knarr_client::{
    Informer, ObjectKey, Outcome, WorkQueue, call, errors, informer::CONTROLLER_INDEX, lean::Pod, meta, worker,
};
use kube::api::DeleteParams;

use crate::{
    Context, Error,
    common::{claim, pods, selector},
};
use plan::{Action, Observed};

pub const NAME: &str = "deployment-controller";
const WORKERS: usize = 5;

struct Controller {
    context: Context,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        deployments: context.informers.of(),
        replica_sets: context.informers.of(),
        pods: context.informers.of(),
        context,
    });
    controller.replica_sets.index_by_controller();
    controller.pods.index_by_controller();
    let Controller { deployments, replica_sets, pods, .. } = &*controller;
    if !(deployments.synced().await && replica_sets.synced().await && pods.synced().await) {
        return;
    }
    deployments.feed_keys(&queue);
    feed_by_replica_sets(&queue, deployments, replica_sets);
    feed_by_ended_pods(&queue, deployments, replica_sets, pods);
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

fn feed_by_replica_sets(
    queue: &WorkQueue<ObjectKey>,
    deployments: &Informer<Deployment>,
    replica_sets: &Informer<ReplicaSet>,
) {
    let deployments = deployments.clone();
    replica_sets.feed(queue, move |change| {
        let namespace = meta::namespace(&change.latest().metadata);
        let sides = [&change.old, &change.new].into_iter().flatten();
        let owners = sides.filter_map(|set| meta::controller_of(&set.metadata));
        let mut keys: Vec<_> = owners
            .filter(|owner| owner.kind == "Deployment")
            .map(|owner| ObjectKey::new(namespace, owner.name.clone()))
            .collect();
        if keys.is_empty() && !change.is_deletion() {
            // An orphan: whoever selects it may adopt it.
            let selects = |deployment: &Arc<Deployment>| {
                let wanted = deployment.spec.as_ref().and_then(|spec| selector::of_workload(Some(&spec.selector)).ok());
                wanted.is_some_and(|wanted| selector::matches(&wanted, &change.latest().metadata))
            };
            keys.extend(deployments.in_namespace(namespace).iter().filter(|d| selects(d)).map(|d| ObjectKey::of(&**d)));
        }
        keys.dedup();
        keys
    });
}

/// A `Recreate` Deployment waits for its last old pod to be gone.
fn feed_by_ended_pods(
    queue: &WorkQueue<ObjectKey>,
    deployments: &Informer<Deployment>,
    replica_sets: &Informer<ReplicaSet>,
    pods: &Informer<Pod>,
) {
    let (deployments, replica_sets) = (deployments.clone(), replica_sets.clone());
    pods.feed(queue, move |change| {
        let pod = change.latest();
        if !change.is_deletion() && !pods::is_terminal(pod) {
            return None;
        }
        let namespace = meta::namespace(&pod.metadata);
        let set = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet")?;
        let set = replica_sets.get(namespace, &set.name)?;
        let owner = meta::controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment")?;
        let deployment = deployments.get(namespace, &owner.name)?;
        plan::is_recreate(&deployment).then(|| ObjectKey::of(&*deployment))
    });
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(deployment) = self.deployments.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let Some(spec) = &deployment.spec else { return Ok(Outcome::Done) };
        let wanted = selector::of(&spec.selector)?;
        if wanted.is_empty() {
            let message = "This deployment is selecting all pods. A non-empty selector is required.";
            self.context.recorder.warning(&*deployment, "SelectingAll", message);
            return Ok(Outcome::Done);
        }
        let candidates = claim::candidates(&self.replica_sets, &deployment.metadata);
        let replica_sets = claim::claim(&self.context.client, &*deployment, &wanted, candidates).await?;
        let now = self.context.clock.now();
        let pods_of = |set: &ReplicaSet| self.pods.by_index(CONTROLLER_INDEX, meta::uid(&set.metadata));
        let plan =
            plan::plan(&Observed { deployment: &deployment, replica_sets: &replica_sets, pods_of: &pods_of, now });
        let mut deployment = (*deployment).clone();
        for action in plan {
            if let ControlFlow::Break(outcome) = self.take(&mut deployment, action).await? {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Done)
    }

    /// Takes one action; says where the rest of the plan is not to be carried out.
    async fn take(&self, deployment: &mut Deployment, action: Action) -> Result<ControlFlow<Outcome>, Error> {
        let client = &self.context.client;
        match action {
            Action::Create(set) => return self.create(deployment, *set).await,
            Action::Update { set, scaled_from } => {
                let updated = call::replace(client, &*set).await;
                let updated = errors::optional(updated).map_err(Error::api("updating a ReplicaSet"))?;
                if let (Some(set), Some(before)) = (updated, scaled_from) {
                    self.tell_scaled(deployment, &set, before);
                }
            }
            Action::Delete(set) => {
                let deleted = call::delete(client, &*set, DeleteParams::background()).await;
                deleted.map_err(Error::api("deleting an old ReplicaSet"))?;
            }
            Action::SetRevision(revision) => {
                let version = &deployment.metadata.resource_version;
                let annotations = serde_json::json!({revision::REVISION: revision});
                let patch = serde_json::json!({"metadata": {"resourceVersion": version, "annotations": annotations}});
                let patched = errors::optional(call::merge(client, deployment, patch).await);
                if let Some(patched) = patched.map_err(Error::api("writing the revision"))? {
                    // What is written next is this version, the new revision included.
                    deployment.metadata = patched.metadata;
                }
            }
            Action::SetStatus(status) => {
                deployment.status = Some(*status);
                let written = errors::optional(call::replace_status(client, deployment).await);
                written.map_err(Error::api("writing the status"))?;
            }
            Action::LookAgain(after) => return Ok(ControlFlow::Break(Outcome::After(after))),
        }
        Ok(ControlFlow::Continue(()))
    }

    async fn create(&self, deployment: &Deployment, set: ReplicaSet) -> Result<ControlFlow<Outcome>, Error> {
        let what = "creating the new ReplicaSet";
        let name = meta::name(&set.metadata).to_owned();
        let error = match call::create(&self.context.client, &set).await {
            Ok(created) => {
                self.tell_scaled(deployment, &created, 0);
                return Ok(ControlFlow::Continue(()));
            }
            Err(error) => error,
        };
        if errors::is_namespace_terminating(&error) {
            // Nothing can be made there any more, and what was planned for the new set is void.
            return Ok(ControlFlow::Break(Outcome::Done));
        }
        if errors::is_already_exists(&error) {
            let there = call::get::<ReplicaSet>(&self.context.client, meta::namespace(&set.metadata), &name).await;
            let there = there.map_err(Error::api("reading a ReplicaSet of the same name"))?;
            let ours = there.is_some_and(|there| {
                meta::is_controlled_by(&there.metadata, meta::uid(&deployment.metadata))
                    && revision::same_template(deployment, &there)
            });
            if ours {
                return Err(Error::NotYet("the new ReplicaSet is there already; the cache has to catch up"));
            }
            // The hash hit a foreign object: the next try gets another one.
            let mut changed = deployment.clone();
            let status = changed.status.get_or_insert_default();
            status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
            call::replace_status(&self.context.client, &changed)
                .await
                .map_err(Error::api("counting a name collision"))?;
            return Err(Error::NotYet("the new ReplicaSet's name was taken; another is tried"));
        }
        let message = format!("Failed to create new replica set {name:?}: {}", errors::message(&error));
        self.context.recorder.warning(deployment, "ReplicaSetCreateError", message.clone());
        let mut changed = deployment.clone();
        if status::set_create_error(&mut changed, &message, self.context.clock.now()) {
            let written = call::replace_status(&self.context.client, &changed).await;
            written.map_err(Error::api("writing the status"))?;
        }
        Err(Error::Api { what, source: error })
    }

    fn tell_scaled(&self, deployment: &Deployment, set: &ReplicaSet, before: i32) {
        let after = scale::replicas(set);
        if before == after {
            return;
        }
        let direction = if after > before { "up" } else { "down" };
        let name = meta::name(&set.metadata);
        let message = format!("Scaled {direction} replica set {name} from {before} to {after}");
        self.context.recorder.normal(deployment, "ScalingReplicaSet", message);
    }
}

/// Whole seconds from the wall clock, for the queue.
fn wait(duration: SignedDuration) -> std::time::Duration {
    std::time::Duration::try_from(duration).unwrap_or_default()
}
