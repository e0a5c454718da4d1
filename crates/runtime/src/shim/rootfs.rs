//! A container's file system, put together inside its own fresh mount namespace: the image's layers with a writable
//! one on top, the kernel's file systems, devices, and what the pod mounts. Nothing of it appears on the host, and
//! all of it goes away with the container's last process.
//!
//! Targets are resolved inside the root by the kernel (`knarr_os::root`), so an image cannot place a mount outside.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use knarr_os::{
    cgroup::Cgroups,
    mount::{self, DeviceKind, Flags, Propagation},
    namespace::{self, Namespace},
    pty::{self, Pty},
    root::{Root, magic_path},
};

use rustix::fs::OFlags;

use super::{
    error::SetupError,
    spec::{BindMount, ContainerSpec, Device},
    users::PodUsers,
};

type Result<T> = std::result::Result<T, SetupError>;

/// Pinned sources of a container's mounts, taken before it leaves the host's mount namespace: only a mount cloned
/// there stays a peer of the host's, which `Bidirectional` propagation is.
struct Source {
    mount: BindMount,
    tree: OwnedFd,
    is_directory: bool,
    is_device: bool,
}

/// Builds the root and makes it this process's. With a terminal, opens one in the container's own devpts.
///
/// `in_cgroup` returns once the process is in the container's control group, which is what its cgroup namespace shows.
pub fn enter(
    spec: &ContainerSpec,
    shm: Option<&Path>,
    cgroups: &Cgroups,
    users: Option<&PodUsers>,
    in_cgroup: &dyn Fn() -> Result<()>,
) -> Result<Option<Pty>> {
    let of_host = spec.mounts.iter().filter(|mount| mount.layers.is_none());
    let mut sources = of_host.map(|mount| open_source(mount, users)).collect::<Result<Vec<_>>>()?;
    let shm = shm.map(|path| open_tree(path, false, users)).transpose()?;
    let null = mount::clone_tree(Path::new("/dev/null"), false)?;
    let privileged = spec.process.privileged;

    namespace::unshare(&[Namespace::Mount])?;
    mount::set_propagation(Path::new("/"), Propagation::HostToContainer)?;
    let target = &spec.rootfs.mountpoint;
    if let Some(users) = users {
        map_layers(spec, users)?;
    }
    std::env::set_current_dir(&spec.rootfs.store).map_err(|source| at(&spec.rootfs.store, source))?;
    for mount in &spec.mounts {
        if let Some(layers) = &mount.layers {
            sources.push(open_image(mount, layers, target)?);
        }
    }
    // Parents before children, whatever they are of.
    sources.sort_by_key(|source| source.mount.target.components().count());
    let flags = if privileged { Flags::NONE } else { Flags::NODEV };
    mount::overlay(&spec.rootfs.layers, &spec.rootfs.upper, &spec.rootfs.work, target, flags)?;
    if let Some(users) = users {
        users.make_files()?;
    }
    let root = Root::open(target).map_err(|source| at(target, source))?;

    let given = |path: &str| spec.mounts.iter().any(|m| m.target == Path::new(path));
    if !given("/proc") {
        mount::filesystem_at("proc", directory(&root, "/proc")?, Flags::KERNEL, "")?;
    }
    let mut terminal = None;
    if !given("/dev") {
        make_dev(&root, spec, shm.as_ref(), users, &given)?;
        terminal = spec.process.terminal.then(|| open_terminal(&root, target)).transpose()?;
    }
    in_cgroup()?;
    if !privileged {
        namespace::unshare(&[Namespace::Cgroup])?;
    }
    if !given("/sys") {
        mount::filesystem_at("sysfs", directory(&root, "/sys")?, Flags::KERNEL.readonly(!privileged), "")?;
        if !given("/sys/fs/cgroup") {
            mount_cgroups(&root, cgroups, privileged)?;
        }
    }
    for source in &sources {
        attach(&root, source, privileged).map_err(|e| match e {
            SetupError::Os(e) => at(&source.mount.target, io::Error::new(e.source.kind(), e.line())),
            other => other,
        })?;
    }
    if given("/dev") && spec.process.terminal {
        terminal = Some(open_terminal(&root, target)?);
    }
    // The working directory may be new: `docker run -w` and Kubernetes both make it.
    if !spec.process.cwd.is_empty() {
        let cwd = Path::new(&spec.process.cwd);
        root.directory(cwd, 0o755).map_err(|source| at(cwd, source))?;
    }
    drop(root);
    mount::enter_root(target)?;
    protect(spec, &null)?;
    Ok(terminal)
}

fn at(path: &Path, source: io::Error) -> SetupError {
    SetupError::Mount { target: path.display().to_string(), source }
}

