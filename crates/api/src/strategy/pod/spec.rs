use std::collections::HashSet;

use serde_json::Value;

use super::{affinity, claims, container, ephemeral, security, tolerations, volume, windows};
use crate::{
    field::{FieldError, FieldPath},
    meta::{self, names},
    strategy::{check, rules::Errors},
    value::{entries, int, is_empty, is_set, items, text, truth},
};

/// Where a pod spec stands; a few rules wait until a template has become a pod.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    Pod,
    Template,
}

/// All that is wrong with a pod spec.
pub(crate) fn validate(spec: &Value, path: &FieldPath<'_>, context: Context, errors: &mut Errors) {
    let volumes = volume::validate_all(&spec["volumes"], &path.child("volumes"), errors);
    container::validate_all(spec, &volumes, path, errors);
    ephemeral::validate(spec, &volumes, path, errors);
    claims::of_pod(spec, path, errors);
    let policies = ["Always", "OnFailure", "Never"];
    check::one_of(&spec["restartPolicy"], &policies, &path.child("restartPolicy"), errors);
    dns(spec, path, errors);
    meta::validate_labels(&spec["nodeSelector"], &path.child("nodeSelector"), errors);
    security::pod(spec, &path.child("securityContext"), errors);
    security::host_users(spec, path, errors);
    let list = path.child("imagePullSecrets");
    for (i, secret) in items(&spec["imagePullSecrets"]).iter().enumerate() {
        check::required(&secret["name"], &list.index(i).child("name"), errors);
    }
    affinity::validate(&spec["affinity"], &path.child("affinity"), errors);
    affinity::spread(&spec["topologySpreadConstraints"], &path.child("topologySpreadConstraints"), errors);
    tolerations::validate(&spec["tolerations"], &path.child("tolerations"), errors);
    names_of_others(spec, path, errors);
    if is_set(&spec["activeDeadlineSeconds"]) {
        let path = path.child("activeDeadlineSeconds");
        check::in_range(&spec["activeDeadlineSeconds"], 1, i64::from(i32::MAX), &path, errors);
    }
    let preemption = ["Never", "PreemptLowerPriority"];
    check::optional_one_of(&spec["preemptionPolicy"], &preemption, &path.child("preemptionPolicy"), errors);
    host_aliases(&spec["hostAliases"], &path.child("hostAliases"), errors);
    check::resource_list(&spec["overhead"], &path.child("overhead"), errors);
    gates(spec, path, errors);
    if !spec["os"].is_null() {
        check::one_of(&spec["os"]["name"], &["linux", "windows"], &path.child("os").child("name"), errors);
    }
    windows::validate(spec, path, errors);
    host_network(spec, path, context, errors);
    if is_set(&spec["schedulingGroup"]) {
        let why = "this cluster schedules pods one by one, not in groups";
        errors.push(FieldError::forbidden(&path.child("schedulingGroup"), why));
    }
}

fn names_of_others(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    type Rule = fn(&str) -> names::Faults;
    let rules: [(&str, Rule); 6] = [
        ("serviceAccountName", names::subdomain),
        ("nodeName", names::subdomain),
        ("priorityClassName", names::subdomain),
        ("runtimeClassName", names::subdomain),
        ("hostname", names::label),
        ("subdomain", names::label),
    ];
    for (key, rule) in rules {
        check::optional_name(&spec[key], rule, &path.child(key), errors);
    }
}

fn dns(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let policies = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    check::one_of(&spec["dnsPolicy"], &policies, &path.child("dnsPolicy"), errors);
    let config = &spec["dnsConfig"];
    let path = path.child("dnsConfig");
    let servers = items(&config["nameservers"]);
    if spec["dnsPolicy"] == "None" {
        if config.is_null() {
            errors.push(FieldError::required(&path, "must provide `dnsConfig` when `dnsPolicy` is None"));
        } else if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(FieldError::required(&path.child("nameservers"), why));
        }
    }
    let list = path.child("nameservers");
    if servers.len() > 3 {
        let why = "must not have more than 3 nameservers";
        errors.push(FieldError::invalid(&list, config["nameservers"].clone(), why));
    }
    for (i, server) in servers.iter().enumerate() {
        check::faults(names::ip(text(server)), text(server), &list.index(i), errors);
    }
    let list = path.child("searches");
    let searches = items(&config["searches"]);
    if searches.len() > 32 {
        let why = "must not have more than 32 search paths";
        errors.push(FieldError::invalid(&list, config["searches"].clone(), why));
    }
    for (i, search) in searches.iter().map(text).enumerate() {
        let bare = search.strip_suffix('.').unwrap_or(search).replace('_', "x");
        if search != "." {
            check::faults(names::subdomain(&bare), search, &list.index(i), errors);
        }
    }
    let list = path.child("options");
    for (i, option) in items(&config["options"]).iter().enumerate() {
        if is_empty(&option["name"]) {
            errors.push(FieldError::required(&list.index(i), "must not be empty"));
        }
    }
}

