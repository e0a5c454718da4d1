//! Writes into each ClusterRole with an aggregation rule the rules of the roles that it selects, so that whoever reads
//! the role sees what it grants.
//! (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/#aggregated-clusterroles>)

mod plan;
#[cfg(test)]
mod tests;

use k8s_openapi::api::rbac::v1::ClusterRole;
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, meta, worker};

use crate::{Context, Error};

pub const NAME: &str = "clusterrole-aggregation-controller";

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let roles = context.informers.of::<ClusterRole>();
    if !roles.synced().await {
        return;
    }
    // Any role may be one that an aggregation selects, or has just ceased to be one.
    let all = roles.clone();
    roles.feed(&queue, move |_| {
        let all = all.list();
        let aggregations = all.iter().filter(|role| role.aggregation_rule.is_some());
        aggregations.map(|role| ObjectKey::new("", meta::name(&role.metadata))).collect::<Vec<_>>()
    });
    worker::run(NAME, queue, 1, move |key: ObjectKey| {
        let (context, roles) = (context.clone(), roles.clone());
        async move { reconcile(&context, &roles, &key).await }
    })
    .await;
}

async fn reconcile(context: &Context, roles: &Informer<ClusterRole>, key: &ObjectKey) -> Result<Outcome, Error> {
    let Some(role) = roles.get("", &key.name) else { return Ok(Outcome::Done) };
    if let Some(rules) = plan::rules(&role, &roles.list()) {
        let changed = ClusterRole { rules: Some(rules), ..ClusterRole::clone(&role) };
        call::replace(&context.client, &changed).await.map_err(Error::api("writing the rules of an aggregation"))?;
    }
    Ok(Outcome::Done)
}
