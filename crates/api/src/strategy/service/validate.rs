use std::net::IpAddr;

use serde_json::Value;

use super::{is_external, may_have_node_ports};
use crate::{
    field::{FieldError, FieldPath},
    meta::{self, names},
    strategy::{check, rules::Errors},
    value::{int, is_empty, is_set, items, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) fn service(service: &Value, errors: &mut Errors) {
    let spec = &service["spec"];
    let headless = spec["clusterIP"] == "None" || spec["clusterIPs"][0] == "None";
    let kind = text(&spec["type"]);
    if items(&spec["ports"]).is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(&SPEC.child("ports"), ""));
    }
    let ips = SPEC.child("clusterIPs");
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid(&ips.index(0), "None", why));
        }
        "ExternalName" => external_name(spec, errors),
        _ => {}
    }
    ports(spec, errors);
    meta::validate_labels(&spec["selector"], &SPEC.child("selector"), errors);
    affinity(spec, errors);
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    check::one_of(&spec["type"], &kinds, &SPEC.child("type"), errors);
    cluster_ips(spec, errors);
    let list = SPEC.child("externalIPs");
    for (i, ip) in items(&spec["externalIPs"]).iter().map(text).enumerate() {
        external_ip(ip, &list.index(i), errors);
    }
    balancer(spec, errors);
    traffic(spec, errors);
}

fn external_name(spec: &Value, errors: &mut Errors) {
    if is_set(&spec["clusterIP"]) && !is_empty(&spec["clusterIP"]) || !items(&spec["clusterIPs"]).is_empty() {
        errors.push(FieldError::forbidden(&SPEC.child("clusterIPs"), "may not be set for ExternalName services"));
    }
    for key in ["ipFamilies", "ipFamilyPolicy"] {
        if !is_empty(&spec[key]) {
            errors.push(FieldError::forbidden(&SPEC.child(key), "may not be set for ExternalName services"));
        }
    }
    let path = SPEC.child("externalName");
    // One trailing dot is how DNS writes a complete name.
    let name = text(&spec["externalName"]);
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else {
        check::faults(names::subdomain(bare), name, &path, errors);
    }
}

fn ports(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("ports");
    let ports = items(&spec["ports"]);
    let mut taken_names: Vec<&str> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let path = list.index(i);
        let name = text(&port["name"]);
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else if !name.is_empty() {
            check::faults(names::label(name), name, &path.child("name"), errors);
            if taken_names.contains(&name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
            taken_names.push(name);
        }
        check::port(&Value::from(int(&port["port"])), &path.child("port"), errors);
        check::protocol(&port["protocol"], &path.child("protocol"), errors);
        check::port(&port["targetPort"], &path.child("targetPort"), errors);
        let app = path.child("appProtocol");
        check::optional_name(&port["appProtocol"], names::qualified_name, &app, errors);
        if int(&port["nodePort"]) != 0 && !may_have_node_ports(spec) && !is_external(spec) {
            let why = format!("may not be used when `type` is '{}'", text(&spec["type"]));
            errors.push(FieldError::forbidden(&path.child("nodePort"), why));
        }
        let before = &ports[..i];
        let key = |port: &Value| (text(&port["protocol"]).to_owned(), int(&port["port"]));
        if before.iter().any(|other| key(other) == key(port)) {
            let shown = serde_json::json!({"protocol": port["protocol"], "port": port["port"]});
            errors.push(FieldError::duplicate(&path, shown));
        }
        let node = |port: &Value| (text(&port["protocol"]).to_owned(), int(&port["nodePort"]));
        if int(&port["nodePort"]) != 0 && before.iter().any(|other| node(other) == node(port)) {
            errors.push(FieldError::duplicate(&path.child("nodePort"), port["nodePort"].clone()));
        }
    }
}

