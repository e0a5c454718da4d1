//! A pod's status as the API shows it: a pure function of what the runtime lists, what the worker remembers
//! and what the status was before (which supplies transition times, and conditions that others own).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
        ContainerUser, HostIP, LinuxContainerUser, Pod, PodIP, PodStatus, ResourceStatus, VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    admit::REJECTED,
    conditions,
    containers::{Containers, Entry, Role},
    observe::{Instance, Observed, Phase},
    plan::Waiting,
    qos,
    resize::{self, Resize},
    track::Track,
};

/// The reason of a pod that was ended for what it took of its node.
pub const EVICTED: &str = "Evicted";
/// The reason of one that was ended because its machine goes down.
pub const TERMINATED: &str = "Terminated";

const TERMINATION_MESSAGES_BYTES: usize = 12 * 1024;

/// Why the agent itself ended a pod or refused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
}

impl Verdict {
    /// The message without what only a pod's status begins with.
    pub fn cause(&self) -> &str {
        self.message.strip_prefix(REJECTED).unwrap_or(&self.message)
    }
}

pub struct Input<'a> {
    pub pod: &'a Pod,
    /// The last status this agent built, where the API may not have it yet.
    pub previous: Option<&'a PodStatus>,
    pub containers: &'a Containers,
    pub observed: &'a Observed,
    pub tracks: &'a BTreeMap<String, Track>,
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// Set where the pod fails whatever its containers did: its deadline passed, or the node refused it.
    pub verdict: Option<&'a Verdict>,
    /// Where a resize in place stands.
    pub resize: &'a Resize,
    /// How the devices are that containers have.
    pub devices: &'a dyn Fn(&str) -> Option<Vec<ResourceStatus>>,
    /// Nothing runs any more and nothing will be started.
    pub over: bool,
    /// `knarr`, `containerd`: the scheme of container IDs.
    pub runtime_name: &'a str,
    pub host_ips: &'a [String],
    /// The spec fields that what follows is based on.
    pub generation: Option<i64>,
    /// When this agent first saw the pod; the pod's start, unless the API has an earlier one.
    pub start_time: Timestamp,
    pub now: Timestamp,
}

