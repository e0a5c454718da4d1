//! Seccomp profiles as BPF programs.
//!
//! A profile names an action for each call and one for the rest. `seccompiler` makes programs with two actions, so a
//! profile with more becomes several programs: the kernel runs them all and takes the strictest verdict. The first
//! tells the calls the profile names from the rest; each further one carries one action that is stricter than allowing.

use std::{collections::BTreeMap, path::Path};

use knarr_os::{caps::Capabilities, seccomp::pack, syscalls};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use serde::Deserialize;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("the seccomp profile {path} cannot be read: put it below the node's seccomp directory")]
    Read {
        path: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the seccomp profile {path} is not in the format of the OCI runtime specification")]
    Parse {
        path: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the seccomp profile uses the action {action}, which is not supported")]
    Action { action: String },
    #[error("the seccomp profile cannot be compiled: {message}")]
    Compile { message: String },
}

/// A profile as container engines write it (`LinuxSeccomp` of the OCI runtime specification).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The programs of a profile file.
pub fn localhost(path: &Path) -> Result<Vec<Vec<u64>>, ProfileError> {
    let name = || path.display().to_string();
    let bytes = std::fs::read(path).map_err(|source| ProfileError::Read { path: name(), source })?;
    let profile = serde_json::from_slice(&bytes).map_err(|source| ProfileError::Parse { path: name(), source })?;
    compile(&profile)
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(profile) = serde_json::from_slice(bytes) {
        let _ = compile(&profile);
    }
}

/// The programs of the default profile (`RuntimeDefault`) for a process with these capabilities: a call that only the
/// holder of a capability can use is allowed with it.
pub fn runtime_default(capabilities: Capabilities) -> Result<Vec<Vec<u64>>, ProfileError> {
    let allow = |names: &str| Rule {
        names: names.split_whitespace().map(str::to_owned).collect(),
        action: "SCMP_ACT_ALLOW".to_owned(),
        errno_ret: None,
        args: None,
    };
    let with = |names: &str, index: u8, op: &str, value: u64, value_two: u64| Rule {
        args: Some(vec![Argument { index, value, value_two, op: op.to_owned() }]),
        ..allow(names)
    };
    let mut rules = vec![allow(super::syscalls::ALWAYS)];
    // Sockets to the hypervisor's other guests are nobody's business.
    const AF_VSOCK: u64 = 40;
    rules.push(with("socket", 0, "SCMP_CMP_NE", AF_VSOCK, 0));
    for persona in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
        rules.push(with("personality", 0, "SCMP_CMP_EQ", persona, 0));
    }
    let has = |name: &str| Capabilities::named(name).is_some_and(|c| capabilities.contains(c));
    for (capability, names) in super::syscalls::WITH_CAPABILITY {
        if has(capability) {
            rules.push(allow(names));
        }
    }
    if !has("SYS_ADMIN") {
        // clone, as long as it makes no namespaces; clone3 hides its flags in memory, so it pretends not to exist
        // and C libraries fall back to clone.
        const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
        rules.push(with("clone", 0, "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS, 0));
        rules.push(Rule { action: "SCMP_ACT_ERRNO".into(), errno_ret: Some(ENOSYS), ..allow("clone3") });
    }
    compile(&Profile { default_action: "SCMP_ACT_ERRNO".into(), default_errno_ret: Some(EPERM), syscalls: rules })
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn compile(profile: &Profile) -> Result<Vec<Vec<u64>>, ProfileError> {
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut named = Rules::new();
    let mut stricter: Vec<(SeccompAction, Rules)> = Vec::new();
    for rule in &profile.syscalls {
        let action = action(&rule.action, rule.errno_ret)?;
        if action == default {
            continue;
        }
        for number in rule.names.iter().filter_map(|name| syscalls::number(name)) {
            add(&mut named, number, rule)?;
            if action != SeccompAction::Allow {
                match stricter.iter_mut().find(|(a, _)| *a == action) {
                    Some((_, rules)) => add(rules, number, rule)?,
                    None => {
                        let mut rules = Rules::new();
                        add(&mut rules, number, rule)?;
                        stricter.push((action.clone(), rules));
                    }
                }
            }
        }
    }
    let mut programs = Vec::new();
    for (action, rules) in stricter {
        programs.push(program(rules, SeccompAction::Allow, action)?);
    }
    if default != SeccompAction::Allow {
        // Last: from here on only what the profile allows works, installing included.
        programs.push(program(named, default, SeccompAction::Allow)?);
    }
    Ok(programs)
}

/// Adds a call to a set of rules. A rule without conditions swallows those with.
fn add(rules: &mut Rules, number: i64, rule: &Rule) -> Result<(), ProfileError> {
    let conditions = rule.args.as_deref().unwrap_or_default();
    if conditions.is_empty() {
        rules.insert(number, Vec::new());
        return Ok(());
    }
    let conditions = conditions.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let rule = SeccompRule::new(conditions).map_err(|e| ProfileError::Compile { message: e.to_string() })?;
    match rules.get_mut(&number) {
        Some(chain) if chain.is_empty() => {}
        Some(chain) => chain.push(rule),
        None => {
            rules.insert(number, vec![rule]);
        }
    }
    Ok(())
}

fn condition(argument: &Argument) -> Result<SeccompCondition, ProfileError> {
    let (operator, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, argument.value),
        "SCMP_CMP_NE" => (SeccompCmpOp::Ne, argument.value),
        "SCMP_CMP_LT" => (SeccompCmpOp::Lt, argument.value),
        "SCMP_CMP_LE" => (SeccompCmpOp::Le, argument.value),
        "SCMP_CMP_GT" => (SeccompCmpOp::Gt, argument.value),
        "SCMP_CMP_GE" => (SeccompCmpOp::Ge, argument.value),
        // Here `value` is the mask and `valueTwo` what has to remain.
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(argument.value), argument.value_two),
        other => return Err(ProfileError::Compile { message: format!("the comparison {other} is unknown") }),
    };
    SeccompCondition::new(argument.index, SeccompCmpArgLen::Qword, operator, value)
        .map_err(|e| ProfileError::Compile { message: e.to_string() })
}

fn action(name: &str, errno: Option<u32>) -> Result<SeccompAction, ProfileError> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(errno.unwrap_or(EPERM)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        other => return Err(ProfileError::Action { action: other.to_owned() }),
    })
}

