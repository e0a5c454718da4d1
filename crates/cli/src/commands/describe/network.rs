//! Services, endpoints, ingresses and network policies.

use serde_json::Value;

use super::{Page, labels_text, or_none, selector_text, show};
use crate::{
    api::Query,
    cx::{Cx, dig, dig_str, items},
    error::Result,
};

/// The addresses behind a port of a service, as its slices have them.
async fn backends(cx: &Cx, service: &Value, port: &str) -> Result<String> {
    let (namespace, name) = (dig_str(service, "metadata.namespace"), dig_str(service, "metadata.name"));
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let query = Query::default().add("labelSelector", format!("kubernetes.io/service-name={name}"));
    let list = cx.api().await?.get(&query.on(&path)).await?;
    let mut found = Vec::new();
    for slice in items(&list["items"]) {
        for known in items(&slice["ports"]).filter(|known| dig_str(known, "name") == port) {
            for endpoint in items(&slice["endpoints"]).filter(|e| dig(e, "conditions.ready") != false) {
                let address = items(&endpoint["addresses"]).next().map(show).unwrap_or_default();
                let address = if address.contains(':') { format!("[{address}]") } else { address };
                found.push(format!("{address}:{}", show(&known["port"])));
            }
        }
    }
    let more = found.len().saturating_sub(3);
    found.truncate(3);
    let text = found.join(",");
    Ok(if more > 0 { format!("{text} + {more} more...") } else { text })
}

pub async fn service(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    page.names(object);
    page.labels_and_annotations(object);
    let spec = &object["spec"];
    page.field(0, "Selector", or_none(&labels_text(&spec["selector"], ",")));
    page.field(0, "Type", dig_str(spec, "type"));
    page.some(0, "IP Family Policy", &spec["ipFamilyPolicy"]);
    let list = |value: &Value| items(value).map(show).collect::<Vec<_>>().join(",");
    if spec["ipFamilies"].is_array() {
        page.field(0, "IP Families", or_none(&list(&spec["ipFamilies"])));
    }
    page.field(0, "IP", dig_str(spec, "clusterIP"));
    if spec["clusterIPs"].is_array() {
        page.field(0, "IPs", list(&spec["clusterIPs"]));
    } else {
        page.field(0, "IPs", "<none>");
    }
    if spec["externalIPs"].is_array() {
        page.field(0, "External IPs", list(&spec["externalIPs"]));
    }
    page.some(0, "Desired LoadBalancer IP", &spec["loadBalancerIP"]);
    page.some(0, "External Name", &spec["externalName"]);
    let balancers: Vec<String> = items(dig(object, "status.loadBalancer.ingress"))
        .map(|at| {
            let address = if at["ip"].is_string() { dig_str(at, "ip") } else { dig_str(at, "hostname") };
            match dig_str(at, "ipMode") {
                "" => address.to_owned(),
                mode => format!("{address} ({mode})"),
            }
        })
        .collect();
    if !balancers.is_empty() {
        page.field(0, "LoadBalancer Ingress", balancers.join(", "));
    }
    for port in items(&spec["ports"]) {
        let name = match dig_str(port, "name") {
            "" => "<unset>",
            name => name,
        };
        let protocol = dig_str(port, "protocol");
        page.field(0, "Port", format_args!("{name}\t{}/{protocol}", show(&port["port"])));
        page.field(0, "TargetPort", format_args!("{}/{protocol}", show(&port["targetPort"])));
        if let Some(node_port) = port["nodePort"].as_i64().filter(|port| *port != 0) {
            page.field(0, "NodePort", format_args!("{name}\t{node_port}/{protocol}"));
        }
        page.field(0, "Endpoints", backends(cx, object, dig_str(port, "name")).await?);
    }
    page.field(0, "Session Affinity", dig_str(spec, "sessionAffinity"));
    page.some(0, "External Traffic Policy", &spec["externalTrafficPolicy"]);
    page.some(0, "Internal Traffic Policy", &spec["internalTrafficPolicy"]);
    page.some(0, "Traffic Distribution", &spec["trafficDistribution"]);
    if let Some(port) = spec["healthCheckNodePort"].as_i64().filter(|port| *port != 0) {
        page.field(0, "HealthCheck NodePort", port);
    }
    if spec["loadBalancerSourceRanges"].is_array() {
        page.field(0, "LoadBalancer Source Ranges", list(&spec["loadBalancerSourceRanges"]));
    }
    Ok(())
}