pub fn build(input: &Input<'_>) -> PodStatus {
    let before = input.previous.or(input.pod.status.as_ref()).cloned().unwrap_or_default();
    let statuses = |roles: &[Role], old: Option<&Vec<ContainerStatus>>| -> Option<Vec<ContainerStatus>> {
        let entries = input.containers.entries.iter().filter(|entry| roles.contains(&entry.role));
        let list: Vec<_> = entries.map(|entry| container(input, entry, old)).collect();
        (!list.is_empty()).then_some(list)
    };
    let init = statuses(&[Role::Init, Role::Sidecar], before.init_container_statuses.as_ref());
    let app = statuses(&[Role::App], before.container_statuses.as_ref());
    let ephemeral = statuses(&[Role::Ephemeral], before.ephemeral_container_statuses.as_ref());
    let phase = match (before.phase.as_deref(), input.verdict) {
        // A pod that has ended stays as it ended.
        (Some(ended @ ("Succeeded" | "Failed")), _) => ended.to_owned(),
        (_, Some(_)) if input.over => "Failed".to_owned(),
        _ => phase(input, init.as_deref().unwrap_or(&[]), app.as_deref().unwrap_or(&[])).to_owned(),
    };
    let rejected = input.verdict.is_some() && input.observed.is_empty() && before.start_time.is_none();
    let (pod_ip, pod_ips) = addresses(input, &before);
    let mut status = PodStatus {
        phase: Some(phase),
        reason: input.verdict.map(|verdict| verdict.reason.clone()).or(before.reason),
        message: input.verdict.map(|verdict| verdict.message.clone()).or(before.message),
        start_time: before.start_time.or(Some(Time(seconds(input.start_time)))),
        observed_generation: input.generation,
        host_ip: input.host_ips.first().cloned(),
        host_ips: Some(input.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip,
        pod_ips,
        allocated_resources: resize::requests_of_pod(input.pod),
        resources: match input.resize.in_progress {
            Some(_) => before.resources,
            None => input.pod.spec.as_ref().and_then(|spec| spec.resources.clone()),
        },
        qos_class: before.qos_class.or_else(|| Some(qos::class(input.pod).name().to_owned())),
        init_container_statuses: init,
        container_statuses: app,
        ephemeral_container_statuses: ephemeral,
        ..PodStatus::default()
    };
    if rejected {
        // A refused pod never had containers here, and upstream shows none.
        status.init_container_statuses = None;
        status.container_statuses = None;
        status.allocated_resources = None;
        status.resources = None;
    }
    shorten_messages(&mut status, input.containers.entries.len());
    let old = before.conditions.unwrap_or_default();
    status.conditions = Some(conditions::build(input, &status, &old));
    status
}

/// The last words of all containers share the room that a pod's status has for them.
fn shorten_messages(status: &mut PodStatus, containers: usize) {
    let each = TERMINATION_MESSAGES_BYTES / containers.max(1);
    let lists =
        [&mut status.init_container_statuses, &mut status.container_statuses, &mut status.ephemeral_container_statuses];
    for container in lists.into_iter().flatten().flatten() {
        for state in [&mut container.state, &mut container.last_state].into_iter().flatten() {
            let message = state.terminated.as_mut().and_then(|ended| ended.message.as_mut());
            if let Some(message) = message {
                message.truncate(message.floor_char_boundary(each));
            }
        }
    }
}

fn addresses(input: &Input<'_>, before: &PodStatus) -> (Option<String>, Option<Vec<PodIP>>) {
    let host_network = input.pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    let seen: &[String] = match &input.observed.sandbox {
        Some(sandbox) if sandbox.ready && host_network => input.host_ips,
        Some(sandbox) => &sandbox.ips,
        None => &[],
    };
    if seen.is_empty() {
        // The address is kept while a pod ends: those who route to it want to know which one to forget.
        return (before.pod_ip.clone(), before.pod_ips.clone());
    }
    (seen.first().cloned(), Some(seen.iter().map(|ip| PodIP { ip: ip.clone() }).collect()))
}

fn container(input: &Input<'_>, entry: &Entry, before: Option<&Vec<ContainerStatus>>) -> ContainerStatus {
    let runs = input.observed.containers.get(entry.name()).map_or(&[][..], Vec::as_slice);
    let old = before.and_then(|list| list.iter().find(|status| status.name == entry.name()));
    let track = input.tracks.get(entry.name());
    let mut status = ContainerStatus {
        name: entry.name().to_owned(),
        image: entry.image().to_owned(),
        volume_mounts: volume_mounts(entry),
        ..ContainerStatus::default()
    };
    let Some(newest) = runs.first() else {
        return never_made(input, entry, old, status);
    };
    status.restart_count = i32::try_from(newest.restart_count).unwrap_or(i32::MAX);
    status.container_id = Some(container_id(input, newest));
    status.image = if newest.image.is_empty() { status.image } else { newest.image.clone() };
    status.image_id.clone_from(&newest.image_id);
    status.user = newest.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
        linux: Some(LinuxContainerUser { uid: *uid, gid: *gid, supplemental_groups: Some(groups.clone()) }),
    });
    status.stop_signal.clone_from(&newest.stop_signal);
    status.resources = resize::actual_resources(input.pod, &entry.spec, newest);
    status.allocated_resources = entry.spec.resources.as_ref().and_then(|resources| resources.requests.clone());
    // Upstream tells of these only.
    status.allocated_resources_status = (input.devices)(entry.name()).filter(|_| entry.role == Role::App);
    status.started = Some(entry.started(newest, track));
    let previous = runs.iter().skip(1).find(|run| run.ended());
    let last = previous.map(|run| terminated(input, run));
    status.last_state = last.or_else(|| kept_last_state(old, &status));
    let waiting = input.waiting.get(entry.name());
    match newest.phase {
        Phase::Running => {
            status.ready = entry.ready(newest, track);
            let running = ContainerStateRunning { started_at: Some(Time(newest.started_at)) };
            status.state = Some(ContainerState { running: Some(running), ..ContainerState::default() });
        }
        Phase::Created => status.state = Some(waiting_state(waiting, "ContainerCreating")),
        Phase::Exited | Phase::Unknown => match waiting {
            // Between two runs: what ended becomes the last state.
            Some(_) if !input.over => {
                status.last_state = Some(terminated(input, newest));
                status.state = Some(waiting_state(waiting, "ContainerCreating"));
            }
            _ => status.state = Some(terminated(input, newest)),
        },
    }
    if entry.role == Role::Init {
        // An init container is ready once it is through.
        status.ready = newest.ended() && newest.code() == 0;
        status.started = Some(newest.running());
    }
    status
}

