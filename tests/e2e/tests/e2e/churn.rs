//! Pods that come and go by the hundred, with `kill -9` in between and without: no container is lost, runs twice or stays
//! behind, and when all are gone the machine has what it had before.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use knarr_e2e::{
    Cluster, eventually_within,
    image::BUSYBOX,
    traces::{Held, Traces, bytes_below, processes, shims},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::{
    runtime::Runtime,
    time::{sleep, timeout},
};

use crate::Alone;

/// With this in the environment all is done ten times as often as continuous integration has time for.
const ALL: &str = "KNARR_TEST_ALL";
const KILLS: usize = 20;
const WORKERS: usize = 4;
const LOOPED_PODS: usize = 200;
const BATCH: usize = 25;
/// How much longer a machine that is busy with other work may take for what is over in a second.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the server may hold more after the loop: the events of the last hour, and what the allocator has not given back.
const MORE_MEMORY_KIB: u64 = 64 * 1024;
const MORE_DISK: u64 = 64 << 20;
/// Those of the runtime and of parts that have their own, 24 for what waits for the kernel, and some that a request or a
/// look at the disk had to itself.
const MOST_THREADS: usize = 16 + 24 + 24;
/// A thread that has nothing to do waits this long for work, and a little.
const IDLE_THREADS: Duration = Duration::from_secs(15);

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("kills_under_pod_churn_lose_and_double_nothing", storm), ("pods_in_a_loop_leave_nothing_behind", looped)]
}

fn times(usual: usize) -> usize {
    if env::var_os(ALL).is_some() { usual * 10 } else { usual }
}

