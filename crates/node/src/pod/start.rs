//! Making sandboxes and containers.

use std::{collections::BTreeMap, io, path::Path, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{core::v1::PodSpec, node::v1::RuntimeClass};
use knarr_client::{call, errors, events::EventType};
use knarr_cri::{
    CriError,
    v1::{
        CreateContainerRequest, Device, Mount, PodSandboxConfig, RunPodSandboxRequest, StartContainerRequest,
        StopPodSandboxRequest,
    },
};
use tracing::Instrument;

use super::{
    containers::Entry,
    context::{field_path, full_name},
    cri, dns, env,
    hear::Report,
    hooks, hosts, image,
    references::Snapshot,
    track::{Failure, ImageState, PostStart},
    worker::Worker,
};
use crate::volume;

/// Why a container waits whose configuration cannot be made out.
pub(super) const CONFIG_ERROR: &str = "CreateContainerConfigError";

/// A postStart hook has no deadline of its own; this bounds the task that waits for it.
const POST_START_LIMIT: Duration = Duration::from_secs(3600);

/// Why a container or sandbox was not started, in the terms of a container's `waiting` state or of an event.
struct NotStarted {
    reason: &'static str,
    message: String,
}

impl Worker {
    /// When the next attempt at a sandbox may be made, if that is not now.
    pub(super) fn sandbox_due(&self) -> Option<Timestamp> {
        let failed = self.sandbox_failed?;
        let now = self.ctx.now();
        let (left, _) = self.sandbox_backoff.remaining(failed, now)?;
        Some(now + left)
    }

    /// Replaces what is left of an earlier sandbox by a new one.
    pub(super) async fn create_sandbox(&mut self, attempt: u32) -> Result<(), CriError> {
        if let Some(old) = &self.observed.sandbox {
            let message = "Pod sandbox changed, it will be killed and re-created.";
            self.ctx.normal(&self.pod, "SandboxChanged", message);
            let request = StopPodSandboxRequest { pod_sandbox_id: old.id.clone() };
            self.ctx.runtime.stop_pod_sandbox(request).await?;
        }
        let step = tracing::debug_span!(target: knarr_cri::POD_START, "sandbox");
        match self.try_sandbox(attempt).instrument(step).await {
            Ok(id) => {
                self.sandbox_given = self.spec().map(|spec| (id.clone(), self.ctx.sandbox_resources(&self.pod, spec)));
                self.ctx.owners().insert(id, self.uid.clone());
                self.sandbox_failed = None;
            }
            Err(NotStarted { reason, message }) => {
                let now = self.ctx.now();
                self.ctx.warning(&self.pod, reason, message);
                self.sandbox_backoff.advance(now, now);
                self.sandbox_failed = Some(now);
            }
        }
        Ok(())
    }

    /// Makes a sandbox; the error is the event's.
    async fn try_sandbox(&self, attempt: u32) -> Result<String, NotStarted> {
        let failed = |error: String| NotStarted {
            reason: "FailedCreatePodSandBox",
            message: format!("Failed to create pod sandbox: {error}"),
        };
        let spec = self.spec().ok_or_else(|| failed("the pod has no spec".to_owned()))?;
        self.ctx.claims.prepare(&self.pod).await.map_err(|error| NotStarted {
            reason: "FailedPrepareDynamicResources",
            message: format!("Failed to prepare dynamic resources: prepare dynamic resources: {error}"),
        })?;
        let runtime_handler = self.runtime_handler(spec).await.map_err(failed)?;
        self.check_users(spec, &runtime_handler).await.map_err(failed)?;
        let (config, warnings) = self.sandbox_config(spec, attempt).await.map_err(failed)?;
        for warning in warnings {
            self.ctx.warning(&self.pod, "DNSConfigForming", warning);
        }
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler };
        let response = self.ctx.runtime.run_pod_sandbox(request).await.map_err(|error| failed(error.to_string()))?;
        Ok(response.pod_sandbox_id)
    }

    /// What the runtime calls the pod's RuntimeClass.
    async fn runtime_handler(&self, spec: &PodSpec) -> Result<String, String> {
        let name = spec.runtime_class_name.as_deref().unwrap_or_default();
        if name.is_empty() {
            return Ok(String::new());
        }
        match call::get::<RuntimeClass>(&self.ctx.client, "", name).await {
            Ok(Some(class)) => Ok(class.handler),
            Ok(None) => Err(format!("runtimeclass.node.k8s.io {name:?} not found")),
            Err(error) => Err(format!("failed to lookup RuntimeClass {name}: {}", errors::message(&error))),
        }
    }

    /// The sandbox as it is asked for, which is also part of each container's request, and what had to be left out.
    async fn sandbox_config(&self, spec: &PodSpec, attempt: u32) -> Result<(PodSandboxConfig, Vec<String>), String> {
        let names = hosts::names(&self.pod, &self.ctx.node_name, &self.ctx.cluster_domain);
        let (log_directory, named) = (self.ctx.log_folder(&self.pod), self.ctx.resolv_conf.clone());
        let folder = log_directory.clone();
        let at_hand = knarr_os::aside(move || (dns::host(named.as_deref()), std::fs::create_dir_all(folder)));
        let (host, made) = at_hand.await.map_err(|error| error.to_string())?;
        let host = host.map_err(|error| error.to_string())?;
        if let Err(error) = made {
            tracing::warn!(path = %log_directory.display(), %error, "no folder for this pod's logs");
        }
        let cluster = dns::ClusterDns { servers: &self.ctx.cluster_dns, domain: &self.ctx.cluster_domain };
        let dns::Formed { config, warnings } = dns::config(&self.pod, &cluster, &host);
        let hostname = names.kernel().map_err(|error| error.to_string())?;
        let resources = self.ctx.sandbox_resources(&self.pod, spec);
        let users = self.users(spec).await?;
        let around = cri::Surroundings { hostname, dns: config, log_directory: &log_directory, resources, users };
        Ok((cri::sandbox(&self.pod, spec, attempt, &around), warnings))
    }

    /// Makes and starts one container; a failure is kept in its track and told by an event.
    pub(super) async fn start_container(
        &mut self,
        name: &str,
        restart_count: u32,
        snapshot: &Snapshot,
    ) -> Result<(), CriError> {
        let now = self.ctx.now();
        let Some(entry) = self.entry(name).cloned() else { return Ok(()) };
        self.clear_runs(name).await?;
        let ended_at = self.observed.newest(name).filter(|run| run.ended()).map(|run| run.finished_at);
        let image = std::mem::take(&mut self.track(name).image);
        let image_volumes = std::mem::take(&mut self.track(name).image_volumes);
        let ImageState::Present { reference } = image else { return Ok(()) };
        let outcome = self.make(&entry, restart_count, &reference, image_volumes, snapshot).await;
        let track = self.track(name);
        // What was not even made, for want of what it refers to, is no other crash: it starts once that is there.
        let is_made = outcome.as_ref().err().is_none_or(|error| error.reason != CONFIG_ERROR);
        if let Some(ended_at) = ended_at.filter(|_| is_made) {
            track.crashed(entry.chance(), ended_at, now);
        }
        match outcome {
            Ok(id) => {
                track.failure = None;
                track.killing = None;
                track.health_mut(&id);
                self.post_start(&entry, id);
            }
            Err(NotStarted { reason, message }) => {
                track.failure = Some(Failure { reason, message: message.clone(), at: now });
                let text = if message.is_empty() { reason.to_owned() } else { message };
                self.event(name, true, "Failed", format!("Error: {text}"));
            }
        }
        Ok(())
    }

    async fn make(
        &mut self,
        entry: &Entry,
        restart_count: u32,
        reference: &str,
        image_volumes: BTreeMap<String, String>,
        snapshot: &Snapshot,
    ) -> Result<String, NotStarted> {
        let config_error = |message: String| NotStarted { reason: CONFIG_ERROR, message };
        let create_error = |message: String| NotStarted { reason: "CreateContainerError", message };
        let Some(spec) = self.spec() else { return Err(config_error("the pod has no spec".to_owned())) };
        let Some(sandbox) = self.observed.sandbox.clone() else {
            return Err(create_error("the pod has no sandbox".to_owned()));
        };
        let ips = self.pod_ips();
        let services = self.ctx.services.list();
        let sources = env::Sources { snapshot, services: &services, volumes: self.volumes.dir() };
        let env = env::build(self.facts(&ips), entry, sources);
        let env = env.map_err(|error| config_error(error.to_string()))?;
        let shown = self.shown(entry, restart_count, &env, image_volumes, &ips).await;
        let (mounts, volumes) = shown.map_err(|error| config_error(error.to_string()))?;
        let given = self.ctx.devices.prepare(&self.pod, entry.name()).await;
        let mut given = given.map_err(|error| config_error(error.to_string()))?;
        given.devices.extend(volumes);
        let image = image::find(&self.ctx, reference).await.ok().flatten();
        let target = entry.target.as_deref().and_then(|name| self.observed.current(name)).map(|run| run.id.as_str());
        let cdi_devices = self.ctx.claims.devices(&self.pod, &entry.spec);
        let cdi_devices = cdi_devices.map_err(|error| config_error(error.to_string()))?;
        let users = self.users(spec).await.map_err(create_error)?;
        let ingredients = cri::Ingredients {
            restart_count,
            image_reference: reference,
            image: image.as_ref(),
            env,
            mounts,
            cdi_devices,
            given,
            target_id: target,
            resources: self.ctx.container_resources(&self.pod, &entry.spec),
            grace_seconds: spec.termination_grace_period_seconds.unwrap_or(30),
            host: &self.ctx.host,
            users: users.as_ref(),
        };
        let config = cri::container(&self.pod, spec, entry, ingredients);
        let config = config.map_err(|error| {
            config_error(format!("{error} (pod: {:?}, container: {})", full_name(&self.pod), entry.name()))
        })?;
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.id,
            config: Some(config),
            sandbox_config: self.sandbox_config(spec, sandbox.attempt).await.ok().map(|(config, _)| config),
        };
        let runtime = &self.ctx.runtime;
        let step = tracing::debug_span!(target: knarr_cri::POD_START, "create");
        let created = runtime.create_container(request).instrument(step).await;
        let id = created.map_err(|error| create_error(error.to_string()))?.container_id;
        self.ctx.owners().insert(id.clone(), self.uid.clone());
        let field = field_path(entry);
        let normal = |reason: &str, message: &str| {
            self.ctx.container_event(&self.pod, &field, EventType::Normal, reason, message.to_owned());
        };
        normal("Created", "Container created");
        let step = tracing::debug_span!(target: knarr_cri::POD_START, "start");
        let started =
            runtime.start_container(StartContainerRequest { container_id: id.clone() }).instrument(step).await;
        started.map_err(|error| NotStarted { reason: "RunContainerError", message: error.to_string() })?;
        normal("Started", "Container started");
        Ok(id)
    }

    /// The pod's volumes, its hosts file and the file for its last words; and the volumes that are devices.
    async fn shown(
        &self,
        entry: &Entry,
        restart_count: u32,
        env: &[(String, String)],
        image_volumes: BTreeMap<String, String>,
        ips: &[String],
    ) -> io::Result<(Vec<Mount>, Vec<Device>)> {
        let (pod, dir, env) = (self.pod.clone(), self.volumes.dir().to_owned(), env.to_vec());
        let names = hosts::names(&pod, &self.ctx.node_name, &self.ctx.cluster_domain);
        let (entry, ips) = (entry.clone(), ips.to_vec());
        let made = volume::reach(volume::has_others(&pod), move || -> io::Result<(Vec<Mount>, Vec<Device>)> {
            let devices = volume::container_devices(&pod, &entry, &dir).map_err(io::Error::other)?;
            let mounts = volume::container_mounts(&pod, &entry, &dir, &env, &image_volumes);
            let mut mounts = mounts.map_err(io::Error::other)?;
            let taken = |mounts: &[Mount], path: &str| mounts.iter().any(|mount| mount.container_path == path);
            if !taken(&mounts, "/etc/hosts") {
                let path = dir.join("etc-hosts");
                let host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
                std::fs::create_dir_all(&dir)?;
                std::fs::write(&path, hosts::file(&pod, &ips, &names, &host))?;
                mounts.push(bind("/etc/hosts", &path));
            }
            let last_words = entry.spec.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
            if !last_words.is_empty() && !taken(&mounts, last_words) {
                let path = termination_file(&dir, entry.name(), restart_count);
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                std::fs::write(&path, b"")?;
                // Written to by whatever user the container runs as.
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))?;
                mounts.push(bind(last_words, &path));
            }
            Ok((mounts, devices))
        });
        made.await?
    }

    fn post_start(&mut self, entry: &Entry, id: String) {
        let Some(handler) = entry.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.clone()) else {
            return;
        };
        let name = entry.name().to_owned();
        self.track(&name).post_start = PostStart::Running { id: id.clone() };
        let (ctx, reports, ports) = (self.ctx.clone(), self.reports.clone(), entry.spec.ports.clone());
        let ip = self.pod_ips().first().cloned().unwrap_or_default();
        tokio::spawn(async move {
            let result = hooks::run(&*ctx.runtime, &id, &handler, ports.as_ref(), &ip, POST_START_LIMIT).await;
            let _ = reports.send(Report::PostStart { name, id, result }).await;
        });
    }
}

/// Where a run leaves its termination message.
pub(super) fn termination_file(dir: &Path, name: &str, restart_count: u32) -> std::path::PathBuf {
    dir.join("containers").join(name).join(restart_count.to_string())
}

fn bind(container_path: &str, host_path: &Path) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_string_lossy().into_owned(),
        ..Mount::default()
    }
}
