//! The Service object `kube-system/kube-dns`, by which programs find the cluster's DNS address. It has no
//! endpoints: the address is served on every node by Knarr itself.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::{Api, api::PostParams};

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// Makes the Service if it is not there; tries until the API takes it. Once for a cluster, by the server: an agent
/// has no right to make Services.
pub async fn ensure(client: kube::Client, address: Ipv4Addr) {
    let services: Api<Service> = Api::namespaced(client, NAMESPACE);
    let mut pause = FIRST_PAUSE;
    loop {
        match ensure_once(&services, address).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "the Service {NAMESPACE}/{NAME} could not be made yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

async fn ensure_once(services: &Api<Service>, address: Ipv4Addr) -> kube::Result<()> {
    if let Some(found) = services.get_opt(NAME).await? {
        let has = found.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
        if has != address.to_string() {
            tracing::warn!("the Service {NAMESPACE}/{NAME} has the address {has}; pods are told {address}");
        }
        return Ok(());
    }
    match services.create(&PostParams::default(), &service(address)).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        other => other.map(drop),
    }
}

fn service(address: Ipv4Addr) -> Service {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let port = |name: &str, protocol: &str| ServicePort {
        name: Some(name.into()),
        protocol: Some(protocol.into()),
        port: 53,
        target_port: Some(IntOrString::Int(53)),
        ..ServicePort::default()
    };
    Service {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            namespace: Some(NAMESPACE.into()),
            labels: Some(BTreeMap::from([
                label("k8s-app", "kube-dns"),
                label("kubernetes.io/cluster-service", "true"),
                label("kubernetes.io/name", "CoreDNS"),
            ])),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".into()),
            cluster_ip: Some(address.to_string()),
            cluster_ips: Some(vec![address.to_string()]),
            ports: Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
