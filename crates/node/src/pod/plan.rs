//! What to do next for a pod that is to run: a pure function of its spec, what the runtime lists and what the
//! worker remembers. Running it twice on the same input yields the same plan; once everything is as it should
//! be the plan is empty.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    backoff::go_duration,
    containers::{Containers, Entry, Role},
    observe::{Instance, Observed, Phase},
    track::{Failure, ImageState, PostStart, Track},
};

pub struct Input<'a> {
    /// `NAME_NAMESPACE(UID)`, which messages carry.
    pub pod: &'a str,
    pub restart_policy: &'a str,
    pub containers: &'a Containers,
    pub observed: &'a Observed,
    pub tracks: &'a BTreeMap<String, Track>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    CreateSandbox {
        attempt: u32,
    },
    /// Finds out whether the image is there, and pulls it where it is not.
    EnsureImage {
        name: String,
    },
    Start {
        name: String,
        restart_count: u32,
    },
    Kill {
        name: String,
        id: String,
        why: Kill,
    },
}

/// Why a single container is stopped while its pod goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kill {
    Liveness {
        restart: bool,
    },
    Startup {
        restart: bool,
    },
    Changed,
    SandboxGone,
    /// Its resources changed in a way that needs a new start.
    Resized,
    PostStart {
        message: String,
    },
}

/// A container that does not run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// Reasons for containers that wait for something but the plan's own actions.
    pub waiting: BTreeMap<String, Waiting>,
    /// When the plan may change by itself.
    pub wake_at: Option<Timestamp>,
    /// Every container has ended and none is started again.
    pub ended: bool,
}

pub fn plan(input: &Input<'_>) -> Plan {
    let mut planner = Planner { input, plan: Plan::default(), held: BTreeSet::new() };
    planner.run();
    planner.plan
}

struct Planner<'a> {
    input: &'a Input<'a>,
    plan: Plan,
    /// Containers for which something was decided already.
    held: BTreeSet<&'a str>,
}

/// What one container lets those after it do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Pass,
    Block,
}

