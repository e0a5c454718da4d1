//! The conditions of a pod that its node decides.

use k8s_openapi::{
    api::core::v1::{ContainerStatus, PodCondition, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    containers::Role,
    status::{EVICTED, Input, TERMINATED, Verdict},
};

/// Conditions that are there only while they hold.
pub const RESIZE: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

struct Finding {
    kind: &'static str,
    holds: bool,
    reason: Option<String>,
    message: Option<String>,
}

impl Finding {
    fn holds(kind: &'static str) -> Self {
        Self { kind, holds: true, reason: None, message: None }
    }

    fn fails(kind: &'static str, reason: &str, message: Option<String>) -> Self {
        Self { kind, holds: false, reason: Some(reason.to_owned()), message }
    }
}

pub fn build(input: &Input<'_>, status: &PodStatus, old: &[PodCondition]) -> Vec<PodCondition> {
    let containers = containers_ready(status, input);
    let ready = ready(input, &containers);
    let sandboxed = input.observed.sandbox.as_ref().is_some_and(|sandbox| sandbox.ready);
    let findings = [
        Finding { kind: "PodReadyToStartContainers", holds: sandboxed, reason: None, message: None },
        initialized(input, status),
        ready,
        containers,
        Finding::holds("PodScheduled"),
    ];
    // One that was never taken in was not disturbed.
    let disturbed = |verdict: &&Verdict| {
        [EVICTED, TERMINATED].contains(&verdict.reason.as_str()) && verdict.cause() == verdict.message
    };
    let evicted = input.verdict.filter(disturbed).map(|verdict| Finding {
        reason: Some("TerminationByKubelet".to_owned()),
        message: Some(verdict.message.clone()),
        ..Finding::holds("DisruptionTarget")
    });
    let all = findings.into_iter().chain(evicted).map(|finding| condition(input, finding, old));
    all.chain(resize(input, old)).collect()
}

/// A resize that was not agreed to, or is not yet in force, by the generation of the spec that asked for it.
fn resize(input: &Input<'_>, old: &[PodCondition]) -> Vec<PodCondition> {
    let pending = input.resize.pending.as_ref().map(|pending| {
        let (reason, message) = (Some(pending.reason.to_owned()), Some(pending.message.clone()));
        (Finding { reason, message, ..Finding::holds(RESIZE[0]) }, pending.generation)
    });
    let in_progress = input.resize.in_progress.as_ref().map(|progress| {
        let reason = progress.error.as_ref().map(|_| "Error".to_owned());
        (Finding { reason, message: progress.error.clone(), ..Finding::holds(RESIZE[1]) }, progress.generation)
    });
    let told = pending.into_iter().chain(in_progress);
    let one =
        |(finding, generation)| PodCondition { observed_generation: generation, ..condition(input, finding, old) };
    told.map(one).collect()
}

fn condition(input: &Input<'_>, finding: Finding, old: &[PodCondition]) -> PodCondition {
    let status = if finding.holds { "True" } else { "False" };
    let before = old.iter().find(|condition| condition.type_ == finding.kind);
    let unchanged = before.filter(|condition| condition.status == status);
    let now = jiff::Timestamp::from_second(input.now.as_second()).unwrap_or(input.now);
    PodCondition {
        type_: finding.kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason,
        message: finding.message,
        observed_generation: input.generation,
        last_transition_time: unchanged.and_then(|same| same.last_transition_time.clone()).or(Some(Time(now))),
        last_probe_time: None,
    }
}

fn initialized(input: &Input<'_>, status: &PodStatus) -> Finding {
    const KIND: &str = "Initialized";
    if status.phase.as_deref() == Some("Succeeded") {
        return Finding { reason: Some("PodCompleted".to_owned()), ..Finding::holds(KIND) };
    }
    let app_made = status.container_statuses.iter().flatten().any(|status| status.container_id.is_some());
    let incomplete = status.init_container_statuses.iter().flatten().filter(|status| {
        let sidecar = input.containers.get(&status.name).is_some_and(|entry| entry.role == Role::Sidecar);
        !(app_made || status.ready || sidecar && status.started == Some(true))
    });
    let names: Vec<_> = incomplete.map(|status| status.name.as_str()).collect();
    if names.is_empty() {
        return Finding::holds(KIND);
    }
    let message = format!("containers with incomplete status: [{}]", names.join(" "));
    Finding::fails(KIND, "ContainersNotInitialized", Some(message))
}

fn containers_ready(status: &PodStatus, input: &Input<'_>) -> Finding {
    const KIND: &str = "ContainersReady";
    match status.phase.as_deref() {
        Some("Succeeded") => return Finding::fails(KIND, "PodCompleted", None),
        Some("Failed") => return Finding::fails(KIND, "PodFailed", None),
        _ => {}
    }
    let sidecars = status
        .init_container_statuses
        .iter()
        .flatten()
        .filter(|status| input.containers.get(&status.name).is_some_and(|entry| entry.role == Role::Sidecar));
    let all: Vec<&ContainerStatus> = sidecars.chain(status.container_statuses.iter().flatten()).collect();
    let names: Vec<_> = all.iter().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    if names.is_empty() {
        return Finding::holds(KIND);
    }
    Finding::fails(KIND, "ContainersNotReady", Some(format!("containers with unready status: [{}]", names.join(" "))))
}

fn ready(input: &Input<'_>, containers: &Finding) -> Finding {
    const KIND: &str = "Ready";
    if !containers.holds {
        return Finding {
            kind: KIND,
            holds: false,
            reason: containers.reason.clone(),
            message: containers.message.clone(),
        };
    }
    // Gates are opened by others, so only the API knows of them.
    let others = input.pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let gates = input.pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let mut open = Vec::new();
    for gate in gates {
        let kind = &gate.condition_type;
        match others.iter().find(|condition| condition.type_ == *kind) {
            None => open.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(condition) if condition.status != "True" => {
                let status = &condition.status;
                open.push(format!("the status of pod readiness gate {kind:?} is not \"True\", but {status}"));
            }
            Some(_) => {}
        }
    }
    if open.is_empty() {
        return Finding::holds(KIND);
    }
    Finding::fails(KIND, "ReadinessGatesNotReady", Some(open.join(", ")))
}
