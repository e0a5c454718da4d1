//! A pod's `/etc/hosts`, and its hostname.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;

/// The hostname inside the pod, and its fully qualified name where it has one.
pub fn hostname(pod: &Pod, node_name: &str, cluster_domain: &str) -> (String, Option<String>) {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|spec| spec.hostname_override.as_deref()) {
        return (name.to_owned(), None);
    }
    if spec.and_then(|spec| spec.host_network).unwrap_or(false) {
        return (node_name.to_owned(), None);
    }
    let own = pod.metadata.name.as_deref().unwrap_or_default();
    let wanted = spec.and_then(|spec| spec.hostname.as_deref()).filter(|name| !name.is_empty()).unwrap_or(own);
    // A pod's name may be longer than a host's.
    let short = wanted.get(..63).unwrap_or(wanted).trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref()).filter(|subdomain| !subdomain.is_empty());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let full = subdomain.map(|subdomain| format!("{short}.{subdomain}.{namespace}.svc.{cluster_domain}"));
    let as_fqdn = spec.and_then(|spec| spec.set_hostname_as_fqdn).unwrap_or(false);
    match full {
        Some(full) if as_fqdn => (full.clone(), Some(full)),
        full => (short, full),
    }
}

/// The content of the file; `host` is the node's own, which pods on the host's network see.
pub fn file(pod: &Pod, ips: &[String], name: &str, full: Option<&str>, host: &str) -> String {
    let spec = pod.spec.as_ref();
    let mut out = String::new();
    if spec.and_then(|spec| spec.host_network).unwrap_or(false) {
        out.push_str("# Kubernetes-managed hosts file (host network).\n");
        out.push_str(host);
    } else {
        out.push_str(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
        );
        out.push_str(
            "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        for ip in ips {
            match full {
                Some(full) if full != name => _ = writeln!(out, "{ip}\t{full}\t{name}"),
                _ => _ = writeln!(out, "{ip}\t{name}"),
            }
        }
    }
    let mut aliases = spec.iter().flat_map(|spec| spec.host_aliases.iter().flatten()).peekable();
    if aliases.peek().is_some() {
        out.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        _ = writeln!(out, "{}\t{}", alias.ip, alias.hostnames.clone().unwrap_or_default().join("\t"));
    }
    out
}