pub fn endpoints(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    page.line(0, "Subsets:");
    for subset in items(&object["subsets"]) {
        for (label, field) in [("Addresses", "addresses"), ("NotReadyAddresses", "notReadyAddresses")] {
            let list: Vec<&str> = items(&subset[field]).map(|address| dig_str(address, "ip")).collect();
            page.field(1, label, or_none(&list.join(",")));
        }
        if items(&subset["ports"]).next().is_some() {
            page.line(1, "Ports:");
            page.line(2, "Name\tPort\tProtocol");
            page.line(2, "----\t----\t--------");
            for port in items(&subset["ports"]) {
                let name = match dig_str(port, "name") {
                    "" => "<unset>",
                    name => name,
                };
                page.line(2, format_args!("{name}\t{}\t{}", show(&port["port"]), dig_str(port, "protocol")));
            }
        }
        page.line(0, "");
    }
}

pub fn slice(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    page.field(0, "AddressType", dig_str(object, "addressType"));
    let ports: Vec<&Value> = items(&object["ports"]).collect();
    if ports.is_empty() {
        page.field(0, "Ports", "<unset>");
    } else {
        page.line(0, "Ports:");
        page.line(1, "Name\tPort\tProtocol");
        page.line(1, "----\t----\t--------");
        for port in ports {
            let name = match dig_str(port, "name") {
                "" => "<unset>",
                name => name,
            };
            page.line(1, format_args!("{name}\t{}\t{}", show(&port["port"]), dig_str(port, "protocol")));
        }
    }
    let endpoints: Vec<&Value> = items(&object["endpoints"]).collect();
    if endpoints.is_empty() {
        return page.field(0, "Endpoints", "<none>");
    }
    page.line(0, "Endpoints:");
    for endpoint in endpoints {
        let addresses: Vec<String> = items(&endpoint["addresses"]).map(show).collect();
        page.field(1, "- Addresses", addresses.join(", "));
        page.line(2, "Conditions:");
        let ready = &endpoint["conditions"]["ready"];
        page.field(3, "Ready", if ready.is_null() { "<unset>".into() } else { show(ready) });
        page.field(
            2,
            "Hostname",
            match dig_str(endpoint, "hostname") {
                "" => "<unset>",
                name => name,
            },
        );
        let target = &endpoint["targetRef"];
        if target.is_object() {
            page.field(2, "TargetRef", format_args!("{}/{}", dig_str(target, "kind"), dig_str(target, "name")));
        }
        page.field(
            2,
            "NodeName",
            match dig_str(endpoint, "nodeName") {
                "" => "<unset>",
                name => name,
            },
        );
        page.field(
            2,
            "Zone",
            match dig_str(endpoint, "zone") {
                "" => "<unset>",
                zone => zone,
            },
        );
    }
}

pub async fn ingress(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    page.name(object);
    page.labels(object);
    page.field(0, "Namespace", dig_str(object, "metadata.namespace"));
    let addresses: Vec<&str> = items(dig(object, "status.loadBalancer.ingress"))
        .map(|at| if at["ip"].is_string() { dig_str(at, "ip") } else { dig_str(at, "hostname") })
        .collect();
    page.field(0, "Address", addresses.join(","));
    page.field(0, "Ingress Class", or_none(dig_str(object, "spec.ingressClassName")));
    let default = dig(object, "spec.defaultBackend");
    page.field(
        0,
        "Default backend",
        if default.is_object() { target(cx, object, default).await? } else { "<default>".into() },
    );
    let tls: Vec<&Value> = items(dig(object, "spec.tls")).collect();
    if !tls.is_empty() {
        page.line(0, "TLS:");
        for entry in tls {
            let hosts = items(&entry["hosts"]).map(show).collect::<Vec<_>>().join(",");
            match dig_str(entry, "secretName") {
                "" => page.line(1, format_args!("SNI routes {hosts}")),
                secret => page.line(1, format_args!("{secret} terminates {hosts}")),
            }
        }
    }
    page.line(0, "Rules:\n  Host\tPath\tBackends");
    page.line(1, "----\t----\t--------");
    let mut count = 0;
    for rule in items(dig(object, "spec.rules")).filter(|rule| rule["http"].is_object()) {
        count += 1;
        page.line(
            1,
            format_args!(
                "{}\t",
                match dig_str(rule, "host") {
                    "" => "*",
                    host => host,
                }
            ),
        );
        for path in items(dig(rule, "http.paths")) {
            page.line(2, format_args!("\t{} \t{}", dig_str(path, "path"), target(cx, object, &path["backend"]).await?));
        }
    }
    if count == 0 {
        page.line(
            1,
            format_args!(
                "*\t*\t{}",
                if default.is_object() { target(cx, object, default).await? } else { "<default>".into() }
            ),
        );
    }
    page.annotations(0, "Annotations", dig(object, "metadata.annotations"));
    Ok(())
}

