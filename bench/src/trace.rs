//! Where the time of a pod's start goes: the steps that the scheduler, the node and the runtime tell of, in the order in
//! which they begin.

use std::collections::BTreeMap;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use knarr_e2e::Cluster;
use kube::Api;
use serde_json::{Value, json};

use crate::cluster::make_ready;

const PODS: usize = 20;

/// One step of one pod, as a line of the log says it.
struct Step {
    pod: String,
    name: String,
    ended: Timestamp,
    took: SignedDuration,
}

/// What a step was in one pod's start: when it began first, and how long it took in all.
struct Part {
    begun_ms: f64,
    took_ms: f64,
    times: usize,
}

pub fn run() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.set_env("RUST_LOG", "warn,pod_start=debug");
    cluster.set_env("KNARR_LOG_FORMAT", "json");
    cluster.start()?;
    let starts = tokio::runtime::Runtime::new()?.block_on(starts(&cluster))?;
    let said = cluster.kill()?.all();
    cluster.reset()?;
    let steps: Vec<Step> = said.lines().filter_map(step).collect();
    let mut parts: BTreeMap<String, Vec<Part>> = BTreeMap::new();
    for (pod, created, ready) in &starts {
        for (name, part) in of_pod(&steps, pod, *created, *ready) {
            parts.entry(name).or_default().push(part);
        }
    }
    let mut rows: Vec<(f64, Value)> = parts.into_iter().map(|(name, parts)| row(&name, &parts)).collect();
    rows.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    rows.iter().for_each(|(_, row)| println!("{row}"));
    let all: Vec<f64> = starts.iter().map(|(_, created, ready)| ms(ready.duration_since(*created))).collect();
    println!("{}", json!({"case": "trace", "step": "create to Ready, as a watch sees it", "took_ms": median(all)}));
    Ok(())
}

/// Real pods with a readiness probe, one after another: what each is called in the log, when its creation was asked for
/// and when a watch saw it Ready.
async fn starts(cluster: &Cluster) -> Result<Vec<(String, Timestamp, Timestamp)>> {
    let pods: Api<Pod> = Api::namespaced(cluster.client().await?, "default");
    // A command succeeds at once; who connects may come before the server listens, and again only after a second.
    let probe = json!({"exec": {"command": ["/knarr", "--version"]}});
    let mut starts = Vec::new();
    for number in 0..PODS {
        let name = format!("bench-{number}");
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "web", "image": "knarr.local/demo:v1", "readinessProbe": probe}]}});
        let created = Timestamp::now();
        let uid = make_ready(&pods, &serde_json::from_value(pod)?).await?;
        starts.push((format!("{name}_default({uid})"), created, Timestamp::now()));
    }
    Ok(starts)
}

/// A line about the end of a step; a step within others says whose it is in the outermost of them.
fn step(line: &str) -> Option<Step> {
    let line: Value = serde_json::from_str(line).ok()?;
    let (span, fields) = (&line["span"], &line["fields"]);
    let around = line["spans"].as_array().into_iter().flatten();
    let pod = around.chain([span]).find_map(|span| span["pod"].as_str())?;
    (line["target"] == "pod_start" && fields["message"] == "close").then_some(())?;
    Some(Step {
        pod: pod.to_owned(),
        name: span["name"].as_str()?.to_owned(),
        ended: line["timestamp"].as_str()?.parse().ok()?,
        took: length(fields["time.busy"].as_str()?)? + length(fields["time.idle"].as_str()?)?,
    })
}

/// As `tracing` writes it: `1.23ms`.
fn length(text: &str) -> Option<SignedDuration> {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let seconds = match &text[unit..] {
        "ns" => 1e-9,
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    SignedDuration::try_from_secs_f64(text[..unit].parse::<f64>().ok()? * seconds).ok()
}

fn of_pod(steps: &[Step], pod: &str, created: Timestamp, ready: Timestamp) -> BTreeMap<String, Part> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for step in steps.iter().filter(|step| step.pod == pod && step.ended <= ready) {
        let begun_ms = ms((step.ended - step.took).duration_since(created));
        let part = parts.entry(step.name.clone()).or_insert(Part { begun_ms, took_ms: 0.0, times: 0 });
        part.begun_ms = part.begun_ms.min(begun_ms);
        part.took_ms += ms(step.took);
        part.times += 1;
    }
    parts
}

fn row(name: &str, parts: &[Part]) -> (f64, Value) {
    let of = |value: fn(&Part) -> f64| median(parts.iter().map(value).collect());
    let begun = of(|part| part.begun_ms);
    let (took, times) = (of(|part| part.took_ms), of(|part| part.times as f64));
    (
        begun,
        json!({"case": "trace", "step": name, "begun_ms": begun, "took_ms": took, "times": times, "pods": parts.len()}),
    )
}

fn ms(length: SignedDuration) -> f64 {
    length.as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).map_or(f64::NAN, |value| (value * 100.0).round() / 100.0)
}
