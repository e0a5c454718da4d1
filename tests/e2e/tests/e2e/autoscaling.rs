//! What is used, and what follows from it.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use knarr_e2e::{Clients, Cluster, eventually, eventually_within};

use crate::{OnNodes, Shared};

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![("top_shows_what_is_used", top), ("an_autoscaler_says_what_it_lacks", complaints)]
}

pub fn on_nodes() -> Vec<(&'static str, OnNodes)> {
    vec![("an_autoscaler_goes_up_and_down_with_the_load", autoscaler)]
}

/// A pod that keeps a processor busy while there is a file in it.
const BUSY: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - name: main
          image: docker.io/library/busybox:1.35
          command: [sh, -c, 'while :; do [ -e /tmp/on ] || sleep 0.5; done']
          resources: {requests: {cpu: 50m, memory: 8Mi}, limits: {cpu: 400m}}
        - name: idle
          image: docker.io/library/busybox:1.35
          command: [sleep, '1000']
          resources: {requests: {cpu: 20m, memory: 8Mi}}
";

fn top(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("top")?;
    cluster.apply(&ns, BUSY)?;
    cluster.kubectl(&format!("rollout status deployment/busy -n {ns} --timeout=60s"))?;
    let text = eventually("the pod's use is known", || {
        cluster.kubectl(&format!("top pods -n {ns} --containers --no-headers -l app=busy"))
    })?;
    let names: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    ensure!(names == ["idle", "main"] || names == ["main", "idle"], "{text}");
    let whole = cluster.kubectl(&format!("top pods -n {ns}"))?;
    ensure!(whole.starts_with("NAME") && whole.contains("busy-") && whole.contains("Mi"), "{whole}");
    let nothing = cluster.kubectl(&format!("get pods.metrics.k8s.io -n {ns} -l app=other -o name"))?;
    ensure!(nothing.is_empty(), "{nothing}");
    let node = cluster.kubectl("top nodes --no-headers")?;
    let words: Vec<&str> = node.split_whitespace().collect();
    ensure!(words.len() == 5 && words[0] == "node-1" && words[1].ends_with('m') && words[4].ends_with('%'), "{node}");
    let table = cluster.kubectl("get nodes.metrics.k8s.io")?;
    ensure!(table.starts_with("NAME     CPU") && table.contains("WINDOW"), "{table}");
    cluster.expect("apiservice/v1beta1.metrics.k8s.io", "{.status.conditions[0].reason}", "Local")?;
    let page = cluster.kubectl("get --raw /api/v1/nodes/node-1/proxy/metrics/resource")?;
    ensure!(
        page.contains("container_cpu_usage_seconds_total{container=\"main\"")
            && page.contains("resource_scrape_error 0"),
        "{page}"
    );
    let summary = cluster.kubectl("get --raw /api/v1/nodes/node-1/proxy/stats/summary")?;
    ensure!(summary.contains("\"rxBytes\"") && summary.contains("\"process_count\""), "{summary}");
    cluster.kubectl(&format!("create serviceaccount reader -n {ns}"))?;
    let reader = format!("system:serviceaccount:{ns}:reader");
    let may =
        |what: &str| cluster.kubectl_command(&["auth", "can-i", "list", what, "-n", &ns, "--as", &reader]).output();
    ensure!(!may("pods.metrics.k8s.io")?.status.success(), "a stranger may not");
    cluster.kubectl(&format!("create rolebinding reader -n {ns} --clusterrole view --serviceaccount {ns}:reader"))?;
    eventually("a viewer may", || if may("pods.metrics.k8s.io")?.status.success() { Ok(()) } else { bail!("no") })?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn replicas(cluster: &Clients, ns: &str, wanted: &str) -> Result<()> {
    let hpa = eventually_within(Duration::from_secs(40), &format!("{wanted} replicas"), || {
        let ready = "-o=jsonpath={.status.readyReplicas}";
        let now = cluster.kubectl_args(&["get", "deployment/busy", "-n", ns, ready])?;
        if now == wanted {
            return Ok(());
        }
        bail!("{now} of {wanted}\n{}", cluster.kubectl(&format!("describe hpa busy -n {ns}"))?)
    });
    hpa.map(drop)
}

fn autoscaler(cluster: &Clients) -> Result<()> {
    let ns = cluster.namespace("autoscale")?;
    cluster.apply(&ns, BUSY)?;
    let hpa = "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  minReplicas: 1
  maxReplicas: 5
  metrics:
    - {type: ContainerResource, containerResource: {name: cpu, container: main, target: {type: Utilization, averageUtilization: 50}}}
    - {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 100Mi}}}
  behavior: {scaleDown: {stabilizationWindowSeconds: 0}}
