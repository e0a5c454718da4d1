//! What `knarr cluster` asks of the cluster itself, as its administrator: whether it answers, which nodes are ready,
//! to forget one.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use knarr_local::Cluster;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams},
};

use super::create::server_name;
use crate::{
    commands::token,
    datadir::DataDir,
    kubeconfig::{self, Credentials},
};

pub const PORT: u16 = 6443;
/// Nodes join at once.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Of the cluster, the user and the context in a kubeconfig.
pub fn context_name(cluster: &str) -> String {
    format!("knarr-{cluster}")
}

/// The administrator's file as it is used on this host.
pub fn own_kubeconfig(cluster: &Cluster) -> PathBuf {
    cluster.directory.join("admin.kubeconfig")
}

fn server_address(cluster: &Cluster) -> Ipv4Addr {
    cluster.record.range.at(knarr_local::Range::FIRST_NODE)
}

pub fn server_url(cluster: &Cluster) -> String {
    format!("https://{}:{PORT}", server_address(cluster))
}

/// Writes the administrator's file from the server's own, with the address that this host uses.
pub fn introduce(cluster: &Cluster) -> Result<()> {
    let data = DataDir::at(&cluster.node(&server_name(cluster.name())).data_dir())?;
    let credentials = Credentials::read(&data.admin_kubeconfig())?;
    let name = context_name(cluster.name());
    kubeconfig::write_admin(&own_kubeconfig(cluster), &credentials.admin(&name, server_url(cluster)))
}

/// Merges the context into a user's file; says whether it is the current one there.
pub fn merge_into(cluster: &Cluster, path: &Path) -> Result<bool> {
    let credentials = Credentials::read(&own_kubeconfig(cluster))?;
    kubeconfig::merge_into(path, &credentials.admin(&context_name(cluster.name()), server_url(cluster)))
}

/// The cluster's API, as its administrator.
pub struct Access {
    client: Client,
    server: SocketAddr,
}

impl Access {
    pub async fn open(cluster: &Cluster) -> Result<Self> {
        let client = knarr_client::from_kubeconfig(&own_kubeconfig(cluster)).await?;
        Ok(Self { client, server: (server_address(cluster), PORT).into() })
    }

    /// Whether the server is there for requests.
    pub async fn check(&self) -> Result<()> {
        // Asked first, because the client library writes a line for each connection that is refused.
        let connected = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(self.server)).await;
        connected.context(UNANSWERED)?.context(UNANSWERED)?;
        let ready = self.client.request_text(http::Request::get("/readyz").body(Vec::new())?);
        in_time(ready).await.map(drop)
    }

    /// For each node why it is not ready, or `None` where it is and said so since a moment: one that lost its power
    /// looks ready for a while.
    pub async fn nodes(&self, since: Timestamp) -> Result<BTreeMap<String, Option<String>>> {
        let (nodes, leases) =
            (Api::<Node>::all(self.client.clone()), Api::<Lease>::namespaced(self.client.clone(), LEASES));
        let params = ListParams::default();
        let (nodes, leases) = in_time(async { tokio::try_join!(nodes.list(&params), leases.list(&params)) }).await?;
        let renewed = |name: &str| {
            let lease = leases.items.iter().find(|lease| lease.name_any() == name)?;
            Some(lease.spec.as_ref()?.renew_time.as_ref()?.0)
        };
        let state = |node: Node| {
            let name = node.name_any();
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
            let why = match ready {
                Some(ready) if ready.status == "True" => {
                    let fresh = renewed(&name).is_some_and(|renewed| renewed >= since);
                    (!fresh).then(|| "it has not renewed its lease".to_owned())
                }
                Some(ready) => Some(ready.message.unwrap_or_default()),
                None => Some("it has not said how it is".to_owned()),
            };
            (name, why)
        };
        Ok(nodes.items.into_iter().map(state).collect())
    }

    /// What further nodes join with.
    pub async fn token(&self) -> Result<String> {
        let (token, _) = token::make(&self.client, TOKEN_LIFE).await?;
        Ok(token.to_string())
    }

    /// Deletes a Node; one that is not there is no error.
    pub async fn forget(&self, name: &str) -> Result<()> {
        let nodes = Api::<Node>::all(self.client.clone());
        match in_time(nodes.delete(name, &DeleteParams::default())).await {
            Err(error) if is_not_found(&error) => Ok(()),
            deleted => deleted.map(drop),
        }
    }
}

const LEASES: &str = "kube-node-lease";
const UNANSWERED: &str = "the API server does not answer";

async fn in_time<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, request).await.context(UNANSWERED)?.context("the API server does not answer well")
}

fn is_not_found(error: &anyhow::Error) -> bool {
    let of_api = error.downcast_ref::<kube::Error>();
    matches!(of_api, Some(kube::Error::Api(status)) if status.code == 404)
}
