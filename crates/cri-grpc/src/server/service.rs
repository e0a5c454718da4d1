//! CRI's services, by the names of their methods.

use bytes::Bytes;
use futures::stream;
use knarr_cri::{
    CriError,
    v1::{CgroupDriver, *},
};
use knarr_grpc::{
    code,
    server::{Reply, Status},
};
use prost::Message;
use tokio::sync::broadcast::error::RecvError;

use super::{Shared, streams::Wanted};
use crate::{
    errors::to_status,
    methods::{PACKAGE, image_service, runtime_service},
};

fn read<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status { code: code::INTERNAL, message: format!("the request: {error}") })
}

macro_rules! runtime {
    ($($name:ident $method:literal $request:ident $answer:ident $(of $what:literal $id:ident)?;)*) => {
        /// The calls whose answers are the trait's.
        async fn runtime(shared: &Shared, method: &str, bytes: Bytes) -> Result<Reply, Status> {
            let runtime = &shared.runtime.runtime;
            match method {
                $($method => {
                    let answer: $answer = runtime.$name(read::<$request>(bytes)?).await.map_err(to_status)?;
                    Ok(Reply::one(&answer))
                })*
                "RunPodSandbox" => reply(runtime.run_pod_sandbox(read(bytes)?).await),
                "RemovePodSandbox" => reply(runtime.remove_pod_sandbox(read(bytes)?).await),
                "UpdatePodSandboxResources" => reply(runtime.update_pod_sandbox_resources(read(bytes)?).await),
                "CreateContainer" => reply(runtime.create_container(read(bytes)?).await),
                "StopContainer" => reply(runtime.stop_container(read(bytes)?).await),
                "ExecSync" => reply(runtime.exec_sync(read(bytes)?).await),
                "Exec" => {
                    let wanted = exec(read(bytes)?)?;
                    shared.streams.url(wanted).map(|url| Reply::one(&ExecResponse { url }))
                }
                "Attach" => {
                    let wanted = attach(read(bytes)?)?;
                    shared.streams.url(wanted).map(|url| Reply::one(&AttachResponse { url }))
                }
                "PortForward" => {
                    let PortForwardRequest { pod_sandbox_id, .. } = read(bytes)?;
                    let id = required(pod_sandbox_id, "pod_sandbox_id")?;
                    shared.streams.url(Wanted::PortForward(id)).map(|url| Reply::one(&PortForwardResponse { url }))
                }
                "GetContainerEvents" => Ok(events(shared)),
                "RuntimeConfig" => {
                    let linux = LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::Cgroupfs.into() };
                    Ok(Reply::one(&RuntimeConfigResponse { linux: Some(linux) }))
                }
                _ => Err(unknown("RuntimeService", method)),
            }
        }
    };
}
runtime_service!(runtime);

macro_rules! images {
    ($($name:ident $method:literal $request:ident $answer:ident;)*) => {
        async fn images(shared: &Shared, method: &str, bytes: Bytes) -> Result<Reply, Status> {
            let images = &shared.runtime.images;
            match method {
                $($method => {
                    let answer: $answer = images.$name(read::<$request>(bytes)?).await.map_err(to_status)?;
                    Ok(Reply::one(&answer))
                })*
                "PullImage" => reply(images.pull_image(read(bytes)?).await),
                _ => Err(unknown("ImageService", method)),
            }
        }
    };
}
image_service!(images);

/// Answers to `runtime.v1.SERVICE/METHOD`.
pub async fn answer(shared: &Shared, method: &str, bytes: Bytes) -> Result<Reply, Status> {
    let named = method.strip_prefix(PACKAGE).and_then(|rest| rest.strip_prefix('.')?.split_once('/'));
    match named {
        Some(("RuntimeService", method)) => runtime(shared, method, bytes).await,
        Some(("ImageService", method)) => images(shared, method, bytes).await,
        _ => {
            let service = method.rsplit_once('/').map_or(method, |(service, _)| service);
            Err(Status { code: code::UNIMPLEMENTED, message: format!("unknown service {service}") })
        }
    }
}

fn unknown(service: &str, method: &str) -> Status {
    let message = format!("unknown method {method} for service {PACKAGE}.{service}");
    Status { code: code::UNIMPLEMENTED, message }
}

fn reply<M: Message>(answer: Result<M, CriError>) -> Result<Reply, Status> {
    answer.map(|answer| Reply::one(&answer)).map_err(to_status)
}

fn invalid(message: &str) -> Status {
    Status { code: code::INVALID_ARGUMENT, message: message.to_owned() }
}

fn required(value: String, name: &str) -> Result<String, Status> {
    if value.is_empty() { Err(invalid(&format!("missing required {name}"))) } else { Ok(value) }
}

/// Checks what upstream's streaming server checks before it answers with a URL.
fn exec(request: ExecRequest) -> Result<Wanted, Status> {
    required(request.container_id.clone(), "container_id")?;
    check_streams(request.tty, [request.stdin, request.stdout, request.stderr])?;
    Ok(Wanted::Exec(request))
}

fn attach(request: AttachRequest) -> Result<Wanted, Status> {
    required(request.container_id.clone(), "container_id")?;
    check_streams(request.tty, [request.stdin, request.stdout, request.stderr])?;
    Ok(Wanted::Attach(request))
}

fn check_streams(tty: bool, [stdin, stdout, stderr]: [bool; 3]) -> Result<(), Status> {
    if tty && stderr {
        return Err(invalid("tty and stderr cannot both be true"));
    }
    if !(stdin || stdout || stderr) {
        return Err(invalid("one of stdin, stdout, or stderr must be set"));
    }
    Ok(())
}

fn events(shared: &Shared) -> Reply {
    let events = shared.runtime.runtime.container_events();
    Reply::many(stream::unfold(events, |mut events| async move {
        loop {
            match events.recv().await {
                Ok(event) => return Some((Ok(event), events)),
                // What is listed says what was missed.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_cannot_be_are_refused() {
        let exec = |container: &str, tty, stdout, stderr| {
            let request = ExecRequest { container_id: container.into(), tty, stdout, stderr, ..Default::default() };
            exec(request).err().map(|status| status.message).unwrap_or_default()
        };
        assert_eq!(exec("a", false, true, true), "");
        assert_eq!(exec("", false, true, true), "missing required container_id");
        assert_eq!(exec("a", true, true, true), "tty and stderr cannot both be true");
        assert_eq!(exec("a", false, false, false), "one of stdin, stdout, or stderr must be set");
    }
}