/// A container without a run: it waits, or it will never be made because the pod is over.
fn never_made(
    input: &Input<'_>,
    entry: &Entry,
    old: Option<&ContainerStatus>,
    mut status: ContainerStatus,
) -> ContainerStatus {
    if let Some(old) = old.filter(|old| old.container_id.is_some()) {
        // Its runs were cleared away; the API is the only one that still knows.
        let mut kept = old.clone();
        let terminated = kept.state.as_ref().is_some_and(|state| state.terminated.is_some());
        if !terminated {
            let lost = ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some("The container could not be located when the pod was terminated".to_owned()),
                container_id: kept.container_id.clone(),
                ..ContainerStateTerminated::default()
            };
            kept.state = Some(ContainerState { terminated: Some(lost), ..ContainerState::default() });
            kept.ready = false;
            kept.started = Some(false);
        }
        return kept;
    }
    let has_init = input.containers.entries.iter().any(|entry| matches!(entry.role, Role::Init | Role::Sidecar));
    let default = if has_init && entry.role == Role::App { "PodInitializing" } else { "ContainerCreating" };
    let default =
        if has_init && matches!(entry.role, Role::Init | Role::Sidecar) { "PodInitializing" } else { default };
    status.started = Some(false);
    status.state = Some(waiting_state(input.waiting.get(entry.name()), default));
    status
}

/// The last state the API has, while the run it tells of is no longer kept by the runtime.
fn kept_last_state(old: Option<&ContainerStatus>, new: &ContainerStatus) -> Option<ContainerState> {
    let old = old?;
    if old.restart_count == new.restart_count {
        return old.last_state.clone();
    }
    let ended = old.state.as_ref().is_some_and(|state| state.terminated.is_some());
    if ended { old.state.clone() } else { old.last_state.clone() }
}

fn waiting_state(waiting: Option<&Waiting>, default: &str) -> ContainerState {
    let waiting = ContainerStateWaiting {
        reason: Some(waiting.map_or(default, |waiting| waiting.reason).to_owned()),
        message: waiting.map(|waiting| waiting.message.clone()).filter(|message| !message.is_empty()),
    };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(input: &Input<'_>, run: &Instance) -> ContainerState {
    let reason = match run.phase {
        Phase::Unknown => "ContainerStatusUnknown".to_owned(),
        _ if !run.reason.is_empty() => run.reason.clone(),
        _ if run.exit_code == 0 => "Completed".to_owned(),
        _ => "Error".to_owned(),
    };
    let known = |time: Timestamp| (time != Timestamp::UNIX_EPOCH).then_some(Time(time));
    let terminated = ContainerStateTerminated {
        container_id: Some(container_id(input, run)),
        exit_code: run.code(),
        reason: Some(reason),
        message: (!run.message.is_empty()).then(|| run.message.clone()),
        started_at: known(run.started_at),
        finished_at: known(run.finished_at),
        signal: None,
    };
    ContainerState { terminated: Some(terminated), ..ContainerState::default() }
}

fn container_id(input: &Input<'_>, run: &Instance) -> String {
    format!("{}://{}", input.runtime_name, run.id)
}

fn volume_mounts(entry: &Entry) -> Option<Vec<VolumeMountStatus>> {
    let mounts = entry.spec.volume_mounts.as_ref()?;
    let describe = mounts.iter().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only.filter(|read_only| *read_only),
        recursive_read_only: mount.read_only.filter(|read_only| *read_only).map(|_| {
            if mount.recursive_read_only.as_deref() == Some("Enabled") { "Enabled" } else { "Disabled" }.to_owned()
        }),
        ..VolumeMountStatus::default()
    });
    Some(describe.collect())
}

