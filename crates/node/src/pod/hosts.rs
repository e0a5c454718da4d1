//! A pod's `/etc/hosts`, and its hostname.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;

/// The kernel takes a hostname of 64 bytes at most.
const KERNEL_LIMIT: usize = 64;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to construct FQDN from Pod hostname and cluster domain, FQDN {full} is too long \
     ({KERNEL_LIMIT} characters is the max, {} characters requested)",
    full.len()
)]
pub struct TooLong {
    full: String,
}

/// What a pod is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Its hostname, a single label but for what `hostnameOverride` says.
    pub short: String,
    /// Its fully qualified name, where it has a subdomain.
    pub full: Option<String>,
    /// `setHostnameAsFQDN`
    as_full: bool,
}

impl Names {
    fn plain(name: &str) -> Self {
        Self { short: name.to_owned(), full: None, as_full: false }
    }

    /// What the kernel says inside the pod.
    pub fn kernel(&self) -> Result<&str, TooLong> {
        match &self.full {
            Some(full) if self.as_full && full.len() > KERNEL_LIMIT => Err(TooLong { full: full.clone() }),
            Some(full) if self.as_full => Ok(full),
            _ => Ok(&self.short),
        }
    }
}

pub fn names(pod: &Pod, node_name: &str, cluster_domain: &str) -> Names {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|spec| spec.hostname_override.as_deref()) {
        return Names::plain(name);
    }
    if spec.and_then(|spec| spec.host_network).unwrap_or(false) {
        return Names::plain(node_name);
    }
    let own = pod.metadata.name.as_deref().unwrap_or_default();
    let wanted = spec.and_then(|spec| spec.hostname.as_deref()).filter(|name| !name.is_empty()).unwrap_or(own);
    // A pod's name may be longer than a host's.
    let short = wanted.get(..63).unwrap_or(wanted).trim_end_matches(['-', '.']).to_owned();
    let subdomain = spec.and_then(|spec| spec.subdomain.as_deref()).filter(|subdomain| !subdomain.is_empty());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let full = subdomain.map(|subdomain| format!("{short}.{subdomain}.{namespace}.svc.{cluster_domain}"));
    Names { short, full, as_full: spec.and_then(|spec| spec.set_hostname_as_fqdn).unwrap_or(false) }
}

/// The content of the file; `host` is the node's own, which pods on the host's network see.
pub fn file(pod: &Pod, ips: &[String], names: &Names, host: &str) -> String {
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
            let name = &names.short;
            match &names.full {
                Some(full) => _ = writeln!(out, "{ip}\t{full}\t{name}"),
                None => _ = writeln!(out, "{ip}\t{name}"),
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

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn names_and_the_line_in_the_hosts_file() {
        let long = "a".repeat(40);
        for (spec, kernel, line) in [
            (json!({}), Ok("p"), "10.0.0.1\tp\n"),
            (json!({"hostname": "h"}), Ok("h"), "10.0.0.1\th\n"),
            (json!({"hostname": "h", "subdomain": "s"}), Ok("h"), "10.0.0.1\th.s.n.svc.k.local\th\n"),
            (
                json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}),
                Ok("h.s.n.svc.k.local"),
                "10.0.0.1\th.s.n.svc.k.local\th\n",
            ),
            (json!({"setHostnameAsFQDN": true}), Ok("p"), "10.0.0.1\tp\n"),
            (json!({"hostname": "h", "hostnameOverride": "x.y"}), Ok("x.y"), "10.0.0.1\tx.y\n"),
            (json!({"hostname": long, "subdomain": long, "setHostnameAsFQDN": true}), Err(()), ""),
        ] {
            let mut whole = spec.clone();
            whole["containers"] = json!([]);
            let pod: Pod = from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": whole})).unwrap();
            let names = names(&pod, "node", "k.local");
            assert_eq!(names.kernel().map_err(drop), kernel, "{spec}");
            assert!(file(&pod, &["10.0.0.1".to_owned()], &names, "").ends_with(line), "{spec}");
        }
    }
}