fn host_aliases(list: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for (i, alias) in items(list).iter().enumerate() {
        let path = path.index(i);
        check::faults(names::ip(text(&alias["ip"])), text(&alias["ip"]), &path.child("ip"), errors);
        let hosts = path.child("hostnames");
        for (i, host) in items(&alias["hostnames"]).iter().enumerate() {
            check::faults(names::subdomain(text(host)), text(host), &hosts.index(i), errors);
        }
    }
}

fn gates(spec: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("readinessGates");
    for (i, gate) in items(&spec["readinessGates"]).iter().enumerate() {
        let condition = text(&gate["conditionType"]);
        check::faults(names::qualified_name(condition), condition, &list.index(i).child("conditionType"), errors);
    }
    let list = path.child("schedulingGates");
    let mut seen = HashSet::new();
    for (i, gate) in items(&spec["schedulingGates"]).iter().map(|gate| text(&gate["name"])).enumerate() {
        let path = list.index(i);
        check::faults(names::qualified_name(gate), gate, &path, errors);
        if !seen.insert(gate) {
            errors.push(FieldError::duplicate(&path, gate));
        }
    }
}

fn host_network(spec: &Value, path: &FieldPath<'_>, context: Context, errors: &mut Errors) {
    let on_host = truth(&spec["hostNetwork"]);
    // Sixteen host ports are more than most pods have; a set is only made for pods that have any.
    let mut taken = HashSet::new();
    for list in ["containers", "initContainers"] {
        let list_path = path.child(list);
        for (i, container) in items(&spec[list]).iter().enumerate() {
            let ports = list_path.index(i);
            let ports = ports.child("ports");
            for (i, port) in items(&container["ports"]).iter().enumerate() {
                let (host, inside) = (int(&port["hostPort"]), int(&port["containerPort"]));
                let path = ports.index(i);
                let path = path.child("hostPort");
                if on_host && host != inside && (context == Context::Pod || host != 0) {
                    let why = "must match `containerPort` when `hostNetwork` is true";
                    errors.push(FieldError::invalid(&path, host, why));
                }
                let key = (text(&port["protocol"]), text(&port["hostIP"]), host);
                if host != 0 && list == "containers" && !taken.insert(key) {
                    let shown = format!("{}/{}/{}", key.0, key.1, key.2);
                    errors.push(FieldError::duplicate(&path, shown));
                }
            }
        }
    }
}

/// What is accepted in a pod spec and probably a mistake; `at` is the path of the spec.
pub(crate) fn warnings(spec: &Value, at: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for list in ["initContainers", "containers"] {
        for (i, container) in items(&spec[list]).iter().enumerate() {
            let mut seen = HashSet::new();
            for (j, name) in items(&container["env"]).iter().map(|variable| text(&variable["name"])).enumerate() {
                if !seen.insert(name) {
                    let path = format!("{at}.{list}[{i}].env[{j}]");
                    warnings.push(format!(
                        "{path}: hides previous definition of \"{name}\", which may be dropped when using apply"
                    ));
                }
            }
            let ports = items(&container["ports"]);
            let key = |port: &Value| (int(&port["containerPort"]), text(&port["protocol"]).to_owned());
            for (j, port) in ports.iter().enumerate() {
                if let Some(first) = ports[..j].iter().position(|other| key(other) == key(port)) {
                    let path = format!("{at}.{list}[{i}].ports[{j}]");
                    warnings.push(format!("{path}: duplicate port definition with {at}.{list}[{i}].ports[{first}]"));
                }
            }
        }
    }
    let deprecated = [("beta.kubernetes.io/arch", "kubernetes.io/arch"), ("beta.kubernetes.io/os", "kubernetes.io/os")];
    for (key, _) in entries(&spec["nodeSelector"]) {
        if let Some((old, new)) = deprecated.iter().find(|(old, _)| old == key) {
            warnings.push(format!("{at}.nodeSelector[{old}]: deprecated since v1.14; use \"{new}\" instead"));
        }
    }
    windows::warnings(spec, at, &mut warnings);
    warnings
}
