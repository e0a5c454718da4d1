use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::selector::LabelSelector;
use knarr_api::status::{ApiError, Cause, Reason};
use serde_json::{Value, json};

use super::reply::{read_object, success};
use crate::Env;
use crate::authn::server_itself;
use crate::builtin;
use crate::contract::{Ask, Lookup, Operation, Response, SubresourceHandler, SubresourceRequest};
use crate::json::{items, list_mut, name, text};

/// Evictions that a budget let through but its controller has not seen; beyond this it is too far behind.
const MAX_DISRUPTED: usize = 2000;
const BUSY_SECONDS: u32 = 10;

/// Deletes a pod if its PodDisruptionBudget allows: `pods/eviction`
/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/api-eviction/>).
pub struct Eviction {
    env: Env,
}

impl Eviction {
    pub fn new(env: Env) -> Self {
        Self { env }
    }

    /// Takes one disruption out of the budget, or says why there is none.
    async fn take(
        &self,
        lookup: &dyn Lookup,
        namespace: &str,
        budget: &str,
        pod: &str,
        dry_run: bool,
    ) -> Result<(), ApiError> {
        let now = knarr_api::time::seconds(self.env.now());
        let resource = builtin::pod_disruption_budgets();
        if dry_run {
            let found = lookup.get_fresh(resource, namespace, budget).await?;
            let mut found = found.ok_or_else(|| ApiError::not_found(&resource.qualified_name(), budget))?.value();
            return decrement(&mut found, pod, &now);
        }
        let mut change = |found: &mut Value| decrement(found, pod, &now);
        // The budget's status is the server's to write: whoever evicts needs no right to it.
        lookup.modify(&server_itself(), resource, "status", namespace, budget, &mut change).await?;
        Ok(())
    }

    async fn mark(&self, lookup: &dyn Lookup, namespace: &str, pod: &str) -> Result<(), ApiError> {
        let now = knarr_api::time::seconds(self.env.now());
        let mut change = |pod: &mut Value| {
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now,
            });
            if !pod["status"].is_object() {
                pod["status"] = json!({});
            }
            let conditions = list_mut(&mut pod["status"], "conditions");
            conditions.retain(|condition| condition["type"] != "DisruptionTarget");
            conditions.push(condition);
            Ok(())
        };
        lookup.modify(&server_itself(), builtin::pods(), "status", namespace, pod, &mut change).await?;
        Ok(())
    }
}

fn budget_cause(message: String) -> Cause {
    Cause { reason: "DisruptionBudget".into(), message, ..Cause::default() }
}

fn decrement(budget: &mut Value, pod: &str, now: &str) -> Result<(), ApiError> {
    let budget_name = name(budget).to_owned();
    let observed = budget["status"]["observedGeneration"].as_i64().unwrap_or(0);
    if observed < budget["metadata"]["generation"].as_i64().unwrap_or(0) {
        let why = "Cannot evict pod as it would violate the pod's disruption budget.";
        let cause = format!("The disruption budget {budget_name} is still being processed by the server.");
        return Err(ApiError::too_many_requests(why, BUSY_SECONDS).with_cause(budget_cause(cause)));
    }
    let status = &mut budget["status"];
    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
    let resource = "poddisruptionbudgets.policy";
    if allowed < 0 {
        return Err(ApiError::forbidden(resource, &budget_name, "pdb disruptions allowed is negative"));
    }
    if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MAX_DISRUPTED) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(ApiError::forbidden(resource, &budget_name, why));
    }
    if allowed == 0 {
        let (desired, healthy) =
            (status["desiredHealthy"].as_i64().unwrap_or(0), status["currentHealthy"].as_i64().unwrap_or(0));
        let cause =
            format!("The disruption budget {budget_name} needs {desired} healthy pods and has {healthy} currently");
        let why = "Cannot evict pod as it would violate the pod's disruption budget.";
        return Err(ApiError::too_many_requests(why, 0).with_cause(budget_cause(cause)));
    }
    status["disruptionsAllowed"] = (allowed - 1).into();
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][pod] = now.into();
    Ok(())
}

