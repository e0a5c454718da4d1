//! A runtime in memory. Containers run until a test ends them; a stop ends them after as long as the test says.

mod images;
mod service;
mod stats;
mod streams;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use knarr_client::Clock;
use knarr_cri::v1::*;
use tokio::sync::broadcast;

pub struct FakeRuntime {
    state: Mutex<State>,
    events: broadcast::Sender<ContainerEventResponse>,
}

#[derive(Default)]
struct State {
    clock: Option<Clock>,
    next: u32,
    sandboxes: BTreeMap<String, PodSandboxStatus>,
    containers: BTreeMap<String, (ContainerStatus, ContainerConfig, String)>,
    images: HashSet<String>,
    pullable: HashSet<String>,
    /// Of registries that ask for one, by image.
    passwords: HashMap<String, String>,
    /// Answers to commands by their first word: exit code and output.
    commands: HashMap<String, (i32, String)>,
    /// What a test says that each container and each sandbox holds of memory.
    memory_used: u64,
    /// What a container of this name holds, where that is not what all others do.
    memory_of: HashMap<String, u64>,
    stop_takes: Duration,
    stopped: Vec<(String, i64)>,
    /// The handler that each sandbox was to be made by.
    handlers: Vec<String>,
    /// What each sandbox was made with.
    sandbox_resources: Vec<LinuxContainerResources>,
    /// The memory limits that sandboxes were given after they were made.
    sandbox_limits: Vec<i64>,
    /// Sessions of `sleep` that somebody listens to.
    sleepers: Arc<AtomicUsize>,
}

impl FakeRuntime {
    pub fn new(images: &[&str]) -> Self {
        let images = images.iter().map(|image| (*image).to_owned()).collect();
        Self { state: Mutex::new(State { images, ..State::default() }), events: broadcast::channel(256).0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn use_clock(&self, clock: Clock) {
        self.state().clock = Some(clock);
    }

    pub fn make_pullable(&self, image: &str) {
        self.state().pullable.insert(image.to_owned());
    }

    /// An image that its registry gives for a password only.
    pub fn make_pullable_for(&self, image: &str, password: &str) {
        self.make_pullable(image);
        self.state().passwords.insert(image.to_owned(), password.to_owned());
    }

    pub fn answer_command(&self, command: &str, code: i32, output: &str) {
        self.state().commands.insert(command.to_owned(), (code, output.to_owned()));
    }

    pub fn sleepers(&self) -> usize {
        self.state().sleepers.load(Ordering::Relaxed)
    }

    pub fn stop_takes(&self, time: Duration) {
        self.state().stop_takes = time;
    }

    /// Names and time-outs of the stops that were asked for.
    pub fn stopped(&self) -> Vec<(String, i64)> {
        self.state().stopped.clone()
    }

    /// Names of running containers, with how they were made.
    pub fn running(&self) -> BTreeMap<String, ContainerConfig> {
        let state = self.state();
        let running =
            state.containers.values().filter(|(status, _, _)| status.state == ContainerState::ContainerRunning as i32);
        running.map(|(status, config, _)| (name_of(status), config.clone())).collect()
    }

    /// The IDs of the running container of this name, and of its sandbox.
    pub fn ids(&self, name: &str) -> Option<(String, String)> {
        let state = self.state();
        let running = state
            .containers
            .values()
            .find(|(status, _, _)| name_of(status) == name && status.state == ContainerState::ContainerRunning as i32);
        running.map(|(status, _, sandbox)| (status.id.clone(), sandbox.clone()))
    }

    /// The memory limit of the running container of this name.
    pub fn memory_limit(&self, name: &str) -> Option<i64> {
        let state = self.state();
        let running = state
            .containers
            .values()
            .find(|(status, _, _)| name_of(status) == name && status.state == ContainerState::ContainerRunning as i32);
        Some(running?.0.resources.as_ref()?.linux.as_ref()?.memory_limit_in_bytes)
    }

    pub fn sandbox_resources(&self) -> Vec<LinuxContainerResources> {
        self.state().sandbox_resources.clone()
    }

    pub fn hold_memory(&self, bytes: u64) {
        self.state().memory_used = bytes;
    }

    pub fn hold_memory_in(&self, name: &str, bytes: u64) {
        self.state().memory_of.insert(name.to_owned(), bytes);
    }

    pub fn has_image(&self, image: &str) -> bool {
        self.state().images.contains(image)
    }

    pub fn handlers(&self) -> Vec<String> {
        self.state().handlers.clone()
    }

    pub fn sandbox_limits(&self) -> Vec<i64> {
        self.state().sandbox_limits.clone()
    }

    pub fn count(&self) -> (usize, usize) {
        let state = self.state();
        (state.sandboxes.len(), state.containers.len())
    }

    /// Ends the running container of this name.
    pub fn exit(&self, name: &str, code: i32) {
        let id = {
            let mut state = self.state();
            let now = state.now();
            let found = state.containers.values_mut().find(|(status, _, _)| {
                name_of(status) == name && status.state == ContainerState::ContainerRunning as i32
            });
            let (status, _, _) = found.unwrap_or_else(|| panic!("{name} does not run"));
            status.state = ContainerState::ContainerExited as i32;
            status.exit_code = code;
            status.finished_at = now;
            status.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
            status.id.clone()
        };
        self.tell(&id, ContainerEventType::ContainerStoppedEvent);
    }

    /// The sandbox dies, and everything in it.
    pub fn lose_sandbox(&self) {
        let names: Vec<String> = self.running().into_keys().collect();
        for name in names {
            self.exit(&name, 137);
        }
        for sandbox in self.state().sandboxes.values_mut() {
            sandbox.state = PodSandboxState::SandboxNotready as i32;
        }
    }

    fn tell(&self, container_id: &str, kind: ContainerEventType) {
        let event = ContainerEventResponse {
            container_id: container_id.to_owned(),
            container_event_type: kind as i32,
            ..ContainerEventResponse::default()
        };
        // A test may not listen.
        let _ = self.events.send(event);
    }
}

impl State {
    fn now(&self) -> i64 {
        let now = self.clock.expect("a clock").now();
        i64::try_from(now.as_nanosecond()).unwrap()
    }

    fn id(&mut self, kind: &str) -> String {
        self.next += 1;
        format!("{kind}{}", self.next)
    }
}

fn name_of(status: &ContainerStatus) -> String {
    status.metadata.as_ref().unwrap().name.clone()
}
