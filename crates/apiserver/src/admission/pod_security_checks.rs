//! The Pod Security Standards as a list of checks over a pod's spec
//! (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).

use serde_json::Value;

use crate::json::{items, text};

/// How strict a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    pub(super) fn parse(word: &str) -> Option<Self> {
        [Self::Privileged, Self::Baseline, Self::Restricted].into_iter().find(|level| level.as_str() == word)
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

const BASELINE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// With the minor version of the standards since which they are safe.
const SAFE_SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];
const SAFE_SELINUX_TYPES: [(&str, u32); 5] =
    [("", 0), ("container_t", 0), ("container_init_t", 0), ("container_kvm_t", 0), ("container_engine_t", 31)];
const RESTRICTED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
];

/// All containers of a pod.
fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|list| items(&spec[list]))
}

/// `container "a"`, or `containers "a", "b"`, of those for which something holds.
fn named(spec: &Value, is_wrong: impl Fn(&Value) -> bool) -> Option<String> {
    let wrong: Vec<String> =
        containers(spec).filter(|c| is_wrong(c)).map(|c| format!("{:?}", text(&c["name"]))).collect();
    match wrong.len() {
        0 => None,
        1 => Some(format!("container {}", wrong[0])),
        _ => Some(format!("containers {}", wrong.join(", "))),
    }
}

/// The newest edition of the standards.
pub(super) const LATEST: u32 = u32::MAX;

/// What stands in the way of a level, in upstream's words; empty where the pod keeps to it. `minor` is the version of
/// Kubernetes whose edition of the standards counts: each asks for a little more than the ones before.
pub(super) fn violations(level: Level, minor: u32, spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if level >= Level::Baseline {
        baseline(minor, spec, &mut found);
    }
    if level >= Level::Restricted {
        restricted(minor, spec, &mut found);
    }
    found
}

fn is_safe(list: &[(&str, u32)], name: &str, minor: u32) -> bool {
    list.iter().any(|(safe, since)| *safe == name && *since <= minor)
}

/// A probe or hook that calls another host than its own pod.
fn calls_elsewhere(container: &Value) -> bool {
    let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
    let hooks = ["postStart", "preStop"].map(|hook| &container["lifecycle"][hook]);
    let mut handlers = probes.into_iter().chain(hooks);
    handlers.any(|handler| ["httpGet", "tcpSocket"].iter().any(|way| !text(&handler[way]["host"]).is_empty()))
}

/// Root of a pod with users of its own is nobody on the node.
fn has_own_users(spec: &Value) -> bool {
    spec["hostUsers"] == false
}

