//! Volumes that take long to come: each has a task of its own while something is done about it, so that a pod's worker
//! never waits for a driver or a server.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

use super::{Place, VolumeError};

/// The waits after failures.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_millis(500);
const LAST_PAUSE: SignedDuration = SignedDuration::from_secs(122);
/// How often a volume that is there is looked at again: it may have grown, or its driver wants to renew it.
const REFRESH: SignedDuration = SignedDuration::from_secs(60);
/// What tasks have to say; each volume has one task at most.
const REPORTS: usize = 64;

/// A volume of a pod that somebody has to bring here. All of it may be done again without harm, and ends in time by
/// itself.
#[async_trait]
pub trait Bring: Send + Sync {
    /// Where it is, if it is there already.
    fn found(&self, pod: &Pod) -> Option<Place>;

    async fn bring(&self, pod: &Pod) -> Result<Place, VolumeError>;

    /// Looks after one that is there.
    async fn refresh(&self, pod: &Pod) -> Result<Place, VolumeError> {
        self.bring(pod).await
    }
}

type Places = HashMap<String, Place>;

/// Those of one pod.
pub struct Coming {
    /// Told when a task is through.
    wake: Arc<Notify>,
    /// By the volume's name in the pod.
    all: BTreeMap<String, Volume>,
    /// They end with this.
    tasks: JoinSet<()>,
    reports: mpsc::Sender<Report>,
    reports_in: mpsc::Receiver<Report>,
}

type Report = (String, Result<Place, VolumeError>);

struct Volume {
    brings: Arc<dyn Bring>,
    state: State,
    is_there: bool,
    pause: SignedDuration,
}

enum State {
    /// Left when its task reports.
    Working,
    /// Left at this time.
    Failed(Timestamp),
    /// Left at this time, to look at it again.
    Done(Timestamp),
}

impl Coming {
    pub fn new(wake: Arc<Notify>) -> Self {
        let (reports, reports_in) = mpsc::channel(REPORTS);
        Self { wake, all: BTreeMap::new(), tasks: JoinSet::new(), reports, reports_in }
    }

    pub fn knows(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// Begins with a volume, unless it is there already.
    pub fn want(&mut self, name: &str, brings: Arc<dyn Bring>, pod: &Arc<Pod>, places: &mut Places, now: Timestamp) {
        let found = brings.found(pod);
        let is_there = found.is_some();
        places.extend(found.map(|place| (name.to_owned(), place)));
        let volume = Volume { brings, state: State::Done(now + REFRESH), is_there, pause: FIRST_PAUSE };
        self.all.insert(name.to_owned(), volume);
        if !is_there {
            self.begin(name, pod);
        }
    }

    fn begin(&mut self, name: &str, pod: &Arc<Pod>) {
        let Some(volume) = self.all.get_mut(name) else { return };
        volume.state = State::Working;
        let (brings, pod, is_there) = (volume.brings.clone(), pod.clone(), volume.is_there);
        let (reports, wake, name) = (self.reports.clone(), self.wake.clone(), name.to_owned());
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(async move {
            let done = if is_there { brings.refresh(&pod).await } else { brings.bring(&pod).await };
            let _ = reports.send((name, done)).await;
            wake.notify_one();
        });
    }

    /// Takes in what was done, begins what is due, and answers what went wrong since and when to look again.
    pub fn tend(
        &mut self,
        pod: &Arc<Pod>,
        places: &mut Places,
        now: Timestamp,
    ) -> (Vec<VolumeError>, Option<Timestamp>) {
        let mut failures = Vec::new();
        while let Ok((name, done)) = self.reports_in.try_recv() {
            let Some(volume) = self.all.get_mut(&name) else { continue };
            match done {
                Ok(place) => {
                    places.insert(name, place);
                    (volume.is_there, volume.pause) = (true, FIRST_PAUSE);
                    volume.state = State::Done(now + REFRESH);
                }
                Err(error) => {
                    failures.push(error);
                    volume.state = State::Failed(now + volume.pause);
                    volume.pause = (volume.pause * 2).min(LAST_PAUSE);
                }
            }
        }
        let due = |volume: &Volume| match volume.state {
            State::Working => None,
            State::Failed(at) | State::Done(at) => Some(at),
        };
        let ready = self.all.iter().filter(|(_, volume)| due(volume).is_some_and(|at| at <= now));
        let ready: Vec<String> = ready.map(|(name, _)| name.clone()).collect();
        for name in ready {
            self.begin(&name, pod);
        }
        (failures, self.all.values().filter_map(due).min())
    }

    /// Ends what is under way. What others were asked for they may still do.
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
        self.all.clear();
    }
}
