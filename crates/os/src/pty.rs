//! Pseudoterminals.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{Mode, OFlags},
    pty::OpenptFlags,
    termios::Winsize,
};

use crate::error::{Context, Result};

/// A pseudoterminal: the master for whoever watches, the terminal for the process.
#[derive(Debug)]
pub struct Pty {
    pub master: OwnedFd,
    pub terminal: OwnedFd,
}

/// Opens a pair from the `ptmx` of one devpts instance, such as `/dev/pts/ptmx` of a container. The terminal is
/// taken from the master itself and not by name, which the container could have replaced.
pub fn open(ptmx: &str) -> Result<Pty> {
    let master =
        rustix::fs::open(ptmx, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).os("open", ptmx)?;
    rustix::pty::unlockpt(&master).os("unlock", "a pseudoterminal")?;
    let terminal =
        rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .os("open the terminal of", ptmx)?;
    Ok(Pty { master, terminal })
}

/// Makes a terminal the controlling one of this process, which must lead its session.
pub fn control(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).os("take", "the controlling terminal")
}

pub fn resize(master: impl AsFd, width: u16, height: u16) -> Result<()> {
    let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(master, size).os("resize", "a terminal")
}
