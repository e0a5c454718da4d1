use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    strategy::defaults::{drop_zero, spec},
    value::{get, is_empty, items, items_mut, object_at, set_default, text},
};

const STICKY_SECONDS: i64 = 10800;

pub(super) fn default(object: &mut Value) {
    let Some(spec) = spec(object) else { return };
    set_default(spec, "sessionAffinity", "None");
    match text(get(spec, "sessionAffinity")) {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            if let Some(config) = object_at(spec, "sessionAffinityConfig")
                && let Some(client) = object_at(config, "clientIP")
            {
                set_default(client, "timeoutSeconds", STICKY_SECONDS);
            }
        }
        _ => {}
    }
    set_default(spec, "type", "ClusterIP");
    for port in items_mut(spec, "ports").iter_mut().filter_map(Value::as_object_mut) {
        set_default(port, "protocol", "TCP");
        let unset = match get(port, "targetPort") {
            Value::Number(number) => number.as_i64() == Some(0),
            other => is_empty(other),
        };
        if unset && let Some(number) = port.get("port").cloned() {
            port.insert("targetPort".into(), number);
        }
        drop_zero(port, &["nodePort"]);
    }
    drop_zero(spec, &["healthCheckNodePort"]);
    match text(get(spec, "type")) {
        "ExternalName" => return,
        "ClusterIP" => {}
        kind => {
            let balanced = kind == "LoadBalancer";
            set_default(spec, "externalTrafficPolicy", "Cluster");
            if balanced {
                set_default(spec, "allocateLoadBalancerNodePorts", true);
            }
        }
    }
    set_default(spec, "internalTrafficPolicy", "Cluster");
    set_default(spec, "ipFamilyPolicy", "SingleStack");
    cluster_ips(spec);
    if is_empty(get(spec, "ipFamilies")) {
        let v6 = text(get(spec, "clusterIP")).parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6());
        spec.insert("ipFamilies".into(), json!([if v6 { "IPv6" } else { "IPv4" }]));
    }
}

/// `clusterIP` is the first of `clusterIPs`; a client may write either.
fn cluster_ips(spec: &mut crate::value::Object) {
    let (one, many) = (get(spec, "clusterIP").clone(), get(spec, "clusterIPs"));
    if !is_empty(&one) && is_empty(many) {
        spec.insert("clusterIPs".into(), json!([one]));
    } else if let (true, Some(first)) = (is_empty(&one), items(many).first().cloned()) {
        spec.insert("clusterIP".into(), first);
    }
}
