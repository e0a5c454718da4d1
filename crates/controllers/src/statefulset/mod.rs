//! Keeps pods that are each somebody: a name, an address record and claims of their own, made and ended in order.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/>)
//!
//! A pod's name is made from its ordinal, so there are never two of one: the API server would not have the second.

mod claims;
mod identity;
mod plan;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec},
    core::v1::{self, PersistentVolumeClaim},
};
use knarr_api::selector::LabelSelector;
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, lean::Pod, meta, worker};
use kube::api::DeleteParams;

use crate::{
    Context, Error,
    common::{
        batch, claim,
        history::{self, Newest},
        owners, selector,
        written::Written,
    },
};
use claims::keeper;
use plan::{Observed, Plan, Version};

pub const NAME: &str = "statefulset-controller";
const KIND: &str = "StatefulSet";
const WORKERS: usize = 5;
/// On revisions: the hash that their names end with.
const HASH: &str = "controller.kubernetes.io/hash";

struct Controller {
    context: Context,
    sets: Informer<StatefulSet>,
    pods: Informer<Pod>,
    claims: Informer<PersistentVolumeClaim>,
    revisions: Informer<ControllerRevision>,
    written: Written,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        sets: context.informers.of(),
        pods: context.informers.of(),
        claims: context.informers.of(),
        revisions: context.informers.of(),
        written: Written::default(),
        context,
    });
    let Controller { sets, pods, claims, revisions, .. } = &*controller;
    pods.index_by_controller();
    revisions.index_by_controller();
    if !(sets.synced().await && pods.synced().await && claims.synced().await && revisions.synced().await) {
        return;
    }
    owners::feed(&queue, pods, KIND);
    owners::feed_by_orphans(&queue, pods, sets, selector_of);
    owners::feed(&queue, revisions, KIND);
    let watcher = Arc::downgrade(&controller);
    sets.feed(&queue, move |change| {
        let set = change.latest();
        if let Some(controller) = watcher.upgrade().filter(|_| change.is_deletion()) {
            controller.written.forget(meta::uid(&set.metadata));
        }
        [ObjectKey::of(&**set)]
    });
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

fn selector_of(set: &StatefulSet) -> Result<LabelSelector, Error> {
    selector::of_workload(set.spec.as_ref().map(|spec| &spec.selector))
}

