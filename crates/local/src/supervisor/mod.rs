//! A node's process 1: this same program, re-executed as `knarr local-node DIR GROUP`. It has one thread, for it forks
//! and makes namespaces; it starts the program, starts it again when it ends, and collects orphans. When it ends, so
//! does all of the node.

mod init;
mod link;
mod name_servers;
mod root;

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
};

use knarr_os::{
    cgroup::Cgroups,
    fds, lock,
    mount::{self, Propagation},
    namespace::{self, Namespace},
    net::Links,
    process::{self, PidNamespace},
    root::Root,
};

use self::{init::Init, name_servers::NameServers};
use crate::{
    ClusterRecord, LocalError, NodeRecord, Result,
    error::{At, During},
    record,
};

/// The hidden command.
pub const COMMAND: &str = "local-node";
/// What is in a cluster's and in a node's directory.
pub const CLUSTER_RECORD: &str = "cluster.json";
pub const RECORD: &str = "node.json";
pub const LOCK: &str = "lock";
pub const LOG: &str = "knarr.log";
pub const DATA: &str = "data";
pub const ROOT: &str = "root";

/// What process 1 says when it has all it needs.
const READY: &str = "ready";

/// The whole life of process 1, and before it of the process that makes its namespaces. `args` are those after the
/// command's name. Returns the exit code.
///
/// Call it before anything else in `main`: no thread may have been started.
pub fn main(args: &[String]) -> i32 {
    let [directory, group] = args else {
        eprintln!("knarr {COMMAND}: this command is started by `knarr cluster`");
        return 2;
    };
    match start(Path::new(directory), Path::new(group)) {
        Ok(said) if said == READY => 0,
        Ok(said) => {
            eprintln!("{said}");
            1
        }
        Err(error) => {
            eprintln!("{}", line(&error));
            1
        }
    }
}

/// Moves into the node's namespaces and starts its process 1; returns what that had to say.
fn start(directory: &Path, group: &Path) -> Result<String> {
    // An error here only means that the process leads a session already.
    let _ = process::start_session();
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let path = directory.join(RECORD);
    let node: NodeRecord = record::read(&path)?.ok_or_else(missing).at("read", &path)?;
    let path = directory.with_file_name(CLUSTER_RECORD);
    let cluster: ClusterRecord = record::read(&path)?.ok_or_else(missing).at("read", &path)?;
    let cgroups = Cgroups::detect()?;
    cgroups.create_freezable(group)?;
    cgroups.join(group)?;
    {
        let host = Links::open().during("opening the host's network")?;
        namespace::unshare(&[Namespace::Mount, Namespace::Net, Namespace::Uts, Namespace::Ipc])?;
        link::connect(&host, &cluster, &node)?;
    }
    mount::set_propagation(Path::new("/"), Propagation::Private)?;
    namespace::set_hostname(&node.name)?;
    namespace::loopback_up()?;
    let (reader, writer) = fds::pipe().at("open", "a pipe")?;
    process::fork(PidNamespace::New, || {
        let mut told = File::from(writer);
        match prepare(directory, &cluster, &node) {
            Ok(init) => {
                let _ = told.write_all(READY.as_bytes());
                drop(told);
                init.run()
            }
            Err(error) => {
                let _ = told.write_all(line(&error).as_bytes());
                1
            }
        }
    })?;
    let mut said = String::new();
    File::from(reader).read_to_string(&mut said).at("read", "a pipe")?;
    Ok(said)
}

/// What process 1 does before the node's program is started.
fn prepare(directory: &Path, cluster: &ClusterRecord, node: &NodeRecord) -> Result<Init> {
    let held = lock::hold(&directory.join(LOCK))?;
    let path = directory.join(LOG);
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).at("open", &path)?;
    let null = OpenOptions::new().read(true).open("/dev/null").at("open", "/dev/null")?;
    let disk = Root::open(directory).at("open", directory)?;
    let name_servers = NameServers::find();
    root::enter(directory, cluster, node)?;
    // Only now: whoever started this waits until nobody holds its standard error.
    process::set_stdio(null.as_fd(), log.as_fd(), log.as_fd())?;
    Init::new(held, log, disk, name_servers, &node.arguments)
}

/// An error with its causes on one line.
fn line(error: &LocalError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