/// A pod whose process can be told from all others by its words.
fn pod(name: &str) -> Result<Pod> {
    let line = format!("while :; do sleep 3; done; : {}", mark(name));
    Ok(serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": "churn"}}, "spec": {
        "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "c", "image": BUSYBOX, "command": ["sh", "-c", line],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}}))?)
}

fn mark(name: &str) -> String {
    format!("churn-{}-{name}", std::process::id())
}

/// How many processes there are of each pod.
fn running() -> BTreeMap<String, usize> {
    let prefix = mark("");
    let mut found = BTreeMap::new();
    for words in processes().filter(|words| words.first().is_some_and(|word| word == "sh")) {
        if let Some(name) = words.last().and_then(|line| line.rsplit_once(&prefix)).map(|(_, name)| name.to_owned()) {
            *found.entry(name).or_default() += 1;
        }
    }
    found
}

/// A cluster that has had a pod, and what it has without one.
fn rested(cluster: &mut Cluster, ns: &str, runtime: &Runtime) -> Result<(Api<Pod>, Traces)> {
    let client = runtime.block_on(cluster.client())?;
    let pods: Api<Pod> = Api::namespaced(client, ns);
    runtime.block_on(pods.create(&PostParams::default(), &pod("first")?))?;
    cluster.kubectl(&format!("wait pod/first -n {ns} --for=condition=Ready --timeout=60s"))?;
    cluster.kubectl(&format!("delete pod first -n {ns}"))?;
    // What goes with the pod goes on for a moment after it is gone from the API.
    eventually_within(PATIENCE, "its shim has ended", || {
        let left = shims(cluster)?;
        if left.is_empty() { Ok(()) } else { bail!("{left:?}") }
    })?;
    std::thread::sleep(Duration::from_secs(1));
    Ok((pods, Traces::take(cluster)?))
}

fn is_as_before(cluster: &Cluster, before: &Traces) -> Result<()> {
    eventually_within(PATIENCE, "all is as before", || {
        let left = before.difference(&Traces::take(cluster)?);
        if left.is_empty() { Ok(()) } else { bail!("left behind:\n{}", left.join("\n")) }
    })
}

/// What the workers want to be there, or do not care about as they were not told.
#[derive(Default)]
struct Wishes {
    kept: BTreeSet<String>,
    gone: BTreeSet<String>,
}

type Shared = Arc<Mutex<Wishes>>;

fn storm() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let ns = cluster.namespace("churn")?;
    let runtime = Runtime::new()?;
    let (pods, before) = rested(&mut cluster, &ns, &runtime)?;
    for name in ["steady-0", "steady-1", "steady-2"] {
        runtime.block_on(pods.create(&PostParams::default(), &pod(name)?))?;
    }
    cluster.kubectl(&format!("wait pod -l app=churn -n {ns} --for=condition=Ready --timeout=60s"))?;
    let steady = |cluster: &Cluster| {
        let ids = "{.items[*].status.containerStatuses[*].containerID}";
        cluster.kubectl(&format!("get pods steady-0 steady-1 steady-2 -n {ns} -o jsonpath={ids}"))
    };
    let containers = steady(&cluster)?;

    let (wishes, stop) = (Shared::default(), Arc::new(AtomicBool::new(false)));
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let workers: Vec<_> =
        (0..WORKERS).map(|n| runtime.spawn(churn(pods.clone(), n, seed, wishes.clone(), stop.clone()))).collect();
    let mut random = StdRng::seed_from_u64(seed);
    let mut agents_said = String::new();
    for _ in 0..times(KILLS) {
        std::thread::sleep(Duration::from_millis(random.random_range(50..900)));
        agents_said.push_str(&cluster.kill()?.all());
        let twice = || running().into_iter().filter(|(_, count)| *count > 1).collect::<Vec<_>>();
        // A child looks like its parent until it runs what it was made for. Nobody starts or ends pods meanwhile.
        eventually_within(Duration::from_secs(10), "each pod runs once at the most", || {
            let twice = twice();
            if twice.is_empty() { Ok(()) } else { bail!("these run twice: {twice:?}") }
        })?;
        cluster.spawn()?;
    }
    cluster.wait_ready()?;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        runtime.block_on(worker)?;
    }
    let wishes = std::mem::take(&mut *wishes.lock().unwrap_or_else(PoisonError::into_inner));
    println!("{} pods are to be there, {} were deleted", wishes.kept.len(), wishes.gone.len());
    ensure!(wishes.kept.len() + wishes.gone.len() > times(KILLS) / 3, "too few pods came and went");
    eventually_within(PATIENCE, "each pod that there is runs once, and no other", || {
        let listed = runtime.block_on(pods.list(&ListParams::default()))?;
        let names: BTreeMap<String, usize> = listed.items.iter().map(|pod| (pod.name_any(), 1)).collect();
        let lost: Vec<_> = wishes.kept.iter().filter(|name| !names.contains_key(*name)).collect();
        let stayed: Vec<_> = wishes.gone.iter().filter(|name| names.contains_key(*name)).collect();
        ensure!(lost.is_empty() && stayed.is_empty(), "lost {lost:?}, not deleted {stayed:?}");
        let found = running();
        let unlike = |name: &str| found.get(name) != names.get(name);
        let more: Vec<_> = found.iter().filter(|(name, _)| unlike(name)).collect();
        let others = listed.items.iter().filter(|pod| unlike(&pod.name_any()));
        let others: Vec<_> = others.map(|pod| (pod.name_any(), serde_json::to_string(&pod.status))).collect();
        ensure!(found == names, "{more:?} run, and these do not or not once: {others:?}");
        Ok(())
    })?;
    if steady(&cluster)? != containers {
        let statuses = "{range .items[*]}{.metadata.name}={.metadata.uid} {.status.containerStatuses}{\"\\n\"}{end}";
        let now = cluster.kubectl_args(&["get", "pods", "-n", &ns, "-o", &format!("jsonpath={statuses}")])?;
        let now: Vec<&str> = now.lines().filter(|line| line.starts_with("steady")).collect();
        let events = cluster.kubectl(&format!("get events -n {ns}"))?;
        let events: Vec<&str> = events.lines().filter(|line| line.contains("steady")).collect();
        agents_said.push_str(&cluster.kill()?.all());
        let said: Vec<&str> = agents_said.lines().filter(|line| !line.is_empty()).collect();
        let said = [now, events, said[said.len().saturating_sub(100)..].to_vec()].concat();
        bail!("the containers {containers} are now:\n{}", said.join("\n"));
    }
    runtime.block_on(pods.delete_collection(&DeleteParams::default(), &ListParams::default()))?;
    eventually_within(PATIENCE, "the pods are gone", || {
        let left = runtime.block_on(pods.list(&ListParams::default()))?.items.len();
        if left == 0 { Ok(()) } else { bail!("{left} are left") }
    })?;
    eventually_within(PATIENCE, "their processes are gone", || {
        let orphans = running();
        if orphans.is_empty() { Ok(()) } else { bail!("{orphans:?}") }
    })?;
    is_as_before(&cluster, &before)?;
    cluster.reset().map(drop)
}

