//! What an operation costs with few objects and watchers, and with ten times as many of both.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use knarr_client::https::{Endpoint, Https};
use knarr_e2e::Cluster;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams, WatchParams},
    client::ConfigExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use crate::cluster::{memory_kib, report};

/// Objects, and watchers of one of ten namespaces that they lie in.
const SIZES: [(usize, usize); 2] = [(5_000, 100), (50_000, 1_000)];
const NAMESPACES: usize = 10;
const AT_ONCE: usize = 32;
const OPERATIONS: usize = 1_000;
const SETTLE: Duration = Duration::from_secs(15);

pub fn run() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(sizes(&cluster))?;
    drop(runtime);
    cluster.reset()?;
    Ok(())
}

async fn sizes(cluster: &Cluster) -> Result<()> {
    let client = cluster.client().await?;
    let server = Path::new("/proc").join(cluster.pid().context("the cluster does not run")?.to_string());
    let memory = || -> Result<f64> { Ok(memory_kib(&server)?.0 as f64) };
    for number in 0..NAMESPACES {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": format!("n{number}")}}))?;
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    }
    tokio::time::sleep(SETTLE).await;
    let (empty, mut there) = (memory()?, 0);
    for (objects, watchers) in SIZES {
        fill(&client, there..objects).await?;
        there = objects;
        tokio::time::sleep(SETTLE).await;
        let full = memory()?;
        let watches = watch(cluster, watchers).await?;
        tokio::time::sleep(SETTLE).await;
        let watched = memory()?;
        println!(
            "{}",
            json!({"case": "scale", "what": "memory", "objects": objects, "watchers": watchers,
                "kib_each_object": tenths((full - empty) / objects as f64),
                "kib_each_watcher": tenths((watched - full) / watchers as f64), "server_pss_mib": (watched / 1024.0) as u64})
        );
        operations(&client, objects).await?;
        for watch in watches {
            watch.abort();
        }
    }
    Ok(())
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// About 3 KB as it is stored. Pods that no scheduler takes, so that nothing but the server is measured.
fn pod(number: usize) -> Value {
    let env: Vec<Value> = (0..9)
        .map(|at| json!({"name": format!("VARIABLE_{at}"), "value": format!("value-{at}-of-{number}")}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("p{number}"), "labels": {"app": format!("app-{}", number % 100)}},
        "spec": {"schedulerName": "nobody", "containers": [{"name": "app", "image": "registry.local/app:1.0", "env": env}]}})
}

fn namespace(number: usize) -> String {
    format!("n{}", number % NAMESPACES)
}

async fn fill(client: &Client, numbers: std::ops::Range<usize>) -> Result<()> {
    let made = stream::iter(numbers).map(|number| async move {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace(number));
        pods.create(&PostParams::default(), &serde_json::from_value(pod(number))?).await?;
        anyhow::Ok(())
    });
    made.buffer_unordered(AT_ONCE).fold(Ok(()), |all, one| async move { all.and(one) }).await
}

/// Watches that have nothing to tell but bookmarks. They share their connections, as those of client-go do: a connection
/// of its own would cost several times what a watch does.
async fn watch(cluster: &Cluster, count: usize) -> Result<Vec<tokio::task::JoinHandle<()>>> {
    let mut watches = Vec::new();
    let config = Kubeconfig::read_from(cluster.kubeconfig())?;
    let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    let url = config.cluster_url.to_string();
    let tls = config.rustls_client_config()?;
    let client = Https::new(Endpoint { url, tls, token: None, patience: SETTLE, seed: 1 })?.client("knarr-bench");
    for number in 0..count {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace(number));
        let of_none = WatchParams::default().labels("app=none");
        let mut changes = pods.watch(&of_none, "0").await?.boxed();
        watches.push(tokio::spawn(async move { while changes.next().await.is_some() {} }));
    }
    Ok(watches)
}

async fn operations(client: &Client, objects: usize) -> Result<()> {
    let what = |name: &str| format!("{name}, {objects} objects");
    let pods = |number: usize| -> Api<Pod> { Api::namespaced(client.clone(), &namespace(number)) };
    let step = objects / OPERATIONS;
    let mut times = timed(|at| async move {
        let number = at * step;
        pods(number).get(&format!("p{number}")).await.map(drop)
    })
    .await?;
    report("scale", &what("get"), &mut times);
    let mut times = timed(|at| async move {
        let number = at * step;
        let change = json!({"metadata": {"labels": {"round": format!("{objects}-{at}")}}});
        pods(number).patch(&format!("p{number}"), &PatchParams::default(), &Patch::Merge(change)).await.map(drop)
    })
    .await?;
    report("scale", &what("patch"), &mut times);
    let mut times = timed(|at| async move {
        let mut apply = pod(at * step);
        apply["metadata"]["annotations"] = json!({"round": objects.to_string()});
        let name = apply["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let params = PatchParams::apply("bench").force();
        pods(at * step).patch(&name, &params, &Patch::Apply(apply)).await.map(drop)
    })
    .await?;
    report("scale", &what("apply"), &mut times);
    let mut times = timed(|at| async move {
        let page = ListParams::default().limit(50).labels(&format!("app=app-{}", at % 100));
        // Every hundredth pod is of one application, and they lie in one namespace.
        pods(at % 100).list(&page).await.map(|list| assert!(!list.items.is_empty(), "nothing is listed"))
    })
    .await?;
    report("scale", &what("list a page by label"), &mut times);
    let extra = 1_000_000 + objects;
    let mut times = timed(|at| async move {
        let new = serde_json::from_value(pod(extra + at)).map_err(kube::Error::SerdeError)?;
        pods(extra + at).create(&PostParams::default(), &new).await.map(drop)
    })
    .await?;
    report("scale", &what("create"), &mut times);
    Ok(())
}

/// One after another, so that what is timed is the operation and no queue.
async fn timed<F: Future<Output = kube::Result<()>>>(act: impl Fn(usize) -> F) -> Result<Vec<Duration>> {
    let mut times = Vec::with_capacity(OPERATIONS);
    for at in 0..OPERATIONS {
        let begun = Instant::now();
        act(at).await?;
        times.push(begun.elapsed());
    }
    Ok(times)
}
