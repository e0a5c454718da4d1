//! CRI's services, on the runtime.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use knarr_cri::{CriError, ImageService, Result, RuntimeService, v1::*};
use tokio::sync::broadcast;

use crate::{
    client, convert,
    images::Credentials,
    metrics,
    runtime::{EmbeddedRuntime, now_ns},
    shim::protocol::Request,
    spec,
};

/// What a RuntimeClass may name: nothing, which is for pods without one, and this runtime.
const HANDLERS: [&str; 2] = ["", "knarr"];

fn required<T>(value: Option<T>, what: &str) -> Result<T> {
    value.ok_or_else(|| CriError::InvalidArgument { message: format!("the request lacks {what}") })
}

#[async_trait]
impl RuntimeService for EmbeddedRuntime {
    async fn version(&self, _: VersionRequest) -> Result<VersionResponse> {
        Ok(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "knarr".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        })
    }

    async fn status(&self, _: StatusRequest) -> Result<StatusResponse> {
        let network = self.config.network.status().await;
        let condition = |name: &str, problem: Option<String>, reason: &str| RuntimeCondition {
            r#type: name.into(),
            status: problem.is_none(),
            reason: if problem.is_some() { reason.into() } else { String::new() },
            message: problem.unwrap_or_default(),
        };
        let conditions = vec![
            condition("RuntimeReady", None, ""),
            condition("NetworkReady", network.err().map(|e| e.to_string()), "NetworkPluginNotReady"),
        ];
        let user_namespaces = knarr_os::users::are_possible();
        let features = RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces };
        Ok(StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            runtime_handlers: HANDLERS
                .map(|name| RuntimeHandler { name: name.into(), features: Some(features) })
                .into(),
            features: Some(RuntimeFeatures { supplemental_groups_policy: true }),
            ..StatusResponse::default()
        })
    }

    async fn update_runtime_config(&self, _: UpdateRuntimeConfigRequest) -> Result<UpdateRuntimeConfigResponse> {
        // The pod network is told its addresses by whoever makes it, not by way of the runtime.
        Ok(UpdateRuntimeConfigResponse {})
    }

    async fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Result<RunPodSandboxResponse> {
        if !HANDLERS.contains(&request.runtime_handler.as_str()) {
            let message = format!("there is no runtime handler {:?}, only \"knarr\"", request.runtime_handler);
            return Err(CriError::InvalidArgument { message });
        }
        let config = required(request.config, "config")?;
        Ok(RunPodSandboxResponse {
            pod_sandbox_id: self.to_the_end(|r| async move { r.run_sandbox(config).await }).await?,
        })
    }

    async fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> Result<StopPodSandboxResponse> {
        self.to_the_end(|r| async move { r.stop_sandbox(&request.pod_sandbox_id).await }).await?;
        Ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(&self, request: RemovePodSandboxRequest) -> Result<RemovePodSandboxResponse> {
        self.to_the_end(|r| async move { r.remove_sandbox(&request.pod_sandbox_id).await }).await?;
        Ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(&self, request: PodSandboxStatusRequest) -> Result<PodSandboxStatusResponse> {
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        let state = self.state();
        let containers = state.containers.values().filter(|c| c.meta.sandbox_id == sandbox.meta.id);
        Ok(PodSandboxStatusResponse {
            status: Some(convert::sandbox_status(&sandbox)),
            containers_statuses: containers.map(convert::container_status).collect(),
            timestamp: now_ns(),
            ..PodSandboxStatusResponse::default()
        })
    }

    async fn list_pod_sandbox(&self, request: ListPodSandboxRequest) -> Result<ListPodSandboxResponse> {
        let filter = request.filter.unwrap_or_default();
        let state = self.state();
        let wanted = state.sandboxes.values().filter(|s| {
            (filter.id.is_empty() || s.meta.id == filter.id)
                && filter.state.as_ref().is_none_or(|f| f.state() == s.state())
                && convert::labels_match(&s.config.labels, &filter.label_selector)
        });
        Ok(ListPodSandboxResponse { items: wanted.map(convert::sandbox).collect() })
    }

    async fn create_container(&self, request: CreateContainerRequest) -> Result<CreateContainerResponse> {
        let config = required(request.config, "config")?;
        let create =
            |r: Arc<Self>| async move { EmbeddedRuntime::create_container(&r, &request.pod_sandbox_id, config).await };
        let container_id = self.to_the_end(create).await?;
        Ok(CreateContainerResponse { container_id })
    }

    async fn start_container(&self, request: StartContainerRequest) -> Result<StartContainerResponse> {
        EmbeddedRuntime::start_container(self, &request.container_id).await?;
        Ok(StartContainerResponse {})
    }

    async fn stop_container(&self, request: StopContainerRequest) -> Result<StopContainerResponse> {
        let timeout = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        EmbeddedRuntime::stop_container(self, &request.container_id, timeout).await?;
        Ok(StopContainerResponse {})
    }

    async fn remove_container(&self, request: RemoveContainerRequest) -> Result<RemoveContainerResponse> {
        let remove = |r: Arc<Self>| async move { EmbeddedRuntime::remove_container(&r, &request.container_id).await };
        self.to_the_end(remove).await?;
        Ok(RemoveContainerResponse {})
    }

    async fn list_containers(&self, request: ListContainersRequest) -> Result<ListContainersResponse> {
        let filter = request.filter.unwrap_or_default();
        let state = self.state();
        let wanted = state.containers.values().filter(|c| {
            (filter.id.is_empty() || c.meta.id == filter.id)
                && (filter.pod_sandbox_id.is_empty() || c.meta.sandbox_id == filter.pod_sandbox_id)
                && filter.state.as_ref().is_none_or(|f| f.state() == c.state())
                && convert::labels_match(&c.config.labels, &filter.label_selector)
        });
        Ok(ListContainersResponse { containers: wanted.map(convert::container).collect() })
    }

    async fn container_status(&self, request: ContainerStatusRequest) -> Result<ContainerStatusResponse> {
        let id = request.container_id;
        let state = self.state();
        let container = state.containers.get(&id).ok_or(CriError::NotFound { what: "container", id })?;
        let mut info = std::collections::BTreeMap::new();
        if request.verbose {
            info.insert("pid".to_owned(), container.meta.pid.to_string());
        }
        Ok(ContainerStatusResponse { status: Some(convert::container_status(container)), info })
    }

    async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse> {
        let (_, _) = self.running(&request.container_id)?;
        let linux = required(request.linux, "linux")?;
        let missing = || CriError::NotFound { what: "container", id: request.container_id.clone() };
        let cgroup = self.state().containers.get(&request.container_id).ok_or_else(missing)?.meta.cgroup.clone();
        // The kernel first: what it refuses is not what the container has.
        if let Some(refused) = self.cgroups.update(&cgroup, &spec::resources(&linux)).into_iter().next() {
            return Err(convert::os_error(refused));
        }
        let mut state = self.state();
        let container = state.containers.get_mut(&request.container_id).ok_or_else(missing)?;
        let config = container.config.linux.get_or_insert_default();
        merge_resources(config.resources.get_or_insert_default(), &linux);
        let directory = self.config.container_dir(&request.container_id);
        let _ = crate::records::save(&directory, &container.config, &container.meta);
        Ok(UpdateContainerResourcesResponse {})
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Result<UpdatePodSandboxResourcesResponse> {
        self.resize_sandbox(&request.pod_sandbox_id, &required(request.resources, "resources")?)?;
        Ok(UpdatePodSandboxResourcesResponse {})
    }

    async fn reopen_container_log(&self, request: ReopenContainerLogRequest) -> Result<ReopenContainerLogResponse> {
        let id = request.container_id;
        let (sandbox, _) = self.running(&id)?;
        let asked = client::tell(&self.config.sandbox_run_dir(&sandbox), &Request::ReopenLog { id: id.clone() }).await;
        asked.map_err(convert::shim_error("container", &id))?;
        Ok(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse> {
        let timeout = u64::try_from(request.timeout).ok().filter(|t| *t > 0).map(Duration::from_secs);
        self.exec_to_end(&request.container_id, request.cmd, timeout).await
    }

    async fn container_stats(&self, request: ContainerStatsRequest) -> Result<ContainerStatsResponse> {
        let id = request.container_id;
        self.locate(&id)?;
        let stats = self.stats_of(vec![id]).await;
        Ok(ContainerStatsResponse { stats: stats.into_iter().next() })
    }

    async fn list_container_stats(&self, request: ListContainerStatsRequest) -> Result<ListContainerStatsResponse> {
        let filter = request.filter.unwrap_or_default();
        let ids = {
            let state = self.state();
            let wanted = state.containers.values().filter(|c| {
                c.state() == ContainerState::ContainerRunning
                    && (filter.id.is_empty() || c.meta.id == filter.id)
                    && (filter.pod_sandbox_id.is_empty() || c.meta.sandbox_id == filter.pod_sandbox_id)
                    && convert::labels_match(&c.config.labels, &filter.label_selector)
            });
            wanted.map(|c| c.meta.id.clone()).collect()
        };
        Ok(ListContainerStatsResponse { stats: self.stats_of(ids).await })
    }

    async fn pod_sandbox_stats(&self, request: PodSandboxStatsRequest) -> Result<PodSandboxStatsResponse> {
        let id = self.sandbox(&request.pod_sandbox_id)?.meta.id;
        let stats = self.sandbox_stats_of(vec![id]).await;
        Ok(PodSandboxStatsResponse { stats: stats.into_iter().next() })
    }

    async fn list_pod_sandbox_stats(&self, request: ListPodSandboxStatsRequest) -> Result<ListPodSandboxStatsResponse> {
        let filter = request.filter.unwrap_or_default();
        let ids = {
            let state = self.state();
            let wanted = state.sandboxes.values().filter(|s| {
                s.state() == PodSandboxState::SandboxReady
                    && (filter.id.is_empty() || s.meta.id == filter.id)
                    && convert::labels_match(&s.config.labels, &filter.label_selector)
            });
            wanted.map(|s| s.meta.id.clone()).collect()
        };
        Ok(ListPodSandboxStatsResponse { stats: self.sandbox_stats_of(ids).await })
    }

    async fn list_metric_descriptors(&self, _: ListMetricDescriptorsRequest) -> Result<ListMetricDescriptorsResponse> {
        Ok(ListMetricDescriptorsResponse { descriptors: metrics::descriptors() })
    }

    async fn list_pod_sandbox_metrics(&self, _: ListPodSandboxMetricsRequest) -> Result<ListPodSandboxMetricsResponse> {
        Ok(ListPodSandboxMetricsResponse { pod_metrics: self.metrics().await })
    }

    fn container_events(&self) -> broadcast::Receiver<ContainerEventResponse> {
        self.subscribe()
    }
}

/// A limit that is not given stays as it was.
fn merge_resources(current: &mut LinuxContainerResources, update: &LinuxContainerResources) {
    let pairs = [
        (&mut current.cpu_period, update.cpu_period),
        (&mut current.cpu_quota, update.cpu_quota),
        (&mut current.cpu_shares, update.cpu_shares),
        (&mut current.memory_limit_in_bytes, update.memory_limit_in_bytes),
        (&mut current.memory_swap_limit_in_bytes, update.memory_swap_limit_in_bytes),
    ];
    for (current, update) in pairs {
        if update != 0 {
            *current = update;
        }
    }
    for (current, update) in
        [(&mut current.cpuset_cpus, &update.cpuset_cpus), (&mut current.cpuset_mems, &update.cpuset_mems)]
    {
        if !update.is_empty() {
            current.clone_from(update);
        }
    }
}

#[async_trait]
impl ImageService for EmbeddedRuntime {
    async fn list_images(&self, request: ListImagesRequest) -> Result<ListImagesResponse> {
        let wanted = request.filter.and_then(|f| f.image).map(|i| i.image).filter(|i| !i.is_empty());
        let images = match wanted {
            Some(name) => self.images.find(&name).map_err(convert::image_error)?.into_iter().collect(),
            None => self.images.list().map_err(convert::image_error)?,
        };
        Ok(ListImagesResponse { images: images.iter().map(convert::image).collect() })
    }

    async fn image_status(&self, request: ImageStatusRequest) -> Result<ImageStatusResponse> {
        let name = required(request.image, "image")?.image;
        let image = self.images.find(&name).map_err(convert::image_error)?;
        Ok(ImageStatusResponse { image: image.as_ref().map(convert::image), ..ImageStatusResponse::default() })
    }

    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse> {
        let name = required(request.image, "image")?.image;
        let id = self.images.pull(&name, request.auth.and_then(Credentials::of)).await.map_err(convert::image_error)?;
        Ok(PullImageResponse { image_ref: id })
    }

    async fn remove_image(&self, request: RemoveImageRequest) -> Result<RemoveImageResponse> {
        let name = required(request.image, "image")?.image;
        let images = self.images.clone();
        let removed = tokio::task::spawn_blocking(move || images.remove(&name)).await;
        removed.unwrap_or(Ok(false)).map_err(convert::image_error)?;
        Ok(RemoveImageResponse {})
    }

    async fn image_fs_info(&self, _: ImageFsInfoRequest) -> Result<ImageFsInfoResponse> {
        let (bytes, layers) = self.images.usage().map_err(convert::image_error)?;
        let usage = |used: u64, inodes: u64| FilesystemUsage {
            timestamp: now_ns(),
            fs_id: Some(FilesystemIdentifier { mountpoint: self.config.data_dir.display().to_string() }),
            used_bytes: Some(UInt64Value { value: used }),
            inodes_used: Some(UInt64Value { value: inodes }),
        };
        Ok(ImageFsInfoResponse { image_filesystems: vec![usage(bytes, layers)], container_filesystems: vec![] })
    }
}