fn collisions_of(set: &mut StatefulSet) -> &mut Option<i32> {
    &mut set.status.get_or_insert_default().collision_count
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
            return Ok(Outcome::Done);
        };
        if self.written.is_outdated(&set.metadata) {
            // The change that is on the way brings the set back here.
            return Ok(Outcome::Done);
        }
        let wanted = selector_of(&set)?;
        let named = |pod: &Arc<Pod>| identity::ordinal(&set, pod).is_some();
        let pods = claim::candidates(&self.pods, &set.metadata).into_iter().filter(named);
        let pods = claim::claim(&self.context.client, &*set, &wanted, pods).await?;
        let pods: BTreeMap<i32, Arc<Pod>> =
            pods.into_iter().filter_map(|pod| Some((identity::ordinal(&set, &pod)?, pod))).collect();
        let revisions = claim::candidates(&self.revisions, &set.metadata);
        let mut revisions = claim::claim(&self.context.client, &*set, &wanted, revisions).await?;
        history::sort(&mut revisions);
        let status = set.status.clone().unwrap_or_default();
        let newest =
            history::sync(&self.context, &*set, &spec.template, &revisions, status.collision_count, HASH).await?;
        let Newest::Is(update) = newest else {
            return history::count_collision(&self.context, &*set, collisions_of).await;
        };
        let is_current = |revision: &&Arc<ControllerRevision>| revision.metadata.name == status.current_revision;
        let current = revisions.iter().find(is_current).unwrap_or(&update);

        let (now, current_template) = (self.context.clock.now(), history::template(current)?);
        let observed = Observed {
            set: &set,
            spec,
            pods: &pods,
            current: Version { name: meta::name(&current.metadata), template: &current_template },
            update: Version { name: meta::name(&update.metadata), template: &spec.template },
            now,
        };
        let (status, look_again) = plan::status(&observed);
        if set.status.as_ref() != Some(&status) {
            let changed = StatefulSet { status: Some(status), ..(*set).clone() };
            let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
            match written.map_err(Error::api("writing the status"))? {
                Some(written) => self.written.note(&written.metadata),
                None => return Ok(Outcome::Done),
            }
        }
        self.identify(&set, &pods).await?;
        self.hand_over_claims(&set, spec, &pods).await?;
        self.take(&set, plan::plan(&observed)).await?;
        let is_live = |revision: &ControllerRevision| {
            let name = revision.metadata.name.as_deref();
            [&update, current].iter().any(|live| live.metadata.uid == revision.metadata.uid)
                || pods.values().any(|pod| meta::label(&pod.metadata, history::OF_POD) == name)
        };
        history::truncate(&self.context, &revisions, spec.revision_history_limit, is_live).await?;
        Ok(look_again.map_or(Outcome::Done, Outcome::After))
    }

    /// A pod that was adopted, or that somebody tampered with, gets its labels back.
    async fn identify(&self, set: &StatefulSet, pods: &BTreeMap<i32, Arc<Pod>>) -> Result<(), Error> {
        for (ordinal, pod) in pods {
            let labels = identity::labels(set, *ordinal);
            if labels.iter().all(|(key, value)| meta::label(&pod.metadata, key) == Some(value)) {
                continue;
            }
            let labels: BTreeMap<_, _> = labels.into_iter().collect();
            let patch = serde_json::json!({"metadata": {"uid": pod.metadata.uid, "labels": labels}});
            let patched = errors::optional(call::merge(&self.context.client, &**pod, patch).await);
            patched.map_err(Error::api("labelling a pod"))?;
        }
        Ok(())
    }

    /// Before a pod goes its claims are told whether to go with it.
    async fn hand_over_claims(
        &self,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        pods: &BTreeMap<i32, Arc<Pod>>,
    ) -> Result<(), Error> {
        let wanted = identity::wanted(spec);
        for (ordinal, pod) in pods {
            let keeper = keeper(set, !wanted.contains(ordinal));
            claims::hand_over(&self.context, &self.claims, set, (*ordinal, pod), keeper).await?;
        }
        Ok(())
    }

    async fn take(&self, set: &Arc<StatefulSet>, plan: Plan) -> Result<(), Error> {
        let Plan { create, delete, ended } = plan;
        for (reason, message) in ended {
            self.context.recorder.warning(&**set, reason, message);
        }
        let (count, create) = (create.len(), Arc::new(create));
        let (context, claims, owner) = (self.context.clone(), self.claims.clone(), set.clone());
        let (_, error) = batch::slow_start(count, move |at| {
            let (context, claims, owner, create) = (context.clone(), claims.clone(), owner.clone(), create.clone());
            async move {
                let (ordinal, pod) = &create[at];
                claims::make(&context, &claims, &owner, *ordinal).await?;
                create_pod(&context, &owner, pod).await
            }
        })
        .await;
        for pod in delete {
            let deleted = call::delete(&self.context.client, &*pod, DeleteParams::default()).await;
            let about = format!("delete Pod {} in StatefulSet {}", pod_name(&*pod), meta::name(&set.metadata));
            match deleted {
                Ok(true) => {
                    self.context.recorder.normal(&**set, "SuccessfulDelete", format!("{about} successful"));
                }
                Ok(false) => {}
                Err(error) => {
                    let message = format!("{about} failed error: {}", errors::message(&error));
                    self.context.recorder.warning(&**set, "FailedDelete", message);
                    return Err(Error::Api { what: "deleting a pod", source: error });
                }
            }
        }
        error.map_or(Ok(()), Err)
    }
}

fn pod_name(pod: &impl kube::Resource) -> &str {
    meta::name(pod.meta())
}

async fn create_pod(context: &Context, set: &StatefulSet, pod: &v1::Pod) -> Result<(), Error> {
    let about = format!("create Pod {} in StatefulSet {}", pod_name(pod), meta::name(&set.metadata));
    match call::create(&context.client, pod).await {
        Ok(_) => {
            context.recorder.normal(set, "SuccessfulCreate", format!("{about} successful"));
            Ok(())
        }
        // Nothing can be made there any more; that is no failure of the StatefulSet.
        Err(error) if errors::is_namespace_terminating(&error) => Ok(()),
        Err(error) if errors::is_already_exists(&error) => {
            Err(Error::NotYet("a pod of that name is there: the cache has to catch up, or a stranger to go"))
        }
        Err(error) => {
            let message = format!("{about} failed error: {}", errors::message(&error));
            context.recorder.warning(set, "FailedCreate", message);
            Err(Error::Api { what: "creating a pod", source: error })
        }
    }
}
