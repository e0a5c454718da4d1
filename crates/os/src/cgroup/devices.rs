//! Which devices a group may use. Version 1 takes rules as text; version 2 asks a small program at each access, which
//! is put together here and attached to the group (`BPF_PROG_TYPE_CGROUP_DEVICE`).

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::libc;

use crate::error::{Context, OsError, Result};

/// Devices every container may use: the harmless ones, terminals, and making nodes (which alone gives no access).
pub(super) const DEFAULT: [&str; 12] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
    "c 10:200 rwm",
];

/// A rule such as `c 1:3 rwm`; a number that is `None` was `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    kind: i32,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

fn parse(rule: &str) -> Option<Rule> {
    let mut words = rule.split_whitespace();
    let kind = match words.next()? {
        "b" => BLOCK,
        "c" => CHARACTER,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    let bit = |c: char| match c {
        'm' => 1,
        'r' => 2,
        'w' => 4,
        _ => 0,
    };
    let access = words.next()?.chars().map(bit).fold(0, |all, bit| all | bit);
    Some(Rule { kind, major: number(major)?, minor: number(minor)?, access })
}

/// One instruction: operation, destination and source registers, jump offset, constant (`linux/bpf.h`).
fn instruction(code: u8, dst: u8, src: u8, offset: i16, constant: i32) -> u64 {
    u64::from(code) | u64::from(dst | src << 4) << 8 | u64::from(offset as u16) << 16 | u64::from(constant as u32) << 32
}

/// The program: each rule jumps to the next where it does not fit, and allows where it does; the end refuses.
fn program(rules: &[Rule]) -> Vec<u64> {
    const LOAD_WORD: u8 = 0x61;
    const AND: u8 = 0x54;
    const SHIFT_RIGHT: u8 = 0x74;
    const MOVE: u8 = 0xb4;
    const MOVE_REGISTER: u8 = 0xbc;
    const JUMP_UNEQUAL: u8 = 0x55;
    const JUMP_UNEQUAL_REGISTER: u8 = 0x5d;
    const EXIT: u8 = 0x95;
    // The argument: kind in the low half and access in the high half of its first word, then major and minor.
    let mut code = vec![
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(AND, 2, 0, 0, 0xffff),
        instruction(LOAD_WORD, 3, 1, 0, 0),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules {
        let mut tests = vec![(JUMP_UNEQUAL, 2, rule.kind)];
        tests.extend(rule.major.map(|n| (JUMP_UNEQUAL, 4, n)));
        tests.extend(rule.minor.map(|n| (JUMP_UNEQUAL, 5, n)));
        // What a test that fails has to jump over: the later tests, three for the access, two that allow.
        let mut left = tests.len() as i16 + 3 + 2;
        for (code_of, register, constant) in tests {
            left -= 1;
            code.push(instruction(code_of, register, 0, left, constant));
        }
        code.push(instruction(MOVE_REGISTER, 1, 3, 0, 0));
        code.push(instruction(AND, 1, 0, 0, rule.access));
        code.push(instruction(JUMP_UNEQUAL_REGISTER, 1, 3, 2, 0));
        code.push(instruction(MOVE, 0, 0, 0, 1));
        code.push(instruction(EXIT, 0, 0, 0, 0));
    }
    code.push(instruction(MOVE, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

/// `BPF_PROG_LOAD`'s arguments, as far as used.
#[repr(C)]
#[derive(Default)]
struct LoadArguments {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// `BPF_PROG_ATTACH`'s arguments.
#[repr(C)]
struct AttachArguments {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Limits a version 2 group to the default devices and those of `rules`. The group keeps the program until removed.
pub(super) fn attach(group: &Path, rules: &[String]) -> Result<()> {
    const PROGRAM_LOAD: i64 = 5;
    const PROGRAM_ATTACH: i64 = 8;
    const KIND_CGROUP_DEVICE: u32 = 15;
    const AT_CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let rules: Vec<Rule> = DEFAULT.into_iter().chain(rules.iter().map(String::as_str)).filter_map(parse).collect();
    let code = program(&rules);
    let load = LoadArguments {
        kind: KIND_CGROUP_DEVICE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadArguments::default()
    };
    // SAFETY: the arguments point at instructions and a license that live through the call, which copies them.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, PROGRAM_LOAD, &raw const load, size_of::<LoadArguments>()) };
    if loaded < 0 {
        return Err(OsError::new("load the device filter of", group.display(), io::Error::last_os_error()));
    }
    // SAFETY: the call gave a new descriptor that no one else owns.
    let program = unsafe { OwnedFd::from_raw_fd(loaded as i32) };
    let directory = fs::File::open(group).os("open", group.display())?;
    let attach = AttachArguments {
        target: directory.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: AT_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the arguments are plain numbers in a structure that lives through the call.
    let code = unsafe { libc::syscall(libc::SYS_bpf, PROGRAM_ATTACH, &raw const attach, size_of::<AttachArguments>()) };
    match code {
        0 => Ok(()),
        _ => Err(OsError::new("attach the device filter to", group.display(), io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rule = Rule { kind: CHARACTER, major: Some(1), minor: None, access: 6 };
        assert_eq!(parse("c 1:* rw"), Some(rule));
        assert_eq!(parse("x 1:1 r"), None);
        assert!(DEFAULT.iter().all(|r| parse(r).is_some()));
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_version_2_group_refuses_other_devices() {
        let mounted = crate::mount::table().unwrap().into_iter().find(|m| m.kind == "cgroup2");
        let (true, Some(root)) = (rustix::process::geteuid().is_root(), mounted) else {
            // Past what tests print, which is kept from view where they pass.
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "SKIPPED: the device filter needs root and a version 2 hierarchy");
            return;
        };
        let group = root.target.join(format!("knarr-os-devices-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let opens = |device: &str| {
            let script = format!("echo $$ >{}/cgroup.procs && exec 3<{device}", group.display());
            std::process::Command::new("/bin/sh").args(["-c", &script]).status().unwrap().success()
        };
        assert!(opens("/dev/kmsg") && opens("/dev/zero"), "before there is a filter");
        attach(&group, &["c 10:* rwm".to_owned()]).unwrap();
        let outcome = (opens("/dev/zero"), opens("/dev/kmsg"));
        fs::remove_dir(&group).unwrap();
        assert_eq!(outcome, (true, false));
    }
}
