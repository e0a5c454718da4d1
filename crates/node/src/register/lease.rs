//! The node's heartbeat: a Lease in `kube-node-lease`, renewed four times in the time that the cluster would wait for a
//! silent node.

use std::time::Duration;

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use knarr_client::{Clock, Informer, errors, meta};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::Instant;

const NAMESPACE: &str = "kube-node-lease";
/// How long a cluster waits that does not say so.
const USUAL_SECONDS: u16 = 40;
const RENEWALS: u32 = 4;
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(7);

pub async fn run(client: kube::Client, node_name: String, node: Informer<Node>, clock: Clock) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut retry = RETRY_FIRST;
    let mut changes = node.subscribe();
    loop {
        match renew(&api, &node_name, &node, &clock).await {
            Ok(()) => {
                retry = RETRY_FIRST;
                // How long it holds may be written on the node meanwhile, above all when it has just been registered.
                let renewed = Instant::now();
                while let Some(left) = (duration(&node, &node_name) / RENEWALS).checked_sub(renewed.elapsed()) {
                    if tokio::time::timeout(left, changes.next()).await.is_ok_and(|change| change.is_none()) {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the node's lease was not renewed; will retry");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_LAST.min(duration(&node, &node_name) / RENEWALS));
            }
        }
    }
}

/// For how long a renewal holds: what the cluster wrote on the Node.
fn duration(node: &Informer<Node>, name: &str) -> Duration {
    let said = node.get("", name).and_then(|node| meta::annotation(&node.metadata, meta::LEASE_DURATION)?.parse().ok());
    Duration::from_secs(u64::from(said.unwrap_or(USUAL_SECONDS).max(1)))
}

async fn renew(api: &Api<Lease>, name: &str, node: &Informer<Node>, clock: &Clock) -> Result<(), kube::Error> {
    let now = MicroTime(clock.now());
    let seconds = i32::try_from(duration(node, name).as_secs()).unwrap_or(i32::MAX);
    // The owner comes with every renewal: at the first one the node may not be known yet.
    let owner = node.get("", name).map(|node| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_owned(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    });
    let owners = owner.map(|owner| vec![owner]);
    let mut patch = json!({"spec": {"holderIdentity": name, "renewTime": now, "leaseDurationSeconds": seconds}});
    if let Some(owners) = &owners {
        patch["metadata"] = json!({"ownerReferences": owners});
    }
    match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Ok(_) => return Ok(()),
        Err(error) if errors::is_not_found(&error) => {}
        Err(error) => return Err(error),
    }
    let lease = Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            owner_references: owners,
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(name.to_owned()),
            lease_duration_seconds: Some(seconds),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    api.create(&PostParams::default(), &lease).await.map(drop)
}
