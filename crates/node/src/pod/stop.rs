//! Ending: a single container that is unhealthy, or the whole pod, gracefully and in order; then taking down
//! what is left.

use std::{collections::BTreeMap, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, Service};
use knarr_client::errors;
use knarr_cri::{
    CriError,
    v1::{RemoveContainerRequest, RemovePodSandboxRequest, StopContainerRequest, StopPodSandboxRequest},
};
use kube::api::{Api, DeleteParams, Preconditions};

use super::{
    containers::Role,
    context::full_name,
    hear::Report,
    hooks,
    observe::Instance,
    plan::Kill,
    worker::{Next, State, Worker},
};

/// A process gets this long between SIGTERM and SIGKILL even where its preStop hook used all the time.
const LEAST_GRACE: SignedDuration = SignedDuration::from_secs(2);
/// Between a pod's leaving its Services and SIGTERM. A proxy hears of a deletion as soon as the node does and follows
/// within milliseconds; a server that ends at once would otherwise break the connections made meanwhile.
const DRAIN: SignedDuration = SignedDuration::from_millis(100);
const DELETE_RETRY: SignedDuration = SignedDuration::from_secs(1);
const STILL_THERE: SignedDuration = SignedDuration::from_secs(10);

impl Worker {
    /// Stops one container while its pod goes on.
    pub(super) fn kill_one(&mut self, name: &str, id: &str, why: &Kill) {
        let Some(run) = self.observed.newest(name).filter(|run| run.id == id).cloned() else { return };
        let entry = self.entry(name);
        let spec_grace = self.spec().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let probe_grace = |probe: Option<&k8s_openapi::api::core::v1::Probe>| {
            probe.and_then(|probe| probe.termination_grace_period_seconds).unwrap_or(spec_grace)
        };
        let and_restart = |restart: &bool| if *restart { ", will be restarted" } else { "" };
        let (message, grace) = match why {
            Kill::Liveness { restart } => (
                format!("Container {name} failed liveness probe{}", and_restart(restart)),
                probe_grace(entry.and_then(|entry| entry.spec.liveness_probe.as_ref())),
            ),
            Kill::Startup { restart } => (
                format!("Container {name} failed startup probe{}", and_restart(restart)),
                probe_grace(entry.and_then(|entry| entry.spec.startup_probe.as_ref())),
            ),
            Kill::Changed => (format!("Container {name} definition changed, will be restarted"), spec_grace),
            Kill::Resized => (format!("Container {name} resize requires restart"), spec_grace),
            Kill::SandboxGone => (format!("Stopping container {name}"), spec_grace),
            Kill::PostStart { message } => (format!("FailedPostStartHook: {message}"), spec_grace),
        };
        self.stop_run(&run, SignedDuration::from_secs(grace), message);
    }

