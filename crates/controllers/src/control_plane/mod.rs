//! Marks the node that the server itself runs on: by a label, and by a taint that keeps pods off it while there are
//! other nodes for them.
//! (<https://kubernetes.io/docs/reference/labels-annotations-taints/#node-role-kubernetes-io-control-plane-taint>)

mod plan;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::Node;
use knarr_client::{ObjectKey, Outcome, WorkQueue, call, errors, worker};

use crate::{Context, Error};

pub const NAME: &str = "control-plane-controller";
const WORKERS: usize = 1;

pub async fn run(context: Context, own: Option<String>) {
    let Some(own) = own else { return context.cancel.cancelled().await };
    let queue = WorkQueue::new(context.cancel.clone());
    let nodes = context.informers.of::<Node>();
    if !nodes.synced().await {
        return;
    }
    let key = ObjectKey::new("", own);
    nodes.feed(&queue, move |_| [key.clone()]);
    worker::run(NAME, queue, WORKERS, move |key| {
        let (context, nodes) = (context.clone(), nodes.clone());
        async move {
            let Some(node) = nodes.get("", &key.name) else { return Ok::<_, Error>(Outcome::Done) };
            let has_company = nodes.list().iter().any(|other| other.metadata.name != node.metadata.name);
            if let Some(patch) = plan::patch(&node, has_company) {
                let patched = errors::optional(call::merge(&context.client, &*node, patch).await);
                patched.map_err(Error::api("marking the control plane's node"))?;
            }
            Ok(Outcome::Done)
        }
    })
    .await;
}
