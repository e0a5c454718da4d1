//! A whole control plane in one thread, on virtual time and under a seed: the real API server, store, controllers and
//! scheduler with nodes that have no containers, while disks are slow, answers get lost, watches break, the server is
//! killed, and parts are restarted one by one. The same seed gives the same history.
//!
//! A run is a storm of a minute or two in which users and [`storm`] do what they like, and a calm after it. The
//! [`truth`] reads the store from behind and checks [`laws`] on every change; when all is calm, what is there must be
//! what was asked for ([`settled`]), every acknowledged write must be in the history ([`writers`]), and the watchers
//! of the API must have been told exactly that history ([`audience`]).
//!
//! To replay a failure: `KNARR_SIM_SEED=17 cargo test -p knarr-sim`; with `KNARR_TEST_LOG=1` it says more.

mod audience;
mod base;
mod chance;
mod laws;
mod link;
mod node;
mod settled;
mod simulator;
mod site;
mod store;
mod storm;
mod truth;
mod user;
mod writers;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use knarr_apiserver::contract::UserInfo;
use knarr_client::Clock;
use tokio::{task::JoinSet, time::Instant};

use audience::Watcher;
use base::Base;
use chance::Chance;
pub use chance::fill_entropy;
use link::{Link, Way};
pub use simulator::Simulator;
use site::Site;
use storm::Parts;
use truth::Truth;
use user::User;
use writers::Counter;

/// How long things break, at most and at least.
const STORM: Duration = Duration::from_secs(120);
const SHORT_STORM: Duration = Duration::from_secs(30);
/// What is watched through the API, and where it lies in the store.
const WATCHED: [(&str, &str); 3] = [
    ("/api/v1/pods", "pods/"),
    ("/api/v1/configmaps", "configmaps/"),
    ("/apis/apps/v1/replicasets", "replicasets.apps/"),
];
const ACTIONS: usize = 32;
const COUNTERS: usize = 3;
/// The longest that everything may take to become as it should be: pods leave silent nodes within minutes, and
/// backoffs that grew in the storm run out.
const PATIENCE: Duration = Duration::from_secs(1_200);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What became of a run.
#[derive(Debug)]
pub struct Report {
    pub seed: u64,
    /// A line an event; equal for two runs that went the same way.
    pub history: Vec<String>,
    /// How long it took to settle, in virtual time.
    pub settled_after: Duration,
    /// Empty for a run in which all was well.
    pub complaints: Vec<String>,
}

/// When virtual time begins.
fn start_of_time() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap_or_default()
}

async fn simulate(base: Arc<Base>, seed: u64) -> Report {
    let chance = Chance::new(seed);
    let truth = Arc::new(Truth::new(chance.is_gentle()));
    let (settled_after, mut complaints) = tokio::select! {
        biased;
        () = truth.flooded() => (Duration::ZERO, Vec::new()),
        settled = storm_and_calm(base, &chance, &truth) => settled,
    };
    complaints.extend(truth.violations());
    Report { seed, history: truth.lines(), settled_after, complaints }
}

/// Says how long it took to settle, and what is not as it should be.
async fn storm_and_calm(base: Arc<Base>, chance: &Chance, truth: &Arc<Truth>) -> (Duration, Vec<String>) {
    let clock = Clock::starting_at(start_of_time());
    let site = Arc::new(Site::new(base, chance, clock, truth.clone()));
    site.start().await;
    let mut parts = Parts::start(chance, clock, &site);
    let rough = |name: &str| {
        let user = UserInfo { name: name.into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
        Link { site: site.clone(), user, way: Way::rough(chance.dice(name)) }
    };
    let counter = Arc::new(Counter::default());
    let mut counting = JoinSet::new();
    for index in 0..COUNTERS {
        let name = format!("writer {index}");
        counting.spawn(counter.clone().count(rough(&name).client("writer"), truth.clone(), chance.dice(&name)));
    }
    let watchers = WATCHED.map(|(path, prefix)| Arc::new(Watcher::new(path, prefix)));
    for (watcher, (path, _)) in watchers.iter().zip(WATCHED) {
        tokio::spawn(watcher.clone().run(rough(path)));
    }
    let user = User { link: rough("user"), dice: chance.dice("user's wishes") };
    let storm = chance.dice("storm");
    tokio::select! {
        biased;
        () = tokio::time::sleep(SHORT_STORM + storm.time(STORM - SHORT_STORM)) => {}
        () = async { tokio::join!(user.act(ACTIONS), parts.rage(&storm, chance.is_gentle())); } => {}
    }

    chance.calm();
    parts.mend().await;
    counting.shutdown().await;
    let began = Instant::now();
    let mut complaints = loop {
        user.tidy().await;
        tokio::time::sleep(LOOK_EVERY).await;
        let complaints = settled::complaints(truth);
        let all_told = watchers.iter().all(|watcher| watcher.is_current(truth));
        if (complaints.is_empty() && all_told) || began.elapsed() > PATIENCE {
            break complaints;
        }
    };
    complaints.extend(counter.judge(truth));
    complaints.extend(watchers.iter().flat_map(|watcher| watcher.judge(truth)));
    (began.elapsed(), complaints)
}
