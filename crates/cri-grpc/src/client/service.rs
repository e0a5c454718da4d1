//! CRI's services, each call passed on.

use std::time::Duration;

use async_trait::async_trait;
use knarr_cri::{ImageService, Result, RuntimeService, v1::*};
use tokio::sync::broadcast;

use super::Remote;
use crate::methods::{image_service, runtime_service};

/// As long as kubelets wait (`--runtime-request-timeout`), and for sandboxes twice that: plugins make their networks.
const LIMIT: Duration = Duration::from_secs(120);
const SANDBOX_LIMIT: Duration = Duration::from_secs(240);
/// For what takes as long as it takes, a large image or a hook: nobody waits longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

fn seconds(seconds: i64) -> Option<Duration> {
    u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

macro_rules! runtime {
    ($($name:ident $method:literal $request:ident $answer:ident $(of $what:literal $id:ident)?;)*) => {
        #[async_trait]
        impl RuntimeService for Remote {
            $(async fn $name(&self, request: $request) -> Result<$answer> {
                let subject = None $(.or(Some(($what, request.$id.as_str()))))?;
                self.connection.call(concat!("RuntimeService/", $method), &request, LIMIT, subject).await
            })*

            async fn run_pod_sandbox(&self, mut request: RunPodSandboxRequest) -> Result<RunPodSandboxResponse> {
                if let Some(config) = &mut request.config {
                    self.groups.prepare(config)?;
                }
                self.connection.call("RuntimeService/RunPodSandbox", &request, SANDBOX_LIMIT, None).await
            }

            async fn remove_pod_sandbox(&self, request: RemovePodSandboxRequest) -> Result<RemovePodSandboxResponse> {
                let id = request.pod_sandbox_id.as_str();
                let all = self.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
                let subject = Some(("sandbox", id));
                let removed = self.connection.call("RuntimeService/RemovePodSandbox", &request, LIMIT, subject).await?;
                self.groups.release(id, &all).await?;
                Ok(removed)
            }

            async fn update_pod_sandbox_resources(
                &self,
                request: UpdatePodSandboxResourcesRequest,
            ) -> Result<UpdatePodSandboxResourcesResponse> {
                let id = request.pod_sandbox_id.clone();
                let status = self.pod_sandbox_status(PodSandboxStatusRequest { pod_sandbox_id: id, verbose: false });
                let annotations = status.await?.status.unwrap_or_default().annotations;
                self.groups.resize(&annotations, &request.resources.unwrap_or_default())?;
                Ok(UpdatePodSandboxResourcesResponse {})
            }

            async fn create_container(&self, mut request: CreateContainerRequest) -> Result<CreateContainerResponse> {
                // Runtimes take the parent of its group from here, and not from what they know of the sandbox.
                if let Some(config) = &mut request.sandbox_config {
                    self.groups.name(config);
                }
                self.connection.call("RuntimeService/CreateContainer", &request, LIMIT, None).await
            }

            async fn stop_container(&self, request: StopContainerRequest) -> Result<StopContainerResponse> {
                let limit = LIMIT + seconds(request.timeout).unwrap_or_default();
                let subject = Some(("container", request.container_id.as_str()));
                self.connection.call("RuntimeService/StopContainer", &request, limit, subject).await
            }

            async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse> {
                let limit = seconds(request.timeout).map_or(LONGEST, |timeout| LIMIT + timeout);
                let subject = Some(("container", request.container_id.as_str()));
                self.connection.call("RuntimeService/ExecSync", &request, limit, subject).await
            }

            fn container_events(&self) -> broadcast::Receiver<ContainerEventResponse> {
                self.events.subscribe()
            }
        }
    };
}
runtime_service!(runtime);

macro_rules! images {
    ($($name:ident $method:literal $request:ident $answer:ident;)*) => {
        #[async_trait]
        impl ImageService for Remote {
            $(async fn $name(&self, request: $request) -> Result<$answer> {
                self.connection.call(concat!("ImageService/", $method), &request, LIMIT, None).await
            })*

            async fn pull_image(&self, request: PullImageRequest) -> Result<PullImageResponse> {
                self.connection.call("ImageService/PullImage", &request, LONGEST, None).await
            }
        }
    };
}
image_service!(images);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_timeout_is_not_a_short_one() {
        assert_eq!((seconds(-1), seconds(0), seconds(5)), (None, None, Some(Duration::from_secs(5))));
    }
}
