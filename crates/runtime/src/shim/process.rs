//! The last steps of a container's process on the way to its program: standing in the right place as the right user
//! with no more rights than asked for. Shared by containers and `exec`.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::PermissionsExt,
    },
    path::Path,
};

use knarr_os::{caps, process, pty, seccomp};

use super::{
    error::SetupError,
    spec::{Identity, ProcessSpec},
    user,
};

type Result<T> = std::result::Result<T, SetupError>;

/// A process about to become a program: everything that can fail with a name to it has been looked up.
pub struct Prepared {
    pub identity: Identity,
    pub warnings: Vec<String>,
    env: Vec<String>,
    chdir_late: bool,
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Looks up user and directory; runs with the container's root entered.
pub fn prepare(spec: &ProcessSpec) -> Result<Prepared> {
    process::set_umask(0o022);
    let mut warnings = Vec::new();
    // A host may forbid keyrings, as other engines do inside of their containers: there is nothing to share then.
    if let Err(e) = process::start_session_keyring() {
        warnings.push(e.line());
    }
    let (identity, home) = user::resolve(Path::new("/"), &spec.user)?;
    let mut env = spec.env.clone();
    let has = |env: &[String], name: &str| env.iter().any(|e| e.split('=').next() == Some(name));
    if !has(&env, "PATH") {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    if !has(&env, "HOME") {
        env.push(format!("HOME={}", home.as_deref().unwrap_or("/")));
    }
    if spec.terminal && !has(&env, "TERM") {
        env.push("TERM=xterm".to_owned());
    }
    let cwd = if spec.cwd.is_empty() { "/" } else { &spec.cwd };
    // Root may be kept out where the user is not (a volume with root squashed), so a refusal is tried again as them.
    let chdir_late = match std::env::set_current_dir(cwd) {
        Ok(()) => false,
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => true,
        Err(source) => return Err(SetupError::WorkingDirectory { path: cwd.to_owned(), source }),
    };
    if let Err(e) = process::set_oom_score_adj(spec.oom_score_adj) {
        warnings.push(e.line());
    }
    Ok(Prepared { identity, warnings, env, chdir_late })
}

/// Puts the streams in place, with the terminal, if it is one, as the controlling one. `owner` is the user as the host
/// calls them.
pub fn set_streams(
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
    terminal: bool,
    owner: u32,
) -> Result<()> {
    process::set_stdio(stdin, stdout, stderr)?;
    if terminal {
        pty::control(io::stdin().as_fd())?;
    }
    // A program that is not the host's root may open its streams by name (`/dev/stdout`), so they have to be that user's.
    if owner != 0 {
        for stream in [stdin, stdout, stderr] {
            let is_null = fs::metadata(knarr_os::root::magic_path(stream)).is_ok_and(|m| {
                use std::os::unix::fs::FileTypeExt;
                m.file_type().is_char_device() && !terminal
            });
            if !is_null {
                let _ = std::os::unix::fs::fchown(stream, Some(owner), None);
            }
        }
    }
    Ok(())
}

/// Gives up rights and runs the program. Returns only when that failed.
pub fn become_program(spec: &ProcessSpec, prepared: &Prepared) -> SetupError {
    match try_become(spec, prepared) {
        Ok(never) => match never {},
        Err(e) => e,
    }
}

fn try_become(spec: &ProcessSpec, prepared: &Prepared) -> Result<std::convert::Infallible> {
    process::close_on_exec_from(3)?;
    if let Some(profile) = &spec.apparmor {
        use knarr_os::Context;
        fs::write("/proc/self/attr/apparmor/exec", format!("exec {profile}"))
            .os("set the AppArmor profile", profile)?;
    }
    let Identity { uid, gid, groups } = &prepared.identity;
    // Without no_new_privs a filter is for the privileged only, so it has to come before rights are given up; with
    // it, as late as possible, so that the profile need not allow the steps in between.
    if !spec.no_new_privileges {
        spec.seccomp.iter().try_for_each(|program| seccomp::install(program))?;
    }
    caps::limit_bounding(spec.capabilities)?;
    caps::keep_across_setuid(true)?;
    process::set_identity(*uid, *gid, groups)?;
    caps::keep_across_setuid(false)?;
    let held = caps::Capabilities(spec.capabilities.0 & caps::bounding().0);
    if prepared.chdir_late {
        let cwd = &spec.cwd;
        std::env::set_current_dir(cwd).map_err(|source| SetupError::WorkingDirectory { path: cwd.clone(), source })?;
    }
    let (program, args, env) = (find_program(spec, prepared)?, strings(&spec.args)?, strings(&prepared.env)?);
    caps::set(held, spec.ambient)?;
    if spec.no_new_privileges {
        process::set_no_new_privileges()?;
        spec.seccomp.iter().try_for_each(|program| seccomp::install(program))?;
    }
    process::reset_signals();
    let source = process::exec(&program, &args, &env);
    Err(SetupError::Exec { program: spec.args[0].clone(), source })
}

/// The program's path: as given if it has a slash, else looked for along the container's `PATH`.
fn find_program(spec: &ProcessSpec, prepared: &Prepared) -> Result<CString> {
    let program = spec.args.first().map_or("", String::as_str);
    let not_found = || SetupError::NotFound { program: program.to_owned() };
    if program.is_empty() {
        return Err(not_found());
    }
    if program.contains('/') {
        return c_string(program);
    }
    let path = prepared.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let executable =
        |p: &std::path::PathBuf| fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    let found = path.split(':').filter(|d| !d.is_empty()).map(|d| Path::new(d).join(program)).find(executable);
    c_string(&found.ok_or_else(not_found)?.to_string_lossy())
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| SetupError::Nul { what: "an argument or environment variable" })
}

fn strings(all: &[String]) -> Result<Vec<CString>> {
    all.iter().map(|s| c_string(s)).collect()
}
