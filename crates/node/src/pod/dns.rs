//! What a pod's `/etc/resolv.conf` says, by its `dnsPolicy` and `dnsConfig`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use knarr_cri::v1::DnsConfig;

/// The resolver's own limits, as documented for pods.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

pub struct ClusterDns<'a> {
    pub servers: &'a [IpAddr],
    pub domain: &'a str,
}

/// `host` is the node's own `resolv.conf`.
pub fn config(pod: &Pod, cluster: &ClusterDns<'_>, host: &str) -> DnsConfig {
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
    dns.servers = unique(dns.servers, MAX_SERVERS);
    dns.searches = unique(dns.searches, MAX_SEARCHES);
    dns
}

fn unique(list: Vec<String>, most: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for item in list {
        if !seen.contains(&item) && seen.len() < most {
            seen.push(item);
        }
    }
    seen
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
            let dns = config(&pod, &ClusterDns { servers: &servers, domain: "k.local" }, HOST);
            let text = format!(
                "nameserver {}|search {}|options {}",
                dns.servers.join(" "),
                dns.searches.join(" "),
                dns.options.join(" ")
            );
            assert_eq!(text, expected, "{spec}");
        }
    }
}
