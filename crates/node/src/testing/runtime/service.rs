//! Sandboxes and containers: what was asked for is there at once, and nothing of it is real.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use knarr_cri::{CriError, Result, RuntimeService, v1::*};
use tokio::sync::broadcast;

use super::{FakeRuntime, name_of};

fn missing<T>(what: &'static str, id: &str) -> Result<T> {
    Err(CriError::NotFound { what, id: id.to_owned() })
}

fn selected(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[async_trait]
impl RuntimeService for FakeRuntime {
    async fn version(&self, _: VersionRequest) -> Result<VersionResponse> {
        Ok(VersionResponse { runtime_name: "knarr".to_owned(), runtime_version: "0".to_owned(), ..Default::default() })
    }

    async fn status(&self, _: StatusRequest) -> Result<StatusResponse> {
        let condition = |kind: &str| RuntimeCondition { r#type: kind.to_owned(), status: true, ..Default::default() };
        let status = RuntimeStatus { conditions: vec![condition("RuntimeReady"), condition("NetworkReady")] };
        let handler = |name: &str, user_namespaces| {
            let features = Some(RuntimeHandlerFeatures { user_namespaces, ..Default::default() });
            RuntimeHandler { name: name.to_owned(), features }
        };
        let runtime_handlers = vec![handler("", true), handler("turbo", false)];
        Ok(StatusResponse { status: Some(status), runtime_handlers, ..Default::default() })
    }

    async fn update_runtime_config(&self, _: UpdateRuntimeConfigRequest) -> Result<UpdateRuntimeConfigResponse> {
        Ok(UpdateRuntimeConfigResponse::default())
    }

    async fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Result<RunPodSandboxResponse> {
        let config = request.config.unwrap_or_default();
        let mut state = self.state();
        state.handlers.push(request.runtime_handler);
        state.sandbox_resources.extend(config.linux.as_ref().and_then(|linux| linux.resources.clone()));
        let (id, created_at) = (state.id("s"), state.now());
        let ip = format!("10.42.0.{}", state.next);
        let status = PodSandboxStatus {
            id: id.clone(),
            metadata: config.metadata,
            state: PodSandboxState::SandboxReady as i32,
            created_at,
            network: Some(PodSandboxNetworkStatus { ip, additional_ips: Vec::new() }),
            labels: config.labels,
            annotations: config.annotations,
            ..Default::default()
        };
        state.sandboxes.insert(id.clone(), status);
        Ok(RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> Result<StopPodSandboxResponse> {
        match self.state().sandboxes.get_mut(&request.pod_sandbox_id) {
            Some(sandbox) => sandbox.state = PodSandboxState::SandboxNotready as i32,
            None => return missing("sandbox", &request.pod_sandbox_id),
        }
        Ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(&self, request: RemovePodSandboxRequest) -> Result<RemovePodSandboxResponse> {
        let mut state = self.state();
        state.sandboxes.remove(&request.pod_sandbox_id);
        state.containers.retain(|_, (_, _, sandbox)| *sandbox != request.pod_sandbox_id);
        Ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(&self, request: PodSandboxStatusRequest) -> Result<PodSandboxStatusResponse> {
        match self.state().sandboxes.get(&request.pod_sandbox_id) {
            Some(status) => Ok(PodSandboxStatusResponse { status: Some(status.clone()), ..Default::default() }),
            None => missing("sandbox", &request.pod_sandbox_id),
        }
    }

    async fn list_pod_sandbox(&self, request: ListPodSandboxRequest) -> Result<ListPodSandboxResponse> {
        let selector = request.filter.unwrap_or_default().label_selector;
        let state = self.state();
        let found = state.sandboxes.values().filter(|sandbox| selected(&sandbox.labels, &selector));
        let items = found.map(|sandbox| PodSandbox {
            id: sandbox.id.clone(),
            metadata: sandbox.metadata.clone(),
            state: sandbox.state,
            created_at: sandbox.created_at,
            labels: sandbox.labels.clone(),
            ..Default::default()
        });
        Ok(ListPodSandboxResponse { items: items.collect() })
    }

    async fn create_container(&self, request: CreateContainerRequest) -> Result<CreateContainerResponse> {
        let config = request.config.unwrap_or_default();
        let mut state = self.state();
        if !state.sandboxes.contains_key(&request.pod_sandbox_id) {
            return missing("sandbox", &request.pod_sandbox_id);
        }
        let (id, created_at) = (state.id("c"), state.now());
        let status = ContainerStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: ContainerState::ContainerCreated as i32,
            created_at,
            image: config.image.clone(),
            image_ref: config.image.clone().unwrap_or_default().image,
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            resources: config
                .linux
                .as_ref()
                .map(|linux| ContainerResources { linux: linux.resources.clone(), windows: None }),
            stop_signal: config.stop_signal,
            ..Default::default()
        };
        state.containers.insert(id.clone(), (status, config, request.pod_sandbox_id));
        Ok(CreateContainerResponse { container_id: id })
    }

    async fn start_container(&self, request: StartContainerRequest) -> Result<StartContainerResponse> {
        {
            let mut state = self.state();
            let now = state.now();
            let Some((status, _, _)) = state.containers.get_mut(&request.container_id) else {
                return missing("container", &request.container_id);
            };
            status.state = ContainerState::ContainerRunning as i32;
            status.started_at = now;
        }
        self.tell(&request.container_id, ContainerEventType::ContainerStartedEvent);
        Ok(StartContainerResponse {})
    }

    async fn stop_container(&self, request: StopContainerRequest) -> Result<StopContainerResponse> {
        let (name, takes) = {
            let mut state = self.state();
            let Some((status, _, _)) = state.containers.get(&request.container_id) else {
                return missing("container", &request.container_id);
            };
            let name = name_of(status);
            state.stopped.push((name.clone(), request.timeout));
            (name, state.stop_takes)
        };
        let limit = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        tokio::time::sleep(takes.min(limit)).await;
        if self.running().contains_key(&name) {
            self.exit(&name, if takes > limit { 137 } else { 143 });
        }
        Ok(StopContainerResponse {})
    }

    async fn remove_container(&self, request: RemoveContainerRequest) -> Result<RemoveContainerResponse> {
        self.state().containers.remove(&request.container_id);
        Ok(RemoveContainerResponse {})
    }

    async fn list_containers(&self, request: ListContainersRequest) -> Result<ListContainersResponse> {
        let selector = request.filter.unwrap_or_default().label_selector;
        let state = self.state();
        let found = state.containers.values().filter(|(status, _, _)| selected(&status.labels, &selector));
        let containers = found.map(|(status, _, sandbox)| Container {
            id: status.id.clone(),
            pod_sandbox_id: sandbox.clone(),
            metadata: status.metadata.clone(),
            state: status.state,
            labels: status.labels.clone(),
            annotations: status.annotations.clone(),
            image: status.image.clone(),
            created_at: status.created_at,
            ..Default::default()
        });
        Ok(ListContainersResponse { containers: containers.collect() })
    }

    async fn container_status(&self, request: ContainerStatusRequest) -> Result<ContainerStatusResponse> {
        match self.state().containers.get(&request.container_id) {
            Some((status, _, _)) => Ok(ContainerStatusResponse { status: Some(status.clone()), ..Default::default() }),
            None => missing("container", &request.container_id),
        }
    }

    async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse> {
        let mut state = self.state();
        let Some((status, _, _)) = state.containers.get_mut(&request.container_id) else {
            return missing("container", &request.container_id);
        };
        status.resources = Some(ContainerResources { linux: request.linux, windows: None });
        Ok(UpdateContainerResourcesResponse::default())
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Result<UpdatePodSandboxResourcesResponse> {
        let mut state = self.state();
        if !state.sandboxes.contains_key(&request.pod_sandbox_id) {
            return missing("sandbox", &request.pod_sandbox_id);
        }
        state.sandbox_limits.push(request.resources.unwrap_or_default().memory_limit_in_bytes);
        Ok(UpdatePodSandboxResourcesResponse::default())
    }

    async fn reopen_container_log(&self, _: ReopenContainerLogRequest) -> Result<ReopenContainerLogResponse> {
        Ok(ReopenContainerLogResponse::default())
    }

    async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse> {
        let (exit_code, output) = self.state().commands.get(&request.cmd[0]).cloned().unwrap_or_default();
        Ok(ExecSyncResponse { stdout: output.into_bytes(), stderr: Vec::new(), exit_code })
    }

    async fn container_stats(&self, _: ContainerStatsRequest) -> Result<ContainerStatsResponse> {
        let stats = ContainerStats { memory: Some(self.state().memory()), ..ContainerStats::default() };
        Ok(ContainerStatsResponse { stats: Some(stats) })
    }

    async fn list_container_stats(&self, _: ListContainerStatsRequest) -> Result<ListContainerStatsResponse> {
        Ok(ListContainerStatsResponse::default())
    }

    async fn pod_sandbox_stats(&self, _: PodSandboxStatsRequest) -> Result<PodSandboxStatsResponse> {
        let linux = LinuxPodSandboxStats { memory: Some(self.state().memory()), ..LinuxPodSandboxStats::default() };
        Ok(PodSandboxStatsResponse {
            stats: Some(PodSandboxStats { linux: Some(linux), ..PodSandboxStats::default() }),
        })
    }

    async fn list_pod_sandbox_stats(&self, _: ListPodSandboxStatsRequest) -> Result<ListPodSandboxStatsResponse> {
        Ok(ListPodSandboxStatsResponse { stats: self.state().stats() })
    }

    async fn list_metric_descriptors(&self, _: ListMetricDescriptorsRequest) -> Result<ListMetricDescriptorsResponse> {
        let descriptor = |name: &str| MetricDescriptor {
            name: name.to_owned(),
            help: "Number of bytes of page cache memory.".to_owned(),
            label_keys: vec!["kind".to_owned()],
        };
        let descriptors = ["container_memory_cache", "container_memory_rss"].map(descriptor).to_vec();
        Ok(ListMetricDescriptorsResponse { descriptors })
    }

    async fn list_pod_sandbox_metrics(&self, _: ListPodSandboxMetricsRequest) -> Result<ListPodSandboxMetricsResponse> {
        Ok(ListPodSandboxMetricsResponse { pod_metrics: self.state().metrics() })
    }

    fn container_events(&self) -> broadcast::Receiver<ContainerEventResponse> {
        self.events.subscribe()
    }
}