fn affinity(spec: &Value, errors: &mut Errors) {
    check::one_of(&spec["sessionAffinity"], &["ClientIP", "None"], &SPEC.child("sessionAffinity"), errors);
    let config = SPEC.child("sessionAffinityConfig");
    match text(&spec["sessionAffinity"]) {
        "ClientIP" => {
            let seconds = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
            if !(1..=86400).contains(&int(seconds)) {
                let client = config.child("clientIP");
                let why = "must be greater than 0 and less than 86400";
                errors.push(FieldError::invalid(&client.child("timeoutSeconds"), seconds.clone(), why));
            }
        }
        "None" if is_set(&spec["sessionAffinityConfig"]) => {
            let why = "must not be set when session affinity is None";
            errors.push(FieldError::forbidden(&config, why));
        }
        _ => {}
    }
}

fn cluster_ips(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("clusterIPs");
    let ips = items(&spec["clusterIPs"]);
    if !ips.is_empty() && !is_empty(&spec["clusterIP"]) && spec["clusterIP"] != ips[0] {
        errors.push(FieldError::invalid(&list, spec["clusterIPs"].clone(), "first value must match `clusterIP`"));
    }
    for (i, ip) in ips.iter().map(text).enumerate() {
        if ip == "None" && i == 0 {
            if ips.len() > 1 {
                let why = "'None' must be the first and only value";
                errors.push(FieldError::invalid(&list.index(i), ip, why));
            }
        } else {
            check::faults(names::ip(ip), ip, &list.index(i), errors);
        }
    }
    let families = SPEC.child("ipFamilies");
    for (i, family) in items(&spec["ipFamilies"]).iter().enumerate() {
        check::one_of(family, &["IPv4", "IPv6"], &families.index(i), errors);
    }
    let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    let path = SPEC.child("ipFamilyPolicy");
    check::optional_one_of(&spec["ipFamilyPolicy"], &policies, &path, errors);
    if spec["ipFamilyPolicy"] == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&path, "RequireDualStack", why));
    }
}

fn external_ip(ip: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    let Ok(address) = ip.parse::<IpAddr>() else {
        check::faults(names::ip(ip), ip, path, errors);
        return;
    };
    let why = match address {
        _ if address.is_unspecified() => format!("may not be unspecified ({ip})"),
        _ if address.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)".into(),
        IpAddr::V4(v4) if v4.is_link_local() => "may not be in the link-local range (169.254.0.0/16, fe80::/10)".into(),
        _ if address.is_multicast() => "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into(),
        _ => return,
    };
    errors.push(FieldError::invalid(path, ip, why));
}

fn balancer(spec: &Value, errors: &mut Errors) {
    let balanced = spec["type"] == "LoadBalancer";
    let only = "may only be used when `type` is 'LoadBalancer'";
    for key in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if is_set(&spec[key]) && !balanced {
            errors.push(FieldError::forbidden(&SPEC.child(key), only));
        }
    }
    check::optional_name(&spec["loadBalancerClass"], names::qualified_name, &SPEC.child("loadBalancerClass"), errors);
    let ranges = SPEC.child("loadBalancerSourceRanges");
    if !items(&spec["loadBalancerSourceRanges"]).is_empty() && !balanced {
        errors.push(FieldError::forbidden(&ranges, only));
    }
    for (i, range) in items(&spec["loadBalancerSourceRanges"]).iter().map(text).enumerate() {
        check::faults(names::cidr(range.trim()), range, &ranges.index(i), errors);
    }
}

fn traffic(spec: &Value, errors: &mut Errors) {
    let policies = ["Cluster", "Local"];
    let path = SPEC.child("externalTrafficPolicy");
    if is_external(spec) {
        check::one_of(&spec["externalTrafficPolicy"], &policies, &path, errors);
    } else if !is_empty(&spec["externalTrafficPolicy"]) && items(&spec["externalIPs"]).is_empty() {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&path, spec["externalTrafficPolicy"].clone(), why));
    }
    check::optional_one_of(&spec["internalTrafficPolicy"], &policies, &SPEC.child("internalTrafficPolicy"), errors);
    let health = int(&spec["healthCheckNodePort"]);
    let local = spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
    if health != 0 && !local {
        let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(&SPEC.child("healthCheckNodePort"), health, why));
    }
    let distribution = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    check::optional_one_of(&spec["trafficDistribution"], &distribution, &SPEC.child("trafficDistribution"), errors);
}
