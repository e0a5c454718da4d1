//! Ingresses, network policies and ranges of addresses.

use serde_json::{Value, json};

use super::{
    Part, check, defaults,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::{NameRule, names},
    value::{get, int, is_empty, is_set, items, items_mut, set_default, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) static INGRESS: Rules = Rules {
    initial_status: Some(|| json!({"loadBalancer": {}})),
    validate: ingress,
    warnings: |object| {
        let old = "kubernetes.io/ingress.class";
        let warning = || format!("annotation \"{old}\" is deprecated, please use 'spec.ingressClassName' instead");
        object["metadata"]["annotations"].get(old).map(|_| warning()).into_iter().collect()
    },
    ..Rules::WITH_STATUS
};

fn ingress(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    if items(&spec["rules"]).is_empty() && !is_set(&spec["defaultBackend"]) {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(&SPEC, spec.clone(), why));
    }
    if is_set(&spec["defaultBackend"]) {
        backend(&spec["defaultBackend"], &SPEC.child("defaultBackend"), errors);
    }
    let class = SPEC.child("ingressClassName");
    check::optional_name(&spec["ingressClassName"], names::subdomain, &class, errors);
    let list = SPEC.child("rules");
    for (i, rule) in items(&spec["rules"]).iter().enumerate() {
        let path = list.index(i);
        host(text(&rule["host"]), &path.child("host"), errors);
        if !is_set(&rule["http"]) {
            continue;
        }
        let http = path.child("http");
        let list = http.child("paths");
        if items(&rule["http"]["paths"]).is_empty() {
            errors.push(FieldError::required(&list, ""));
        }
        for (i, one) in items(&rule["http"]["paths"]).iter().enumerate() {
            ingress_path(one, &list.index(i), errors);
        }
    }
    let list = SPEC.child("tls");
    for (i, tls) in items(&spec["tls"]).iter().enumerate() {
        let path = list.index(i);
        let hosts = path.child("hosts");
        for (i, name) in items(&tls["hosts"]).iter().map(text).enumerate() {
            host(name, &hosts.index(i), errors);
        }
    }
}

fn host(host: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if host.is_empty() {
        return;
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        errors.push(FieldError::invalid(path, host, "must be a DNS name, not an IP address"));
    } else if host.contains('*') {
        check::faults(names::wildcard_subdomain(host), host, path, errors);
    } else {
        check::faults(names::subdomain(host), host, path, errors);
    }
}

fn ingress_path(one: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let written = text(&one["path"]);
    let kinds = ["Exact", "ImplementationSpecific", "Prefix"];
    if is_empty(&one["pathType"]) {
        errors.push(FieldError::required(&path.child("pathType"), "pathType must be specified"));
    } else {
        check::one_of(&one["pathType"], &kinds, &path.child("pathType"), errors);
    }
    let path_path = path.child("path");
    if matches!(text(&one["pathType"]), "Exact" | "Prefix") {
        if !written.starts_with('/') {
            errors.push(FieldError::invalid(&path_path, written, "must be an absolute path"));
        }
        for bad in ["//", "/./", "/../", "%2f", "%2F"] {
            if written.contains(bad) {
                errors.push(FieldError::invalid(&path_path, written, format!("must not contain '{bad}'")));
            }
        }
        for bad in ["/..", "/."] {
            if written.ends_with(bad) {
                errors.push(FieldError::invalid(&path_path, written, format!("cannot end with '{bad}'")));
            }
        }
    } else if !written.is_empty() && !written.starts_with('/') {
        errors.push(FieldError::invalid(&path_path, written, "must be an absolute path"));
    }
    backend(&one["backend"], &path.child("backend"), errors);
}

fn backend(backend: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let (service, resource) = (&backend["service"], &backend["resource"]);
    match (is_set(service), is_set(resource)) {
        (true, true) => {
            errors.push(FieldError::invalid(path, "", "cannot set both resource and service backends"));
        }
        (false, false) => errors.push(FieldError::required(path, "resource or service backend is required")),
        (false, true) => {}
        (true, false) => {
            let path = path.child("service");
            check::name(&service["name"], names::dns1035, &path.child("name"), errors);
            let port_path = path.child("port");
            let (name, number) = (&service["port"]["name"], &service["port"]["number"]);
            match (!is_empty(name), int(number) != 0) {
                (true, true) => {
                    errors.push(FieldError::invalid(&port_path, "", "cannot set both port name & port number"))
                }
                (false, false) => errors.push(FieldError::required(&port_path, "port name or number is required")),
                (true, false) => check::port(name, &port_path.child("name"), errors),
                (false, true) => check::port(number, &port_path.child("number"), errors),
            }
        }
    }
}

pub(super) static INGRESS_CLASS: Rules = Rules {
    generation: Generation::Spec,
    default: |object| {
        if let Some(parameters) = object.pointer_mut("/spec/parameters").and_then(Value::as_object_mut) {
            set_default(parameters, "scope", "Cluster");
        }
    },
    validate: |object, errors| {
        let path = SPEC.child("controller");
        let controller = text(&object["spec"]["controller"]);
        if controller.len() > 250 {
            errors.push(FieldError::too_long(&path, 250));
        }
        match controller.split_once('/') {
            Some((domain, rest)) if names::subdomain(domain).is_empty() && !rest.is_empty() => {}
            _ if controller.is_empty() => errors.push(FieldError::required(&path, "")),
            _ => {
                let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
                errors.push(FieldError::invalid(&path, controller, why));
            }
        }
    },
    validate_update: |new, old, _, errors| {
        check::immutable(&new["spec"]["controller"], &old["spec"]["controller"], &SPEC.child("controller"), errors);
    },
    ..Rules::DATA
};

