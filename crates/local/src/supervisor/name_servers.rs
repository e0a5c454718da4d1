//! The host's name servers, for a node whose root does not show the host's files. They change when a laptop moves.

use std::{fs, net::IpAddr, path::Path};

use knarr_os::root::{Root, magic_path};
use rustix::fs::OFlags;

use crate::network;

const FILE: &str = "/etc/resolv.conf";

/// The host's file, by the directory that it is replaced in: reachable also from another root.
pub struct NameServers {
    file: Option<(Root, String)>,
}

impl NameServers {
    pub fn find() -> Self {
        let open = |path: &Path| Some((Root::open(path.parent()?).ok()?, path.file_name()?.to_str()?.to_owned()));
        Self { file: network::name_servers().and_then(|path| open(&path)) }
    }

    /// Brings the node's file up to date with the host's.
    pub fn refresh(&self) {
        let Some((directory, name)) = &self.file else { return };
        let opened = directory.get(Path::new(name), OFlags::RDONLY);
        let Ok(text) = opened.and_then(|file| fs::read_to_string(magic_path(&file))) else { return };
        let text = reachable(&text);
        if fs::read_to_string(FILE).ok().as_ref() != Some(&text) {
            let _ = fs::write(FILE, text);
        }
    }
}

/// Without servers on the loopback address, which in the node is another.
fn reachable(text: &str) -> String {
    let is_loopback = |line: &&str| {
        let server = line.trim().strip_prefix("nameserver").and_then(|server| server.trim().parse::<IpAddr>().ok());
        server.is_some_and(|server| server.is_loopback())
    };
    text.lines().filter(|line| !is_loopback(line)).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn servers_that_cannot_be_reached_are_left_out() {
        let text = "# mine\nnameserver 127.0.0.53\nnameserver 10.1.1.1\nsearch home\nnameserver ::1\n";
        assert_eq!(super::reachable(text), "# mine\nnameserver 10.1.1.1\nsearch home\n");
    }
}
