//! A pod that is to run: look, plan, act, tell.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use knarr_cri::CriError;

use super::{
    containers::Role,
    context::full_name,
    plan::{self, Action},
    references::Snapshot,
    status::Verdict,
    track::Track,
    worker::{Next, State, Worker},
};
use crate::probe::{self, Kind, Outcome};

const FAR: SignedDuration = SignedDuration::from_secs(3600);

impl Worker {
    pub(super) async fn running(&mut self) -> Result<Next, CriError> {
        if self.deleted() {
            self.state = State::Stopping;
            return Ok(Next::Again);
        }
        let now = self.ctx.now();
        let deadline = self.deadline();
        if deadline.is_some_and(|deadline| deadline <= now) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.ctx.normal(&self.pod, "DeadlineExceeded", message);
            self.verdict = Some(Verdict { reason: "DeadlineExceeded".to_owned(), message: message.to_owned() });
            self.state = State::Stopping;
            return Ok(Next::Again);
        }
        self.look().await?;
        let room = self.consider_resize(now).await;
        let plan = {
            let full = full_name(&self.pod);
            plan::plan(&plan::Input {
                pod: &full,
                restart_policy: self.spec().and_then(|spec| spec.restart_policy.as_deref()).unwrap_or("Always"),
                containers: &self.containers,
                observed: &self.observed,
                tracks: &self.tracks,
                now,
            })
        };
        if plan.ended {
            self.over = true;
            self.state = State::Stopping;
            return Ok(Next::Again);
        }
        self.waiting = plan.waiting;
        self.announce_waits();
        let mut wake = [plan.wake_at, deadline].into_iter().flatten().min();
        let snapshot = self.snapshot().await;
        let version = snapshot.version();
        let before = std::mem::replace(&mut self.references_seen, version);
        if before != 0 && before != version && self.forget_failures() {
            // What the plan was to wait for may be there.
            return Ok(Next::Again);
        }
        let complete = self.prepare_volumes(&snapshot, now).await;
        if self.act(plan.actions, &snapshot, complete, &mut wake).await? {
            return Ok(Next::Again);
        }
        let again = self.bring_resize_about(now).await;
        self.tend_processors().await;
        self.clear_stale_sandboxes().await?;
        self.tend_probes();
        self.publish();
        let due = self.volumes_due.into_iter().chain(wake).chain(room).chain(again).chain(self.tend_storage(now)).min();
        Ok(Next::Wait(due.unwrap_or(now + FAR)))
    }

    /// Does what the plan says; true where there is reason to look again at once. Containers are made only with
    /// volumes in place.
    async fn act(
        &mut self,
        actions: Vec<Action>,
        snapshot: &Snapshot,
        volumes: bool,
        wake: &mut Option<Timestamp>,
    ) -> Result<bool, CriError> {
        let mut acted = false;
        for action in actions {
            acted |= match action {
                Action::Kill { name, id, why } => {
                    self.kill_one(&name, &id, &why);
                    false
                }
                _ if !volumes => false,
                Action::CreateSandbox { attempt } => match self.sandbox_due() {
                    Some(at) => {
                        *wake = Some(wake.map_or(at, |earlier| earlier.min(at)));
                        false
                    }
                    None => {
                        self.create_sandbox(attempt).await?;
                        true
                    }
                },
                Action::EnsureImage { name } => {
                    self.ensure_image(&name, snapshot).await?;
                    // A pull reports by itself; everything else changes the plan now.
                    !matches!(self.tracks.get(&name).map(|track| &track.image), Some(super::track::ImageState::Pulling))
                }
                Action::Start { name, restart_count } => {
                    self.start_container(&name, restart_count, snapshot).await?;
                    true
                }
            };
        }
        Ok(acted)
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec()?.active_deadline_seconds?;
        let status = self.last_status.as_ref().or(self.pod.status.as_ref());
        let started = status.and_then(|status| status.start_time.as_ref()).map_or(self.first_seen, |time| time.0);
        started.checked_add(SignedDuration::from_secs(seconds)).ok()
    }

    /// Starts the probes of what runs and ends those of what does not.
    pub(super) fn tend_probes(&mut self) {
        let terminating = self.state != State::Running;
        let observed = &self.observed;
        let stopped_for = |kind: Kind| terminating && kind != Kind::Readiness;
        self.probes.retain(|name, kind, id| {
            !stopped_for(kind) && observed.newest(name).is_some_and(|run| run.running() && run.id == id)
        });
        if terminating {
            return;
        }
        for wanted in self.wanted_probes() {
            self.probes.begin(wanted, &self.verdicts);
        }
    }

    /// The probes that should run and do not yet.
    fn wanted_probes(&self) -> Vec<probe::Wanted> {
        let ip = self.pod_ips().first().cloned().unwrap_or_default();
        let now = self.ctx.now();
        let mut wanted = Vec::new();
        for entry in self.containers.entries.iter().filter(|entry| matches!(entry.role, Role::App | Role::Sidecar)) {
            let Some(run) = self.observed.newest(entry.name()).filter(|run| run.running()) else { continue };
            let track = self.tracks.get(entry.name());
            let started = entry.started(run, track);
            let hooked = track.is_some_and(|track| track.post_start_running(&run.id));
            let startup = (!started && !hooked).then_some((Kind::Startup, &entry.spec.startup_probe));
            let steady = [(Kind::Liveness, &entry.spec.liveness_probe), (Kind::Readiness, &entry.spec.readiness_probe)];
            let steady = steady.into_iter().filter(|_| started);
            for (kind, probe) in startup.into_iter().chain(steady) {
                let Some(probe) = probe.as_ref().filter(|_| !self.probes.runs(entry.name(), kind, &run.id)) else {
                    continue;
                };
                wanted.push(probe::Wanted {
                    container: entry.name().to_owned(),
                    kind,
                    probe: probe.clone(),
                    target: probe::Target {
                        runtime: self.ctx.runtime.clone(),
                        container_id: run.id.clone(),
                        pod_ip: ip.clone(),
                        ports: entry.spec.ports.clone(),
                    },
                    running_for: Duration::try_from(now.duration_since(run.started_at)).unwrap_or_default(),
                    tell: self.teller(entry.name()),
                    row: self.ctx.probes.begin(self.probe_subject(entry.name(), kind)),
                });
            }
        }
        wanted
    }

    fn probe_subject(&self, container: &str, kind: Kind) -> probe::Subject {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let meta = &self.pod.metadata;
        let (namespace, pod, uid) = (text(&meta.namespace), text(&meta.name), text(&meta.uid));
        probe::Subject { namespace, pod, uid, container: container.to_owned(), kind }
    }

    /// Events of failed probes.
    fn teller(&self, name: &str) -> probe::Tell {
        let (ctx, pod) = (self.ctx.clone(), self.pod.clone());
        let field = self.entry(name).map(super::context::field_path).unwrap_or_default();
        Box::new(move |kind, outcome| {
            let name = kind.name();
            let (reason, message) = match outcome {
                Outcome::Success => return,
                Outcome::Warning(text) => ("ProbeWarning", format!("{name} probe warning: {text}")),
                Outcome::Failure(text) => ("Unhealthy", format!("{name} probe failed: {text}")),
                Outcome::Unknown(text) => {
                    ("Unhealthy", format!("{name} probe errored and resulted in unknown state: {text}"))
                }
            };
            ctx.container_event(&pod, &field, knarr_client::events::EventType::Warning, reason, message);
        })
    }

    pub(super) fn track(&mut self, name: &str) -> &mut Track {
        self.tracks.entry(name.to_owned()).or_default()
    }
}