/// Pods that have ended or never ran, or are going anyway, disturb nobody.
fn needs_no_budget(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed" | "Pending")
        || !pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_ready(pod: &Value) -> bool {
    items(&pod["status"]["conditions"]).iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// A pod that is not ready may go although it is within a budget: always, or while enough others are healthy.
fn unhealthy_may_go(budget: &Value, pod: &Value) -> bool {
    if is_ready(pod) {
        return false;
    }
    if budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" {
        return true;
    }
    let status = &budget["status"];
    let desired = status["desiredHealthy"].as_i64().unwrap_or(0);
    desired > 0 && status["currentHealthy"].as_i64().unwrap_or(0) >= desired
}

fn budgets_of(lookup: &dyn Lookup, namespace: &str, pod: &Value) -> Vec<Value> {
    let all = lookup.list(builtin::pod_disruption_budgets(), namespace);
    let selects = |budget: &Value| {
        let selector = &budget["spec"]["selector"];
        // An empty selector matches all pods, a missing one none.
        selector.is_object()
            && LabelSelector::from_value(selector).is_ok_and(|s| s.matches_value(&pod["metadata"]["labels"]))
    };
    all.iter().map(|stored| stored.value()).filter(selects).collect()
}

#[async_trait]
impl SubresourceHandler for Eviction {
    fn serves(&self) -> &'static [&'static str] {
        &["pods/eviction"]
    }

    async fn handle(&self, lookup: Arc<dyn Lookup>, request: SubresourceRequest) -> Result<Response, ApiError> {
        let SubresourceRequest {
            resource, subresource, namespace, name: pod_name, user, dry_run, accept, request, ..
        } = request;
        let eviction = read_object(request, "policy/v1", "Eviction").await?;
        let given = name(&eviction);
        if !given.is_empty() && given != pod_name {
            return Err(ApiError::bad_request(format!(
                "name in URL does not match name in Eviction object: {pod_name} != {given}"
            )));
        }
        let ask = Ask {
            user: &user,
            operation: Operation::Create,
            resource,
            subresource,
            namespace: &namespace,
            name: &pod_name,
            dry_run: dry_run || items(&eviction["deleteOptions"]["dryRun"]).iter().any(|value| value == "All"),
        };
        let eviction = lookup.admit(ask, eviction).await?;
        let mut options = eviction["deleteOptions"].clone();
        if !options.is_object() {
            options = json!({});
        }
        let dry_run = dry_run || items(&options["dryRun"]).iter().any(|value| value == "All");
        if dry_run {
            options["dryRun"] = json!(["All"]);
        }

        let found = lookup.get_fresh(builtin::pods(), &namespace, &pod_name).await?;
        let pod = found.ok_or_else(|| ApiError::not_found("pods", &pod_name))?.value();
        if !needs_no_budget(&pod) {
            match budgets_of(&*lookup, &namespace, &pod).as_slice() {
                [] => {}
                [budget] if unhealthy_may_go(budget, &pod) => {}
                [budget] => self.take(&*lookup, &namespace, name(budget), &pod_name, dry_run).await?,
                _ => {
                    let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does \
                               not support.";
                    return Err(ApiError::new(Reason::Unknown, why).with_code(500));
                }
            }
            if !dry_run {
                self.mark(&*lookup, &namespace, &pod_name).await?;
            }
        }
        // The pod that was looked at is the one that goes, and not a namesake made meanwhile.
        if options["preconditions"]["uid"].is_null() {
            options["preconditions"]["uid"] = pod["metadata"]["uid"].clone();
        }
        lookup.delete(&user, builtin::pods(), &namespace, &pod_name, options).await?;
        Ok(success(accept))
    }
}
