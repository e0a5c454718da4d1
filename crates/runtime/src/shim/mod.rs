//! The shim: one small process per pod that holds what must outlive the agent. It is the parent of the pod's
//! containers, reads their output into logs, keeps their exit codes, and starts further processes in them. It is this
//! same program, re-executed as `knarr shim DIR`; it has one thread, since a process that forks and joins namespaces
//! can have no other, and it waits in one `poll`.
//!
//! It does no more than the kernel requires a parent to do; every decision is the runtime's, which reaches it over a
//! socket and finds it again after a restart.

mod clients;
mod container;
mod error;
mod execs;
mod launch;
mod logs;
mod process;
pub mod protocol;
mod rootfs;
mod sandbox;
mod server;
pub mod spec;
mod user;
mod users;

use std::path::Path;

use knarr_os::{cgroup::Cgroups, process as os_process};

pub use error::line as error_line;
pub use rootfs::default_devices;
pub use sandbox::leave as leave_sandbox;
use spec::SandboxSpec;

/// The sandbox's spec within its directory.
pub const SANDBOX_FILE: &str = "sandbox.json";
/// Where the shim listens, within the same directory.
pub const SOCKET_FILE: &str = "shim.sock";

/// The whole life of a shim. `args` are those after `shim`: the sandbox's directory. Standard input is the listening
/// socket, standard error takes what a dying shim has to say. Returns the exit code.
///
/// Call it before anything else in `main`: no thread may have been started.
pub fn main(args: &[String]) -> i32 {
    let [directory] = args else {
        eprintln!("knarr shim: this command is started by the agent, with a sandbox's directory");
        return 2;
    };
    match run(Path::new(directory)) {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("knarr shim {directory}: {message}");
            1
        }
    }
}

fn run(directory: &Path) -> Result<(), String> {
    let text = |e: knarr_os::OsError| e.line();
    let listener = os_process::take_stdin().map_err(text)?;
    // It must not keep the agent's directory from being unmounted.
    std::env::set_current_dir("/").map_err(|error| format!("cannot change to /: {error}"))?;
    // An error here only means that the process leads a session already.
    let _ = os_process::start_session();
    os_process::ignore_ordinary_signals();
    os_process::become_subreaper().map_err(text)?;
    os_process::hide_from_tracing().map_err(text)?;
    // The shim should be the last to go when memory is short; where that may not be asked for, it is as it is.
    let _ = os_process::set_oom_score_adj(-998);
    let signals = os_process::child_signals().map_err(text)?;
    let path = directory.join(SANDBOX_FILE);
    let spec: SandboxSpec = spec::load(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let cgroups = Cgroups::detect().map_err(text)?;
    let sandbox = sandbox::enter(&spec).map_err(|e| error_line(&e));
    server::Server::new(spec, sandbox, cgroups, listener, signals).run()
}