pub(super) static NETWORK_POLICY: Rules = Rules {
    generation: Generation::Spec,
    default: |object| {
        let Some(spec) = defaults::spec(object) else { return };
        if items(get(spec, "policyTypes")).is_empty() {
            let egress = !items(get(spec, "egress")).is_empty();
            let types = if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            spec.insert("policyTypes".into(), types);
        }
        for list in ["ingress", "egress"] {
            for rule in items_mut(spec, list).iter_mut().filter_map(Value::as_object_mut) {
                for port in items_mut(rule, "ports").iter_mut().filter_map(Value::as_object_mut) {
                    set_default(port, "protocol", "TCP");
                }
            }
        }
    },
    validate: |object, errors| {
        let spec = &object["spec"];
        check::label_selector(&spec["podSelector"], &SPEC.child("podSelector"), errors);
        for (list, peers) in [("ingress", "from"), ("egress", "to")] {
            let path = SPEC.child(list);
            for (i, rule) in items(&spec[list]).iter().enumerate() {
                policy_rule(rule, peers, &path.index(i), errors);
            }
        }
        let path = SPEC.child("policyTypes");
        for (i, kind) in items(&spec["policyTypes"]).iter().enumerate() {
            check::one_of(kind, &["Egress", "Ingress"], &path.index(i), errors);
        }
    },
    ..Rules::DATA
};

fn policy_rule(rule: &Value, peers: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("ports");
    for (i, port) in items(&rule["ports"]).iter().enumerate() {
        let path = list.index(i);
        check::optional_one_of(&port["protocol"], &["SCTP", "TCP", "UDP"], &path.child("protocol"), errors);
        if is_set(&port["port"]) {
            check::port(&port["port"], &path.child("port"), errors);
        }
        if is_set(&port["endPort"]) {
            let end = path.child("endPort");
            if port["port"].is_string() || !is_set(&port["port"]) {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(&end, port["endPort"].clone(), why));
            } else if int(&port["endPort"]) < int(&port["port"]) {
                let why = "must be greater than or equal to `port`";
                errors.push(FieldError::invalid(&end, port["endPort"].clone(), why));
            }
        }
    }
    let list = path.child(peers);
    for (i, peer) in items(&rule[peers]).iter().enumerate() {
        let path = list.index(i);
        let selectors = ["podSelector", "namespaceSelector"];
        for key in selectors {
            check::label_selector(&peer[key], &path.child(key), errors);
        }
        let (block, selects) = (is_set(&peer["ipBlock"]), selectors.iter().any(|key| is_set(&peer[*key])));
        match (block, selects) {
            (true, true) => {
                let why = "may not specify both ipBlock and another peer";
                errors.push(FieldError::forbidden(&path, why));
            }
            (false, false) => errors.push(FieldError::required(&path, "must specify a peer")),
            (true, false) => {
                let path = path.child("ipBlock");
                let cidr = text(&peer["ipBlock"]["cidr"]);
                if cidr.is_empty() {
                    errors.push(FieldError::required(&path.child("cidr"), ""));
                } else {
                    check::faults(names::cidr(cidr), cidr, &path.child("cidr"), errors);
                }
                let except = path.child("except");
                for (i, one) in items(&peer["ipBlock"]["except"]).iter().map(text).enumerate() {
                    check::faults(names::cidr(one), one, &except.index(i), errors);
                }
            }
            (false, true) => {}
        }
    }
}

pub(super) static IP_ADDRESS: Rules = Rules {
    name_rule: NameRule::Ip,
    validate: |object, errors| {
        let (parent, path) = (&object["spec"]["parentRef"], SPEC.child("parentRef"));
        if !is_set(parent) {
            return errors.push(FieldError::required(&path, ""));
        }
        // The core group has no name.
        check::optional_name(&parent["group"], names::subdomain, &path.child("group"), errors);
        check::name(&parent["resource"], names::path_segment, &path.child("resource"), errors);
        check::name(&parent["name"], names::path_segment, &path.child("name"), errors);
        check::optional_name(&parent["namespace"], names::path_segment, &path.child("namespace"), errors);
    },
    validate_update: |new, old, _, errors| {
        check::immutable(&new["spec"]["parentRef"], &old["spec"]["parentRef"], &SPEC.child("parentRef"), errors);
    },
    ..Rules::DATA
};

pub(super) static SERVICE_CIDR: Rules = Rules {
    generation: Generation::Never,
    status_on_create: true,
    validate: |object, errors| {
        let (spec, path) = (&object["spec"], SPEC.child("cidrs"));
        let cidrs = items(&spec["cidrs"]);
        let is_v4 = |cidr: &Value| text(cidr).contains('.');
        match cidrs {
            [] => errors.push(FieldError::required(&path, "at least one CIDR required")),
            [_, _, _, ..] => errors.push(FieldError::invalid(&path, spec.clone(), "may only hold up to 2 values")),
            [one, other]
                if is_v4(one) == is_v4(other) || cidrs.iter().any(|cidr| !names::cidr(text(cidr)).is_empty()) =>
            {
                let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
                errors.push(FieldError::invalid(&path, spec.clone(), why));
            }
            cidrs => {
                for (i, cidr) in cidrs.iter().map(text).enumerate() {
                    check::faults(names::cidr(cidr), cidr, &path.index(i), errors);
                }
            }
        }
    },
    validate_update: |new, old, part, errors| {
        if part == Part::Main {
            check::immutable(&new["spec"]["cidrs"], &old["spec"]["cidrs"], &SPEC.child("cidrs"), errors);
        }
    },
    ..Rules::WITH_STATUS
};
