//! The process itself: start, stop, kill, reset.

use std::process::Command;

use anyhow::{Result, ensure};
use knarr_e2e::{Cluster, command::run, host::Footprint, image::BUSYBOX};

use crate::Alone;

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![
        ("reset_leaves_the_host_as_found", reset_leaves_the_host_as_found),
        ("pods_outlive_a_kill", pods_outlive_a_kill),
    ]
}

fn reset_leaves_the_host_as_found() -> Result<()> {
    let before = Footprint::take()?;
    let mut cluster = Cluster::new()?;
    let took = cluster.start()?;
    println!("node Ready after {} ms", took.as_millis());
    let ns = cluster.namespace("reset")?;
    cluster.kubectl(&format!("create deployment web -n {ns} --image=knarr.local/demo:v1 --replicas=2 --port=8080"))?;
    cluster.kubectl(&format!("expose deployment web -n {ns} --type=NodePort --port=80 --target-port=8080"))?;
    cluster.kubectl(&format!("rollout status deployment/web -n {ns} --timeout=60s"))?;
    let said = cluster.reset()?;
    ensure!(said.code == 0, "{}", said.all());
    let difference = before.difference(&Footprint::take()?);
    ensure!(difference.is_empty(), "left behind:\n{}", difference.join("\n"));
    ensure!(!cluster.data_dir().exists(), "the data directory is still there");
    Ok(())
}

fn pods_outlive_a_kill() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let ns = cluster.namespace("kill")?;
    cluster.kubectl_args(&[
        "run",
        "steady",
        "-n",
        &ns,
        "--image",
        BUSYBOX,
        "--",
        "sh",
        "-c",
        "while true; do sleep 1; done",
    ])?;
    cluster.kubectl(&format!("wait pod/steady -n {ns} --for=condition=Ready --timeout=60s"))?;
    let pids = || run(Command::new("pgrep").args(["-f", "while true; do sleep 1"])).map(|said| said.stdout);
    let before = pids()?;
    ensure!(!before.trim().is_empty(), "the container's process was not found");
    for _ in 0..3 {
        cluster.kill()?;
        cluster.start()?;
    }
    ensure!(pids()? == before, "the container's processes changed: {before:?} to {:?}", pids()?);
    let pod = cluster.get(&format!("pod/steady -n {ns}"))?;
    ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0, "{}", pod["status"]);
    Ok(())
}
