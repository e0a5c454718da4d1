use serde_json::Value;

use super::{has_cluster_ip, is_external, may_have_node_ports};
use crate::{
    field::{FieldError, FieldPath},
    strategy::{Part, rules::Errors},
    value::{get, int, is_empty, is_set, items, items_mut, object_mut, same, text},
};

/// Fills in what was handed out before and the client left out, and drops what the new type has no use for.
pub(super) fn carry_over(new: &mut Value, old: &Value, part: Part) {
    if part != Part::Main {
        return;
    }
    let before = &old["spec"];
    let wished = new["spec"].clone();
    let Some(spec) = object_mut(new, "spec") else { return };
    match (has_cluster_ip(before), has_cluster_ip(&wished)) {
        (true, true) => keep_cluster_ips(spec, before),
        (true, false) => {
            drop_where_same(
                spec,
                before,
                &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"],
            );
        }
        _ => {}
    }
    match (may_have_node_ports(before), may_have_node_ports(&wished)) {
        (true, true) => keep_node_ports(spec, before),
        (true, false) => drop_node_ports(spec, before),
        _ => {}
    }
    if is_external(before) && !is_external(&wished) {
        drop_where_same(spec, before, &["externalTrafficPolicy"]);
    }
    let checks_health = |spec: &Value| spec["type"] == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
    match (checks_health(before), checks_health(&wished)) {
        (true, true) if int(get(spec, "healthCheckNodePort")) == 0 && is_set(&before["healthCheckNodePort"]) => {
            spec.insert("healthCheckNodePort".into(), before["healthCheckNodePort"].clone());
        }
        (true, false) => drop_where_same(spec, before, &["healthCheckNodePort"]),
        _ => {}
    }
    if before["type"] == "LoadBalancer" && wished["type"] != "LoadBalancer" {
        drop_where_same(spec, before, &["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
        if let Some(status) = object_mut(new, "status") {
            status.insert("loadBalancer".into(), Value::Object(Default::default()));
        }
    }
}

fn keep_cluster_ips(spec: &mut crate::value::Object, before: &Value) {
    // `clusterIP: ""` and a missing one both mean "as it is"; a changed one makes the list follow.
    let changed = !is_empty(get(spec, "clusterIP")) && get(spec, "clusterIP") != &before["clusterIP"];
    if changed {
        if get(spec, "clusterIPs") == &before["clusterIPs"] {
            let one = get(spec, "clusterIP").clone();
            spec.insert("clusterIPs".into(), Value::Array(vec![one]));
        }
        return;
    }
    for key in ["clusterIP", "clusterIPs"] {
        if is_empty(get(spec, key))
            && let Some(value) = before.get(key)
        {
            spec.insert(key.into(), value.clone());
        }
    }
    if !is_set(get(spec, "ipFamilies"))
        && let Some(value) = before.get("ipFamilies")
    {
        spec.insert("ipFamilies".into(), value.clone());
    }
}

fn port_key(port: &Value) -> (&str, i64) {
    (text(&port["protocol"]), int(&port["port"]))
}

fn keep_node_ports(spec: &mut crate::value::Object, before: &Value) {
    let taken: Vec<i64> = items(get(spec, "ports")).iter().map(|port| int(&port["nodePort"])).collect();
    for port in items_mut(spec, "ports") {
        if int(&port["nodePort"]) != 0 {
            continue;
        }
        let Some(old) = items(&before["ports"]).iter().find(|old| port_key(old) == port_key(port)) else { continue };
        let number = int(&old["nodePort"]);
        if number != 0
            && !taken.contains(&number)
            && let Some(port) = port.as_object_mut()
        {
            port.insert("nodePort".into(), number.into());
        }
    }
}

fn drop_node_ports(spec: &mut crate::value::Object, before: &Value) {
    let old: Vec<i64> = items(&before["ports"]).iter().map(|port| int(&port["nodePort"])).collect();
    let asked = items(get(spec, "ports")).iter().map(|port| int(&port["nodePort"]));
    // A number that the client chose anew is its mistake to hear about.
    if asked.into_iter().all(|number| number == 0 || old.contains(&number)) {
        for port in items_mut(spec, "ports").iter_mut().filter_map(Value::as_object_mut) {
            port.remove("nodePort");
        }
    }
}

fn drop_where_same(spec: &mut crate::value::Object, before: &Value, keys: &[&str]) {
    for key in keys {
        if same(get(spec, key), &before[*key]) {
            spec.remove(*key);
        }
    }
}

pub(super) fn validate(new: &Value, old: &Value, part: Part, errors: &mut Errors) {
    if part != Part::Main {
        return;
    }
    let (spec, before) = (&new["spec"], &old["spec"]);
    let path = FieldPath::new("spec");
    if has_cluster_ip(before) && has_cluster_ip(spec) {
        for key in ["clusterIPs", "ipFamilies"] {
            let (now, then) = (&spec[key][0], &before[key][0]);
            let list = path.child(key);
            if is_set(then) && is_empty(now) {
                let what = if key == "clusterIPs" {
                    "primary clusterIP can not be unset"
                } else {
                    "primary ipFamily can not be unset"
                };
                errors.push(FieldError::invalid(&list, spec[key].clone(), what));
            } else if is_set(then) && now != then {
                errors.push(FieldError::invalid(&list.index(0), now.clone(), "may not change once set"));
            }
        }
    }
    if before["type"] == "LoadBalancer" && spec["type"] == "LoadBalancer" && is_set(&before["loadBalancerClass"]) {
        let (now, then) = (&spec["loadBalancerClass"], &before["loadBalancerClass"]);
        if now != then {
            let why = "may not change once set";
            errors.push(FieldError::invalid(&path.child("loadBalancerClass"), now.clone(), why));
        }
    }
}
