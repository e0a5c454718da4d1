//! Namespaces, priority classes, and how pods find the API server.

use knarr_api::volume::LOCAL_PROVISIONER;
use serde_json::{Value, json};

use super::BootstrapConfig;
use crate::alloc::DEFAULT_CIDR as SERVICE_CIDR;

pub(super) const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

pub(super) fn namespaces() -> Vec<Value> {
    NAMESPACES
        .iter()
        .map(|name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }))
        .collect()
}

pub(super) fn priority_classes() -> Vec<Value> {
    let class = |name: &str, value: i64, what: &str| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": { "name": name },
            "value": value,
            "description": what,
            "preemptionPolicy": "PreemptLowerPriority",
        })
    };
    vec![
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ]
}

/// What claims get their volumes from that say nothing else: directories on the node of their first pod.
pub(super) fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "local",
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
        },
        "provisioner": LOCAL_PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
    })
}

pub(super) fn service_cidr(config: &BootstrapConfig) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": { "name": SERVICE_CIDR },
        "spec": { "cidrs": [config.service_cidr] },
    })
}

/// What servers beside this one need in order to check client certificates as it does.
pub(super) fn authentication_config(config: &BootstrapConfig) -> Value {
    let mut data = json!({ "client-ca-file": config.client_authority });
    if let Some((authority, headers)) = &config.front_proxy {
        for (key, value) in headers.published(authority) {
            data[key] = value.into();
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "extension-apiserver-authentication", "namespace": "kube-system" },
        "data": data,
    })
}

pub(super) fn kubernetes_service(config: &BootstrapConfig) -> Value {
    let family = if config.service_address.is_ipv4() { "IPv4" } else { "IPv6" };
    let address = config.service_address.to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "component": "apiserver", "provider": "kubernetes" },
        },
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address],
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": [family],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": config.port }],
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
    })
}

pub(super) fn kubernetes_endpoints(config: &BootstrapConfig) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" },
        },
        "subsets": [{
            "addresses": [{ "ip": config.advertise_address }],
            "ports": [{ "name": "https", "port": config.port, "protocol": "TCP" }],
        }],
    })
}

pub(super) fn kubernetes_endpoint_slice(config: &BootstrapConfig) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": { "kubernetes.io/service-name": "kubernetes" },
        },
        "addressType": if config.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{ "addresses": [config.advertise_address], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": config.port, "protocol": "TCP" }],
    })
}
