//! Installing a seccomp filter. Programs are made elsewhere (by `seccompiler`, from a profile); this only hands one
//! to the kernel, without the side effect of `seccompiler::apply_filter`, which always sets `no_new_privs`: the
//! Kubernetes default allows privilege escalation, so the filter goes in while `CAP_SYS_ADMIN` is still held.

use std::io;

use nix::libc;

use crate::error::{OsError, Result};

/// One BPF instruction as a number in the kernel's layout (code 16, jt 8, jf 8, k 32 bits), so that programs can be
/// stored and sent without a type of their own.
pub fn pack(code: u16, jt: u8, jf: u8, k: u32) -> u64 {
    u64::from(code) | u64::from(jt) << 16 | u64::from(jf) << 24 | u64::from(k) << 32
}

fn unpack(instruction: u64) -> libc::sock_filter {
    libc::sock_filter {
        code: instruction as u16,
        jt: (instruction >> 16) as u8,
        jf: (instruction >> 24) as u8,
        k: (instruction >> 32) as u32,
    }
}

/// Applies a packed program to this process and all it starts.
pub fn install(program: &[u64]) -> Result<()> {
    let too_long = |_| OsError::new("install", "a seccomp filter", io::Error::from(io::ErrorKind::InvalidInput));
    let mut filter: Vec<libc::sock_filter> = program.iter().map(|i| unpack(*i)).collect();
    let fprog = libc::sock_fprog { len: u16::try_from(filter.len()).map_err(too_long)?, filter: filter.as_mut_ptr() };
    // SAFETY: `fprog` points at `filter`, which lives through the call; the kernel copies and verifies it.
    let code = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog) };
    match code {
        0 => Ok(()),
        _ => Err(OsError::new("install", "a seccomp filter", io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_field() {
        let f = unpack(pack(0x0015, 3, 250, 0xdead_beef));
        assert_eq!((f.code, f.jt, f.jf, f.k), (0x0015, 3, 250, 0xdead_beef));
    }
}
