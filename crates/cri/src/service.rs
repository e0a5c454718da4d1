use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::{Result, v1::*};

/// Sandboxes and containers: `runtime.v1.RuntimeService` without its streaming calls, which
/// [`crate::StreamService`] serves as streams instead of as URLs.
#[async_trait]
pub trait RuntimeService: Send + Sync + 'static {
    async fn version(&self, request: VersionRequest) -> Result<VersionResponse>;
    async fn status(&self, request: StatusRequest) -> Result<StatusResponse>;
    async fn update_runtime_config(&self, request: UpdateRuntimeConfigRequest) -> Result<UpdateRuntimeConfigResponse>;

    async fn run_pod_sandbox(&self, request: RunPodSandboxRequest) -> Result<RunPodSandboxResponse>;
    async fn stop_pod_sandbox(&self, request: StopPodSandboxRequest) -> Result<StopPodSandboxResponse>;
    async fn remove_pod_sandbox(&self, request: RemovePodSandboxRequest) -> Result<RemovePodSandboxResponse>;
    async fn pod_sandbox_status(&self, request: PodSandboxStatusRequest) -> Result<PodSandboxStatusResponse>;
    async fn list_pod_sandbox(&self, request: ListPodSandboxRequest) -> Result<ListPodSandboxResponse>;

    async fn create_container(&self, request: CreateContainerRequest) -> Result<CreateContainerResponse>;
    async fn start_container(&self, request: StartContainerRequest) -> Result<StartContainerResponse>;
    async fn stop_container(&self, request: StopContainerRequest) -> Result<StopContainerResponse>;
    async fn remove_container(&self, request: RemoveContainerRequest) -> Result<RemoveContainerResponse>;
    async fn list_containers(&self, request: ListContainersRequest) -> Result<ListContainersResponse>;
    async fn container_status(&self, request: ContainerStatusRequest) -> Result<ContainerStatusResponse>;
    async fn update_container_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Result<UpdateContainerResourcesResponse>;
    /// What a whole sandbox may use, where that changed because its containers' share did.
    async fn update_pod_sandbox_resources(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Result<UpdatePodSandboxResourcesResponse>;
    async fn reopen_container_log(&self, request: ReopenContainerLogRequest) -> Result<ReopenContainerLogResponse>;
    async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse>;

    async fn container_stats(&self, request: ContainerStatsRequest) -> Result<ContainerStatsResponse>;
    async fn list_container_stats(&self, request: ListContainerStatsRequest) -> Result<ListContainerStatsResponse>;

    async fn pod_sandbox_stats(&self, request: PodSandboxStatsRequest) -> Result<PodSandboxStatsResponse>;
    /// Of sandboxes that are ready, each with its running containers.
    async fn list_pod_sandbox_stats(&self, request: ListPodSandboxStatsRequest) -> Result<ListPodSandboxStatsResponse>;

    /// The metrics that [`Self::list_pod_sandbox_metrics`] may have, beside what the statistics say.
    async fn list_metric_descriptors(
        &self,
        request: ListMetricDescriptorsRequest,
    ) -> Result<ListMetricDescriptorsResponse>;
    async fn list_pod_sandbox_metrics(
        &self,
        request: ListPodSandboxMetricsRequest,
    ) -> Result<ListPodSandboxMetricsResponse>;

    /// Every change of a container's state from now on. A receiver that lags is told so and lists again.
    fn container_events(&self) -> broadcast::Receiver<ContainerEventResponse>;
}

/// Images: `runtime.v1.ImageService`.
#[async_trait]
pub trait ImageService: Send + Sync + 'static {
    async fn list_images(&self, request: ListImagesRequest) -> Result<ListImagesResponse>;
    async fn image_status(&self, request: ImageStatusRequest) -> Result<ImageStatusResponse>;
    async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse>;
    async fn remove_image(&self, request: RemoveImageRequest) -> Result<RemoveImageResponse>;
    async fn image_fs_info(&self, request: ImageFsInfoRequest) -> Result<ImageFsInfoResponse>;
}
