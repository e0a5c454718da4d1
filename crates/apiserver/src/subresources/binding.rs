use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use super::reply::{read_object, success};
use crate::Env;
use crate::builtin;
use crate::contract::{Ask, Lookup, Operation, Response, SubresourceHandler, SubresourceRequest};
use crate::json::{items, list_mut, name, text};

/// Puts a pod on a node, once: `pods/binding`, and the older `bindings` resource.
pub struct Binding {
    env: Env,
}

impl Binding {
    pub fn new(env: Env) -> Self {
        Self { env }
    }
}

fn check(binding: &Value, pod: &str) -> Result<(), ApiError> {
    let given = name(binding);
    if !given.is_empty() && given != pod {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({pod})"
        )));
    }
    let target = &binding["target"];
    if !matches!(text(&target["kind"]), "" | "Node") {
        return Err(ApiError::bad_request(format!("the target of a binding must be a Node, not a {}", target["kind"])));
    }
    if text(&target["name"]).is_empty() {
        return Err(ApiError::bad_request("target.name: Required value"));
    }
    Ok(())
}

/// What binding makes of a pod.
fn bind(pod: &mut Value, binding: &Value, now: &str) -> Result<(), ApiError> {
    let node = text(&binding["target"]["name"]);
    let pod_name = name(pod).to_owned();
    let conflict = |why: String| Err(ApiError::conflict("pods/binding", &pod_name, why));
    if let Some(uid) = binding["metadata"]["uid"].as_str().filter(|uid| pod["metadata"]["uid"] != **uid) {
        let found = text(&pod["metadata"]["uid"]);
        return conflict(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"));
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return conflict(format!("pod {pod_name} is being deleted, cannot be assigned to a host"));
    }
    let current = text(&pod["spec"]["nodeName"]);
    if !current.is_empty() {
        return conflict(format!("pod {pod_name} is already assigned to node {current:?}"));
    }
    if !items(&pod["spec"]["schedulingGates"]).is_empty() {
        return conflict(format!("pod {pod_name} has non-empty .spec.schedulingGates"));
    }
    pod["spec"]["nodeName"] = node.into();
    if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
        if !pod["metadata"]["annotations"].is_object() {
            pod["metadata"]["annotations"] = json!({});
        }
        for (key, value) in annotations {
            pod["metadata"]["annotations"][key] = value.clone();
        }
    }
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
        "observedGeneration": pod["metadata"]["generation"],
    });
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    let conditions = list_mut(&mut pod["status"], "conditions");
    match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
        Some(found) if found["status"] == "True" => {}
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
    Ok(())
}

#[async_trait]
impl SubresourceHandler for Binding {
    fn serves(&self) -> &'static [&'static str] {
        &["pods/binding", "bindings"]
    }

    async fn handle(&self, lookup: Arc<dyn Lookup>, request: SubresourceRequest) -> Result<Response, ApiError> {
        let SubresourceRequest {
            resource, subresource, namespace, name: url_name, user, dry_run, accept, request, ..
        } = request;
        let binding = read_object(request, "v1", "Binding").await?;
        let pod = if url_name.is_empty() { name(&binding).to_owned() } else { url_name };
        check(&binding, &pod)?;
        let ask = Ask {
            user: &user,
            operation: Operation::Create,
            resource,
            subresource,
            namespace: &namespace,
            name: &pod,
            dry_run,
        };
        let binding = lookup.admit(ask, binding).await?;
        check(&binding, &pod)?;
        let now = knarr_api::time::seconds(self.env.now());
        let pods = builtin::pods();
        if dry_run {
            let found = lookup.get_fresh(pods, &namespace, &pod).await?;
            let mut found = found.ok_or_else(|| ApiError::not_found("pods", &pod))?.value();
            bind(&mut found, &binding, &now)?;
            return Ok(success(accept));
        }
        let mut change = |pod: &mut Value| bind(pod, &binding, &now);
        lookup.modify(&user, pods, "binding", &namespace, &pod, &mut change).await?;
        Ok(success(accept))
    }
}
