//! What a pod takes of its node that others cannot have as well: amounts, and ports of the host.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use knarr_api::host_port::HostPort;

use super::qos::pod_request_milli;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Of each resource, in the units that messages have: thousandths for cpu, whole ones for the rest. The resources
    /// that every node has come first, as upstream looks at them.
    pub amounts: Vec<(String, i64)>,
    pub host_ports: Vec<HostPort>,
}

const USUAL: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

impl Demand {
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let others = others(spec).into_iter().filter(|name| !USUAL.contains(name));
        let amounts = USUAL.into_iter().chain(others).map(|resource| {
            let milli = pod_request_milli(pod, resource);
            (resource.to_owned(), if resource == "cpu" { milli } else { milli / 1000 })
        });
        Self { amounts: amounts.collect(), host_ports: host_ports(spec) }
    }

    pub fn amount(&self, resource: &str) -> i64 {
        self.amounts.iter().find(|(name, _)| name == resource).map_or(0, |(_, amount)| *amount)
    }
}

/// The names of all resources that the pod asks for.
fn others(spec: &PodSpec) -> BTreeSet<&str> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let own = containers.filter_map(|container| container.resources.as_ref()).chain(&spec.resources);
    let amounts = own.flat_map(|resources| [&resources.requests, &resources.limits]).flatten();
    amounts.flat_map(BTreeMap::keys).map(String::as_str).collect()
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let stays = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(stays);
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| HostPort::asked(port.host_port, port.host_ip.as_deref(), port.protocol.as_deref()))
        .collect()
}
