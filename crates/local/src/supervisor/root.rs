//! The node's root: a directory of its own, with what Knarr needs of the host mounted into it and nothing else. So
//! what a pod writes to a `hostPath` stays on that node, and goes with it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use knarr_os::{
    mount::{self, Flags, Propagation},
    root::{Root, magic_path},
};

use rustix::fs::OFlags;

use super::{DATA, ROOT};
use crate::{ClusterRecord, NodeRecord, Result, error::At};

/// Where the program is in the node.
pub const PROGRAM: &str = "/knarr";
/// What the program reads of the host: certificates of authorities, time zones, how registries are reached.
const READ: [&str; 5] = ["/usr", "/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/knarr/certs.d"];
const DIRECTORIES: [(&str, u32); 10] = [
    ("etc", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("root", 0o700),
    ("srv", 0o755),
    ("tmp", 0o1777),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Another number at each reading (`random(4)`).
const RANDOM_ID: &str = "/proc/sys/kernel/random/uuid";

/// Makes the root and enters it, once and for all. This process is alone in its mount namespace.
pub fn enter(directory: &Path, cluster: &ClusterRecord, node: &NodeRecord) -> Result<()> {
    let path = directory.join(ROOT);
    fs::create_dir_all(&path).at("create", &path)?;
    // Only a mount can be a root.
    let itself = mount::clone_tree(&path, false)?;
    mount::attach(itself, fs::File::open(&path).at("open", &path)?)?;
    // Pods may have put links in here: all paths are looked up within the root.
    let root = Root::open(&path).at("open", &path)?;
    for (name, mode) in DIRECTORIES {
        root.directory(Path::new(name), 0o755).and_then(|made| set_mode(&made, mode)).at("create", name)?;
    }
    let make = |name: &str| root.directory(Path::new(name), 0o755).at("create", name);
    mount::filesystem_at("proc", make("proc")?, Flags::KERNEL, "")?;
    mount::filesystem_at("sysfs", make("sys")?, Flags::KERNEL, "")?;
    mount::filesystem_at("tmpfs", make("run")?, Flags { nosuid: true, ..Flags::NODEV }, "mode=755")?;
    bind(&root, Path::new("/dev"), false)?;
    bind(&root, Path::new("/sys/fs/cgroup"), false)?;
    let read = READ.into_iter().map(PathBuf::from).chain(cluster.images.clone());
    read.filter(|path| path.is_dir()).try_for_each(|path| bind(&root, &path, true))?;
    bind(&root, &directory.join(DATA), false)?;
    let program = std::env::current_exe().at("find", "this program")?;
    mount::attach(mount::clone_tree(&program, false)?, root.file(Path::new(PROGRAM)).at("create", PROGRAM)?)?;
    let hosts = format!("127.0.0.1 localhost\n{} {}\n", node.address, node.name);
    for (name, text) in [("etc/hostname", &format!("{}\n", node.name)), ("etc/hosts", &hosts)] {
        root.file(Path::new(name)).and_then(|file| fs::write(magic_path(&file), text)).at("write", name)?;
    }
    let machine_id = Path::new("etc/machine-id");
    if root.get(machine_id, OFlags::PATH).is_err() {
        let id = fs::read_to_string(RANDOM_ID).at("read", RANDOM_ID)?.replace('-', "");
        root.file(machine_id).and_then(|file| fs::write(magic_path(&file), id)).at("write", machine_id)?;
    }
    drop(root);
    mount::enter_root(&path)?;
    // As service managers set it up: `mountPropagation` of containers needs it.
    Ok(mount::set_propagation(Path::new("/"), Propagation::Bidirectional)?)
}

/// Shows a directory of the host at the same path.
fn bind(root: &Root, path: &Path, readonly: bool) -> Result<()> {
    let tree = mount::clone_tree(path, true)?;
    if readonly {
        mount::set_readonly_recursive(&tree)?;
    }
    let target = root.directory(path, 0o755).at("create", path)?;
    Ok(mount::attach(tree, target)?)
}

/// The umask is whoever's that started the node.
fn set_mode(made: &impl std::os::fd::AsFd, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let path = magic_path(made);
    if fs::metadata(&path)?.mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
}
