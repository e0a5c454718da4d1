//! The downward API: a pod's own fields and resources as text, for env and for files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectFieldSelector, Pod, ResourceFieldSelector};

use super::{containers::Containers, qos};

/// What the node has to give, which is the limit of a container without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocatable {
    pub cpu_milli: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
}

/// A pod with what only the node knows of it yet.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub pod: &'a Pod,
    pub containers: &'a Containers,
    pub pod_ips: &'a [String],
    pub host_ips: &'a [String],
    pub allocatable: Allocatable,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    #[error("container {0} not found")]
    Container(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
}

/// The text of one field, such as `metadata.labels['app']` or `status.podIP`.
pub fn field(facts: Facts<'_>, selector: &ObjectFieldSelector) -> Result<String, DownwardError> {
    let meta = &facts.pod.metadata;
    let spec = facts.pod.spec.as_ref();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let path = selector.field_path.as_str();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(DownwardError::Field(path.to_owned())),
        };
        return Ok(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(DownwardError::Field(path.to_owned())),
    })
}

/// Splits `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A map as the kubelet writes it to a file: sorted `key="value"` lines.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

fn quoted(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for char in value.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The text of one request or limit, in units of its divisor and rounded up.
pub fn resource(facts: Facts<'_>, own: &str, selector: &ResourceFieldSelector) -> Result<String, DownwardError> {
    let name = selector.container_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(own);
    let entry = facts.containers.get(name).ok_or_else(|| DownwardError::Container(name.to_owned()))?;
    let unsupported = || DownwardError::Resource(selector.resource.clone());
    let (kind, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = entry.spec.resources.clone().unwrap_or_default();
    let has = |amounts: &Option<_>| amounts.as_ref().is_some_and(|map: &BTreeMap<_, _>| map.contains_key(resource));
    let amounts = match kind {
        "limits" => resources.limits.filter(|_| true),
        "requests" if has(&resources.requests) => resources.requests,
        "requests" => resources.limits,
        _ => return Err(unsupported()),
    };
    let given = has(&amounts);
    let divisor = selector.divisor.as_ref().map(|divisor| BTreeMap::from([(resource.to_owned(), divisor.clone())]));
    let (value, unit) = match resource {
        "cpu" => {
            let value = if given { qos::milli(amounts.as_ref(), resource) } else { facts.allocatable.cpu_milli };
            (value, qos::milli(divisor.as_ref(), resource).max(if divisor_set(&divisor, resource) { 1 } else { 1000 }))
        }
        "memory" | "ephemeral-storage" => {
            let whole =
                if resource == "memory" { facts.allocatable.memory_bytes } else { facts.allocatable.ephemeral_bytes };
            let value = if given { qos::whole(amounts.as_ref(), resource) } else { whole };
            (value, qos::whole(divisor.as_ref(), resource).max(1))
        }
        other if other.starts_with("hugepages-") => {
            (qos::whole(amounts.as_ref(), resource), qos::whole(divisor.as_ref(), resource).max(1))
        }
        _ => return Err(unsupported()),
    };
    // A request that nobody set is zero, not the node's capacity.
    let value = if kind == "requests" && !given { 0 } else { value };
    Ok(((value + unit - 1) / unit).to_string())
}

/// A divisor of `0`, which is what an unset one may be written as, counts as unset.
fn divisor_set(
    divisor: &Option<BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
    resource: &str,
) -> bool {
    qos::milli(divisor.as_ref(), resource) > 0
}
