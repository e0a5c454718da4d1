//! As many real pods on one node as upstream allows by default, and more than twice as many: how long it takes until all
//! are Ready, and what server, node and shims cost at rest; then those that upstream allows on an agent that has no server
//! beside it.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result, ensure};
use knarr_e2e::{Cluster, Local, eventually_within, traces};
use serde_json::json;

use crate::cluster::{PATIENCE_MANY, SETTLE_MANY, cpu_percent, memory_kib};

/// Upstream's default.
const ALLOWED: usize = 110;

pub fn run() -> Result<()> {
    [ALLOWED, 250].into_iter().try_for_each(of)?;
    on_an_agent()
}

/// Pods of the built-in image, all Ready.
fn deploy(pods: usize, kubectl: impl Fn(&str) -> Result<String>) -> Result<()> {
    kubectl(&format!("create deployment web --image=knarr.local/demo:v1 --replicas={pods}"))?;
    eventually_within(PATIENCE_MANY, "all pods are Ready", || {
        let ready = kubectl("get deployment web -o jsonpath={.status.readyReplicas}")?;
        ensure!(ready == pods.to_string(), "{ready} are");
        Ok(())
    })
}

fn on_an_agent() -> Result<()> {
    let local = Local::create("bench", 2, &[])?;
    local.kubectl(&format!("cordon {}", local.node_name("server")))?;
    deploy(ALLOWED, |line| local.kubectl(line))?;
    std::thread::sleep(SETTLE_MANY);
    let agent = PathBuf::from(format!("/proc/{}", local.program_of("agent-1")?));
    let (pss, _) = memory_kib(&agent)?;
    let cpu = cpu_percent(std::slice::from_ref(&agent))?;
    println!(
        "{}",
        json!({"case": "density", "what": "an agent alone", "pods": ALLOWED, "agent_pss_mib": pss / 1024,
            "cpu_percent_of_a_core": cpu})
    );
    Ok(())
}

fn of(pods: usize) -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start_with(&["--max-pods", &pods.to_string()])?;
    let begun = Instant::now();
    deploy(pods, |line| cluster.kubectl(line))?;
    let took = begun.elapsed();
    std::thread::sleep(SETTLE_MANY);
    let pid = cluster.pid().context("the cluster does not run")?;
    let own = PathBuf::from(format!("/proc/{pid}"));
    let program = fs::read_link(own.join("exe"))?;
    let run_dir = cluster.run_dir()?;
    let is_shim = |path: &PathBuf| {
        let words = fs::read(path.join("cmdline")).unwrap_or_default();
        let words: Vec<_> = words.split(|byte| *byte == 0).collect();
        words.get(1) == Some(&&b"shim"[..])
            && words.get(2).is_some_and(|dir| dir.starts_with(run_dir.as_os_str().as_encoded_bytes()))
    };
    let all = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    let shims: Vec<PathBuf> = all.filter(is_shim).collect();
    ensure!(shims.len() == pods, "{} shims for {pods} pods of {}", shims.len(), program.display());
    let mut shim_kib = Vec::new();
    for shim in &shims {
        shim_kib.push(memory_kib(shim)?.0);
    }
    let mean = shim_kib.iter().sum::<u64>() as f64 / shim_kib.len() as f64;
    let cpu = (cpu_percent(std::slice::from_ref(&own))?, cpu_percent(&shims)?);
    println!(
        "{}",
        json!({"case": "density", "pods": pods, "all_ready_s": (took.as_secs_f64() * 100.0).round() / 100.0,
            "server_and_node_pss_mib": memory_kib(&own)?.0 / 1024, "private_mib": traces::Held::by(pid)?.memory_kib / 1024,
            "shim_pss_kib": mean.round(), "shim_most_kib": shim_kib.iter().max(),
            "cpu_percent_of_a_core": cpu.0, "shims_cpu_percent": cpu.1})
    );
    let begun = Instant::now();
    cluster.kubectl("delete deployment web --wait=false")?;
    eventually_within(PATIENCE_MANY, "all pods are gone", || {
        let left = traces::shims(&cluster)?.len();
        ensure!(left == 0, "{left} are left");
        Ok(())
    })?;
    println!(
        "{}",
        json!({"case": "density", "pods": pods, "all_gone_s": (begun.elapsed().as_secs_f64() * 100.0).round() / 100.0})
    );
    cluster.reset().map(drop)
}
