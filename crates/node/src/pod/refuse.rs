//! What this node does for no pod, whatever room there is: wishes that would otherwise be passed over in silence.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{admit::REJECTED, confine::Host, status::Verdict};

/// Kernel parameters that are of the pod's own namespaces and cannot be used against its neighbours. Any other must
/// be allowed by whoever runs the node.
/// Source: <https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/>
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// `unsafe_sysctls` are names, or beginnings of names that end in `*`.
pub fn check(pod: &Pod, unsafe_sysctls: &[String], host: &Host) -> Result<(), Verdict> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let refuse = |reason: &str, message: String| {
        Err(Verdict { reason: reason.to_owned(), message: format!("{REJECTED}{message}") })
    };
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return refuse("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS".to_owned());
    }
    if let Some(message) = host.refuses(spec) {
        return refuse("AppArmor", message.to_owned());
    }
    match forbidden_sysctl(spec, unsafe_sysctls) {
        Some(message) => refuse("SysctlForbidden", format!("forbidden sysctl: {message}")),
        None => Ok(()),
    }
}

fn forbidden_sysctl(spec: &PodSpec, allowed: &[String]) -> Option<String> {
    let sysctls = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    for sysctl in sysctls {
        let name = sysctl.name.replace('/', ".");
        let (net, ipc) = (name.starts_with("net."), !name.starts_with("net."));
        let shared = match () {
            () if net && spec.host_network == Some(true) => Some("host net enabled"),
            () if ipc && spec.host_ipc == Some(true) => Some("host ipc enabled"),
            () => None,
        };
        if let Some(shared) = shared {
            return Some(format!("{name:?} not allowed with {shared}"));
        }
        let listed = |pattern: &str| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        };
        if !SAFE_SYSCTLS.contains(&name.as_str()) && !allowed.iter().any(|pattern| listed(pattern)) {
            return Some(format!("{name:?} not allowlisted"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn wishes_that_cannot_be_met_are_refused() {
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        let host = Host::look(std::path::Path::new("/nowhere"));
        let with = |mut spec: Value, key: &str| {
            spec[key] = json!(true);
            spec
        };
        for (spec, expected) in [
            (json!({}), ""),
            (json!({"os": {"name": "linux"}}), ""),
            (json!({"os": {"name": "windows"}}), "PodOSNotSupported"),
            (sysctl("net.ipv4.tcp_syncookies"), ""),
            (sysctl("net/ipv4/tcp_syncookies"), ""),
            (with(sysctl("net.ipv4.tcp_syncookies"), "hostNetwork"), "SysctlForbidden"),
            (with(sysctl("kernel.shm_rmid_forced"), "hostIPC"), "SysctlForbidden"),
            (sysctl("net.core.somaxconn"), ""),
            (sysctl("net.core.rmem_max"), "SysctlForbidden"),
            (sysctl("kernel.msgmax"), ""),
            (sysctl("kernel.sem"), "SysctlForbidden"),
        ] {
            let mut whole = spec.clone();
            whole["containers"] = json!([]);
            let pod: Pod = from_value(json!({"metadata": {}, "spec": whole})).unwrap();
            let allowed = ["net.core.som*".to_owned(), "kernel.msgmax".to_owned()];
            let reason = check(&pod, &allowed, &host).err().map_or(String::new(), |verdict| verdict.reason);
            assert_eq!(reason, expected, "{spec}");
        }
    }
}
