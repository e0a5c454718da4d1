//! From CRI's terms to a shim's: what a container's config, its image and its sandbox together mean. Pure but for
//! looking at device nodes and seccomp profiles on the host.

pub mod devices;
mod modules;
pub mod seccomp;
mod syscalls;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use knarr_cri::v1::{
    self, ContainerConfig, LinuxContainerResources, NamespaceMode, PodSandboxConfig, security_profile::ProfileType,
};
use knarr_os::{
    caps::Capabilities,
    cgroup::{HugepageLimit, Resources},
    mount::Propagation,
};

use self::modules::SecurityModules;
use crate::{
    cdi::{self, CdiError},
    images::RunConfig,
    shim::spec::{BindMount, ContainerSpec, PidMode, ProcessSpec, Rootfs, UserSpec},
};

/// What a container's spec is made from.
pub struct Inputs<'a> {
    pub id: &'a str,
    pub config: &'a ContainerConfig,
    pub sandbox: &'a PodSandboxConfig,
    pub image: &'a RunConfig,
    pub rootfs: Rootfs,
    pub cgroup: PathBuf,
    pub exit_path: PathBuf,
    /// Files of the sandbox that every container shows, unless the pod mounts something else there.
    pub sandbox_mounts: Vec<BindMount>,
    /// The layers of the images that the container mounts, by the name it has for them.
    pub mounted_images: BTreeMap<String, Vec<String>>,
    /// The process whose PID namespace to join, for `NamespaceMode::Target`.
    pub target_pid: Option<i32>,
}