fn program(rules: Rules, default: SeccompAction, matched: SeccompAction) -> Result<Vec<u64>, ProfileError> {
    let failed = |e: seccompiler::BackendError| ProfileError::Compile { message: e.to_string() };
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    let filter = SeccompFilter::new(rules, default, matched, arch).map_err(failed)?;
    let program: BpfProgram = filter.try_into().map_err(failed)?;
    Ok(program.iter().map(|i| pack(i.code, i.jt, i.jf, i.k)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_compiles_to_two_programs() {
        let programs = runtime_default(Capabilities::default()).unwrap();
        assert_eq!(programs.len(), 2, "one answers ENOSYS to clone3, one allows the rest");
        let with_admin = runtime_default(Capabilities::named("SYS_ADMIN").unwrap()).unwrap();
        assert_eq!(with_admin.len(), 1, "with CAP_SYS_ADMIN clone3 is allowed");
    }

    #[test]
    fn profiles_are_read_or_refused_by_name() {
        let parse = |json: &str| compile(&serde_json::from_str::<Profile>(json).unwrap());
        let deny =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","nope"],"action":"SCMP_ACT_ERRNO"}]}"#;
        assert_eq!(parse(deny).unwrap().len(), 1);
        assert_eq!(parse(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap().len(), 0);
        assert_eq!(parse(r#"{"defaultAction":"SCMP_ACT_LOG","syscalls":[]}"#).unwrap().len(), 1);
        let error = parse(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#).unwrap_err().to_string();
        assert!(error.contains("SCMP_ACT_NOTIFY"), "{error}");
    }
}