/// Creates, changes and deletes pods, and keeps every fifth.
async fn churn(pods: Api<Pod>, worker: usize, seed: u64, wishes: Shared, stop: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(seed ^ worker as u64);
    let patience = Duration::from_secs(5);
    let note = |act: &dyn Fn(&mut Wishes)| act(&mut wishes.lock().unwrap_or_else(PoisonError::into_inner));
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let name = format!("w{worker}-{number}");
        let Ok(pod) = pod(&name) else { return };
        // Whether it was made is not known if this fails; then nothing is expected of it.
        if !matches!(timeout(patience, pods.create(&PostParams::default(), &pod)).await, Ok(Ok(_))) {
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        sleep(Duration::from_millis(random.random_range(0..1500))).await;
        let label = Patch::Merge(
            json!({"metadata": {"annotations": {"changed": "yes"}}, "spec": {"activeDeadlineSeconds": 100_000}}),
        );
        let _ = timeout(patience, pods.patch(&name, &PatchParams::default(), &label)).await;
        if number % 5 == 0 {
            note(&|wishes| wishes.kept.extend([name.clone()]));
            continue;
        }
        sleep(Duration::from_millis(random.random_range(0..500))).await;
        loop {
            match timeout(patience, pods.delete(&name, &DeleteParams::default())).await {
                Ok(Ok(_)) => break,
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => break,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
        note(&|wishes| wishes.gone.extend([name.clone()]));
    }
}

fn looped() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let ns = cluster.namespace("loop")?;
    let runtime = Runtime::new()?;
    let (pods, before) = rested(&mut cluster, &ns, &runtime)?;
    // The first rounds fill what is kept for later.
    for round in 0..2 {
        runtime.block_on(round_of(&pods, round))?;
    }
    let pid = cluster.pid().context("the cluster does not run")?;
    let (held, disk) = (Held::by(pid)?, bytes_below(&cluster.data_dir()));
    let rounds = times(LOOPED_PODS) / BATCH;
    for round in 0..rounds {
        runtime.block_on(round_of(&pods, round + 2))?;
    }
    is_as_before(&cluster, &before)?;
    let at_once = (Held::by(pid)?, bytes_below(&cluster.data_dir()));
    // The last events of each kind are held for those who watch, for 90 s after a burst of thousands.
    let patience = if env::var_os(ALL).is_some() { PATIENCE } else { IDLE_THREADS };
    eventually_within(patience, "the server has what it had before", || {
        let (after, disk_after) = (Held::by(pid)?, bytes_below(&cluster.data_dir()));
        ensure!(after.files <= held.files + 8, "{} open files became {}", held.files, after.files);
        ensure!(after.threads <= MOST_THREADS, "there are {} threads", after.threads);
        ensure!(after.memory_kib <= held.memory_kib + MORE_MEMORY_KIB, "{held:?} became {after:?}");
        ensure!(disk_after <= disk + MORE_DISK, "{disk} bytes became {disk_after}");
        println!("{} pods: {held:?} and {disk} bytes on disk, {at_once:?} then, {after:?} now", rounds * BATCH);
        Ok(())
    })?;
    cluster.reset().map(drop)
}

/// Some pods at once, from nothing to running to nothing.
async fn round_of(pods: &Api<Pod>, round: usize) -> Result<()> {
    for number in 0..BATCH {
        pods.create(&PostParams::default(), &pod(&format!("r{round}-{number}"))?).await?;
    }
    let all = async |what: &str, holds: &dyn Fn(&[Pod]) -> bool| -> Result<()> {
        let look = async {
            loop {
                let found = pods.list(&ListParams::default()).await?.items;
                if holds(&found) {
                    return Ok(());
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, look).await.with_context(|| format!("round {round}: not {what}"))?
    };
    let runs = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    all("all run", &|found: &[Pod]| found.len() == BATCH && found.iter().all(runs)).await?;
    pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    all("all are gone", &|found: &[Pod]| found.is_empty()).await
}
