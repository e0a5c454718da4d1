//! What everyone types first.

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, host::outside, image::BUSYBOX};

use crate::Shared;

pub fn tests() -> Vec<(&'static str, Shared)> {
    vec![
        ("get_nodes", get_nodes),
        ("a_pod_runs_and_logs", a_pod_runs_and_logs),
        ("a_service_answers", a_service_answers),
    ]
}

fn get_nodes(cluster: &Cluster) -> Result<()> {
    let table = cluster.kubectl("get nodes")?;
    let mut lines = table.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    ensure!(columns == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"], "{table}");
    let node: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    ensure!(node[..2] == ["node-1", "Ready"] && node[4].starts_with("v1.36"), "{table}");
    Ok(())
}

fn a_pod_runs_and_logs(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("pod")?;
    cluster.kubectl_args(&[
        "run",
        "hello",
        "-n",
        &ns,
        "--image",
        BUSYBOX,
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "echo hello from $HOSTNAME",
    ])?;
    cluster.expect(&format!("pod/hello -n {ns}"), "{.status.phase}", "Succeeded")?;
    let log = cluster.kubectl(&format!("logs hello -n {ns}"))?;
    ensure!(log == "hello from hello\n", "{log:?}");
    cluster.kubectl(&format!("delete namespace {ns} --timeout=60s"))?;
    Ok(())
}

fn a_service_answers(cluster: &Cluster) -> Result<()> {
    let ns = cluster.namespace("demo")?;
    cluster.kubectl(&format!("apply -n {ns} -f {}/../../examples/demo.yaml", env!("CARGO_MANIFEST_DIR")))?;
    cluster.kubectl(&format!("rollout status deployment/demo -n {ns} --timeout=60s"))?;
    let url = format!("http://{}:30088/", cluster.address());
    let answer = knarr_e2e::command::succeed(outside("curl").args(["-sS", "--max-time", "5", &url]))?;
    ensure!(answer.starts_with("version=v1 "), "{answer:?}");
    cluster.kubectl(&format!("delete namespace {ns} --timeout=60s"))?;
    Ok(())
}
