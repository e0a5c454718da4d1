//! Which TCP ports of this host are taken, and by whom. Read from `/proc` (`proc(5)`), because an error that names
//! the other program saves its reader a search.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
};

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// Who listens on a port, in words; `None` where it is free.
pub fn taken_by(port: u16) -> Option<String> {
    match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Some(owner(port).unwrap_or_else(|| "another program".into()))
        }
        _ => None,
    }
}

/// The program with a socket that listens there. Programs of other users show theirs to root only.
fn owner(port: u16) -> Option<String> {
    let inode = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, port))?;
    let wanted = format!("socket:[{inode}]");
    let pids = fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()));
    for process in pids.map(|entry| entry.path()) {
        let Ok(files) = fs::read_dir(process.join("fd")) else { continue };
        if files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|target| target.as_os_str() == &*wanted)) {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            return Some(format!("{} (process {})", name.trim(), process.file_name()?.to_string_lossy()));
        }
    }
    None
}

fn listening_inode(table: &str, port: u16) -> Option<String> {
    let ending = format!(":{port:04X}");
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1)?.ends_with(&ending) && *fields.get(3)? == LISTENING).then_some((*fields.get(9)?).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_program() {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let owner = taken_by(port).unwrap();
        assert!(owner.ends_with(&format!("(process {})", std::process::id())), "{owner}");
        drop(listener);
        assert_eq!(taken_by(port), None);
    }

    #[test]
    fn connections_are_no_listeners() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:192B 0100007F:D000 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0\n   \
            1: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1 0\n";
        assert_eq!(listening_inode(table, 6443), Some("22".into()));
        assert_eq!(listening_inode(table, 6444), None);
    }
}
