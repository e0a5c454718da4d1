//! Containers, with what is known of their state.

use knarr_api::quantity::Quantity;
use serde_json::Value;

use super::{Page, or_none, pod::profile, show, time};
use crate::cx::{dig, dig_str, items};

pub fn containers(page: &mut Page, level: usize, label: &str, list: &Value, states: Option<&Value>) {
    let none = list.as_array().is_none_or(Vec::is_empty);
    if none && label == "Containers" {
        return page.line(level, "Containers: <none>");
    }
    if none {
        return;
    }
    page.line(level, format_args!("{label}:"));
    for container in items(list) {
        let name = dig_str(container, "name");
        let state = states.and_then(|states| items(states).find(|state| state["name"] == name));
        one_container(page, level > 0, container, state);
    }
}

fn one_container(page: &mut Page, in_template: bool, container: &Value, state: Option<&Value>) {
    page.line(1, format_args!("{}{}:", if in_template { " " } else { "" }, dig_str(container, "name")));
    let level = 2;
    if let Some(state) = state {
        page.field(level, "Container ID", dig_str(state, "containerID"));
    }
    page.field(level, "Image", dig_str(container, "image"));
    if let Some(state) = state {
        page.field(level, "Image ID", dig_str(state, "imageID"));
    }
    let ports = |field: &str| {
        let port = |port: &Value| {
            let number = format!("{}/{}", port[field].as_i64().unwrap_or(0), dig_str(port, "protocol"));
            match dig_str(port, "name") {
                "" => number,
                name => format!("{number} ({name})"),
            }
        };
        items(&container["ports"]).map(port).collect::<Vec<_>>()
    };
    for (one, many, field) in [("Port", "Ports", "containerPort"), ("Host Port", "Host Ports", "hostPort")] {
        let ports = ports(field);
        page.field(level, if ports.len() > 1 { many } else { one }, or_none(&ports.join(", ")));
    }
    profile(page, level, &container["securityContext"]);
    for (label, field) in [("Command", "command"), ("Args", "args")] {
        let words: Vec<String> = items(&container[field]).map(show).collect();
        if !words.is_empty() {
            page.line(level, format_args!("{label}:"));
            words.iter().flat_map(|word| word.split('\n')).for_each(|line| page.line(level + 1, line));
        }
    }
    if let Some(state) = state {
        container_state(page, level, "State", &state["state"]);
        if state["lastState"].as_object().is_some_and(|last| last.values().any(Value::is_object)) {
            container_state(page, level, "Last State", &state["lastState"]);
        }
        let ready = if state["ready"] == true { "True" } else { "False" };
        page.field(level, "Ready", ready);
        page.field(level, "Restart Count", state["restartCount"].as_i64().unwrap_or(0));
    }
    amounts(page, level, &container["resources"]);
    for (label, field) in [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
    {
        if container[field].is_object() {
            page.field(level, label, probe(&container[field]));
        }
    }
    let sources: Vec<&Value> = items(&container["envFrom"]).collect();
    if !sources.is_empty() {
        page.line(level, "Environment Variables from:");
        for source in sources {
            let (kind, from) = if source["configMapRef"].is_object() {
                ("ConfigMap", &source["configMapRef"])
            } else {
                ("Secret", &source["secretRef"])
            };
            let prefix = match dig_str(source, "prefix") {
                "" => String::new(),
                prefix => format!(" with prefix '{prefix}'"),
            };
            page.line(
                level + 1,
                format_args!("{}\t{kind}{prefix}\tOptional: {}", dig_str(from, "name"), from["optional"] == true),
            );
        }
    }
    environment(page, level, container);
    let mut mounts: Vec<&Value> = items(&container["volumeMounts"]).collect();
    mounts.sort_by_key(|mount| dig_str(mount, "mountPath"));
    if mounts.is_empty() {
        page.field(level, "Mounts", "<none>");
    } else {
        page.line(level, "Mounts:");
    }
    for mount in mounts {
        let mut how = vec![if mount["readOnly"] == true { "ro".to_owned() } else { "rw".to_owned() }];
        for field in ["subPath", "subPathExpr"] {
            if let Some(path) = mount[field].as_str().filter(|path| !path.is_empty()) {
                how.push(format!("path=\"{path}\""));
            }
        }
        page.line(
            level + 1,
            format_args!("{} from {} ({})", dig_str(mount, "mountPath"), dig_str(mount, "name"), how.join(",")),
        );
    }
    let devices: Vec<&Value> = items(&container["volumeDevices"]).collect();
    if !devices.is_empty() {
        page.line(level, "Devices:");
        devices.iter().for_each(|device| {
            page.line(level + 1, format_args!("{} from {}", dig_str(device, "devicePath"), dig_str(device, "name")))
        });
    }
}

fn environment(page: &mut Page, level: usize, container: &Value) {
    let variables: Vec<&Value> = items(&container["env"]).collect();
    if variables.is_empty() {
        return page.field(level, "Environment", "<none>");
    }
    page.line(level, "Environment:");
    for variable in variables {
        let (name, from) = (dig_str(variable, "name"), &variable["valueFrom"]);
        if !from.is_object() {
            for (at, line) in dig_str(variable, "value").split('\n').enumerate() {
                if at == 0 { page.field(level + 1, name, line) } else { page.line(level + 1, format_args!("\t{line}")) }
            }
            continue;
        }
        let text = match from.as_object().and_then(|map| map.keys().next()).map_or("", String::as_str) {
            "fieldRef" => {
                format!(" ({}:{})", dig_str(from, "fieldRef.apiVersion"), dig_str(from, "fieldRef.fieldPath"))
            }
            "resourceFieldRef" => {
                let resource = dig_str(from, "resourceFieldRef.resource");
                let (kind, what) = resource.split_once('.').unwrap_or_default();
                let held = &container["resources"][kind][what];
                let divisor = Quantity::or_zero(dig(from, "resourceFieldRef.divisor")).milli_value();
                let amount = Quantity::or_zero(held).milli_value();
                let amount = match held.is_null() {
                    true if kind == "limits" => "node allocatable".to_owned(),
                    _ => (amount as f64 / if divisor == 0 { 1000 } else { divisor } as f64).ceil().to_string(),
                };
                format!("{amount} ({resource})")
            }
            kind => {
                let source = &from[kind];
                let noun = if kind == "secretKeyRef" { "in secret" } else { "of config map" };
                format!(
                    "<set to the key '{}' {noun} '{}'>\tOptional: {}",
                    dig_str(source, "key"),
                    dig_str(source, "name"),
                    source["optional"] == true
                )
            }
        };
        page.field(level + 1, name, text);
    }
}

fn container_state(page: &mut Page, level: usize, label: &str, state: &Value) {
    let kind = ["running", "waiting", "terminated"].into_iter().find(|kind| state[kind].is_object());
    let Some(kind) = kind else { return page.field(level, label, "Waiting") };
    let (inner, level_in) = (&state[kind], level + 1);
    match kind {
        "running" => {
            page.field(level, label, "Running");
            page.field(level_in, "Started", time(&inner["startedAt"]));
        }
        "waiting" => {
            page.field(level, label, "Waiting");
            page.some(level_in, "Reason", &inner["reason"]);
        }
        _ => {
            page.field(level, label, "Terminated");
            page.some(level_in, "Reason", &inner["reason"]);
            page.some(level_in, "Message", &inner["message"]);
            page.field(level_in, "Exit Code", inner["exitCode"].as_i64().unwrap_or(0));
            if let Some(signal) = inner["signal"].as_i64().filter(|signal| *signal > 0) {
                page.field(level_in, "Signal", signal);
            }
            for (label, field) in [("Started", "startedAt"), ("Finished", "finishedAt")] {
                // Go's zero time, where nothing ever started.
                let never = "Mon, 01 Jan 0001 00:00:00 +0000".to_owned();
                page.field(level_in, label, if inner[field].is_null() { never } else { time(&inner[field]) });
            }
        }
    }
}

pub fn amounts(page: &mut Page, level: usize, resources: &Value) {
    for (label, field) in [("Limits", "limits"), ("Requests", "requests")] {
        let list: Vec<(&String, &Value)> = resources[field].as_object().into_iter().flatten().collect();
        if !list.is_empty() {
            page.line(level, format_args!("{label}:"));
            list.iter().for_each(|(name, amount)| page.field(level + 1, name, show(amount)));
        }
    }
}

fn probe(probe: &Value) -> String {
    let n = |field: &str, or: i64| probe[field].as_i64().unwrap_or(or);
    let attributes = format!(
        "delay={}s timeout={}s period={}s successThreshold={} failureThreshold={}",
        n("initialDelaySeconds", 0),
        n("timeoutSeconds", 0),
        n("periodSeconds", 0),
        n("successThreshold", 0),
        n("failureThreshold", 0)
    );
    if probe["exec"].is_object() {
        let words: Vec<String> = items(&probe["exec"]["command"]).map(show).collect();
        return format!("exec [{}] {attributes}", words.join(" "));
    }
    let get = &probe["httpGet"];
    if get.is_object() {
        let path = dig_str(get, "path");
        let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
        return format!(
            "http-get {}://{}:{}{slash}{path} {attributes}",
            dig_str(get, "scheme").to_lowercase(),
            dig_str(get, "host"),
            show(&get["port"])
        );
    }
    if probe["tcpSocket"].is_object() {
        return format!(
            "tcp-socket {}:{} {attributes}",
            dig_str(probe, "tcpSocket.host"),
            show(dig(probe, "tcpSocket.port"))
        );
    }
    if probe["grpc"].is_object() {
        return format!("grpc <pod>:{} {} {attributes}", show(dig(probe, "grpc.port")), dig_str(probe, "grpc.service"));
    }
    format!("unknown {attributes}")
}
