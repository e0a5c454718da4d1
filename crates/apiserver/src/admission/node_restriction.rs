use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::ApiError;
use knarr_api::volume::{HOSTNAME, LOCAL_PROVISIONER, PROVISIONED_BY};
use serde_json::{Value, json};

use super::{denied, node_labels};
use crate::authz::node_name_of;
use crate::builtin;
use crate::contract::{Admission, AdmissionRequest, Lookup, Operation};
use crate::json::{is_mirror_pod, items, name, text};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// A node's agent writes what is its own: its Node, its leases, the status of pods bound to it, mirror pods, and the
/// volumes that are directories of its own.
pub struct NodeRestriction {
    lookup: Arc<dyn Lookup>,
}

impl NodeRestriction {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    /// A deletion and a subresource write may come without the object; it is looked up then.
    async fn stored(&self, request: &AdmissionRequest<'_>) -> Result<Value, ApiError> {
        if let Some(old) = request.old {
            return Ok(old.clone());
        }
        let found = self.lookup.get_fresh(request.resource, request.namespace, request.name).await?;
        found
            .map(|stored| stored.value())
            .ok_or_else(|| ApiError::not_found(&request.resource.qualified_name(), request.name))
    }

    async fn check_pod(&self, node: &str, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let no = |why: String| Err(denied(request, why));
        match (request.subresource, request.operation) {
            ("", Operation::Create) => check_mirror_pod(node, request),
            ("", Operation::Delete) => match self.stored(request).await? {
                pod if pod["spec"]["nodeName"] == node => Ok(()),
                _ => no(format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
            },
            ("status", Operation::Update) => {
                let old = self.stored(request).await?;
                if old["spec"]["nodeName"] != node {
                    return no(format!(
                        "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                    ));
                }
                if request.object["metadata"]["labels"] != old["metadata"]["labels"] {
                    return no(format!("node {node:?} cannot update labels through pod status"));
                }
                Ok(())
            }
            ("eviction", Operation::Create) => match self.stored(request).await? {
                pod if pod["spec"]["nodeName"] == node => Ok(()),
                _ => no(format!("node {node:?} can only evict pods with spec.nodeName set to itself")),
            },
            ("", operation) => {
                no(format!("unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods"))
            }
            (subresource, _) => {
                no(format!("unexpected pod subresource {subresource:?}, only 'status' and 'eviction' are allowed"))
            }
        }
    }

    /// The volume must be on this very node before and after, and all that may change is who waits for its end.
    async fn check_volume(&self, node: &str, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let no = |why: String| Err(denied(request, why));
        if !request.subresource.is_empty() {
            return no(format!("node {node:?} is not allowed to write a volume's {}", request.subresource));
        }
        let is_new = request.operation == Operation::Create;
        let old = if is_new { None } else { Some(self.stored(request).await?) };
        let gone = request.operation == Operation::Delete;
        let both = old.iter().chain((!gone).then_some(&request.object));
        if !both.into_iter().all(|volume| is_directory_of(volume, node)) {
            return no(format!("node {node:?} can only write volumes that are directories of its own"));
        }
        match old.filter(|_| !gone) {
            Some(old) if old["spec"] != request.object["spec"] => {
                no(format!("node {node:?} is not allowed to modify the spec of a volume"))
            }
            _ => Ok(()),
        }
    }

    fn check_node(&self, node: &str, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
        let no = |why: String| Err(denied(request, why));
        let target = if request.name.is_empty() { name(&request.object) } else { request.name };
        if target != node {
            return no(format!("node {node:?} is not allowed to modify node {target:?}"));
        }
        let (object, old) = (&request.object, request.old);
        match request.operation {
            Operation::Delete | Operation::Connect => return Ok(()),
            Operation::Create => {}
            Operation::Update => {
                let old = old.unwrap_or(&Value::Null);
                if items(&object["spec"]["taints"]) != items(&old["spec"]["taints"]) {
                    return no(format!("node {node:?} is not allowed to modify taints"));
                }
                if object["metadata"]["ownerReferences"] != old["metadata"]["ownerReferences"] {
                    return no(format!("node {node:?} is not allowed to modify ownerReferences"));
                }
            }
        }
        let labels = node_labels::forbidden_changes(object, old);
        if !labels.is_empty() {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let labels = labels.join(", ");
            return no(format!("node {node:?} is not allowed to modify labels: {labels}"));
        }
        Ok(())
    }
}

fn check_mirror_pod(node: &str, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    let no = |why: String| Err(denied(request, why));
    let pod = &request.object;
    if !is_mirror_pod(pod) {
        return no(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if pod["spec"]["nodeName"] != node {
        return no(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners = items(&pod["metadata"]["ownerReferences"]);
    if owners.iter().any(|owner| owner["kind"] != "Node" || owner["name"] != node || owner["controller"] != true) {
        return no(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if !text(&pod["spec"]["serviceAccountName"]).is_empty() {
        return no(format!("node {node:?} can not create pods that reference a service account"));
    }
    for volume in items(&pod["spec"]["volumes"]) {
        for kind in ["secret", "configMap", "persistentVolumeClaim", "projected"] {
            if volume.get(kind).is_some() {
                return no(format!("node {node:?} can not create pods that reference a {kind} volume"));
            }
        }
    }
    Ok(())
}

/// Made by the built-in provisioner, as a directory that only this node reaches.
fn is_directory_of(volume: &Value, node: &str) -> bool {
    let spec = &volume["spec"];
    let wish = json!([{ "matchExpressions": [{ "key": HOSTNAME, "operator": "In", "values": [node] }] }]);
    volume["metadata"]["annotations"][PROVISIONED_BY] == LOCAL_PROVISIONER
        && spec["local"].is_object()
        && spec["nodeAffinity"]["required"]["nodeSelectorTerms"] == wish
}

/// Leases and CSINodes carry the name of their node.
fn check_own_name(node: &str, request: &AdmissionRequest<'_>) -> Result<(), ApiError> {
    let target = if request.name.is_empty() { name(&request.object) } else { request.name };
    if target == node {
        return Ok(());
    }
    let kind = request.resource.kind;
    Err(denied(request, format!("node {node:?} can only access its own {kind}, of the same name as the node")))
}

/// A node may ask for tokens of the pods bound to it, and only for tokens that end with the pod.
pub fn check_token_request(
    lookup: &dyn Lookup,
    node: &str,
    namespace: &str,
    account: &str,
    bound: &Value,
) -> Result<(), ApiError> {
    let no = |why: String| Err(ApiError::forbidden("serviceaccounts", account, why));
    if bound["kind"] != "Pod" {
        return no("node requested token not bound to a pod".into());
    }
    let pod_name = text(&bound["name"]);
    let Some(pod) = lookup.get(builtin::pods(), namespace, pod_name) else {
        return Err(ApiError::not_found("pods", pod_name));
    };
    let pod = pod.value();
    if pod["metadata"]["uid"] != bound["uid"] {
        return no(format!(
            "the UID in the bound object reference ({}) does not match the UID in record",
            text(&bound["uid"])
        ));
    }
    if pod["spec"]["nodeName"] != node {
        return no("node requested token bound to a pod scheduled on a different node".into());
    }
    Ok(())
}

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    /// It checks before other plugins fill in: what they add is not the node's doing.
    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), ApiError> {
        let Some(node) = node_name_of(request.user) else { return Ok(()) };
        match (request.resource.group, request.resource.plural) {
            ("", "pods") => self.check_pod(node, request).await,
            ("", "nodes") => self.check_node(node, request),
            ("", "persistentvolumes") => self.check_volume(node, request).await,
            ("coordination.k8s.io", "leases") | ("storage.k8s.io", "csinodes") => check_own_name(node, request),
            _ => Ok(()),
        }
    }
}
