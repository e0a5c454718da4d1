//! Security contexts: what the pod says, overridden by what the container says, in CRI terms.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, PodSpec, SecurityContext};
use knarr_cri::v1::{
    Capability, Image, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy, UserNamespace,
    security_profile::ProfileType,
};

use super::{
    confine::Host,
    containers::{Entry, Role},
};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    #[error("container's runAsUser breaks non-root policy")]
    RunsAsRoot,
    #[error("container has runAsNonRoot and image will run as root")]
    ImageRunsAsRoot,
    #[error("container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is non-root")]
    ImageUserUnknown(String),
    #[error("localhostProfile must be set if seccompProfile type is Localhost.")]
    NoSeccompProfile,
    #[error("localhostProfile {0:?} must be a path below the node's seccomp folder")]
    SeccompProfile(String),
}

/// For the whole pod. It is privileged as soon as one container is. `users` are those it has for itself, if any.
pub fn sandbox(spec: &PodSpec, users: Option<&UserNamespace>) -> LinuxSandboxSecurityContext {
    let own = spec.security_context.clone().unwrap_or_default();
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let privileged = containers
        .filter_map(|container| container.security_context.as_ref())
        .any(|context| context.privileged == Some(true));
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(spec, None, users)),
        selinux_options: own.se_linux_options.as_ref().map(selinux),
        run_as_user: own.run_as_user.map(|value| Int64Value { value }),
        run_as_group: own.run_as_group.filter(|_| own.run_as_user.is_some()).map(|value| Int64Value { value }),
        supplemental_groups: groups(&own),
        supplemental_groups_policy: groups_policy(&own),
        privileged,
        // The sandbox runs nothing of the user's, and what runs in it needs not be allowed by the user's profile.
        seccomp: Some(profile(ProfileType::RuntimeDefault)),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// For one container. `image` says which user the image names.
pub fn container(
    spec: &PodSpec,
    entry: &Entry,
    image: Option<&Image>,
    target_id: Option<&str>,
    host: &Host,
    users: Option<&UserNamespace>,
) -> Result<LinuxContainerSecurityContext, SecurityError> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = entry.spec.security_context.clone().unwrap_or_default();
    let privileged = own.privileged == Some(true);
    let (masked_paths, readonly_paths) = host.hidden(&own);
    let user = user(&pod, &own, image)?;
    let run_as_group = own.run_as_group.or(pod.run_as_group);
    Ok(LinuxContainerSecurityContext {
        capabilities: Some(capabilities(own.capabilities.as_ref())),
        privileged,
        namespace_options: Some(namespaces(spec, Some((entry, target_id)), users)),
        selinux_options: own.se_linux_options.as_ref().or(pod.se_linux_options.as_ref()).map(selinux),
        run_as_user: user.id.map(|value| Int64Value { value }),
        run_as_username: user.name,
        run_as_group: run_as_group.map(|value| Int64Value { value }),
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(&pod),
        supplemental_groups_policy: groups_policy(&pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths,
        readonly_paths,
        seccomp: Some(match privileged {
            true => profile(ProfileType::Unconfined),
            false => host.seccomp(own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref()))?,
        }),
        apparmor: apparmor(&pod, &own),
        ..LinuxContainerSecurityContext::default()
    })
}

struct User {
    id: Option<i64>,
    name: String,
}

/// The user to run as; the image's own where nobody says otherwise.
fn user(pod: &PodSecurityContext, own: &SecurityContext, image: Option<&Image>) -> Result<User, SecurityError> {
    let non_root = own.run_as_non_root.or(pod.run_as_non_root) == Some(true);
    if let Some(id) = own.run_as_user.or(pod.run_as_user) {
        if non_root && id == 0 {
            return Err(SecurityError::RunsAsRoot);
        }
        return Ok(User { id: Some(id), name: String::new() });
    }
    let Some(image) = image else { return Ok(User { id: None, name: String::new() }) };
    match &image.uid {
        Some(uid) if uid.value == 0 && non_root => Err(SecurityError::ImageRunsAsRoot),
        Some(uid) => Ok(User { id: Some(uid.value), name: String::new() }),
        None if image.username.is_empty() && non_root => Err(SecurityError::ImageRunsAsRoot),
        None if non_root => Err(SecurityError::ImageUserUnknown(image.username.clone())),
        None => Ok(User { id: None, name: image.username.clone() }),
    }
}

fn namespaces(
    spec: &PodSpec,
    container: Option<(&Entry, Option<&str>)>,
    users: Option<&UserNamespace>,
) -> NamespaceOption {
    let node_or = |host: Option<bool>, other: NamespaceMode| {
        if host == Some(true) { NamespaceMode::Node } else { other }
    };
    let shared = spec.share_process_namespace == Some(true);
    let target = container.filter(|(entry, _)| entry.role == Role::Ephemeral).and_then(|(_, target)| target);
    let pid = match target {
        Some(_) if spec.host_pid != Some(true) && !shared => NamespaceMode::Target,
        _ => node_or(spec.host_pid, if shared { NamespaceMode::Pod } else { NamespaceMode::Container }),
    };
    NamespaceOption {
        network: node_or(spec.host_network, NamespaceMode::Pod) as i32,
        ipc: node_or(spec.host_ipc, NamespaceMode::Pod) as i32,
        pid: pid as i32,
        target_id: if pid == NamespaceMode::Target { target.unwrap_or_default().to_owned() } else { String::new() },
        userns_options: users.cloned(),
    }
}

fn groups(pod: &PodSecurityContext) -> Vec<i64> {
    let mut groups: Vec<i64> = pod.supplemental_groups.clone().unwrap_or_default();
    groups.extend(pod.fs_group.filter(|group| !groups.contains(group)));
    groups
}

fn groups_policy(pod: &PodSecurityContext) -> i32 {
    match pod.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict as i32,
        _ => SupplementalGroupsPolicy::Merge as i32,
    }
}

fn capabilities(own: Option<&Capabilities>) -> Capability {
    let own = own.cloned().unwrap_or_default();
    Capability {
        add_capabilities: own.add.unwrap_or_default(),
        drop_capabilities: own.drop.unwrap_or_default(),
        ..Capability::default()
    }
}

fn profile(kind: ProfileType) -> SecurityProfile {
    SecurityProfile { profile_type: kind as i32, ..SecurityProfile::default() }
}

fn apparmor(pod: &PodSecurityContext, own: &SecurityContext) -> Option<SecurityProfile> {
    let profile = own.app_armor_profile.as_ref().or(pod.app_armor_profile.as_ref())?;
    let kind = match profile.type_.as_str() {
        "RuntimeDefault" => ProfileType::RuntimeDefault,
        "Localhost" => ProfileType::Localhost,
        _ => ProfileType::Unconfined,
    };
    let localhost_ref = profile.localhost_profile.clone().unwrap_or_default();
    Some(SecurityProfile { profile_type: kind as i32, localhost_ref })
}

fn selinux(options: &k8s_openapi::api::core::v1::SELinuxOptions) -> SeLinuxOption {
    SeLinuxOption {
        user: options.user.clone().unwrap_or_default(),
        role: options.role.clone().unwrap_or_default(),
        r#type: options.type_.clone().unwrap_or_default(),
        level: options.level.clone().unwrap_or_default(),
    }
}
