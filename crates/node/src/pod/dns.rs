//! What a pod's `/etc/resolv.conf` says, by its `dnsPolicy` and `dnsConfig`.

use std::{fs, io, net::IpAddr, path::Path};

use k8s_openapi::api::core::v1::Pod;
use knarr_cri::v1::DnsConfig;

/// The resolver's own limits, as documented for pods.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_LINE: usize = 2048;
/// A longer one makes some resolvers abort.
const MAX_SEARCH: usize = 253;

const USUAL: &str = "/etc/resolv.conf";
/// The servers behind systemd's own, which answers on a loopback address that no pod can reach.
const BEHIND_SYSTEMD: &str = "/run/systemd/resolve/resolv.conf";
const SYSTEMD: &str = "127.0.0.53";

pub struct ClusterDns<'a> {
    pub servers: &'a [IpAddr],
    pub domain: &'a str,
}

/// The node's own `resolv.conf`, as its pods can use it: the file that is named, or the one that the host has.
pub fn host(named: Option<&Path>) -> io::Result<String> {
    if let Some(path) = named {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("open {}: {error}", path.display()));
        return fs::read_to_string(path).map_err(named);
    }
    let usual = fs::read_to_string(USUAL).unwrap_or_default();
    if !is_systemds(&usual) {
        return Ok(usual);
    }
    Ok(fs::read_to_string(BEHIND_SYSTEMD).unwrap_or(usual))
}

fn is_systemds(text: &str) -> bool {
    let servers = parse(text).servers;
    !servers.is_empty() && servers.iter().all(|server| server == SYSTEMD)
}

/// A configuration within the limits, and what had to be left out for that, in upstream's words.
pub struct Formed {
    pub config: DnsConfig,
    pub warnings: Vec<String>,
}

/// `host` is the node's own `resolv.conf`.
pub fn config(pod: &Pod, cluster: &ClusterDns<'_>, host: &str) -> Formed {
    let spec = pod.spec.as_ref();
    let host = parse(host);
    let host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let mut dns = match policy {
        "None" => DnsConfig::default(),
        "ClusterFirst" if host_network => host,
        "ClusterFirst" | "ClusterFirstWithHostNet" if !cluster.servers.is_empty() => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
            let domain = cluster.domain;
            let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
            searches.extend(host.searches);
            DnsConfig {
                servers: cluster.servers.iter().map(ToString::to_string).collect(),
                searches,
                options: vec!["ndots:5".to_owned()],
            }
        }
        _ => host,
    };
    if let Some(own) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        dns.servers.extend(own.nameservers.iter().flatten().cloned());
        dns.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            dns.options.retain(|old| old.split(':').next() != Some(&name));
            let value = option.value.as_deref().filter(|value| !value.is_empty());
            dns.options.push(value.map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    let mut warnings = Vec::new();
    dns.servers = unique(dns.servers);
    if dns.servers.len() > MAX_SERVERS {
        dns.servers.truncate(MAX_SERVERS);
        warnings.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            dns.servers.join(" ")
        ));
    }
    let wanted = unique(dns.searches);
    dns.searches = searches_that_fit(wanted.clone());
    if dns.searches.len() < wanted.len() {
        warnings.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            dns.searches.join(" ")
        ));
    }
    Formed { config: dns, warnings }
}

fn unique(list: Vec<String>) -> Vec<String> {
    let mut seen = Vec::new();
    for item in list {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    seen
}

fn searches_that_fit(mut searches: Vec<String>) -> Vec<String> {
    searches.truncate(MAX_SEARCHES);
    searches.retain(|search| search.len() <= MAX_SEARCH);
    let line = |searches: &[String]| searches.iter().map(|search| search.len() + 1).sum::<usize>().saturating_sub(1);
    while line(&searches) > MAX_SEARCH_LINE {
        searches.pop();
    }
    searches
}

fn parse(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            // The last `search` line counts.
            Some("search" | "domain") => {
                dns.searches = words.map(|word| word.trim_end_matches('.').to_owned()).collect();
                dns.searches.retain(|search| !search.is_empty());
            }
            Some("options") => dns.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    const HOST: &str = "# the host's\nnameserver 10.0.0.2\nsearch corp.example. lan\noptions timeout:1\n";

    #[test]
    fn policies_and_own_configuration() {
        let own = json!({"nameservers": ["1.1.1.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        let cluster =
            "nameserver 10.43.0.10|search ns.svc.k.local svc.k.local k.local corp.example lan|options ndots:5";
        for (spec, expected) in [
            (json!({}), cluster),
            (json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}), cluster),
            (json!({"hostNetwork": true}), "nameserver 10.0.0.2|search corp.example lan|options timeout:1"),
            (json!({"dnsPolicy": "Default"}), "nameserver 10.0.0.2|search corp.example lan|options timeout:1"),
            (
                json!({"dnsPolicy": "None", "dnsConfig": own.clone()}),
                "nameserver 1.1.1.1|search a.b|options ndots:2 edns0",
            ),
            (
                json!({"dnsConfig": own}),
                "nameserver 10.43.0.10 1.1.1.1|search ns.svc.k.local svc.k.local k.local corp.example lan a.b|options ndots:2 edns0",
            ),
        ] {
            let mut spec = spec;
            spec["containers"] = json!([]);
            let pod: Pod = from_value(json!({"metadata": {"namespace": "ns"}, "spec": spec})).unwrap();
            let servers = ["10.43.0.10".parse().unwrap()];
            let Formed { config: dns, warnings } =
                config(&pod, &ClusterDns { servers: &servers, domain: "k.local" }, HOST);
            assert!(warnings.is_empty(), "{warnings:?}");
            let text = format!(
                "nameserver {}|search {}|options {}",
                dns.servers.join(" "),
                dns.searches.join(" "),
                dns.options.join(" ")
            );
            assert_eq!(text, expected, "{spec}");
        }
    }

    #[test]
    fn what_is_beyond_the_limits_is_left_out_and_told() {
        let many: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
        let wide: Vec<String> = (0..20).map(|n| format!("{}.s{n}", "a".repeat(200))).collect();
        let huge = ["a".repeat(254), "b".to_owned()];
        for (searches, kept) in [(&many[..], 32), (&wide, 10), (&huge, 1), (&many[..32], 32)] {
            let own =
                json!({"nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.1", "1.1.1.3", "1.1.1.4"], "searches": searches});
            let spec = json!({"dnsPolicy": "None", "dnsConfig": own, "containers": []});
            let pod: Pod = from_value(json!({"metadata": {}, "spec": spec})).unwrap();
            let Formed { config: dns, warnings } = config(&pod, &ClusterDns { servers: &[], domain: "" }, HOST);
            assert_eq!(dns.searches.len(), kept);
            assert_eq!(
                warnings[0],
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: \
                 1.1.1.1 1.1.1.2 1.1.1.3"
            );
            assert_eq!(warnings.len(), if kept < searches.len() { 2 } else { 1 }, "{warnings:?}");
        }
    }

    #[test]
    fn the_hosts_file_is_the_one_that_pods_can_use() {
        for (text, systemds) in [
            ("nameserver 127.0.0.53\noptions edns0\n", true),
            ("nameserver 127.0.0.53\nnameserver 10.0.0.1\n", false),
            ("nameserver 10.0.0.1\n", false),
            ("search lan\n", false),
        ] {
            assert_eq!(is_systemds(text), systemds, "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let error = host(Some(&path)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("open {}: ", path.display())), "{error}");
        std::fs::write(&path, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(host(Some(&path)).unwrap(), "nameserver 127.0.0.53\n", "what is named is taken as it is");
    }
}
