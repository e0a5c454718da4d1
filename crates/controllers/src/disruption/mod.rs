//! Works out how many pods of each PodDisruptionBudget may be evicted now. The eviction subresource takes from what
//! is written here.
//! (<https://kubernetes.io/docs/concepts/workloads/pods/disruptions/>)

mod plan;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    core::v1::{Pod, ReplicationController},
    policy::v1::PodDisruptionBudget,
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, meta, worker};

use crate::{Context, Error, common::selector};

pub const NAME: &str = "disruption-controller";
const WORKERS: usize = 2;

struct Controller {
    context: Context,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    deployments: Informer<Deployment>,
    replica_sets: Informer<ReplicaSet>,
    stateful_sets: Informer<StatefulSet>,
    replication_controllers: Informer<ReplicationController>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        budgets: context.informers.of(),
        pods: context.informers.of(),
        deployments: context.informers.of(),
        replica_sets: context.informers.of(),
        stateful_sets: context.informers.of(),
        replication_controllers: context.informers.of(),
        context,
    });
    let Controller { budgets, pods, deployments, replica_sets, stateful_sets, replication_controllers, .. } =
        &*controller;
    let synced = budgets.synced().await
        && pods.synced().await
        && deployments.synced().await
        && replica_sets.synced().await
        && stateful_sets.synced().await
        && replication_controllers.synced().await;
    if !synced {
        return;
    }
    budgets.feed_keys(&queue);
    let all = budgets.clone();
    pods.feed(&queue, move |change| {
        let pod = &change.latest().metadata;
        let protects =
            |budget: &PodDisruptionBudget| plan::selector(budget).is_some_and(|s| selector::matches(&s, pod));
        let budgets = all.in_namespace(meta::namespace(pod));
        budgets.iter().filter(|budget| protects(budget)).map(|budget| ObjectKey::of(&**budget)).collect::<Vec<_>>()
    });
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(budget) = self.budgets.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let mut pods = self.pods.in_namespace(&key.namespace);
        let wanted = plan::selector(&budget);
        pods.retain(|pod| wanted.as_ref().is_some_and(|wanted| selector::matches(wanted, &pod.metadata)));
        let scale = self.scale_of_owners(&key.namespace, &pods);
        let (status, again) = plan::status(&budget, &pods, scale, self.context.clock.now());
        if budget.status.as_ref() != Some(&status) {
            let changed = PodDisruptionBudget { status: Some(status), ..(*budget).clone() };
            let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
            written.map_err(Error::api("writing the status"))?;
        }
        Ok(again.map_or(Outcome::Done, Outcome::After))
    }

    /// How many pods the owners of these want in all; an error where a pod has an owner whose wish is not known.
    fn scale_of_owners(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<i32, String> {
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = meta::controller_of(&pod.metadata) else {
                return Err(format!("found no controllers for pod {:?}", meta::name(&pod.metadata)));
            };
            let wanted = self.wanted_by(namespace, &owner.kind, &owner.name);
            let unknown = || format!("{} {:?} has no scale that is known here", owner.kind, owner.name);
            let (uid, replicas) = wanted.ok_or_else(unknown)?;
            scales.insert(uid, replicas);
        }
        Ok(scales.values().sum())
    }

    fn wanted_by(&self, namespace: &str, kind: &str, name: &str) -> Option<(String, i32)> {
        let of = |meta: &_, replicas: Option<i32>| Some((meta::uid(meta).to_owned(), replicas.unwrap_or(1)));
        match kind {
            "ReplicaSet" => {
                let set = self.replica_sets.get(namespace, name)?;
                match meta::controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment") {
                    Some(owner) => self.wanted_by(namespace, "Deployment", &owner.name),
                    None => of(&set.metadata, set.spec.as_ref()?.replicas),
                }
            }
            "Deployment" => {
                let deployment = self.deployments.get(namespace, name)?;
                of(&deployment.metadata, deployment.spec.as_ref()?.replicas)
            }
            "StatefulSet" => {
                let set = self.stateful_sets.get(namespace, name)?;
                of(&set.metadata, set.spec.as_ref()?.replicas)
            }
            "ReplicationController" => {
                let controller = self.replication_controllers.get(namespace, name)?;
                of(&controller.metadata, controller.spec.as_ref()?.replicas)
            }
            _ => None,
        }
    }
}