fn directory(root: &Root, path: &str) -> Result<OwnedFd> {
    root.directory(Path::new(path), 0o755).map_err(|source| at(Path::new(path), source))
}

/// Shows the layers of images as the pod's own users see them, over where they are. The one on top of them is on the
/// disk as it is seen from outside: the kernel's own work in it is done as the host's root, who is nobody inside.
fn map_layers(spec: &ContainerSpec, users: &PodUsers) -> Result<()> {
    let (store, upper) = (&spec.rootfs.store, &spec.rootfs.upper);
    let layers = open_tree(store, false, Some(users))?;
    mount::attach(&layers, Root::open(store).map_err(|source| at(store, source))?)?;
    std::os::unix::fs::chown(upper, Some(users.root()), Some(users.root())).map_err(|source| at(upper, source))
}

/// A copy of the mount at a path, with its files as the pod's own users own them.
fn open_tree(path: &Path, recursive: bool, users: Option<&PodUsers>) -> Result<OwnedFd> {
    let tree = mount::clone_tree(path, recursive)?;
    if let Some(users) = users {
        users.map(&tree, recursive, path)?;
    }
    Ok(tree)
}

fn open_source(mount: &BindMount, users: Option<&PodUsers>) -> Result<Source> {
    use std::os::unix::fs::FileTypeExt;
    let kind = fs::metadata(&mount.source).map_err(|source| at(&mount.source, source))?.file_type();
    let is_device = kind.is_char_device() || kind.is_block_device();
    let tree = open_tree(&mount.source, kind.is_dir(), users.filter(|_| mount.mapped))?;
    Ok(Source { mount: mount.clone(), tree, is_directory: kind.is_dir(), is_device })
}

/// An image's layers are stacked for a moment where the root will be, and what is wanted of them is taken from there.
fn open_image(mount: &BindMount, layers: &[String], place: &Path) -> Result<Source> {
    if !layers.is_empty() {
        mount::stack(layers, place, Flags::NODEV)?;
    }
    let failed = |source| at(&mount.source, source);
    let opened = Root::open(place).and_then(|root| root.get(&mount.source, OFlags::PATH)).map_err(failed)?;
    let is_directory = fs::metadata(magic_path(&opened)).map_err(failed)?.is_dir();
    let tree = mount::clone_tree(&magic_path(&opened), false)?;
    drop(opened);
    if !layers.is_empty() {
        mount::unmount(place)?;
    }
    Ok(Source { mount: mount.clone(), tree, is_directory, is_device: false })
}

fn attach(root: &Root, source: &Source, privileged: bool) -> Result<()> {
    let BindMount { target, readonly, recursive_readonly, propagation, .. } = &source.mount;
    let on = if source.is_directory { root.directory(target, 0o755) } else { root.file(target) };
    mount::attach(&source.tree, on.map_err(|e| at(target, e))?)?;
    let path = magic_path(&source.tree);
    if *propagation != Propagation::Bidirectional {
        mount::set_propagation(&path, *propagation)?;
    }
    // Of an image only the data is wanted: its programs run in containers of their own.
    let of_image = source.mount.layers.is_some();
    let (nosuid, noexec) = (of_image || source.mount.nosuid, of_image || source.mount.noexec);
    let nodev = !privileged && !source.is_device;
    if *readonly || nodev || nosuid || noexec {
        mount::set_flags(&path, Flags { readonly: *readonly, nodev, noexec, nosuid })?;
    }
    if *recursive_readonly {
        mount::set_readonly_recursive(&source.tree)?;
    }
    Ok(())
}

/// Devices stay the host's, whoever the root of the container is: what they are lies outside of the pod.
fn make_dev(
    root: &Root,
    spec: &ContainerSpec,
    shm: Option<&OwnedFd>,
    users: Option<&PodUsers>,
    given: &dyn Fn(&str) -> bool,
) -> Result<()> {
    // This one file system does allow devices: it holds exactly those the spec lists.
    let flags = Flags { nosuid: true, ..Flags::NONE };
    mount::filesystem_at("tmpfs", directory(root, "/dev")?, flags, "mode=755,size=65536k")?;
    mount::filesystem_at(
        "devpts",
        directory(root, "/dev/pts")?,
        Flags { nosuid: true, noexec: true, ..Flags::NONE },
        &format!("newinstance,ptmxmode=0666,mode=0620,gid={}", users.map_or(0, PodUsers::root) + 5),
    )?;
    if !given("/dev/mqueue") {
        mount::filesystem_at("mqueue", directory(root, "/dev/mqueue")?, Flags::KERNEL, "")?;
    }
    if let Some(tree) = shm.filter(|_| !given("/dev/shm")) {
        mount::attach(tree, directory(root, "/dev/shm")?)?;
    }
    for device in &spec.devices {
        make_device(root, device)?;
    }
    let dev = directory(root, "/dev")?;
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        std::os::unix::fs::symlink(to, magic_path(&dev).join(name)).map_err(|e| at(Path::new(name), e))?;
    }
    Ok(())
}

