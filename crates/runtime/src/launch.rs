//! Starting shims.

use std::{fs, io, os::unix::net::UnixListener, path::Path, process::Stdio};

use knarr_os::root::magic_path;

use crate::shim::SOCKET_FILE;

/// What a shim that could not serve had to say.
const LOG_FILE: &str = "shim.log";

/// Starts the shim of a sandbox's directory, which holds its spec. The socket exists before the shim does, so that
/// whoever connects waits in its queue instead of trying again.
pub fn start(exe: &Path, directory: &Path) -> io::Result<()> {
    let opened = fs::File::open(directory)?;
    let socket = magic_path(&opened).join(SOCKET_FILE);
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)?;
    let log = fs::File::create(directory.join(LOG_FILE))?;
    // Nothing is asked for that only a copy of this process could do before it becomes the shim, a directory of its own
    // included: copying the tables of a large process would cost more than all the rest of starting a pod.
    let mut command = tokio::process::Command::new(exe);
    command
        .arg("shim")
        .arg(directory)
        .env_clear()
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stdout(Stdio::from(log.try_clone()?))
        .stderr(Stdio::from(log))
        // A signal to the agent's group, such as Ctrl-C, is not meant for it.
        .process_group(0)
        .kill_on_drop(false);
    let mut child = command.spawn()?;
    // Only so that an ended shim does not stay behind as a zombie; its end is noticed on its socket.
    tokio::spawn(async move {
        let _ = child.wait().await;
    });
    Ok(())
}

/// The last words of a shim that ended at once.
pub fn last_words(directory: &Path) -> String {
    let text = fs::read_to_string(directory.join(LOG_FILE)).unwrap_or_default();
    text.lines().last().unwrap_or("it said nothing").to_owned()
}
