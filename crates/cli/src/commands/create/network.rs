//! How pods are reached: services and ingresses.

use clap::{Arg, Command};
use serde_json::{Value, json};

use super::{generator, pairs};
use crate::{
    cx::Cx,
    error::Result,
    fail,
    flags::{list, text},
};

pub fn commands() -> [Command; 2] {
    let service = |name, about, own: Option<Arg>| {
        let ports = list("tcp", "PORT or PORT:TARGETPORT; may be repeated");
        generator(name, about, [ports].into_iter().chain(own).collect())
    };
    let services = [
        service("clusterip", "Create a ClusterIP service", Some(text("clusterip", "An address of its own, or None"))),
        service("nodeport", "Create a NodePort service", Some(text("node-port", "The port on every node"))),
        service("loadbalancer", "Create a LoadBalancer service", None),
        service("externalname", "Create an ExternalName service", Some(text("external-name", "The name outside"))),
    ];
    [
        generator(
            "ingress",
            "Create an ingress",
            vec![
                list("rule", "HOST/PATH=SERVICE:PORT[,tls[=SECRET]]"),
                text("class", "The class"),
                text("default-backend", "SERVICE:PORT"),
                list("annotation", "KEY=VALUE"),
            ],
        )
        .visible_alias("ing"),
        Command::new("service")
            .visible_alias("svc")
            .about("Create a service")
            .subcommand_required(true)
            .subcommands(services),
    ]
}

pub fn service(cx: &Cx, kind: &str, name: &str) -> Result<Value> {
    let ty = match kind {
        "clusterip" => "ClusterIP",
        "nodeport" => "NodePort",
        "loadbalancer" => "LoadBalancer",
        _ => "ExternalName",
    };
    let node_port = cx.flags.number::<u16>("node-port")?;
    let mut ports = Vec::new();
    for spec in cx.flags.list("tcp") {
        let (port, target) = spec.split_once(':').map_or((spec, spec), |(port, target)| (port, target));
        let number: u16 = port.parse().map_err(|_| fail!("invalid port number {port}"))?;
        let target = target.parse::<u16>().map_or_else(|_| Value::from(target), Value::from);
        let mut port = json!({"name": spec.replace(':', "-"), "port": number, "protocol": "TCP", "targetPort": target});
        if let Some(node_port) = node_port {
            port["nodePort"] = node_port.into();
        }
        ports.push(port);
    }
    let mut spec = json!({"selector": {"app": name}, "type": ty});
    if let Some(address) = cx.flags.some("clusterip") {
        spec["clusterIP"] = address.into();
    }
    if ty == "ExternalName" {
        spec["externalName"] = cx.flags.required("external-name")?.into();
    } else if ports.is_empty() && cx.flags.some("clusterip") != Some("None") {
        return Err(fail!("at least one tcp port specifier must be provided"));
    }
    if !ports.is_empty() {
        spec["ports"] = ports.into();
    }
    Ok(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"labels": {"app": name}, "name": name}, "spec": spec, "status": {"loadBalancer": {}}}),
    )
}

fn backend(text: &str) -> Result<Value> {
    let (service, port) = text.split_once(':').ok_or_else(|| fail!("unable to parse backend: {text}"))?;
    let port = match port.parse::<u16>() {
        Ok(number) => json!({ "number": number }),
        Err(_) => json!({ "name": port }),
    };
    Ok(json!({"service": {"name": service, "port": port}}))
}

pub fn ingress(cx: &Cx, name: &str) -> Result<Value> {
    let rules = cx.flags.all("rule");
    if rules.is_empty() && cx.flags.some("default-backend").is_none() {
        return Err(fail!(
            "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)"
        ));
    }
    let (hosts, tls) = hosts_and_tls(&rules)?;
    let mut spec = json!({});
    for (field, value) in [("rules", hosts), ("tls", tls)] {
        if !value.is_empty() {
            spec[field] = value.into();
        }
    }
    if let Some(class) = cx.flags.some("class") {
        spec["ingressClassName"] = class.into();
    }
    if let Some(target) = cx.flags.some("default-backend") {
        spec["defaultBackend"] = backend(target)?;
    }
    let mut metadata = json!({ "name": name });
    let annotations = pairs(&cx.flags.all("annotation"))?;
    if !annotations.is_empty() {
        metadata["annotations"] = annotations.into();
    }
    Ok(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}),
    )
}

/// Rules of one host are one, in the order in which hosts were named.
fn hosts_and_tls(rules: &[&str]) -> Result<(Vec<Value>, Vec<Value>)> {
    let (mut hosts, mut tls): (Vec<Value>, Vec<Value>) = Default::default();
    for rule in rules {
        let bad = || fail!("rule {rule} is invalid and should be in format host/path=svcname:svcport[,tls[=secret]]");
        let (place, rest) = rule.split_once('=').ok_or_else(bad)?;
        let (target, secure) = rest.split_once(',').map_or((rest, None), |(target, secure)| (target, Some(secure)));
        let (host, path) = place.split_once('/').ok_or_else(bad)?;
        let (path, ty) = path.strip_suffix('*').map_or((path, "Exact"), |path| (path, "Prefix"));
        let path = json!({"backend": backend(target)?, "path": format!("/{path}"), "pathType": ty});
        match hosts.iter_mut().find(|rule| rule["host"].as_str().unwrap_or_default() == host) {
            Some(rule) => _ = rule["http"]["paths"].as_array_mut().map(|paths| paths.push(path)),
            None => {
                let mut rule = json!({"http": {"paths": [path]}});
                if !host.is_empty() {
                    rule["host"] = host.into();
                }
                hosts.push(rule);
            }
        }
        if let Some(secure) = secure {
            let secret = secure.strip_prefix("tls").ok_or_else(bad)?.trim_start_matches('=');
            let mut entry = json!({});
            if !host.is_empty() {
                entry["hosts"] = json!([host]);
            }
            if !secret.is_empty() {
                entry["secretName"] = secret.into();
            }
            if !tls.contains(&entry) {
                tls.push(entry);
            }
        }
    }
    Ok((hosts, tls))
}
