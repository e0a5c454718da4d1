//! The types of `metrics.k8s.io`, which are no part of Kubernetes' own API and so of no library of its types.

use serde_json::{Map, Value, json};

const GROUP: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1";

/// Group, version, kind and definition.
pub fn kinds() -> impl Iterator<Item = (String, String, String, String)> {
    ["NodeMetrics", "PodMetrics"]
        .into_iter()
        .map(|kind| ("metrics.k8s.io".to_owned(), "v1beta1".to_owned(), kind.to_owned(), format!("{GROUP}.{kind}")))
}

pub fn definitions() -> Map<String, Value> {
    let reference = |name: &str| json!(format!("#/$defs/{name}"));
    let usage = json!({
        "type": "object",
        "description": "The memory usage is the memory working set.",
        "additionalProperties": {"$ref": reference("io.k8s.apimachinery.pkg.api.resource.Quantity")},
    });
    let kind = |description: &str, own: &str, value: &Value| {
        let mut properties = json!({
            "apiVersion": {"type": "string", "description": "APIVersion defines the versioned schema of this representation of an object."},
            "kind": {"type": "string", "description": "Kind is a string value representing the REST resource this object represents."},
            "metadata": {"$ref": reference("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"), "description": "Standard object's metadata."},
            "timestamp": {"$ref": reference("io.k8s.apimachinery.pkg.apis.meta.v1.Time"), "description": "The end of the interval from which the metrics were collected: [Timestamp-Window, Timestamp]."},
            "window": {"type": "string", "description": "The length of that interval, as in 15s."},
        });
        properties[own] = value.clone();
        json!({"type": "object", "description": description, "properties": properties})
    };
    let containers = json!({
        "type": "array",
        "description": "Metrics for all containers, collected within the same time window.",
        "items": {"$ref": reference(&format!("{GROUP}.ContainerMetrics"))},
    });
    let container = json!({
        "type": "object",
        "description": "ContainerMetrics sets resource usage metrics of a container.",
        "properties": {
            "name": {"type": "string", "description": "Container name corresponding to the one from pod.spec.containers."},
            "usage": usage,
        },
    });
    let named = [
        ("NodeMetrics", kind("NodeMetrics sets resource usage metrics of a node.", "usage", &usage)),
        ("PodMetrics", kind("PodMetrics sets resource usage metrics of a pod.", "containers", &containers)),
        ("ContainerMetrics", container),
    ];
    named.into_iter().map(|(name, definition)| (format!("{GROUP}.{name}"), definition)).collect()
}
