//! A whole cluster of one node: how long it takes to start, what it costs while nothing happens, how fast pods come.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use knarr_e2e::Cluster;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;

const STARTS: usize = 5;
const PODS: usize = 20;
const SETTLE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(30);
/// The same where there are hundreds of pods.
pub const SETTLE_MANY: Duration = Duration::from_secs(30);
pub const PATIENCE_MANY: Duration = Duration::from_secs(180);
/// `_SC_CLK_TCK`, which is 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(starts())?;
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    footprint("fresh", &cluster)?;
    runtime.block_on(pods(&cluster))?;
    footprint("after pods came and went", &cluster)?;
    cluster.reset()?;
    Ok(())
}

/// From `exec` to answers, on an empty directory and on one that has been used.
async fn starts() -> Result<()> {
    for what in ["first start", "start again"] {
        let (mut ready, mut node_ready) = (Vec::new(), Vec::new());
        for _ in 0..STARTS {
            let mut cluster = Cluster::new()?;
            if what == "start again" {
                cluster.start()?;
                cluster.kill()?;
            }
            let (begun, since) = (Instant::now(), jiff::Timestamp::now());
            cluster.spawn()?;
            let client = until(|| async { client(&cluster).await }).await?;
            until(|| async { Ok(client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?) }).await?;
            ready.push(begun.elapsed());
            until(|| check_ready(&client, since)).await?;
            node_ready.push(begun.elapsed());
            let said = cluster.reset()?;
            ensure!(said.code == 0, "{}", said.all());
        }
        report(what, "to /readyz", &mut ready);
        report(what, "to Node Ready", &mut node_ready);
    }
    Ok(())
}

/// Whether the node is Ready, and said so since a moment: a killed process leaves one that looks it.
async fn check_ready(client: &Client, since: jiff::Timestamp) -> Result<()> {
    let node = Api::<Node>::all(client.clone()).get("node-1").await?;
    let lease = Api::<Lease>::namespaced(client.clone(), "kube-node-lease").get("node-1").await?;
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let renewed = lease.spec.and_then(|spec| spec.renew_time);
    ensure!(is_ready && renewed.is_some_and(|renewed| renewed.0 >= since), "not ready");
    Ok(())
}

async fn client(cluster: &Cluster) -> Result<Client> {
    ensure!(cluster.kubeconfig().exists(), "no kubeconfig yet");
    cluster.client().await
}

async fn until<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

pub fn report(case: &str, what: &str, times: &mut [Duration]) {
    times.sort();
    let ms = |at: usize| times.get(at).map(|time| (time.as_secs_f64() * 1e4).round() / 10.0);
    println!(
        "{}",
        json!({"case": case, "what": what, "n": times.len(), "p50_ms": ms(times.len() / 2),
            "least_ms": ms(0), "most_ms": ms(times.len().saturating_sub(1))})
    );
}

/// Memory and processor time of every process of the cluster; what runs in pods is not Knarr's.
pub fn footprint(when: &str, cluster: &Cluster) -> Result<()> {
    std::thread::sleep(SETTLE);
    let processes = processes(cluster)?;
    let used = cpu_percent(&processes)?;
    let mut kib = (0, 0);
    for process in &processes {
        let (pss, rss) = memory_kib(process)?;
        kib = (kib.0 + pss, kib.1 + rss);
    }
    println!(
        "{}",
        json!({"case": "idle", "what": when, "processes": processes.len(), "pss_mib": kib.0 / 1024,
            "rss_mib": kib.1 / 1024, "cpu_percent_of_a_core": used})
    );
    Ok(())
}

/// What processes use of a core while nothing happens, in percent.
pub fn cpu_percent(processes: &[PathBuf]) -> Result<f64> {
    let before = ticks(processes)?;
    let begun = Instant::now();
    std::thread::sleep(IDLE);
    let used = (ticks(processes)? - before) as f64 / TICKS_PER_SECOND / begun.elapsed().as_secs_f64();
    Ok((used * 1e4).round() / 100.0)
}

/// What a process has of memory: its share of what several have (PSS), and all that it has (RSS).
pub fn memory_kib(process: &Path) -> Result<(u64, u64)> {
    let memory = fs::read_to_string(process.join("smaps_rollup"))?;
    let of = |name: &str| -> Option<u64> {
        memory.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix(" kB")?.parse().ok()
    };
    of("Pss:").zip(of("Rss:")).context("no memory is shown")
}

/// The processes that run the program itself: the server with the node, and one shim for each pod.
fn processes(cluster: &Cluster) -> Result<Vec<PathBuf>> {
    let pid = cluster.pid().context("the cluster does not run")?;
    let program = fs::read_link(format!("/proc/{pid}/exe"))?;
    let all = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    Ok(all.filter(|path| fs::read_link(path.join("exe")).is_ok_and(|exe| exe == program)).collect())
}

/// Fields 14 and 15 of `/proc/PID/stat`: user and system time.
fn ticks(processes: &[PathBuf]) -> Result<u64> {
    let of = |process: &Path| -> Result<u64> {
        let stat = fs::read_to_string(process.join("stat"))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
    };
    processes.iter().map(|process| of(process)).sum()
}

/// Makes a pod, waits until it is Ready and gives its uid.
pub async fn make_ready(pods: &Api<Pod>, pod: &Pod) -> Result<String> {
    let created = pods.create(&PostParams::default(), pod).await?;
    let (name, version) = (created.name_any(), created.resource_version().unwrap_or_default());
    let mut changes =
        pods.watch(&WatchParams::default().fields(&format!("metadata.name={name}")), &version).await?.boxed();
    let ready = async {
        while let Some(change) = changes.next().await {
            let WatchEvent::Modified(pod) = change? else { continue };
            let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
            if conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
                return Ok(());
            }
        }
        bail!("the watch ended before {name} was Ready")
    };
    tokio::time::timeout(PATIENCE, ready).await??;
    Ok(created.uid().unwrap_or_default())
}

/// Real pods of the built-in image, one after another: from the request to Ready, and what the shims of all cost.
async fn pods(cluster: &Cluster) -> Result<()> {
    let client = cluster.client().await?;
    let pods: Api<Pod> = Api::namespaced(client, "default");
    let mut times = Vec::new();
    for number in 0..PODS {
        let name = format!("bench-{number}");
        let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "containers": [{"name": "web", "image": "knarr.local/demo:v1"}]}}))?;
        let begun = Instant::now();
        make_ready(&pods, &pod).await?;
        times.push(begun.elapsed());
    }
    report("pod", "create to Ready, one by one", &mut times);
    tokio::task::block_in_place(|| footprint(&format!("with {PODS} pods"), cluster))?;
    let begun = Instant::now();
    pods.delete_collection(&DeleteParams::default(), &Default::default()).await?;
    until(|| async {
        let left = pods.list(&Default::default()).await?.items.len();
        if left == 0 { Ok(()) } else { bail!("{left} pods are left") }
    })
    .await?;
    report("pod", &format!("{PODS} deleted and gone"), &mut [begun.elapsed()]);
    Ok(())
}
