//! What Endpoints and EndpointSlices have in common: which pods stand behind a Service, and on which ports.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};
use knarr_client::{
    Informer, ObjectKey, WorkQueue,
    lean::{Container, Pod},
    meta,
};

use super::{pods, selector};

/// On Endpoints: old clients elect their leaders by them, without a Service, and change them with every renewal.
pub const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// A port as it is on one pod: a Service may name a port that is another number on each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResolvedPort {
    pub name: String,
    pub protocol: String,
    pub port: i32,
    pub app_protocol: Option<String>,
}

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

pub fn publishes_unready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}

/// The pods a Service selects; `None` where it has no selector, and whoever made it keeps its endpoints.
pub fn selected(service: &Service, pods: &Informer<Pod>) -> Option<Vec<Arc<Pod>>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let wanted = spec.selector.as_ref().filter(|labels| !labels.is_empty())?;
    let mut pods = pods.in_namespace(meta::namespace(&service.metadata));
    pods.retain(|pod| selector::map_matches(wanted, &pod.metadata));
    Some(pods)
}

/// An address of the pod in this family.
pub fn address(pod: &Pod, is_ipv6: bool) -> Option<&str> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).chain(status.pod_ip.as_deref());
    all.filter(|address| !address.is_empty()).find(|address| address.contains(':') == is_ipv6)
}

pub fn resolve_ports(service: &Service, pod: &Pod) -> Vec<ResolvedPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.filter_map(|port| Some(resolved(port, target(port, pod)?))).collect()
}

fn resolved(port: &ServicePort, number: i32) -> ResolvedPort {
    ResolvedPort {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port: number,
        app_protocol: port.app_protocol.clone(),
    }
}

fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars =
                spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let mut containers = spec.containers.iter().chain(sidecars);
            containers.find_map(|container| named_port(container, name, port.protocol.as_deref().unwrap_or("TCP")))
        }
    }
}

fn named_port(container: &Container, name: &str, protocol: &str) -> Option<i32> {
    let mut ports = container.ports.iter().flatten();
    let port =
        ports.find(|port| port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol);
    port.map(|port| port.container_port)
}

/// The name by which DNS finds a single pod of a Service.
pub fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is_of_service = spec.subdomain.as_deref() == service.metadata.name.as_deref();
    spec.hostname.clone().filter(|hostname| is_of_service && !hostname.is_empty())
}

/// Puts every Service into the queue that a changed pod is, or was, behind.
pub fn feed_by_pods(queue: &WorkQueue<ObjectKey>, services: &Informer<Service>, pods: &Informer<Pod>) {
    let services = services.clone();
    pods.feed(queue, move |change| {
        let latest = change.latest();
        if let (Some(old), Some(new)) = (&change.old, &change.new)
            && look_alike(old, new)
        {
            return Vec::new();
        }
        let behind = |service: &Arc<Service>| {
            let wanted = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let sides = [&change.old, &change.new];
            wanted.is_some_and(|wanted| {
                sides.into_iter().flatten().any(|pod| selector::map_matches(wanted, &pod.metadata))
            })
        };
        let services = services.in_namespace(meta::namespace(&latest.metadata));
        services.iter().filter(|service| behind(service)).map(|service| ObjectKey::of(&**service)).collect::<Vec<_>>()
    });
}

/// Nothing that an endpoint shows differs.
fn look_alike(a: &Pod, b: &Pod) -> bool {
    let seen = |pod: &Pod| {
        let ips = pod.status.as_ref().map(|status| (status.pod_ip.clone(), status.pod_ips.clone()));
        let spec =
            pod.spec.as_ref().map(|spec| (spec.hostname.clone(), spec.subdomain.clone(), spec.node_name.clone()));
        (ips, spec, pods::is_ready(pod), pods::is_terminal(pod), pods::is_terminating(pod), pod.metadata.labels.clone())
    };
    seen(a) == seen(b)
}