";
    cluster.apply(&ns, hpa)?;
    cluster.kubectl(&format!("rollout status deployment/busy -n {ns} --timeout=60s"))?;
    let pod = cluster.kubectl(&format!("get pods -n {ns} -l app=busy -o name"))?;
    cluster.kubectl(&format!("exec -n {ns} {} -c main -- touch /tmp/on", pod.trim()))?;
    replicas(cluster, &ns, "5")?;
    let shown = cluster.kubectl(&format!("get hpa busy -n {ns} --no-headers"))?;
    ensure!(shown.contains("Deployment/busy") && shown.contains("%/50%") && shown.contains("/100Mi"), "{shown}");
    let described = cluster.kubectl(&format!("describe hpa busy -n {ns}"))?;
    for part in [
        "ValidMetricFound",
        "SuccessfulRescale",
        "cpu container resource utilization (percentage of request) above target",
    ] {
        ensure!(described.contains(part), "no {part:?} in {described}");
    }
    cluster.kubectl(&format!("exec -n {ns} {} -c main -- rm /tmp/on", pod.trim()))?;
    replicas(cluster, &ns, "1")?;
    let described = cluster.kubectl(&format!("describe hpa busy -n {ns}"))?;
    ensure!(described.contains("New size: 1; reason: All metrics below target"), "{described}");
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}

fn complaints(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("complain")?;
    cluster.kubectl(&format!("create deployment web -n {ns} --image knarr.local/demo:v1"))?;
    cluster.kubectl(&format!("autoscale deployment web -n {ns} --min 1 --max 3 --cpu 50%"))?;
    cluster.kubectl(&format!("create deployment gone -n {ns} --image knarr.local/demo:v1 --replicas 0"))?;
    cluster.kubectl(&format!("autoscale deployment gone -n {ns} --min 1 --max 3 --cpu 50%"))?;
    cluster.kubectl(&format!("delete deployment gone -n {ns}"))?;
    let says = |name: &str, kind: &str, wanted: &str| {
        eventually(wanted, || {
            let path = format!("-o=jsonpath={{.status.conditions[?(@.type==\"{kind}\")].message}}");
            let message = cluster.kubectl_args(&["get", "hpa", name, "-n", &ns, &path])?;
            if message.contains(wanted) { Ok(()) } else { bail!("{message:?}") }
        })
    };
    says(
        "gone",
        "AbleToScale",
        "the HPA controller was unable to get the target's current scale: deployments.apps \"gone\" not found",
    )?;
    says(
        "web",
        "ScalingActive",
        "the HPA was unable to compute the replica count: failed to get cpu utilization: missing request for cpu in container demo of Pod web-",
    )?;
    let v1 = cluster.kubectl(&format!(
        "get horizontalpodautoscalers.v1.autoscaling web -n {ns} -o=jsonpath={{.spec.targetCPUUtilizationPercentage}}"
    ))?;
    ensure!(v1 == "50", "{v1}");
    let pods = "{\"spec\":{\"metrics\":[{\"type\":\"Pods\",\"pods\":{\"metric\":{\"name\":\"hits\"},\"target\":{\"type\":\"AverageValue\",\"averageValue\":\"1\"}}}]}}";
    cluster.kubectl_args(&["patch", "hpa", "web", "-n", &ns, "--type", "merge", "-p", pods])?;
    says("web", "ScalingActive", "no custom metrics API (custom.metrics.k8s.io) registered")?;
    cluster.kubectl(&format!("delete namespace {ns} --wait=false"))?;
    Ok(())
}