/// The phase as documented: Pending until every container has been made, Running while one runs or will,
/// then Succeeded or Failed.
fn phase(input: &Input<'_>, init: &[ContainerStatus], app: &[ContainerStatus]) -> &'static str {
    let policy = input.pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always");
    let app_made = app.iter().any(|status| status.container_id.is_some());
    if !app_made && let Some(phase) = init_phase(input, init, policy) {
        return phase;
    }
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for status in app {
        let state = status.state.clone().unwrap_or_default();
        let ended_before = status.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
        match (&state.running, &state.terminated) {
            (Some(_), _) => running += 1,
            (_, Some(terminated)) => {
                stopped += 1;
                succeeded += i32::from(terminated.exit_code == 0);
            }
            _ if ended_before => stopped += 1,
            _ => waiting += 1,
        }
    }
    let restarts = |status: &ContainerStatus| {
        let code = status.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|state| state.exit_code);
        let entry = input.containers.get(&status.name);
        entry.zip(code).is_none_or(|(entry, code)| entry.restarts_after(code, policy))
    };
    match () {
        () if waiting > 0 && !input.over => "Pending",
        () if running > 0 => "Running",
        () if stopped > 0 && !input.over && app.iter().any(restarts) => "Running",
        () if stopped > 0 && stopped == succeeded && waiting == 0 => "Succeeded",
        () if stopped > 0 || input.over => "Failed",
        () => "Pending",
    }
}

/// The phase that init containers decide, if they do.
fn init_phase(input: &Input<'_>, init: &[ContainerStatus], policy: &str) -> Option<&'static str> {
    for status in init {
        let entry = input.containers.get(&status.name)?;
        let state = status.state.clone().unwrap_or_default();
        match (entry.role, &state.terminated) {
            (Role::Init, Some(ended)) if ended.exit_code == 0 => {}
            (Role::Init, Some(ended)) if !entry.restarts_after(ended.exit_code, policy) => return Some("Failed"),
            (Role::Sidecar, _) if status.started == Some(true) => {}
            _ if input.over => return Some("Failed"),
            _ => return Some("Pending"),
        }
    }
    None
}

fn seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn last_words_share_their_room() {
        let said = "\u{e4}".repeat(2048);
        let ended = json!({"name": "a", "state": {"terminated": {"exitCode": 1, "message": said}}, "lastState": {"terminated": {"exitCode": 1, "message": said}}});
        for (containers, kept) in [(2, 4096), (3, 4096), (4, 3072), (7, 1754)] {
            let mut status: PodStatus =
                from_value(json!({"containerStatuses": [ended.clone()], "initContainerStatuses": [ended.clone()]}))
                    .unwrap();
            shorten_messages(&mut status, containers);
            let first = &status.init_container_statuses.unwrap()[0];
            for state in [&first.state, &first.last_state] {
                let message = state.as_ref().unwrap().terminated.as_ref().unwrap().message.as_ref().unwrap();
                assert_eq!(message.len(), kept, "of {containers}");
            }
        }
    }
}
