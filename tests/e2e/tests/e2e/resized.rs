//! Resizes in place, as their conditions and events tell of them: agreed to, put off, refused, and not brought about.

use anyhow::{Context, Result, ensure};
use knarr_e2e::{Cluster, eventually, image::BUSYBOX};
use serde_json::{Value, json};

use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("resizes_say_how_far_they_are", resizes)]
}

fn pod(name: &str, cpu: u64, memory: &str) -> Value {
    let amounts = json!({"cpu": format!("{cpu}m"), "memory": memory});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "c", "image": BUSYBOX, "command": ["sleep", "1000"],
            "resources": {"requests": amounts, "limits": amounts},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"},
                {"resourceName": "memory", "restartPolicy": "NotRequired"}]}]}})
}

/// The cpus that pods on the node may ask for, and those that none has asked for, in thousandths.
fn cpus(cluster: &Cluster) -> Result<(u64, u64)> {
    let milli = |amount: &Value| -> Option<u64> {
        let text = amount.as_str()?;
        text.strip_suffix('m')
            .map_or_else(|| text.parse::<u64>().ok().map(|cores| cores * 1000), |text| text.parse().ok())
    };
    let all = milli(&cluster.get("node/node-1")?["status"]["allocatable"]["cpu"]).context("no cpus")?;
    let pods = cluster.get("pods -A --field-selector spec.nodeName=node-1")?;
    let containers =
        pods["items"].as_array().into_iter().flatten().flat_map(|pod| pod["spec"]["containers"].as_array());
    let asked: u64 = containers.flatten().filter_map(|one| milli(&one["resources"]["requests"]["cpu"])).sum();
    Ok((all, all.saturating_sub(asked)))
}

fn resizes(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("resizes")?;
    let (all, free) = cpus(cluster)?;
    let items = [pod("grows", 100, "64Mi"), pod("beside", free / 2, "16Mi")];
    cluster.apply(&ns, &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    cluster.kubectl(&format!("wait pod --all -n {ns} --for=condition=Ready --timeout=60s"))?;
    let grows = format!("pod/grows -n {ns}");
    let resize = |cpu: u64, memory: &str| {
        let amounts = json!({"cpu": format!("{cpu}m"), "memory": memory});
        let patch =
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": amounts, "limits": amounts}}]}});
        cluster.kubectl_args(&["patch", "pod", "grows", "-n", &ns, "--subresource", "resize", "-p", &patch.to_string()])
    };
    let condition = |kind: &str, wanted: &str| {
        let found = format!("{{.status.conditions[?(@.type==\"{kind}\")]");
        cluster.expect(&grows, &format!("{found}.status}} {found}.reason}}"), wanted)?;
        let pod = cluster.get(&grows)?;
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let one = conditions.into_iter().find(|one| one["type"] == *kind).unwrap_or_default();
        if !one.is_null() {
            ensure!(one["observedGeneration"] == pod["metadata"]["generation"], "{one}");
        }
        Ok(one["message"].as_str().unwrap_or_default().to_owned())
    };
    let has = |cpu: u64, memory: &str| {
        let status = "{.status.containerStatuses[0].resources.limits.cpu} {.status.containerStatuses[0].resources.limits.memory}";
        cluster.expect(&grows, status, &format!("{cpu}m {memory}"))
    };
    let told = |reason: &str| {
        eventually(reason, || {
            let events = cluster.kubectl(&format!("get events -n {ns} --field-selector reason={reason} -o name"))?;
            ensure!(!events.is_empty(), "no event");
            Ok(())
        })
    };

    resize(150, "80Mi")?;
    has(150, "80Mi")?;
    condition("PodResizeInProgress", " ")?;
    told("ResizeStarted")?;
    told("ResizeCompleted")?;

    resize(10_000_000, "80Mi")?;
    let why = condition("PodResizePending", "True Infeasible")?;
    let expected = "Node didn't have enough capacity: cpu, requested: 10000000, capacity: ";
    ensure!(why.starts_with(expected), "{why}");
    told("ResizeInfeasible")?;
    has(150, "80Mi")?;

    let wish = all - 100;
    resize(wish, "80Mi")?;
    let why = condition("PodResizePending", "True Deferred")?;
    let expected = format!("Node didn't have enough resource: cpu, requested: {wish}, used: ");
    ensure!(why.starts_with(&expected), "{why}");
    told("ResizeDeferred")?;
    has(150, "80Mi")?;
    cluster.kubectl(&format!("delete pod/beside -n {ns}"))?;
    has(wish, "80Mi")?;
    condition("PodResizePending", " ")?;

    // More is in use than it would be left with.
    let fill = "dd if=/dev/zero of=/dev/shm/x bs=1M count=48 2>/dev/null";
    cluster.kubectl_args(&["exec", "grows", "-n", &ns, "--", "sh", "-c", fill])?;
    resize(wish, "32Mi")?;
    let why = condition("PodResizeInProgress", "True Error")?;
    ensure!(why.contains("cannot decrease memory limits: ") && why.contains(" below current usage ("), "{why}");
    told("ResizeError")?;
    has(wish, "80Mi")?;
    cluster.kubectl_args(&["exec", "grows", "-n", &ns, "--", "rm", "/dev/shm/x"])?;
    has(wish, "32Mi")?;
    condition("PodResizeInProgress", " ")?;
    cluster.expect(&grows, "{.status.containerStatuses[0].restartCount}", "0")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