fn baseline(minor: u32, spec: &Value, found: &mut Vec<String>) {
    let host: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| spec[field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if !host.is_empty() {
        found.push(format!("host namespaces ({})", host.join(", ")));
    }
    if let Some(who) = named(spec, |c| c["securityContext"]["privileged"] == true) {
        found.push(format!("privileged ({who} must not set securityContext.privileged=true)"));
    }
    let adds_more = |c: &Value| {
        items(&c["securityContext"]["capabilities"]["add"])
            .iter()
            .any(|add| !BASELINE_CAPABILITIES.contains(&text(add)))
    };
    if let Some(who) = named(spec, adds_more) {
        found.push(format!("non-default capabilities ({who} must not add them in securityContext.capabilities.add)"));
    }
    let volumes: Vec<String> = items(&spec["volumes"])
        .iter()
        .filter(|volume| volume.get("hostPath").is_some())
        .map(|volume| format!("{:?}", text(&volume["name"])))
        .collect();
    if !volumes.is_empty() {
        let word = if volumes.len() == 1 { "volume" } else { "volumes" };
        found.push(format!("hostPath volumes ({word} {})", volumes.join(", ")));
    }
    let takes_port = |c: &Value| items(&c["ports"]).iter().any(|port| port["hostPort"].as_u64().unwrap_or(0) != 0);
    if let Some(who) = named(spec, takes_port) {
        found.push(format!("hostPort ({who} uses host ports)"));
    }
    if !(minor >= 35 && has_own_users(spec)) {
        proc_mount(spec, found);
    }
    let profiles = |context: &Value| {
        context["seccompProfile"]["type"] == "Unconfined" || context["appArmorProfile"]["type"] == "Unconfined"
    };
    if profiles(&spec["securityContext"]) || containers(spec).any(|c| profiles(&c["securityContext"])) {
        found.push("seccompProfile or appArmorProfile (pod or containers must not set type \"Unconfined\")".into());
    }
    let selinux = |context: &Value| {
        let options = &context["seLinuxOptions"];
        !is_safe(&SAFE_SELINUX_TYPES, text(&options["type"]), minor)
            || !text(&options["user"]).is_empty()
            || !text(&options["role"]).is_empty()
    };
    if selinux(&spec["securityContext"]) || containers(spec).any(|c| selinux(&c["securityContext"])) {
        found.push("seLinuxOptions (pod or containers set forbidden securityContext.seLinuxOptions)".into());
    }
    let sysctls = items(&spec["securityContext"]["sysctls"]).iter().map(|sysctl| text(&sysctl["name"]));
    let unsafe_ones: Vec<&str> = sysctls.filter(|name| !is_safe(&SAFE_SYSCTLS, name, minor)).collect();
    if !unsafe_ones.is_empty() {
        found.push(format!("forbidden sysctls ({})", unsafe_ones.join(", ")));
    }
    if minor >= 34
        && let Some(who) = named(spec, calls_elsewhere)
    {
        found.push(format!("probe or lifecycle host ({who} must not set a host in probes and lifecycle hooks)"));
    }
    let is_host_process = |context: &Value| context["windowsOptions"]["hostProcess"] == true;
    if is_host_process(&spec["securityContext"]) || containers(spec).any(|c| is_host_process(&c["securityContext"])) {
        found.push(
            "hostProcess (pod or containers must not set securityContext.windowsOptions.hostProcess=true)".into(),
        );
    }
}

fn proc_mount(spec: &Value, found: &mut Vec<String>) {
    if let Some(who) = named(spec, |c| !matches!(text(&c["securityContext"]["procMount"]), "" | "Default")) {
        found.push(format!("procMount ({who} must not set securityContext.procMount to anything but \"Default\")"));
    }
}

fn restricted(minor: u32, spec: &Value, found: &mut Vec<String>) {
    if minor >= 35 && has_own_users(spec) {
        proc_mount(spec, found);
    }
    let pod = &spec["securityContext"];
    // Windows knows neither of these; older editions did not know that.
    let is_linux = minor < 25 || spec["os"]["name"] != "windows";
    let is_allowed = |volume: &Value| RESTRICTED_VOLUMES.iter().any(|kind| volume.get(kind).is_some());
    let volumes: Vec<String> = items(&spec["volumes"])
        .iter()
        .filter(|volume| !is_allowed(volume))
        .map(|volume| format!("{:?}", text(&volume["name"])))
        .collect();
    if !volumes.is_empty() {
        let word = if volumes.len() == 1 { "volume" } else { "volumes" };
        found.push(format!("restricted volume types ({word} {} use restricted volume types)", volumes.join(", ")));
    }
    if minor >= 8
        && is_linux
        && let Some(who) = named(spec, |c| c["securityContext"]["allowPrivilegeEscalation"] != false)
    {
        found.push(format!(
            "allowPrivilegeEscalation != false ({who} must set securityContext.allowPrivilegeEscalation=false)"
        ));
    }
    let capabilities = |c: &Value| {
        let capabilities = &c["securityContext"]["capabilities"];
        !items(&capabilities["drop"]).iter().any(|drop| drop == "ALL")
            || items(&capabilities["add"]).iter().any(|add| add != "NET_BIND_SERVICE")
    };
    if minor >= 22
        && is_linux
        && let Some(who) = named(spec, capabilities)
    {
        found.push(format!("unrestricted capabilities ({who} must set securityContext.capabilities.drop=[\"ALL\"])"));
    }
    let runs_as_root = |c: &Value| match c["securityContext"]["runAsNonRoot"].as_bool() {
        Some(non_root) => !non_root,
        None => pod["runAsNonRoot"] != true,
    };
    if !has_own_users(spec)
        && let Some(who) = named(spec, runs_as_root)
    {
        found.push(format!("runAsNonRoot != true (pod or {who} must set securityContext.runAsNonRoot=true)"));
    }
    if minor >= 23
        && !has_own_users(spec)
        && (pod["runAsUser"] == 0 || containers(spec).any(|c| c["securityContext"]["runAsUser"] == 0))
    {
        found.push("runAsUser=0 (pod or containers must not set runAsUser=0)".into());
    }
    let has_profile =
        |context: &Value| matches!(text(&context["seccompProfile"]["type"]), "RuntimeDefault" | "Localhost");
    if minor >= 19
        && is_linux
        && let Some(who) = named(spec, |c| !has_profile(&c["securityContext"]) && !has_profile(pod))
    {
        found.push(format!(
            "seccompProfile (pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\")"
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_are_measured_against_each_level() {
        let tight = json!({
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "runAsNonRoot": true,
            "seccompProfile": { "type": "RuntimeDefault" },
        });
        let with = |key: &str, value: Value| {
            let mut context = tight.clone();
            context[key] = value;
            json!({ "containers": [{ "name": "a", "securityContext": context }] })
        };
        let plain = json!({ "containers": [{ "name": "a" }] });
        let spec = |key: &str, value: Value| {
            let mut spec = json!({ "containers": [{ "name": "a", "securityContext": tight }] });
            spec[key] = value;
            spec
        };
        // What, spec, violations of baseline, of restricted.
        for (what, spec, baseline, restricted) in [
            ("a plain pod", plain, 0, 4),
            ("a tight pod", with("privileged", json!(false)), 0, 0),
            ("privileged", with("privileged", json!(true)), 1, 1),
            ("host network", spec("hostNetwork", json!(true)), 1, 1),
            ("host path", spec("volumes", json!([{ "name": "v", "hostPath": { "path": "/" } }])), 1, 2),
            ("nfs", spec("volumes", json!([{ "name": "v", "nfs": {} }])), 0, 1),
            ("config map", spec("volumes", json!([{ "name": "v", "configMap": {} }])), 0, 0),
            ("a capability", with("capabilities", json!({ "add": ["NET_ADMIN"], "drop": ["ALL"] })), 1, 2),
            (
                "an innocent capability",
                with("capabilities", json!({ "add": ["NET_BIND_SERVICE"], "drop": ["ALL"] })),
                0,
                0,
            ),
            ("root", with("runAsUser", json!(0)), 0, 1),
            ("no profile", with("seccompProfile", json!({ "type": "Unconfined" })), 1, 2),
            (
                "a sysctl",
                spec("securityContext", json!({ "sysctls": [{ "name": "kernel.msgmax", "value": "1" }] })),
                1,
                1,
            ),
        ] {
            assert_eq!(violations(Level::Privileged, LATEST, &spec).len(), 0, "{what}");
            assert_eq!(
                violations(Level::Baseline, LATEST, &spec).len(),
                baseline,
                "{what}: {:?}",
                violations(Level::Baseline, LATEST, &spec)
            );
            let found = violations(Level::Restricted, LATEST, &spec);
            assert_eq!(found.len(), restricted, "{what}: {found:?}");
        }
    }

    #[test]
    fn users_of_its_own_let_a_pod_run_as_root() {
        let spec = |host_users: bool, proc_mount: &str| {
            let context = json!({
                "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] }, "runAsUser": 0,
                "seccompProfile": { "type": "RuntimeDefault" }, "procMount": proc_mount,
            });
            json!({ "hostUsers": host_users, "containers": [{ "name": "a", "securityContext": context }] })
        };
        for (what, level, minor, spec, expected) in [
            ("root", Level::Restricted, LATEST, spec(true, "Default"), 2),
            ("root of its own", Level::Restricted, LATEST, spec(false, "Default"), 0),
            ("all of proc", Level::Baseline, LATEST, spec(true, "Unmasked"), 1),
            ("all of its own proc", Level::Baseline, LATEST, spec(false, "Unmasked"), 0),
            ("the same before its time", Level::Baseline, 34, spec(false, "Unmasked"), 1),
            ("the same where it is restricted", Level::Restricted, LATEST, spec(false, "Unmasked"), 1),
        ] {
            assert_eq!(violations(level, minor, &spec).len(), expected, "{what}");
        }
    }

    #[test]
    fn older_editions_ask_for_less() {
        let sysctl = |name: &str| json!({ "securityContext": { "sysctls": [{ "name": name, "value": "1" }] }, "containers": [] });
        let plain = json!({ "containers": [{ "name": "a" }] });
        let windows = json!({ "os": { "name": "windows" }, "containers": [{ "name": "a" }] });
        let probe =
            json!({ "containers": [{ "name": "a", "livenessProbe": { "tcpSocket": { "host": "192.0.2.1" } } }] });
        for (what, level, minor, spec, expected) in [
            ("a sysctl before its time", Level::Baseline, 31, sysctl("net.ipv4.tcp_wmem"), 1),
            ("a sysctl", Level::Baseline, 32, sysctl("net.ipv4.tcp_wmem"), 0),
            ("runAsNonRoot and escalation alone", Level::Restricted, 18, plain.clone(), 2),
            ("and a profile", Level::Restricted, 19, plain.clone(), 3),
            ("and capabilities", Level::Restricted, 22, plain, 4),
            ("windows as if it were none", Level::Restricted, 24, windows.clone(), 4),
            ("windows", Level::Restricted, 25, windows, 1),
            ("a probe elsewhere", Level::Baseline, 33, probe.clone(), 0),
            ("a probe elsewhere, now", Level::Baseline, LATEST, probe, 1),
        ] {
            assert_eq!(
                violations(level, minor, &spec).len(),
                expected,
                "{what}: {:?}",
                violations(level, minor, &spec)
            );
        }
    }
}
