//! When a node may be called ready.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::Api;
use tokio::time::Instant;

/// How long the node may take to become ready before that is said to be a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// Waits until the node says that it is ready, and says so since `begun`: a killed process leaves a node that looks it.
pub async fn wait_for_node(client: kube::Client, name: &str, begun: Timestamp) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let deadline = Instant::now() + PATIENCE;
    let mut why = "it has not registered".to_owned();
    while Instant::now() < deadline {
        if let Some(node) = nodes.get_opt(name).await.context("the API server does not answer")? {
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            match conditions.into_iter().find(|condition| condition.type_ == "Ready") {
                Some(ready) if ready.status == "True" => {
                    let lease = leases.get_opt(name).await.context("the API server does not answer")?;
                    let renewed = lease.and_then(|lease| lease.spec?.renew_time);
                    if renewed.is_some_and(|renewed| renewed.0 >= begun) {
                        return Ok(());
                    }
                    why = "it has not renewed its lease".to_owned();
                }
                Some(ready) => why = ready.message.unwrap_or_default(),
                None => {}
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    bail!("the node {name} is not ready after {} s: {why}", PATIENCE.as_secs())
}