/// Why a container cannot be what is asked for.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("no command specified: neither the pod nor the image {image} says what to run")]
    NoCommand { image: String },
    #[error("unknown capability {name:?} to {verb}")]
    Capability { name: String, verb: &'static str },
    #[error("the mount {target:?} has to be an absolute path of the container")]
    MountTarget { target: String },
    #[error("the mount {target:?} shows the image {image}, which is not here: pull it first")]
    ImageMount { target: String, image: String },
    #[error("a container's user namespace has to be its sandbox's")]
    UserNamespace,
    #[error("the mount {target:?} has other ID mappings than the sandbox's user namespace")]
    MountMapping { target: String },
    #[error("the AppArmor profile {profile} is asked for, but this host's kernel runs without AppArmor")]
    AppArmor { profile: String },
    #[error(
        "the runtime's default AppArmor profile is asked for, and this runtime has none: load one and name it \
         (type: Localhost), or ask for Unconfined"
    )]
    DefaultAppArmor,
    #[error("seLinuxOptions are asked for on a host with SELinux, and this runtime cannot set labels yet")]
    SeLinux,
    #[error("the device {path} cannot be used")]
    Device {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{field} {value} is not a user or group number")]
    Id { field: &'static str, value: i64 },
    #[error(transparent)]
    Seccomp(#[from] seccomp::ProfileError),
    #[error("CDI device injection failed")]
    Cdi(#[from] CdiError),
}

/// What containers get unless the pod says otherwise: the set Docker and containerd give.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The shim's spec of a container.
pub fn container(inputs: Inputs<'_>) -> Result<ContainerSpec, SpecError> {
    let Inputs {
        id,
        config,
        sandbox,
        image,
        mut rootfs,
        cgroup,
        exit_path,
        sandbox_mounts,
        mounted_images,
        target_pid,
    } = inputs;
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    let namespaces = namespaces(&security, sandbox);
    let own_users = |options: v1::NamespaceOption| options.userns_options.filter(|u| u.mode() == NamespaceMode::Pod);
    let users = own_users(self::namespaces(&v1::LinuxContainerSecurityContext::default(), sandbox));
    if own_users(namespaces.clone()) != users {
        return Err(SpecError::UserNamespace);
    }
    let mut devices = crate::shim::default_devices();
    let mut rules = Vec::new();
    for device in &config.devices {
        let found = devices::find(Path::new(&device.host_path), Path::new(&device.container_path))
            .map_err(|source| SpecError::Device { path: device.host_path.clone(), source })?;
        rules.extend(found.iter().map(|d| devices::rule(d, &device.permissions)));
        devices.extend(found);
    }
    let given = cdi::given(&config.cdi_devices, &cdi::DIRS.map(Path::new))?;
    for (device, permissions) in given.devices {
        rules.push(devices::rule(&device, &permissions));
        devices.push(device);
    }
    if security.privileged {
        devices.extend(devices::all_of_host());
    }
    rootfs.readonly = security.readonly_rootfs;
    let requested = linux.resources.unwrap_or_default();
    let modules = SecurityModules::look();
    modules.check_labels(&security)?;
    let mut process = process(config, sandbox, image, &security, modules, requested.oom_score_adj)?;
    process.env = given.env.into_iter().fold(process.env, with);
    process.user.supplemental.extend(given.groups);
    let mut resources = resources(&requested);
    resources.oom_group = true;
    resources.devices = (!security.privileged).then_some(rules);
    // None given means none: it is how a pod gets the unmasked `/proc`.
    let hidden = |paths: &[String]| if security.privileged { Vec::new() } else { paths.to_vec() };
    Ok(ContainerSpec {
        id: id.to_owned(),
        rootfs,
        mounts: mounts(config, users.as_ref(), given.mounts, sandbox_mounts, &mounted_images)?,
        devices,
        pid: match namespaces.pid() {
            NamespaceMode::Pod => PidMode::Sandbox,
            NamespaceMode::Container => PidMode::Container,
            NamespaceMode::Node => PidMode::Host,
            NamespaceMode::Target => target_pid.map_or(PidMode::Container, PidMode::Of),
        },
        cgroup,
        resources,
        masked_paths: hidden(&security.masked_paths),
        readonly_paths: hidden(&security.readonly_paths),
        process,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        log_path: log_path(sandbox, config),
        exit_path,
    })
}

/// The namespaces a container asks for; one that says nothing gets its sandbox's, and one where neither says anything
/// a PID namespace of its own.
pub fn namespaces(security: &v1::LinuxContainerSecurityContext, sandbox: &PodSandboxConfig) -> v1::NamespaceOption {
    let of_sandbox = || sandbox.linux.as_ref()?.security_context.as_ref()?.namespace_options.clone();
    let own = v1::NamespaceOption { pid: NamespaceMode::Container.into(), ..v1::NamespaceOption::default() };
    security.namespace_options.clone().or_else(of_sandbox).unwrap_or(own)
}

/// Where a container's log goes, if anywhere.
pub fn log_path(sandbox: &PodSandboxConfig, config: &ContainerConfig) -> Option<PathBuf> {
    let named = !sandbox.log_directory.is_empty() && !config.log_path.is_empty();
    named.then(|| Path::new(&sandbox.log_directory).join(&config.log_path))
}

fn process(
    config: &ContainerConfig,
    sandbox: &PodSandboxConfig,
    image: &RunConfig,
    security: &v1::LinuxContainerSecurityContext,
    modules: SecurityModules,
    oom_score_adj: i64,
) -> Result<ProcessSpec, SpecError> {
    let capabilities = if security.privileged { Capabilities::ALL } else { capabilities(security)? };
    let ambient = security.capabilities.iter().flat_map(|c| &c.add_ambient_capabilities);
    let ambient =
        ambient.map(|name| named(name, "add")).try_fold(Capabilities::default(), |all, c| c.map(|c| all.with(c)))?;
    let cwd = [config.working_dir.as_str(), image.working_dir.as_str(), "/"];
    Ok(ProcessSpec {
        args: args(config, image)?,
        env: env(config, sandbox, image),
        cwd: cwd.into_iter().find(|d| !d.is_empty()).unwrap_or("/").to_owned(),
        user: user(security, image)?,
        terminal: config.tty,
        capabilities,
        ambient,
        seccomp: seccomp_programs(security, capabilities)?,
        apparmor: modules.apparmor(security)?,
        no_new_privileges: security.no_new_privs,
        oom_score_adj: oom_score_adj.clamp(-1000, 1000) as i32,
        privileged: security.privileged,
    })
}

/// Kubernetes' rules: `command` replaces the image's entrypoint and its arguments, `args` the arguments alone.
fn args(config: &ContainerConfig, image: &RunConfig) -> Result<Vec<String>, SpecError> {
    let args: Vec<String> = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => config.command.iter().chain(&config.args).cloned().collect(),
        (true, false) => image.entrypoint.iter().chain(&config.args).cloned().collect(),
        (true, true) => image.entrypoint.iter().chain(&image.cmd).cloned().collect(),
    };
    match args.is_empty() {
        true => Err(SpecError::NoCommand { image: config.image.as_ref().map(|i| i.image.clone()).unwrap_or_default() }),
        false => Ok(args),
    }
}

/// The image's variables, overridden by name by the pod's.
fn env(config: &ContainerConfig, sandbox: &PodSandboxConfig, image: &RunConfig) -> Vec<String> {
    let mut all = vec![format!("HOSTNAME={}", sandbox.hostname)];
    if sandbox.hostname.is_empty() {
        all.clear();
    }
    let own = config.envs.iter().map(|e| format!("{}={}", e.key, e.value));
    image.env.iter().cloned().chain(own).fold(all, with)
}

/// One more variable, or another value of one that is there.
fn with(mut all: Vec<String>, entry: String) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or(entry).to_owned();
    match all.iter_mut().find(|e| name(e) == name(&entry)) {
        Some(existing) => *existing = entry,
        None => all.push(entry),
    }
    all
}

fn user(security: &v1::LinuxContainerSecurityContext, image: &RunConfig) -> Result<UserSpec, SpecError> {
    let id = |field, value: i64| u32::try_from(value).map_err(|_| SpecError::Id { field, value });
    let user = match (&security.run_as_user, security.run_as_username.as_str()) {
        (Some(uid), _) => id("runAsUser", uid.value)?.to_string(),
        (None, "") => image.user.clone(),
        (None, name) => name.to_owned(),
    };
    let supplemental = security.supplemental_groups.iter().map(|g| id("supplementalGroups", *g));
    Ok(UserSpec {
        user,
        group: security.run_as_group.as_ref().map(|g| id("runAsGroup", g.value)).transpose()?,
        supplemental: supplemental.collect::<Result<_, _>>()?,
        merge_groups: security.supplemental_groups_policy() == v1::SupplementalGroupsPolicy::Merge,
    })
}

fn named(name: &str, verb: &'static str) -> Result<Capabilities, SpecError> {
    Capabilities::named(name).ok_or_else(|| SpecError::Capability { name: name.to_owned(), verb })
}

fn capabilities(security: &v1::LinuxContainerSecurityContext) -> Result<Capabilities, SpecError> {
    let mut set = DEFAULT_CAPABILITIES
        .iter()
        .filter_map(|n| Capabilities::named(n))
        .fold(Capabilities::default(), Capabilities::with);
    let Some(changes) = &security.capabilities else { return Ok(set) };
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    // ALL comes first, so that single names still count against it.
    if changes.add_capabilities.iter().any(is_all) {
        set = Capabilities::ALL;
    }
    if changes.drop_capabilities.iter().any(is_all) {
        set = Capabilities::default();
    }
    for name in changes.add_capabilities.iter().filter(|n| !is_all(n)) {
        set = set.with(named(name, "add")?);
    }
    for name in changes.drop_capabilities.iter().filter(|n| !is_all(n)) {
        set = set.without(named(name, "drop")?);
    }
    Ok(set)
}

fn seccomp_programs(
    security: &v1::LinuxContainerSecurityContext,
    capabilities: Capabilities,
) -> Result<Vec<Vec<u64>>, SpecError> {
    let Some(profile) = security.seccomp.as_ref().filter(|_| !security.privileged) else { return Ok(Vec::new()) };
    Ok(match profile.profile_type() {
        ProfileType::Unconfined => Vec::new(),
        ProfileType::RuntimeDefault => seccomp::runtime_default(capabilities)?,
        ProfileType::Localhost => {
            let path = profile.localhost_ref.strip_prefix("localhost/").unwrap_or(&profile.localhost_ref);
            seccomp::localhost(Path::new(path))?
        }
    })
}

/// The pod's mounts and the sandbox's files, parents before children.
fn mounts(
    config: &ContainerConfig,
    users: Option<&v1::UserNamespace>,
    given: Vec<BindMount>,
    sandbox_mounts: Vec<BindMount>,
    images: &BTreeMap<String, Vec<String>>,
) -> Result<Vec<BindMount>, SpecError> {
    let mut all = Vec::new();
    for mount in &config.mounts {
        let target = || mount.container_path.clone();
        let image = mount.image.as_ref().map(|spec| &spec.image).filter(|image| !image.is_empty());
        let missing = |image: &String| SpecError::ImageMount { target: target(), image: image.clone() };
        let layers = image.map(|image| images.get(image).cloned().ok_or_else(|| missing(image))).transpose()?;
        let clean = absolute(&mount.container_path).ok_or_else(|| SpecError::MountTarget { target: target() })?;
        let mapped = !(mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty());
        if mapped && users.is_none_or(|users| users.uids != mount.uid_mappings || users.gids != mount.gid_mappings) {
            return Err(SpecError::MountMapping { target: target() });
        }
        all.push(BindMount {
            source: PathBuf::from(if layers.is_some() { &mount.image_sub_path } else { &mount.host_path }),
            target: clean,
            // Other containers run on the same layers.
            readonly: mount.readonly || layers.is_some(),
            layers,
            recursive_readonly: mount.recursive_read_only,
            propagation: match mount.propagation() {
                v1::MountPropagation::PropagationPrivate => Propagation::Private,
                v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
                v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
            },
            nosuid: false,
            noexec: false,
            mapped,
        });
    }
    for mount in given.into_iter().chain(sandbox_mounts) {
        if !all.iter().any(|m| m.target == mount.target) {
            all.push(mount);
        }
    }
    all.sort_by_key(|m| m.target.components().count());
    Ok(all)
}

/// The path without dots and doubled slashes, if it is absolute and not the root itself.
fn absolute(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    (path.starts_with('/') && clean != Path::new("/")).then_some(clean)
}

/// CRI's limits in the host's terms.
pub fn resources(from: &LinuxContainerResources) -> Resources {
    let positive = |value: i64| u64::try_from(value).unwrap_or(0);
    let hugepages = from.hugepage_limits.iter();
    Resources {
        cpu_shares: positive(from.cpu_shares),
        cpu_quota_us: from.cpu_quota,
        cpu_period_us: positive(from.cpu_period),
        memory_limit_bytes: from.memory_limit_in_bytes,
        memory_swap_limit_bytes: from.memory_swap_limit_in_bytes,
        pids_limit: from.unified.get("pids.max").and_then(|v| v.parse().ok()).unwrap_or(0),
        cpuset_cpus: from.cpuset_cpus.clone(),
        cpuset_mems: from.cpuset_mems.clone(),
        hugepages: hugepages.map(|h| HugepageLimit { page_size: h.page_size.clone(), limit_bytes: h.limit }).collect(),
        unified: from.unified.clone(),
        oom_group: false,
        devices: None,
    }
}
