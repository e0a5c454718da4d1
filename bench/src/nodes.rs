//! A local cluster of five nodes: how long it takes to make, what a further node costs, and the server with pods on all.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use knarr_e2e::{Local, eventually};
use serde_json::json;

use crate::cluster::{memory_kib, report};

const MADE: usize = 5;
const NODES: u32 = 5;
const PODS: u32 = 100;
/// What a start needs for a moment only is given back by then.
const SETTLE: Duration = Duration::from_secs(20);

pub fn run() -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..MADE {
        let local = Local::create("bench", NODES, &[])?;
        times.push(local.took);
        let said = local.delete()?;
        ensure!(said.code == 0, "{}", said.all());
    }
    report("local cluster", &format!("create to all {NODES} Ready"), &mut times);
    let local = Local::create("bench", NODES, &[])?;
    footprint("fresh", &local)?;
    local.kubectl(&format!("create deployment web --image=knarr.local/demo:v1 --replicas={PODS} --port=8080"))?;
    eventually("all pods are Ready", || {
        let ready = local.kubectl("get deployment web -o jsonpath={.status.readyReplicas}")?;
        ensure!(ready == PODS.to_string(), "{ready} are");
        Ok(())
    })?;
    footprint(&format!("with {PODS} pods"), &local)
}

/// The server's memory, and the mean of the agents'. Process 1 of a node is counted to it; shims and what runs in pods
/// are the pods'.
fn footprint(when: &str, local: &Local) -> Result<()> {
    std::thread::sleep(SETTLE);
    let of = |name: &str| -> Result<f64> {
        let init = local.node(name)?["pid"].as_u64().context("the node does not run")?;
        let processes = [init.to_string(), local.program_of(name)?.to_string()];
        let kib = processes.iter().map(|pid| memory_kib(&Path::new("/proc").join(pid)).map(|(pss, _)| pss));
        Ok(kib.sum::<Result<u64>>()? as f64 / 1024.0)
    };
    let agents = (1..NODES).map(|number| of(&format!("agent-{number}"))).collect::<Result<Vec<f64>>>()?;
    let mean = agents.iter().sum::<f64>() / agents.len() as f64;
    let tenths = |mib: f64| (mib * 10.0).round() / 10.0;
    println!(
        "{}",
        json!({"case": "local cluster", "what": when, "server_pss_mib": tenths(of("server")?), "agent_pss_mib":
            tenths(mean), "shims": shims(local)?})
    );
    Ok(())
}

fn shims(local: &Local) -> Result<usize> {
    let program = local.program_of("server")?;
    let program = fs::read_link(format!("/proc/{program}/exe"))?;
    let all = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    let is_shim = |path: &PathBuf| {
        let words = fs::read(path.join("cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).nth(1) == Some(b"shim")
            && fs::read_link(path.join("exe")).is_ok_and(|exe| exe == program)
    };
    Ok(all.filter(is_shim).count())
}