fn make_device(root: &Root, device: &Device) -> Result<()> {
    let (parent, name) = root.parent(&device.target, 0o755).map_err(|e| at(&device.target, e))?;
    let name = name.to_string_lossy();
    if fs::symlink_metadata(magic_path(&parent).join(&*name)).is_ok() {
        return Ok(());
    }
    mount::device_node(&parent, &name, device.kind, device.major, device.minor, device.mode)?;
    let path = magic_path(&parent).join(&*name);
    std::os::unix::fs::lchown(&path, Some(device.uid), Some(device.gid)).map_err(|e| at(&device.target, e))
}

/// Opens a terminal of the container's own devpts and shows it as `/dev/console`.
fn open_terminal(root: &Root, target: &Path) -> Result<Pty> {
    let pts = root.directory(Path::new("/dev/pts"), 0o755).map_err(|e| at(&target.join("dev/pts"), e))?;
    let pty = pty::open(&format!("{}/ptmx", magic_path(&pts).display()))?;
    let console = root.file(Path::new("/dev/console")).map_err(|e| at(Path::new("/dev/console"), e))?;
    let tree = mount::clone_tree(&magic_path(&pty.terminal), false)?;
    mount::attach(tree, console)?;
    Ok(pty)
}

/// The container's own part of the hierarchies, read-only: language runtimes read their limits there.
fn mount_cgroups(root: &Root, cgroups: &Cgroups, privileged: bool) -> Result<()> {
    let views = cgroups.views();
    let base = Path::new("/sys/fs/cgroup");
    let on = directory(root, "/sys/fs/cgroup")?;
    if let [(_, "cgroup2", _)] = views.as_slice() {
        mount::filesystem_at("cgroup2", on, Flags::KERNEL.readonly(!privileged), "")?;
        return Ok(());
    }
    mount::filesystem_at("tmpfs", on, Flags::KERNEL, "mode=755,size=0")?;
    for (name, kind, options) in &views {
        let on = root.directory(&base.join(name), 0o755).map_err(|e| at(&base.join(name), e))?;
        mount::filesystem_at(kind, on, Flags::KERNEL.readonly(!privileged), options)?;
    }
    let on = directory(root, "/sys/fs/cgroup")?;
    mount::set_flags(&magic_path(&on), Flags::KERNEL.readonly(!privileged))?;
    Ok(())
}

/// Hides and write-protects the paths the spec names, and the root itself; runs with the root entered.
fn protect(spec: &ContainerSpec, null: &OwnedFd) -> Result<()> {
    for path in &spec.readonly_paths {
        if let Ok(tree) = mount::clone_tree(Path::new(path), true) {
            let on = open_path(path)?;
            mount::attach(&tree, on)?;
            mount::set_flags(&magic_path(&tree), Flags { readonly: true, ..Flags::NONE })?;
        }
    }
    let null_path = magic_path(null.as_fd());
    for path in &spec.masked_paths {
        match fs::metadata(path) {
            Ok(m) if m.is_dir() => mount::filesystem("tmpfs", Path::new(path), Flags::KERNEL.readonly(true), "size=0")?,
            Ok(_) => {
                // Each masked file needs a copy of its own: an attached tree cannot be attached again. The host's
                // null device is used, since the container's could have been replaced.
                let tree = mount::clone_tree(&null_path, false)
                    .or_else(|_| mount::clone_tree(Path::new("/dev/null"), false))?;
                mount::attach(tree, open_path(path)?)?;
            }
            // What this kernel does not have needs no hiding.
            Err(_) => {}
        }
    }
    if spec.rootfs.readonly {
        mount::set_flags(Path::new("/"), Flags { readonly: true, ..Flags::NONE })?;
    }
    Ok(())
}

fn open_path(path: &str) -> Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    // O_PATH: naming the file without opening it, which masked files may not allow.
    const O_PATH: i32 = 0o10000000;
    fs::OpenOptions::new().read(true).custom_flags(O_PATH).open(path).map_err(|e| at(Path::new(path), e))
}

/// The devices every container gets.
pub fn default_devices() -> Vec<Device> {
    let nodes: [(&str, u32, u32); 6] =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let device = |(name, major, minor): (&str, u32, u32)| Device {
        target: PathBuf::from("/dev").join(name),
        kind: DeviceKind::Character,
        major,
        minor,
        mode: 0o666,
        uid: 0,
        gid: 0,
    };
    nodes.into_iter().map(device).collect()
}
