//! What pods use, as the Metrics API tells it.

use std::collections::BTreeMap;

use http::Request;
use jiff::{SignedDuration, Timestamp};
use knarr_api::quantity::Quantity;
use knarr_client::errors;
use serde::Deserialize;
use serde_json::Value;

use super::replicas::{Use, Uses};

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<PodMetrics>,
}

#[derive(Debug, Deserialize)]
pub struct PodMetrics {
    metadata: Named,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Debug, Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, Value>,
}

/// The metrics of the pods that a selector, as a Scale has it, selects.
pub async fn of_pods(client: &kube::Client, namespace: &str, selector: &str) -> Result<Vec<PodMetrics>, String> {
    let unable = |error: String| format!("unable to fetch metrics from resource metrics API: {error}");
    let query: String = [selector].iter().flat_map(|text| text.bytes()).map(escaped).collect();
    let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods?labelSelector={query}");
    let request = Request::get(path).body(Vec::new()).map_err(|error| unable(error.to_string()))?;
    let list: List = client.request(request).await.map_err(|error| unable(errors::message(&error)))?;
    match list.items.is_empty() {
        true => Err("no metrics returned from resource metrics API".into()),
        false => Ok(list.items),
    }
}

fn escaped(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    }
}

/// What each pod uses of a resource: all its containers together, or the one that is named. A pod of whose containers
/// one is not known is left out.
pub fn uses(all: &[PodMetrics], resource: &str, only: Option<&str>) -> Result<Uses, String> {
    let mut uses = Uses::new();
    for pod in all {
        let milli =
            |container: &ContainerMetrics| container.usage.get(resource).map(|v| Quantity::or_zero(v).milli_value());
        let found = match only {
            Some(name) => {
                let container = pod.containers.iter().find(|container| container.name == name);
                let Named { name: pod, namespace } = &pod.metadata;
                let missing = || format!("container {name} not present in metrics for pod {namespace}/{pod}");
                milli(container.ok_or_else(missing)?)
            }
            None => pod.containers.iter().map(milli).sum(),
        };
        if let Some(milli) = found {
            let window = duration(&pod.window).unwrap_or(SignedDuration::from_secs(60));
            uses.insert(pod.metadata.name.clone(), Use { milli, at: pod.timestamp, window });
        }
    }
    Ok(uses)
}

/// A duration as Go writes it: `1m2.5s`, `15s`, `500ms`.
fn duration(text: &str) -> Option<SignedDuration> {
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(digits);
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let scale = match &unit[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = &unit[end..];
    }
    SignedDuration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in
            [("15s", Some(15_000)), ("1m2.5s", Some(62_500)), ("500ms", Some(500)), ("5", None), ("x", None)]
        {
            assert_eq!(duration(text).map(|found| found.as_millis()), ms, "{text}");
        }
    }

    #[test]
    fn containers_add_up() {
        let metrics = |containers: Value| {
            let metadata = json!({"name": "p", "namespace": "n"});
            let value = json!({"metadata": metadata, "timestamp": "2026-01-01T00:00:00Z", "window": "10s", "containers": containers});
            [serde_json::from_value::<PodMetrics>(value).unwrap()]
        };
        let two = metrics(
            json!([{"name": "a", "usage": {"cpu": "1500000n"}}, {"name": "b", "usage": {"cpu": "1", "memory": "1Ki"}}]),
        );
        let milli = |only, resource| uses(&two, resource, only).map(|uses| uses.get("p").map(|used| used.milli));
        assert_eq!(milli(None, "cpu"), Ok(Some(1002)));
        assert_eq!(milli(Some("b"), "cpu"), Ok(Some(1000)));
        assert_eq!(milli(None, "memory"), Ok(None));
        assert_eq!(milli(Some("c"), "cpu"), Err("container c not present in metrics for pod n/p".into()));
    }
}
