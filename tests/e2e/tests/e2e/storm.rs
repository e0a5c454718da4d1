//! `kill -9` a hundred times at random instants under write load: what was acknowledged is there, no revision is
//! used twice, a watch that resumes misses nothing, and containers never notice.

use std::{
    collections::{BTreeMap, HashSet},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use knarr_e2e::{Cluster, command, image::BUSYBOX};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::time::sleep;

use crate::Alone;

const KILLS: usize = 100;
const WRITERS: usize = 8;

pub fn tests() -> Vec<(&'static str, Alone)> {
    vec![("a_hundred_kills_lose_nothing", storm)]
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    acknowledged: BTreeMap<String, u64>,
    watched: Vec<(String, u64)>,
    broken: Option<String>,
}

type Shared = Arc<Mutex<Seen>>;

fn with<T>(seen: &Shared, act: impl FnOnce(&mut Seen) -> T) -> T {
    act(&mut seen.lock().unwrap_or_else(PoisonError::into_inner))
}

fn version(map: &ConfigMap) -> Result<u64> {
    map.resource_version().context("no resourceVersion")?.parse().context("a resourceVersion that is no number")
}

fn storm() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let ns = cluster.namespace("storm")?;
    let line = format!("while true; do sleep 3; : {}; done", std::process::id());
    cluster.kubectl_args(&["run", "steady", "-n", &ns, "--image", BUSYBOX, "--", "sh", "-c", &line])?;
    cluster.kubectl(&format!("wait pod/steady -n {ns} --for=condition=Ready --timeout=60s"))?;
    let pids =
        || command::run(Command::new("pgrep").args(["-f", "-x", &format!("sh -c {line}")])).map(|said| said.stdout);
    let before = pids()?;
    ensure!(!before.is_empty(), "the container's process was not found");

    let runtime = tokio::runtime::Runtime::new()?;
    let seen = Shared::default();
    let stop = Arc::new(AtomicBool::new(false));
    let client = runtime.block_on(cluster.client())?;
    let maps: Api<ConfigMap> = Api::namespaced(client, &ns);
    let first = runtime.block_on(maps.list(&ListParams::default()))?;
    let from = first.metadata.resource_version.context("no list version")?;
    let watcher = runtime.spawn(watch(maps.clone(), from.clone(), seen.clone(), stop.clone()));
    let writers: Vec<_> =
        (0..WRITERS).map(|n| runtime.spawn(write(maps.clone(), n, seen.clone(), stop.clone()))).collect();

    let seed = rand::random();
    println!("seed {seed}");
    kill_again_and_again(&mut cluster, seed)?;
    cluster.wait_ready()?;
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        runtime.block_on(writer)?;
    }
    let listed = runtime.block_on(maps.list(&ListParams::default()))?;
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), caught_up(&seen, &listed.items)).await })??;
    watcher.abort();

    check(&seen, &listed.items, from.parse()?)?;
    ensure!(pids()? == before, "the container's processes changed from {before:?} to {:?}", pids()?);
    let pod = cluster.get(&format!("pod/steady -n {ns}"))?;
    ensure!(pod["status"]["containerStatuses"][0]["restartCount"] == 0, "{}", pod["status"]);
    Ok(())
}

fn kill_again_and_again(cluster: &mut Cluster, seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(random.random_range(50..900)));
        cluster.kill()?;
        cluster.spawn()?;
    }
    Ok(())
}

async fn write(maps: Api<ConfigMap>, writer: usize, seen: Shared, stop: Arc<AtomicBool>) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let name = format!("w{writer}-{n}");
        let map = ConfigMap {
            metadata: kube::api::ObjectMeta { name: Some(name.clone()), ..Default::default() },
            ..Default::default()
        };
        match tokio::time::timeout(Duration::from_secs(5), maps.create(&PostParams::default(), &map)).await {
            Ok(Ok(created)) => match version(&created) {
                Ok(version) => with(&seen, |seen| {
                    seen.acknowledged.insert(name, version);
                }),
                Err(error) => with(&seen, |seen| seen.broken = Some(format!("{error:#}"))),
            },
            // Whether it was written is not known, and the name is not used again.
            Ok(Err(_)) | Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Watches from `from` on and resumes wherever it was cut off.
async fn watch(maps: Api<ConfigMap>, from: String, seen: Shared, stop: Arc<AtomicBool>) {
    let mut last = from;
    while !stop.load(Ordering::Relaxed) || with(&seen, |seen| seen.broken.is_none()) {
        let params = WatchParams::default().timeout(280);
        let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(5), maps.watch(&params, &last)).await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let mut stream = std::pin::pin!(stream);
        while let Some(Ok(event)) = stream.next().await {
            match event {
                WatchEvent::Added(map) | WatchEvent::Modified(map) | WatchEvent::Deleted(map) => {
                    last = map.resource_version().unwrap_or_default();
                    let version = last.parse().unwrap_or(0);
                    with(&seen, |seen| seen.watched.push((map.name_any(), version)));
                }
                WatchEvent::Bookmark(mark) => last = mark.metadata.resource_version,
                WatchEvent::Error(error) => {
                    with(&seen, |seen| seen.broken = Some(format!("the watch from {last} was refused: {error:?}")));
                    return;
                }
            }
        }
    }
}

/// Waits until the watch has seen the newest object, or broke.
async fn caught_up(seen: &Shared, listed: &[ConfigMap]) -> Result<()> {
    let newest = listed.iter().filter_map(|map| version(map).ok()).max().unwrap_or(0);
    loop {
        let (reached, broken) =
            with(seen, |seen| (seen.watched.last().is_some_and(|(_, v)| *v >= newest), seen.broken.clone()));
        if let Some(broken) = broken {
            bail!(broken);
        }
        if reached {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

fn check(seen: &Shared, listed: &[ConfigMap], from: u64) -> Result<()> {
    let present: BTreeMap<String, u64> =
        listed.iter().map(|map| Ok((map.name_any(), version(map)?))).collect::<Result<_>>()?;
    with(seen, |seen| {
        println!(
            "{} writes acknowledged, {} events watched over {KILLS} kills",
            seen.acknowledged.len(),
            seen.watched.len()
        );
        ensure!(seen.acknowledged.len() > 500, "only {} writes were acknowledged", seen.acknowledged.len());
        for (name, version) in &seen.acknowledged {
            ensure!(present.get(name) == Some(version), "{name} at {version} is now at {:?}", present.get(name));
        }
        let versions: HashSet<u64> = present.values().copied().collect();
        ensure!(versions.len() == present.len(), "a revision was used twice");
        ensure!(seen.watched.is_sorted_by(|a, b| a.1 < b.1), "the watch went back in time");
        let mut expected: Vec<(String, u64)> = present.into_iter().filter(|(_, version)| *version > from).collect();
        expected.sort_by_key(|(_, version)| *version);
        ensure!(seen.watched == expected, "the watch saw {} of {} events", seen.watched.len(), expected.len());
        Ok(())
    })
}
