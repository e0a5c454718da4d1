//! From the runtime's records to CRI's messages, and from its errors to CRI's.

use std::collections::BTreeMap;

use knarr_cri::{CriError, v1};
use knarr_os::OsError;

use crate::{
    client::ShimError,
    container::Container,
    images::{Image, ImageError},
    sandbox::Sandbox,
    shim::protocol::Failure,
    spec::SpecError,
};

pub fn container_status(container: &Container) -> v1::ContainerStatus {
    let Container { config, meta, exit } = container;
    let exit = exit.borrow().clone();
    let (reason, message) = match &exit {
        None => ("", String::new()),
        Some(e) if e.start_error.is_some() => ("StartError", e.start_error.clone().unwrap_or_default()),
        Some(e) if e.oom => ("OOMKilled", String::new()),
        Some(e) if e.code == 0 => ("Completed", String::new()),
        Some(e) if e.code == 255 && meta.pid == 0 => ("Unknown", String::new()),
        Some(_) => ("Error", String::new()),
    };
    let user = v1::LinuxContainerUser {
        uid: meta.identity.uid.into(),
        gid: meta.identity.gid.into(),
        supplemental_groups: meta.identity.groups.iter().map(|g| i64::from(*g)).collect(),
    };
    v1::ContainerStatus {
        id: meta.id.clone(),
        metadata: config.metadata.clone(),
        state: container.state().into(),
        created_at: meta.created_at_ns,
        started_at: meta.started_at_ns,
        finished_at: exit.as_ref().map_or(0, |e| e.finished_at_ns),
        exit_code: exit.as_ref().map_or(0, |e| e.code),
        image: config.image.clone(),
        image_ref: meta.image_ref.clone(),
        image_id: meta.image_id.clone(),
        reason: reason.to_owned(),
        message,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        mounts: config.mounts.clone(),
        log_path: meta.log_path.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
        resources: config.linux.as_ref().map(|l| v1::ContainerResources { linux: l.resources.clone(), windows: None }),
        user: Some(v1::ContainerUser { linux: Some(user) }),
        stop_signal: config.stop_signal,
    }
}

pub fn container(container: &Container) -> v1::Container {
    let Container { config, meta, .. } = container;
    v1::Container {
        id: meta.id.clone(),
        pod_sandbox_id: meta.sandbox_id.clone(),
        metadata: config.metadata.clone(),
        image: config.image.clone(),
        image_ref: meta.image_ref.clone(),
        state: container.state().into(),
        created_at: meta.created_at_ns,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        image_id: meta.image_id.clone(),
    }
}

pub fn sandbox_status(sandbox: &Sandbox) -> v1::PodSandboxStatus {
    let Sandbox { config, meta } = sandbox;
    let mut ips = meta.ips.iter().map(ToString::to_string);
    let network = v1::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
    };
    let options = config.linux.as_ref().and_then(|l| l.security_context.as_ref()?.namespace_options.clone());
    v1::PodSandboxStatus {
        id: meta.id.clone(),
        metadata: config.metadata.clone(),
        state: sandbox.state().into(),
        created_at: meta.created_at_ns,
        network: Some(network),
        linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options }) }),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: String::new(),
    }
}

pub fn sandbox(sandbox: &Sandbox) -> v1::PodSandbox {
    let Sandbox { config, meta } = sandbox;
    v1::PodSandbox {
        id: meta.id.clone(),
        metadata: config.metadata.clone(),
        state: sandbox.state().into(),
        created_at: meta.created_at_ns,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: String::new(),
    }
}

pub fn image(image: &Image) -> v1::Image {
    let user = image.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse::<i64>().ok();
    v1::Image {
        id: image.id.clone(),
        repo_tags: image.names.iter().cloned().collect(),
        repo_digests: image.digests.iter().cloned().collect(),
        size: image.size_bytes,
        uid: uid.map(|value| v1::Int64Value { value }),
        username: if uid.is_none() { user.to_owned() } else { String::new() },
        spec: Some(v1::ImageSpec {
            image: image.id.clone(),
            annotations: last_used(image),
            ..v1::ImageSpec::default()
        }),
        pinned: image.pinned,
    }
}

fn last_used(image: &Image) -> BTreeMap<String, String> {
    let time = jiff::Timestamp::from_second(image.last_used_s).ok().filter(|_| image.last_used_s > 0);
    time.map(|time| (knarr_cri::LAST_USED.to_owned(), time.to_string())).into_iter().collect()
}

/// True where every wanted label is there.
pub fn labels_match(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

pub fn shim_error(what: &'static str, id: &str) -> impl FnOnce(ShimError) -> CriError {
    let id = id.to_owned();
    move |error| match error {
        ShimError::Refused { kind: Failure::NotFound, .. } => CriError::NotFound { what, id },
        ShimError::Refused { kind: Failure::Precondition, message } => CriError::FailedPrecondition { message },
        ShimError::Refused { kind: Failure::Start, message } => CriError::InvalidArgument { message },
        ShimError::Refused { kind: Failure::Internal, message } => CriError::Internal { message, source: None },
        ShimError::Timeout(after) => {
            CriError::DeadlineExceeded { what: format!("{what} {id}"), seconds: after.as_secs() }
        }
        other => CriError::internal(format!("{what} {id}"), other),
    }
}

pub fn os_error(error: OsError) -> CriError {
    CriError::internal(error.to_string(), error.source)
}

pub fn io_error(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> CriError {
    let what = what.into();
    move |error| CriError::internal(what, error)
}

pub fn spec_error(error: SpecError) -> CriError {
    CriError::InvalidArgument { message: crate::shim::error_line(&error) }
}

pub fn image_error(error: ImageError) -> CriError {
    use crate::images::RegistryProblem;
    let message = crate::shim::error_line(&error);
    match error {
        ImageError::Name { .. } | ImageError::Archive { .. } => CriError::InvalidArgument { message },
        ImageError::Registry { kind: RegistryProblem::NotFound, image, .. } => {
            CriError::NotFound { what: "image", id: image }
        }
        ImageError::Registry { kind: RegistryProblem::Denied, .. } => CriError::PermissionDenied { message },
        ImageError::Registry { .. } => CriError::Unavailable { message },
        ImageError::Platform { image, .. } => CriError::NotFound { what: "image for this machine", id: image },
        other => CriError::internal(message, other),
    }
}
