//! The calls that both sides pass on as they are: the trait's name, the protocol's, its messages, and what the request
//! is about, where that may not be there.

/// Of `runtime.v1.RuntimeService`. Those that neither side passes on as they are stand in their own places.
macro_rules! runtime_service {
    ($apply:ident) => {
        $apply! {
            version "Version" VersionRequest VersionResponse;
            status "Status" StatusRequest StatusResponse;
            update_runtime_config "UpdateRuntimeConfig" UpdateRuntimeConfigRequest UpdateRuntimeConfigResponse;
            stop_pod_sandbox "StopPodSandbox" StopPodSandboxRequest StopPodSandboxResponse
                of "sandbox" pod_sandbox_id;
            pod_sandbox_status "PodSandboxStatus" PodSandboxStatusRequest PodSandboxStatusResponse
                of "sandbox" pod_sandbox_id;
            list_pod_sandbox "ListPodSandbox" ListPodSandboxRequest ListPodSandboxResponse;
            start_container "StartContainer" StartContainerRequest StartContainerResponse
                of "container" container_id;
            remove_container "RemoveContainer" RemoveContainerRequest RemoveContainerResponse
                of "container" container_id;
            list_containers "ListContainers" ListContainersRequest ListContainersResponse;
            container_status "ContainerStatus" ContainerStatusRequest ContainerStatusResponse
                of "container" container_id;
            update_container_resources "UpdateContainerResources"
                UpdateContainerResourcesRequest UpdateContainerResourcesResponse of "container" container_id;
            reopen_container_log "ReopenContainerLog" ReopenContainerLogRequest ReopenContainerLogResponse
                of "container" container_id;
            container_stats "ContainerStats" ContainerStatsRequest ContainerStatsResponse
                of "container" container_id;
            list_container_stats "ListContainerStats" ListContainerStatsRequest ListContainerStatsResponse;
            pod_sandbox_stats "PodSandboxStats" PodSandboxStatsRequest PodSandboxStatsResponse
                of "sandbox" pod_sandbox_id;
            list_pod_sandbox_stats "ListPodSandboxStats" ListPodSandboxStatsRequest ListPodSandboxStatsResponse;
            list_metric_descriptors "ListMetricDescriptors"
                ListMetricDescriptorsRequest ListMetricDescriptorsResponse;
            list_pod_sandbox_metrics "ListPodSandboxMetrics"
                ListPodSandboxMetricsRequest ListPodSandboxMetricsResponse;
        }
    };
}

/// Of `runtime.v1.ImageService`.
macro_rules! image_service {
    ($apply:ident) => {
        $apply! {
            list_images "ListImages" ListImagesRequest ListImagesResponse;
            image_status "ImageStatus" ImageStatusRequest ImageStatusResponse;
            remove_image "RemoveImage" RemoveImageRequest RemoveImageResponse;
            image_fs_info "ImageFsInfo" ImageFsInfoRequest ImageFsInfoResponse;
        }
    };
}

pub(crate) use {image_service, runtime_service};

/// The package of CRI's services.
pub const PACKAGE: &str = "runtime.v1";