/// `web:80 (10.244.0.5:8080)`
async fn target(cx: &Cx, object: &Value, backend: &Value) -> Result<String> {
    let service = &backend["service"];
    if !service.is_object() {
        let resource = &backend["resource"];
        return Ok(format!(
            "APIGroup: {}, Kind: {}, Name: {}",
            dig_str(resource, "apiGroup"),
            dig_str(resource, "kind"),
            dig_str(resource, "name")
        ));
    }
    let name = dig_str(service, "name");
    let port = &service["port"];
    let wanted = if port["number"].is_null() { show(&port["name"]) } else { show(&port["number"]) };
    let path = format!("/api/v1/namespaces/{}/services/{name}", dig_str(object, "metadata.namespace"));
    let found = match cx.api().await?.get(&path).await {
        Ok(found) => found,
        Err(_) => return Ok(format!("{name}:{wanted} (<error: services \"{name}\" not found>)")),
    };
    let known = items(dig(&found, "spec.ports"))
        .find(|known| show(&known["port"]) == wanted || dig_str(known, "name") == wanted);
    let backends = match known {
        Some(known) => backends(cx, &found, dig_str(known, "name")).await?,
        None => String::new(),
    };
    Ok(format!("{name}:{wanted} ({backends})"))
}

pub fn policy(page: &mut Page, object: &Value) {
    page.names(object);
    page.field(
        0,
        "Created on",
        match dig(object, "metadata.creationTimestamp").as_str().and_then(knarr_api::time::parse) {
            Some(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
            None => "<unset>".into(),
        },
    );
    page.labels_and_annotations(object);
    page.line(0, "Spec:");
    let spec = &object["spec"];
    match selector_text(&spec["podSelector"]).as_str() {
        "" => page.line(1, "PodSelector:     <none> (Allowing the specific traffic to all pods in this namespace)"),
        text => page.line(1, format_args!("PodSelector:     {text}")),
    }
    let types: Vec<String> = items(&spec["policyTypes"]).map(show).collect();
    for (label, kind, rules, peers, word) in
        [("ingress", "Ingress", "ingress", "from", "From"), ("egress", "Egress", "egress", "to", "To")]
    {
        if !types.iter().any(|known| known == kind) {
            page.line(1, format_args!("Not affecting {label} traffic"));
            continue;
        }
        page.line(1, format_args!("Allowing {label} traffic:"));
        let list: Vec<&Value> = items(&spec[rules]).collect();
        if list.is_empty() {
            page.line(2, format_args!("<none> (Selected pods are isolated for {label} connectivity)"));
        }
        for (at, rule) in list.iter().enumerate() {
            policy_rule(page, rule, peers, word);
            if at + 1 < list.len() {
                page.line(2, "----------");
            }
        }
    }
    page.line(1, format_args!("Policy Types: {}", types.join(", ")));
}

fn policy_rule(page: &mut Page, rule: &Value, peers: &str, word: &str) {
    let ports: Vec<&Value> = items(&rule["ports"]).collect();
    if ports.is_empty() {
        page.line(2, "To Port: <any> (traffic allowed to all ports)");
    }
    for port in ports {
        let protocol = match dig_str(port, "protocol") {
            "" => "TCP",
            protocol => protocol,
        };
        let number = if port["port"].is_null() { "<any>".into() } else { show(&port["port"]) };
        page.line(2, format_args!("To Port: {number}/{protocol}"));
    }
    let sources: Vec<&Value> = items(&rule[peers]).collect();
    if sources.is_empty() {
        page.line(
            2,
            format_args!(
                "{word}: <any> (traffic not restricted by {})",
                if word == "From" { "source" } else { "destination" }
            ),
        );
    }
    for source in sources {
        page.line(2, format_args!("{word}:"));
        if source["ipBlock"].is_object() {
            page.line(3, "IPBlock:");
            page.line(4, format_args!("CIDR: {}", dig_str(source, "ipBlock.cidr")));
            page.line(
                4,
                format_args!(
                    "Except: {}",
                    items(dig(source, "ipBlock.except")).map(show).collect::<Vec<_>>().join(", ")
                ),
            );
        }
        for (label, field) in [("NamespaceSelector", "namespaceSelector"), ("PodSelector", "podSelector")] {
            if source[field].is_object() {
                page.line(3, format_args!("{label}: {}", or_none(&selector_text(&source[field]))));
            }
        }
    }
}