    /// Runs the preStop hook and stops the container, in a task of its own.
    fn stop_run(&mut self, run: &Instance, grace: SignedDuration, message: String) {
        self.event(&run.name, false, "Killing", message);
        self.track(&run.name).killing = Some(run.id.clone());
        let entry = self.entry(&run.name);
        let handler = entry.and_then(|entry| entry.spec.lifecycle.as_ref()?.pre_stop.clone());
        let ports = entry.and_then(|entry| entry.spec.ports.clone());
        let field = entry.map(super::context::field_path).unwrap_or_default();
        let ip = self.pod_ips().first().cloned().unwrap_or_default();
        let (ctx, pod, reports) = (self.ctx.clone(), self.pod.clone(), self.reports.clone());
        let (name, id, drained_at) = (run.name.clone(), run.id.clone(), self.drained_at);
        let task = tokio::spawn(async move {
            let until = ctx.now() + grace;
            if let Some(handler) = handler.filter(|_| grace.is_positive()) {
                let limit = Duration::try_from(grace).unwrap_or_default();
                let hook = hooks::run(&*ctx.runtime, &id, &handler, ports.as_ref(), &ip, limit);
                let failed = match tokio::time::timeout(limit, hook).await {
                    Ok(Ok(())) => false,
                    Ok(Err(error)) => {
                        tracing::debug!(container = name, error, "preStop hook failed");
                        true
                    }
                    Err(_) => true,
                };
                if failed {
                    let kind = knarr_client::events::EventType::Warning;
                    ctx.container_event(&pod, &field, kind, "FailedPreStopHook", "PreStopHook failed".to_owned());
                }
            }
            if let Some(at) = drained_at.filter(|_| grace.is_positive()) {
                let pause = at.duration_since(ctx.now()).max(SignedDuration::ZERO);
                tokio::time::sleep(Duration::try_from(pause).unwrap_or_default()).await;
            }
            let mut left =
                until.duration_since(ctx.now()).max(if grace.is_zero() { SignedDuration::ZERO } else { LEAST_GRACE });
            if grace < LEAST_GRACE {
                left = left.min(grace);
            }
            // Rounded up: half a second of grace is not none.
            let timeout = left.as_secs() + i64::from(left.subsec_nanos() > 0);
            let request = StopContainerRequest { container_id: id.clone(), timeout };
            if let Err(error) = ctx.runtime.stop_container(request).await
                && !error.is_not_found()
            {
                tracing::warn!(container = name, id, %error, "cannot stop a container; will retry");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let _ = reports.send(Report::Stopped { name, id }).await;
        });
        self.stopping.insert(run.id.clone(), task.abort_handle());
    }

    /// How long the pod has to end.
    fn grace(&self) -> SignedDuration {
        let spec = self.spec().and_then(|spec| spec.termination_grace_period_seconds);
        let deletion = self.pod.metadata.deletion_grace_period_seconds.filter(|_| self.deleted());
        let seconds = deletion.or(spec).unwrap_or(30);
        // Someone who forced the object away still wants the processes to have a moment.
        let own = SignedDuration::from_secs(if self.gone { seconds.clamp(1, 30) } else { seconds });
        self.eviction_grace.map_or(own, |grace| grace.min(own))
    }

    /// Stops what runs: first everything but the sidecars, then those, the last one first.
    pub(super) async fn stopping(&mut self) -> Result<Next, CriError> {
        self.look().await?;
        self.waiting.clear();
        let now = self.ctx.now();
        let by = now + self.grace();
        match self.stop_by {
            // A second deletion may shorten the wait, never lengthen it.
            Some(before) if by + SignedDuration::from_secs(1) < before => {
                self.stop_by = Some(by);
                for (_, task) in self.stopping.drain() {
                    task.abort();
                }
                self.tracks.values_mut().for_each(|track| track.killing = None);
            }
            Some(_) => {}
            None => {
                self.stop_by = Some(by);
                self.drained_at = self.takes_traffic().then(|| now + DRAIN);
            }
        }
        let left = self.stop_by.map_or(SignedDuration::ZERO, |by| by.duration_since(now)).max(SignedDuration::ZERO);
        let running: Vec<Instance> = self.observed.running().cloned().collect();
        if running.is_empty() {
            self.over = true;
            self.state = State::Releasing;
            return Ok(Next::Again);
        }
        for run in self.next_to_stop(&running) {
            if self.stopping.contains_key(&run.id) {
                continue;
            }
            self.stop_run(&run, left, format!("Stopping container {}", run.name));
        }
        self.tend_probes();
        self.publish();
        Ok(Next::Wait(now + left.max(SignedDuration::from_secs(1)) + LEAST_GRACE))
    }

    /// Whether a Service may have sent connections here until a moment ago.
    fn takes_traffic(&self) -> bool {
        let status = self.last_status.as_ref().or(self.pod.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let none = BTreeMap::new();
        let labels = self.pod.metadata.labels.as_ref().unwrap_or(&none);
        let selects = |service: &Service| {
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let chosen = selector.is_some_and(|selector| {
                !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            });
            chosen && service.metadata.namespace == self.pod.metadata.namespace
        };
        ready && self.ctx.services.list().iter().any(|service| selects(service))
    }

    fn next_to_stop(&self, running: &[Instance]) -> Vec<Instance> {
        let sidecar = |run: &Instance| self.entry(&run.name).is_some_and(|entry| entry.role == Role::Sidecar);
        let first: Vec<_> = running.iter().filter(|run| !sidecar(run)).cloned().collect();
        if !first.is_empty() {
            return first;
        }
        let order: Vec<&str> = self.containers.role(Role::Sidecar).map(|entry| entry.name()).collect();
        let place = |run: &&Instance| order.iter().position(|name| *name == run.name);
        running.iter().max_by_key(place).cloned().into_iter().collect()
    }

    /// Takes sandbox and volumes down, so that address and mounts are free before the API forgets the pod.
    pub(super) async fn releasing(&mut self) -> Result<Next, CriError> {
        self.probes = crate::probe::Probes::default();
        self.look().await?;
        let sandboxes = self.observed.sandbox.iter().map(|sandbox| sandbox.id.clone());
        let sandboxes: Vec<String> = sandboxes.chain(self.observed.stale_sandboxes.iter().cloned()).collect();
        for id in sandboxes {
            match self.ctx.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id }).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        if let Err(error) = self.ctx.claims.release(&self.uid).await {
            tracing::warn!(pod = full_name(&self.pod), %error, "a pod's claims cannot be given back; will retry");
            return Ok(Next::Wait(self.ctx.now() + DELETE_RETRY));
        }
        if let Err(error) = self.volumes.tear_down().await {
            let pod = full_name(&self.pod);
            tracing::warn!(pod, %error, path = %self.volumes.dir().display(), "cannot remove a pod's folder; will retry");
            return Ok(Next::Wait(self.ctx.now() + DELETE_RETRY));
        }
        self.look().await?;
        self.ctx.release(&self.uid);
        self.give_back().await;
        self.publish();
        self.state = State::Ended;
        Ok(Next::Again)
    }

    /// Keeps the logs of a pod that ended until someone deletes it.
    pub(super) async fn ended(&mut self) -> Result<Next, CriError> {
        if self.deleted() {
            if let Some(writer) = &mut self.writer
                && !self.gone
            {
                // Bounded, so that a pod whose object vanishes meanwhile is noticed.
                let _ = tokio::time::timeout(Duration::from_secs(5), writer.flushed()).await;
            }
            self.state = State::Removing;
            return Ok(Next::Again);
        }
        Ok(Next::Wait(self.ctx.now() + SignedDuration::from_secs(3600)))
    }

    /// Tells the API that nothing is left, then clears away what the runtime still lists.
    pub(super) async fn removing(&mut self) -> Result<Next, CriError> {
        let now = self.ctx.now();
        if !self.gone && !self.is_static() && !self.delete_object().await {
            return Ok(Next::Wait(now + DELETE_RETRY));
        }
        self.look().await?;
        for run in self.observed.instances() {
            let request = RemoveContainerRequest { container_id: run.id.clone() };
            ignore_missing(self.ctx.runtime.remove_container(request).await.map(drop))?;
        }
        let sandboxes = self.observed.sandbox.iter().map(|sandbox| &sandbox.id).chain(&self.observed.stale_sandboxes);
        for id in sandboxes {
            let request = RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
            ignore_missing(self.ctx.runtime.remove_pod_sandbox(request).await.map(drop))?;
        }
        let logs = self.ctx.log_folder(&self.pod);
        let folder = logs.clone();
        let removed = knarr_os::aside(move || std::fs::remove_dir_all(folder)).await;
        if let Err(error) = removed.map_err(std::io::Error::other).flatten()
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %logs.display(), %error, "cannot remove a pod's logs");
        }
        if self.gone || self.is_static() {
            let uid = &self.uid;
            self.ctx.owners().retain(|_, owner| owner != uid);
            self.state = State::Gone;
            return Ok(Next::Again);
        }
        // Finalizers may keep the object; it is asked for again from time to time.
        Ok(Next::Wait(now + STILL_THERE))
    }

    /// True once the API knows that this pod needs no more grace.
    async fn delete_object(&self) -> bool {
        let meta = &self.pod.metadata;
        let api: Api<Pod> = Api::namespaced(self.ctx.client.clone(), meta.namespace.as_deref().unwrap_or_default());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(meta.name.as_deref().unwrap_or_default(), &params).await {
            Ok(_) => true,
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => true,
            Err(error) => {
                tracing::debug!(pod = full_name(&self.pod), %error, "the API does not take a pod's end yet; will retry");
                false
            }
        }
    }

    /// Reads the last words of runs that have ended, and keeps those that the API already has.
    pub(super) async fn read_messages(&mut self) {
        let dir = self.volumes.dir().to_owned();
        let known = self.last_status.as_ref().or(self.pod.status.as_ref());
        let lists = known.map(|status| [&status.container_statuses, &status.init_container_statuses]);
        let mut written: Vec<(String, String)> = Vec::new();
        for status in lists.into_iter().flatten().flatten().flatten() {
            for state in [&status.state, &status.last_state].into_iter().flatten() {
                if let Some(ended) = &state.terminated
                    && let (Some(id), Some(message)) = (&ended.container_id, &ended.message)
                {
                    written.push((id.rsplit('/').next().unwrap_or_default().to_owned(), message.clone()));
                }
            }
        }
        let log_dir = self.ctx.log_folder(&self.pod);
        for (name, runs) in &mut self.observed.containers {
            let entry = self.containers.get(name);
            for run in runs.iter_mut().filter(|run| run.ended() && run.message.is_empty()) {
                if let Some(message) = self.messages.get(&run.id) {
                    run.message.clone_from(message);
                    continue;
                }
                let stored = written.iter().find(|(id, _)| *id == run.id).map(|(_, message)| message.clone());
                let message = match (stored, entry) {
                    (Some(message), _) => message,
                    (None, Some(entry)) => super::last_words::read(entry, run, &dir, &log_dir).await,
                    (None, None) => String::new(),
                };
                run.message.clone_from(&message);
                self.messages.insert(run.id.clone(), message);
            }
        }
    }
}

fn ignore_missing(result: Result<(), CriError>) -> Result<(), CriError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}
