//! Works out how many pods of each PodDisruptionBudget may be evicted now. The eviction subresource takes from what
//! is written here.
//! (<https://kubernetes.io/docs/concepts/workloads/pods/disruptions/>)

mod plan;
mod stale;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use http::Request;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, StatefulSet},
    autoscaling::v1::Scale,
    core::v1::ReplicationController,
    policy::v1::PodDisruptionBudget,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, lean::Pod, meta, worker};

use crate::{
    Context, Error,
    common::{
        discovery::{self, Served},
        selector,
    },
};

pub const NAME: &str = "disruption-controller";
const WORKERS: usize = 2;
const UNMANAGED: &str = "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of \
                         the PDB cannot be calculated correctly, which may result in undefined behavior. To account for \
                         these pods please set \".spec.minAvailable\" field of the PDB to an integer value.";

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
    let stale = stale::run(controller.context.clone(), pods.clone());
    let work = worker::run(NAME, queue, WORKERS, {
        let controller = controller.clone();
        move |key| {
            let controller = controller.clone();
            async move { controller.reconcile(key).await }
        }
    });
    tokio::join!(work, stale);
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(budget) = self.budgets.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let mut pods = self.pods.in_namespace(&key.namespace);
        let wanted = plan::selector(&budget);
        pods.retain(|pod| wanted.as_ref().is_some_and(|wanted| selector::matches(wanted, &pod.metadata)));
        if pods.is_empty() {
            self.context.recorder.normal(&*budget, "NoPods", "No matching pods found");
        }
        let scale = match plan::needs_scale(&budget) {
            true => self.scale_of_owners(&budget, &pods).await?,
            false => Ok(0),
        };
        let (status, again) = plan::status(&budget, &pods, scale, self.context.clock.now());
        if budget.status.as_ref() != Some(&status) {
            let changed = PodDisruptionBudget { status: Some(status), ..(*budget).clone() };
            let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
            written.map_err(Error::api("writing the status"))?;
        }
        Ok(again.map_or(Outcome::Done, Outcome::After))
    }

    /// How many pods the owners of these want in all; an error where a pod has an owner whose wish cannot be known. Pods
    /// without an owner do not count, which is told.
    async fn scale_of_owners(
        &self,
        budget: &PodDisruptionBudget,
        pods: &[Arc<Pod>],
    ) -> Result<Result<i32, String>, Error> {
        let namespace = meta::namespace(&budget.metadata);
        let mut scales: BTreeMap<String, i32> = BTreeMap::new();
        let mut served = None;
        for pod in pods {
            let Some(owner) = meta::controller_of(&pod.metadata) else {
                self.context.recorder.warning(budget, "UnmanagedPods", UNMANAGED);
                continue;
            };
            if scales.contains_key(&owner.uid) {
                continue;
            }
            if let Some((uid, replicas)) = self.wanted_by(namespace, &owner.kind, &owner.name) {
                scales.insert(uid, replicas);
                continue;
            }
            let served = match &served {
                Some(served) => served,
                None => {
                    let all = discovery::all(&self.context.client).await;
                    served.insert(all.map_err(Error::api("asking which resources there are"))?)
                }
            };
            match self.scale_of(served, namespace, owner).await? {
                Some(replicas) => drop(scales.insert(owner.uid.clone(), replicas)),
                None => {
                    let why = format!("{} {:?} does not implement the scale subresource", owner.kind, owner.name);
                    let message = format!("Failed to calculate the number of expected pods: {why}");
                    self.context.recorder.warning(budget, "CalculateExpectedPodCountFailed", message);
                    return Ok(Err(why));
                }
            }
        }
        Ok(Ok(scales.values().sum()))
    }

    /// What any other kind says by its scale subresource, where it has one.
    async fn scale_of(&self, served: &[Served], namespace: &str, owner: &OwnerReference) -> Result<Option<i32>, Error> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let resource = served.iter().find(|one| one.kind == owner.kind && one.group == group);
        let Some(resource) = resource else { return Ok(None) };
        let request = Request::get(format!("{}/scale", resource.object_path(namespace, &owner.name))).body(Vec::new());
        let request = request.map_err(|error| Error::api("asking for a scale")(kube::Error::HttpError(error)))?;
        let scale = errors::optional(self.context.client.request::<Scale>(request).await);
        let scale = scale.map_err(Error::api("asking for a scale"))?;
        Ok(scale.map(|scale| scale.spec.and_then(|spec| spec.replicas).unwrap_or(0)))
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
