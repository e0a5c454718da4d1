//! The node's heartbeat: a Lease in `kube-node-lease`, renewed every ten seconds.

use std::time::Duration;

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use knarr_client::{Clock, Informer, errors};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

const NAMESPACE: &str = "kube-node-lease";
const DURATION_SECONDS: i32 = 40;
const RENEW: Duration = Duration::from_secs(10);
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LAST: Duration = Duration::from_secs(7);

pub async fn run(client: kube::Client, node_name: String, node: Informer<Node>, clock: Clock) {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut retry = RETRY_FIRST;
    loop {
        match renew(&api, &node_name, &node, &clock).await {
            Ok(()) => {
                retry = RETRY_FIRST;
                tokio::time::sleep(RENEW).await;
            }
            Err(error) => {
                tracing::debug!(%error, "the node's lease was not renewed; will retry");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_LAST);
            }
        }
    }
}

async fn renew(api: &Api<Lease>, name: &str, node: &Informer<Node>, clock: &Clock) -> Result<(), kube::Error> {
    let now = MicroTime(clock.now());
    // The owner comes with every renewal: at the first one the node may not be known yet.
    let owner = node.get("", name).map(|node| OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.to_owned(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    });
    let owners = owner.map(|owner| vec![owner]);
    let mut patch =
        json!({"spec": {"holderIdentity": name, "renewTime": now, "leaseDurationSeconds": DURATION_SECONDS}});
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
            lease_duration_seconds: Some(DURATION_SECONDS),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }),
    };
    api.create(&PostParams::default(), &lease).await.map(drop)
}
