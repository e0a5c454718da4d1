//! Usage as objects of `metrics.k8s.io/v1beta1`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use knarr_api::quantity::{Format, Quantity};
use knarr_client::lean::Pod;
use serde_json::{Value, json};

use crate::{GROUP, VERSION, samples::Usage};

pub fn node(node: &Node, usage: Usage) -> Option<Value> {
    let name = node.metadata.name.as_deref()?;
    let mut object = object("NodeMetrics", usage.at_ms, usage.window_ms);
    object["metadata"] = metadata(name, None, node.metadata.labels.as_ref(), usage.at_ms);
    object["usage"] = amounts(usage);
    Some(object)
}

/// A pod's time is that of its oldest reading.
pub fn pod(pod: &Pod, containers: Vec<(String, Usage)>) -> Option<Value> {
    let (name, namespace) = (pod.metadata.name.as_deref()?, pod.metadata.namespace.as_deref());
    let oldest = containers.iter().map(|(_, usage)| usage).min_by_key(|usage| usage.at_ms)?;
    let mut object = object("PodMetrics", oldest.at_ms, oldest.window_ms);
    object["metadata"] = metadata(name, namespace, pod.metadata.labels.as_ref(), oldest.at_ms);
    object["containers"] =
        containers.iter().map(|(name, usage)| json!({"name": name, "usage": amounts(*usage)})).collect();
    Some(object)
}

fn object(kind: &str, at_ms: i64, window_ms: i64) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
        "timestamp": time(at_ms), "window": duration(window_ms),
    })
}

fn metadata(name: &str, namespace: Option<&str>, labels: Option<&BTreeMap<String, String>>, at_ms: i64) -> Value {
    let mut meta = json!({"name": name, "creationTimestamp": time(at_ms)});
    if let Some(namespace) = namespace {
        meta["namespace"] = namespace.into();
    }
    if let Some(labels) = labels {
        meta["labels"] = json!(labels);
    }
    meta
}

fn amounts(usage: Usage) -> Value {
    let nanos = (usage.cores * 1e9).round().clamp(0.0, 1e18) as i64;
    let cpu = Quantity::or_zero(&format!("{nanos}n").into());
    let bytes = i64::try_from(usage.memory_bytes).unwrap_or(i64::MAX);
    json!({"cpu": cpu.to_string(), "memory": Quantity::new(bytes, Format::BinarySi).to_string()})
}

fn time(ms: i64) -> String {
    Timestamp::from_second(ms.div_euclid(1000)).unwrap_or_default().to_string()
}

/// As Go writes durations: `1m2.5s`, `10s`, `9.034s`.
fn duration(ms: i64) -> String {
    let (minutes, ms) = (ms / 60_000, ms % 60_000);
    let fraction = format!("{:03}", ms % 1000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let minutes = if minutes > 0 { format!("{minutes}m") } else { String::new() };
    format!("{minutes}{}{point}{fraction}s", ms / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_as_quantities() {
        for (cores, memory_bytes, cpu, memory) in
            [(0.0, 0, "0", "0"), (0.000_156_25, 4096, "156250n", "4Ki"), (1.5, 1025, "1500m", "1025")]
        {
            let usage = Usage { cores, memory_bytes, at_ms: 0, window_ms: 1 };
            assert_eq!(amounts(usage), json!({"cpu": cpu, "memory": memory}));
        }
    }

    #[test]
    fn durations_are_gos() {
        for (ms, text) in [(10_000, "10s"), (9_034, "9.034s"), (10_500, "10.5s"), (62_500, "1m2.5s")] {
            assert_eq!(duration(ms), text);
        }
    }
}