impl<'a> Planner<'a> {
    fn run(&mut self) {
        if self.input.containers.role(Role::App).all(|entry| self.over(entry)) || self.init_failed() {
            self.plan.ended = true;
            return;
        }
        if !self.input.observed.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready) {
            return self.without_sandbox();
        }
        for entry in self.input.containers.role(Role::Ephemeral) {
            if self.input.observed.newest(entry.name()).is_none() {
                self.start(entry);
            }
        }
        if self.initialise() == Gate::Block {
            return;
        }
        for entry in self.input.containers.role(Role::App) {
            if self.app(entry) == Gate::Block {
                break;
            }
        }
    }

    /// The sandbox went away (a reboot, a crash), or was never there: all that ran in it goes first.
    fn without_sandbox(&mut self) {
        let running: Vec<_> = self.input.observed.running().collect();
        for run in &running {
            self.kill(&run.name, run, Kill::SandboxGone);
        }
        if running.is_empty() {
            let attempt = self.input.observed.sandbox.as_ref().map_or(0, |sandbox| sandbox.attempt + 1);
            self.plan.actions.push(Action::CreateSandbox { attempt });
        }
    }

    /// An app container that ended and stays ended, in whichever sandbox that was.
    fn over(&self, entry: &Entry) -> bool {
        let newest = self.input.observed.newest(entry.name());
        newest.is_some_and(|run| run.ended() && !entry.restarts_after(run.code(), self.input.restart_policy))
    }

    fn init_failed(&self) -> bool {
        let app_made = self.input.containers.app_made(self.input.observed);
        !app_made
            && self.input.containers.role(Role::Init).any(|entry| {
                let run = self.input.observed.current(entry.name());
                run.is_some_and(|run| {
                    run.ended() && run.code() != 0 && !entry.restarts_after(run.code(), self.input.restart_policy)
                })
            })
    }

    /// Init containers one after the other; each sidecar opens the way once it has started.
    fn initialise(&mut self) -> Gate {
        let app_made = self.input.containers.app_made(self.input.observed);
        for entry in &self.input.containers.entries {
            let gate = match entry.role {
                Role::Init if app_made => Gate::Pass,
                Role::Init => self.init(entry),
                Role::Sidecar => self.sidecar(entry),
                Role::App | Role::Ephemeral => Gate::Pass,
            };
            if gate == Gate::Block && !app_made {
                return Gate::Block;
            }
        }
        Gate::Pass
    }

    fn init(&mut self, entry: &'a Entry) -> Gate {
        match self.input.observed.current(entry.name()) {
            Some(run) if run.running() => Gate::Block,
            Some(run) if run.ended() && run.code() == 0 => Gate::Pass,
            Some(run) if run.ended() => {
                self.restart(entry, run);
                Gate::Block
            }
            _ => {
                self.start(entry);
                Gate::Block
            }
        }
    }

    fn sidecar(&mut self, entry: &'a Entry) -> Gate {
        match self.input.observed.current(entry.name()) {
            Some(run) if run.running() => {
                self.supervise(entry, run);
                let started = entry.started(run, self.input.tracks.get(entry.name()));
                if started { Gate::Pass } else { Gate::Block }
            }
            Some(run) if run.ended() => {
                self.restart(entry, run);
                Gate::Block
            }
            _ => {
                self.start(entry);
                Gate::Block
            }
        }
    }

    /// App containers start in order, and a postStart hook holds up those after it.
    fn app(&mut self, entry: &'a Entry) -> Gate {
        match self.input.observed.current(entry.name()) {
            Some(run) if run.running() => {
                self.supervise(entry, run);
                let hooked = self.input.tracks.get(entry.name()).is_some_and(|track| track.post_start_running(&run.id));
                return if hooked { Gate::Block } else { Gate::Pass };
            }
            Some(run) if run.ended() => {
                if entry.restarts_after(run.code(), self.input.restart_policy) {
                    self.restart(entry, run);
                }
            }
            // Made but never started: the agent died in between, or the start failed.
            Some(_) => self.start(entry),
            None if self.over(entry) => {}
            None => self.start(entry),
        }
        let starts =
            self.plan.actions.iter().any(|action| matches!(action, Action::Start { name, .. } if name == entry.name()));
        let hook = entry.spec.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some());
        if starts && hook { Gate::Block } else { Gate::Pass }
    }

    /// A running container is stopped where its probes, its hook or its spec say so.
    fn supervise(&mut self, entry: &'a Entry, run: &Instance) {
        let policy = self.input.restart_policy;
        let restart = entry.restarts_after(137, policy);
        let track = self.input.tracks.get(entry.name());
        if !run.hash.is_empty() && run.hash != entry.hash() && entry.restarts_after(0, policy) {
            return self.kill(entry.name(), run, Kill::Changed);
        }
        let Some(track) = track else { return };
        if let PostStart::Failed { id, message } = &track.post_start
            && *id == run.id
        {
            return self.kill(entry.name(), run, Kill::PostStart { message: message.clone() });
        }
        let Some(health) = track.health_of(&run.id) else { return };
        if health.startup == Some(false) {
            self.kill(entry.name(), run, Kill::Startup { restart });
        } else if health.liveness == Some(false) {
            self.kill(entry.name(), run, Kill::Liveness { restart });
        }
    }

    fn kill(&mut self, name: &str, run: &Instance, why: Kill) {
        let under_way = self.input.tracks.get(name).is_some_and(|track| track.killing.as_deref() == Some(&run.id));
        if !under_way {
            self.plan.actions.push(Action::Kill { name: name.to_owned(), id: run.id.clone(), why });
        }
    }

    /// Starts an ended container again, once its back-off is over.
    fn restart(&mut self, entry: &'a Entry, run: &Instance) {
        let since = if run.phase == Phase::Unknown { run.created_at } else { run.finished_at };
        let track = self.input.tracks.get(entry.name());
        if let Some((left, whole)) = track.and_then(|track| track.crash_wait(entry.chance(), since, self.input.now)) {
            let message = format!(
                "back-off {} restarting failed container={} pod={}",
                go_duration(whole),
                entry.name(),
                self.input.pod
            );
            self.plan.waiting.insert(entry.name().to_owned(), Waiting { reason: "CrashLoopBackOff", message });
            self.wake(self.input.now + left);
            return;
        }
        self.start(entry);
    }

    /// Starts a container once its image is there and an earlier failure to start it is long enough ago.
    fn start(&mut self, entry: &'a Entry) {
        if !self.held.insert(entry.name()) {
            return;
        }
        let name = entry.name().to_owned();
        let track = self.input.tracks.get(entry.name());
        if let Some(failure) = track.and_then(|track| track.failure.as_ref()) {
            let retry = failure.at + START_RETRY;
            if self.input.now < retry {
                self.wait(&name, failure.reason, &failure.message);
                return self.wake(retry);
            }
        }
        match track.map_or(&ImageState::Unknown, |track| &track.image) {
            ImageState::Unknown => self.plan.actions.push(Action::EnsureImage { name }),
            ImageState::Pulling => {}
            ImageState::Failed { image, failure } => {
                let left = track.and_then(|track| track.pull.remaining(failure.at, self.input.now));
                match left {
                    Some((left, _)) => self.await_image(entry, image, failure, left),
                    None => self.plan.actions.push(Action::EnsureImage { name }),
                }
            }
            ImageState::Present { .. } => {
                let newest = self.input.observed.newest(&name);
                let restart_count = newest.map_or(0, |run| {
                    if run.phase == Phase::Created { run.restart_count } else { run.restart_count + 1 }
                });
                self.plan.actions.push(Action::Start { name, restart_count });
            }
        }
    }

    /// A failed pull is shown as what it was for a moment, then as the wait for the next one.
    fn await_image(&mut self, entry: &Entry, image: &str, failure: &Failure, left: SignedDuration) {
        let shown_until = failure.at + PULL_FAILURE_SHOWN;
        if failure.reason == "ErrImagePull" && self.input.now >= shown_until {
            let message = format!("Back-off pulling image {image:?}: ErrImagePull: {}", failure.message);
            self.wait(entry.name(), "ImagePullBackOff", &message);
        } else {
            self.wait(entry.name(), failure.reason, &failure.message);
            if self.input.now < shown_until {
                self.wake(shown_until);
            }
        }
        self.wake(self.input.now + left);
    }

    fn wait(&mut self, name: &str, reason: &'static str, message: &str) {
        self.plan.waiting.insert(name.to_owned(), Waiting { reason, message: message.to_owned() });
    }

    fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// How long a container that could not be made waits for the next attempt, such as for a missing ConfigMap;
/// a change of what it refers to wakes the worker earlier.
pub const START_RETRY: SignedDuration = SignedDuration::from_secs(10);
const PULL_FAILURE_SHOWN: SignedDuration = SignedDuration::from_secs(5);
