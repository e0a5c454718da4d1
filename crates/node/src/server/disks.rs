//! How full the pods' volumes are and how long their logs, as it was found a moment ago. Walking folders and asking
//! drivers takes its time; who asks waits only a little for it, and nothing is measured twice at once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use knarr_client::meta;
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{
    pod::{containers::Containers, context::Context},
    volume::{Measurable, Usage, measurable, reach},
};

/// As long as kubelets go by one reading.
const PERIOD: Duration = Duration::from_secs(60);
/// What takes longer is told the next time.
const PATIENCE: Duration = Duration::from_secs(2);

/// What one pod takes of disks.
#[derive(Default)]
pub struct Found {
    pub volumes: Vec<(Measurable, Usage)>,
    /// By container.
    pub logs: BTreeMap<String, Usage>,
}

#[derive(Default)]
struct Entry {
    read_at: Option<Instant>,
    found: Arc<Found>,
    under_way: Option<JoinHandle<Found>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.under_way.iter().for_each(JoinHandle::abort);
    }
}

/// By the pods' UIDs.
#[derive(Default)]
pub struct Disks(Mutex<HashMap<String, Entry>>);

impl Disks {
    pub async fn of(&self, ctx: &Arc<Context>, pods: &[Arc<Pod>]) -> HashMap<String, Arc<Found>> {
        let mut entries = self.0.lock().await;
        let uids: HashSet<&str> = pods.iter().map(|pod| meta::uid(&pod.metadata)).collect();
        entries.retain(|uid, _| uids.contains(uid.as_str()));
        for pod in pods {
            let entry = entries.entry(meta::uid(&pod.metadata).to_owned()).or_default();
            let is_old = entry.read_at.is_none_or(|at| at.elapsed() > PERIOD);
            if is_old && entry.under_way.is_none() {
                entry.under_way = Some(tokio::spawn(measure(ctx.clone(), pod.clone())));
            }
        }
        let deadline = Instant::now() + PATIENCE;
        for entry in entries.values_mut() {
            let Some(task) = &mut entry.under_way else { continue };
            if let Ok(done) = timeout_at(deadline, task).await {
                entry.found = done.unwrap_or_default().into();
                entry.read_at = Some(Instant::now());
                entry.under_way = None;
            }
        }
        entries.iter().map(|(uid, entry)| (uid.clone(), entry.found.clone())).collect()
    }
}

async fn measure(ctx: Arc<Context>, pod: Arc<Pod>) -> Found {
    let uid = meta::uid(&pod.metadata).to_owned();
    let (dir, logs, csi) = (ctx.pod_dir.join(&uid), ctx.log_folder(&pod), ctx.csi.clone());
    let here = knarr_os::aside(move || {
        let brought = csi.brought(&uid);
        let by_driver = |volume: &Measurable| brought.iter().find(|record| record.path == volume.path).cloned();
        let volumes = measurable(&pod, &dir).into_iter();
        let volumes = volumes.map(|volume| (by_driver(&volume), volume)).collect::<Vec<_>>();
        let names = Containers::of(&pod).entries.into_iter().map(|entry| entry.name().to_owned());
        let logs = names.filter_map(|name| Some((name.clone(), Usage::of_folder(&logs.join(name)).ok()?))).collect();
        (volumes, logs)
    });
    let Ok((volumes, logs)) = here.await else { return Found::default() };
    let mut found = Found { volumes: Vec::new(), logs };
    for (record, volume) in volumes {
        let usage = if let Some(record) = record {
            ctx.csi.usage(&record).await
        } else {
            let asked = volume.clone();
            reach(volume.is_whole, move || asked.usage()).await.ok().flatten()
        };
        found.volumes.extend(usage.map(|usage| (volume, usage)));
    }
    found
}
