//! The containers of a pod as one list, whatever part of the spec they come from.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

use super::{
    observe::{Instance, Observed},
    track::Track,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: the next one starts once it has started.
    Sidecar,
    App,
    /// Added to a running pod by `kubectl debug`; it runs once.
    Ephemeral,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub role: Role,
    pub spec: Container,
    /// Of an ephemeral container: whose processes it sees.
    pub target: Option<String>,
}

impl Entry {
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn image(&self) -> &str {
        self.spec.image.as_deref().unwrap_or_default()
    }

    /// Identifies what cannot change in a running container; the image is the only part that may be updated.
    pub fn hash(&self) -> String {
        format!("{:x}", fnv(self.name().bytes().chain([0]).chain(self.image().bytes())))
    }

    /// What a crash is blamed on: another image or other resources are a new chance, without the wait of the old ones.
    pub fn chance(&self) -> u64 {
        let resources = serde_json::to_vec(&self.spec.resources).unwrap_or_default();
        fnv(self.image().bytes().chain([0]).chain(resources))
    }

    /// Whether a run that ended with this code is followed by another one.
    pub fn restarts_after(&self, exit_code: i32, pod_policy: &str) -> bool {
        match self.role {
            Role::Ephemeral => return false,
            Role::Sidecar => return true,
            Role::Init | Role::App => {}
        }
        for rule in self.spec.restart_policy_rules.iter().flatten() {
            let Some(codes) = &rule.exit_codes else { continue };
            let listed = codes.values.iter().flatten().any(|code| *code == exit_code);
            if rule.action == "Restart" && (listed == (codes.operator == "In")) {
                return true;
            }
        }
        match (self.spec.restart_policy.as_deref().unwrap_or(pod_policy), self.role) {
            ("Never", _) => false,
            ("OnFailure", _) | (_, Role::Init) => exit_code != 0,
            _ => true,
        }
    }

    /// A running container counts as started once its postStart hook and its startup probe are through.
    pub fn started(&self, run: &Instance, track: Option<&Track>) -> bool {
        let hooked = track.is_some_and(|track| track.post_start_running(&run.id));
        let health = track.and_then(|track| track.health_of(&run.id));
        let probed = self.spec.startup_probe.is_none() || health.is_some_and(|health| health.startup == Some(true));
        run.running() && !hooked && probed
    }

    /// Whether it takes traffic: started, and the readiness probe, where there is one, says so.
    pub fn ready(&self, run: &Instance, track: Option<&Track>) -> bool {
        let health = track.and_then(|track| track.health_of(&run.id));
        let probed = self.spec.readiness_probe.is_none() || health.is_some_and(|health| health.readiness == Some(true));
        self.started(run, track) && probed
    }
}

/// FNV-1a, since what is stored with a container must be the same in every build.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// All containers in the order they start: init containers and sidecars as listed, then the others.
#[derive(Clone, Debug, Default)]
pub struct Containers {
    pub entries: Vec<Entry>,
}

impl Containers {
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let PodSpec { init_containers, containers, ephemeral_containers, .. } = spec;
        let init = init_containers.iter().flatten().map(|container| {
            let sidecar = container.restart_policy.as_deref() == Some("Always");
            Entry { role: if sidecar { Role::Sidecar } else { Role::Init }, spec: container.clone(), target: None }
        });
        let app = containers.iter().map(|spec| Entry { role: Role::App, spec: spec.clone(), target: None });
        let ephemeral = ephemeral_containers.iter().flatten().map(ephemeral_entry);
        Self { entries: init.chain(app).chain(ephemeral).collect() }
    }

    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name() == name)
    }

    pub fn role(&self, role: Role) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.role == role)
    }

    /// Init containers are through once an app container has been made in this sandbox: a pod never goes back.
    pub fn app_made(&self, observed: &Observed) -> bool {
        self.role(Role::App).any(|entry| observed.current(entry.name()).is_some())
    }
}

/// An ephemeral container has a container's fields but for those it may not have.
fn ephemeral_entry(ephemeral: &EphemeralContainer) -> Entry {
    let spec = Container {
        args: ephemeral.args.clone(),
        command: ephemeral.command.clone(),
        env: ephemeral.env.clone(),
        env_from: ephemeral.env_from.clone(),
        image: ephemeral.image.clone(),
        image_pull_policy: ephemeral.image_pull_policy.clone(),
        name: ephemeral.name.clone(),
        resources: ephemeral.resources.clone(),
        security_context: ephemeral.security_context.clone(),
        stdin: ephemeral.stdin,
        stdin_once: ephemeral.stdin_once,
        termination_message_path: ephemeral.termination_message_path.clone(),
        termination_message_policy: ephemeral.termination_message_policy.clone(),
        tty: ephemeral.tty,
        volume_mounts: ephemeral.volume_mounts.clone(),
        working_dir: ephemeral.working_dir.clone(),
        ..Container::default()
    };
    Entry { role: Role::Ephemeral, spec, target: ephemeral.target_container_name.clone() }
}
