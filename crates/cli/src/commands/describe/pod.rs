//! Pods, and the pod templates of workloads.

use knarr_api::quantity::Quantity;
use serde_json::Value;

use super::{Page, controller, or_none, show, time};
use crate::cx::{dig, dig_str, items};

pub fn describe(page: &mut Page, pod: &Value) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    page.names(pod);
    if let Some(priority) = spec["priority"].as_i64() {
        page.field(0, "Priority", priority);
    }
    page.some(0, "Priority Class Name", &spec["priorityClassName"]);
    page.some(0, "Runtime Class Name", &spec["runtimeClassName"]);
    page.some(0, "Service Account", &spec["serviceAccountName"]);
    match dig_str(spec, "nodeName") {
        "" => page.field(0, "Node", "<none>"),
        node => page.field(0, "Node", format_args!("{node}/{}", dig_str(status, "hostIP"))),
    }
    if !status["startTime"].is_null() {
        page.field(0, "Start Time", time(&status["startTime"]));
    }
    page.labels_and_annotations(pod);
    match dig(pod, "metadata.deletionTimestamp").as_str().and_then(knarr_api::time::parse) {
        Some(end) => {
            let age = knarr_api::time::human_duration(knarr_api::time::seconds_between(end, page.now));
            page.field(0, "Status", format_args!("Terminating (lasts {age})"));
            let grace = dig(pod, "metadata.deletionGracePeriodSeconds").as_i64().unwrap_or(0);
            page.field(0, "Termination Grace Period", format_args!("{grace}s"));
        }
        None => page.field(0, "Status", dig_str(status, "phase")),
    }
    page.some(0, "Reason", &status["reason"]);
    page.some(0, "Message", &status["message"]);
    profile(page, 0, &spec["securityContext"]);
    page.field(0, "IP", dig_str(status, "podIP"));
    let ips: Vec<&Value> = items(&status["podIPs"]).collect();
    if ips.is_empty() {
        page.field(0, "IPs", "<none>");
    } else {
        page.line(0, "IPs:");
        ips.iter().for_each(|ip| page.field(1, "IP", dig_str(ip, "ip")));
    }
    if let Some(owner) = controller(pod) {
        page.field(0, "Controlled By", owner);
    }
    page.some(0, "NominatedNodeName", &status["nominatedNodeName"]);
    if spec["resources"].is_object() {
        page.line(0, "Resources:");
        amounts(page, 1, &spec["resources"]);
    }
    for (label, list, states) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        containers(page, 0, label, &spec[list], Some(&status[states]));
    }
    let gates: Vec<&Value> = items(&spec["readinessGates"]).collect();
    if !gates.is_empty() {
        page.line(0, "Readiness Gates:\n  Type\tStatus");
        for gate in gates {
            let kind = dig_str(gate, "conditionType");
            let held = items(&status["conditions"]).find(|condition| condition["type"] == kind);
            page.line(1, format_args!("{kind} \t{} ", held.map_or("<none>", |held| dig_str(held, "status"))));
        }
    }
    let conditions: Vec<&Value> = items(&status["conditions"]).collect();
    if !conditions.is_empty() {
        page.line(0, "Conditions:\n  Type\tStatus");
        for condition in conditions {
            page.line(1, format_args!("{} \t{} ", dig_str(condition, "type"), dig_str(condition, "status")));
        }
    }
    volumes(page, 0, &spec["volumes"]);
    page.some(0, "QoS Class", &status["qosClass"]);
    page.map(0, "Node-Selectors", &spec["nodeSelector"], "=");
    tolerations(page, 0, &spec["tolerations"]);
    spread(page, 0, &spec["topologySpreadConstraints"]);
}

fn profile(page: &mut Page, level: usize, context: &Value) {
    let profile = &context["seccompProfile"];
    if profile.is_object() {
        page.field(level, "SeccompProfile", dig_str(profile, "type"));
        if profile["type"] == "Localhost" {
            page.some(level + 1, "LocalhostProfile", &profile["localhostProfile"]);
        }
    }
}

fn containers(page: &mut Page, level: usize, label: &str, list: &Value, states: Option<&Value>) {
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

fn amounts(page: &mut Page, level: usize, resources: &Value) {
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

/// A kind of volume: its field, what it is called and explained as, and the fields that are shown.
type VolumeRow = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const VOLUMES: &[VolumeRow] = &[
    ("hostPath", "HostPath (bare host directory volume)", &[("Path", "path"), ("HostPathType", "type")]),
    (
        "emptyDir",
        "EmptyDir (a temporary directory that shares a pod's lifetime)",
        &[("Medium", "medium"), ("SizeLimit", "sizeLimit")],
    ),
    ("secret", "Secret (a volume populated by a Secret)", &[("SecretName", "secretName"), ("Optional", "optional")]),
    ("configMap", "ConfigMap (a volume populated by a ConfigMap)", &[("Name", "name"), ("Optional", "optional")]),
    (
        "persistentVolumeClaim",
        "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        &[("ClaimName", "claimName"), ("ReadOnly", "readOnly")],
    ),
    (
        "nfs",
        "NFS (an NFS mount that lasts the lifetime of a pod)",
        &[("Server", "server"), ("Path", "path"), ("ReadOnly", "readOnly")],
    ),
    (
        "csi",
        "CSI (a Container Storage Interface (CSI) volume source)",
        &[("Driver", "driver"), ("FSType", "fsType"), ("ReadOnly", "readOnly")],
    ),
    ("local", "LocalVolume (a persistent volume backed by local storage on a node)", &[("Path", "path")]),
    ("image", "Image (a container image or OCI artifact)", &[("Reference", "reference"), ("PullPolicy", "pullPolicy")]),
];

pub fn volumes(page: &mut Page, level: usize, volumes: &Value) {
    if volumes.as_array().is_none_or(Vec::is_empty) {
        return page.field(level, "Volumes", "<none>");
    }
    page.line(level, "Volumes:");
    for volume in items(volumes) {
        page.line(level + 1, format_args!("{}:", dig_str(volume, "name")));
        volume_source(page, level + 2, volume);
    }
}

pub fn volume_source(page: &mut Page, level: usize, volume: &Value) {
    if let Some((field, title, rows)) = VOLUMES.iter().find(|(field, ..)| volume[field].is_object()) {
        page.field(level, "Type", title);
        for (label, path) in *rows {
            let value = &volume[field][path];
            let text = match (value, *label) {
                (Value::Null, "SizeLimit") => "<unset>".into(),
                (Value::Null, "Optional" | "ReadOnly") => "false".into(),
                (value, _) => show(value),
            };
            page.field(level, label, text);
        }
        return;
    }
    if volume["projected"].is_object() {
        return projected(page, level, &volume["projected"]);
    }
    if volume["downwardAPI"].is_object() {
        page.field(level, "Type", "DownwardAPI (a volume populated by information about the pod)");
        return downward(page, level, &volume["downwardAPI"]);
    }
    if volume["ephemeral"].is_object() {
        page.field(
            level,
            "Type",
            "EphemeralVolume (an inline specification for a volume that gets created and deleted with the pod)",
        );
        let claim = dig(volume, "ephemeral.volumeClaimTemplate.spec");
        page.field(level, "StorageClass", dig_str(claim, "storageClassName"));
        return;
    }
    page.line(level, "<unknown>");
}

fn downward(page: &mut Page, level: usize, source: &Value) {
    page.line(level, "Items:");
    for item in items(&source["items"]) {
        let field = dig_str(item, "fieldRef.fieldPath");
        let text = if field.is_empty() { dig_str(item, "resourceFieldRef.resource") } else { field };
        page.line(level + 1, format_args!("{text} -> {}", dig_str(item, "path")));
    }
}

fn projected(page: &mut Page, level: usize, source: &Value) {
    page.field(level, "Type", "Projected (a volume that contains injected data from multiple sources)");
    for part in items(&source["sources"]) {
        if part["secret"].is_object() {
            page.field(level, "SecretName", dig_str(part, "secret.name"));
            page.field(level, "Optional", dig(part, "secret.optional") == true);
        } else if part["downwardAPI"].is_object() {
            page.field(level, "DownwardAPI", true);
        } else if part["configMap"].is_object() {
            page.field(level, "ConfigMapName", dig_str(part, "configMap.name"));
            page.field(level, "Optional", dig(part, "configMap.optional") == true);
        } else if part["serviceAccountToken"].is_object() {
            let seconds = dig(part, "serviceAccountToken.expirationSeconds").as_i64().unwrap_or(0);
            page.field(level, "TokenExpirationSeconds", seconds);
        }
    }
}

pub fn tolerations(page: &mut Page, level: usize, tolerations: &Value) {
    let mut list: Vec<&Value> = items(tolerations).collect();
    list.sort_by_key(|toleration| dig_str(toleration, "key"));
    let lines: Vec<String> = list
        .into_iter()
        .map(|toleration| {
            let mut text = dig_str(toleration, "key").to_owned();
            if let Some(value) = toleration["value"].as_str().filter(|value| !value.is_empty()) {
                text += &format!("={value}");
            }
            if let Some(effect) = toleration["effect"].as_str().filter(|effect| !effect.is_empty()) {
                text += &format!(":{effect}");
            }
            if toleration["operator"] == "Exists" && toleration["value"].as_str().is_none_or(str::is_empty) {
                text += if toleration["key"].as_str().is_some_and(|k| !k.is_empty()) || !text.is_empty() {
                    " op=Exists"
                } else {
                    "op=Exists"
                };
            }
            if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
                text += &format!(" for {seconds}s");
            }
            text
        })
        .collect();
    page.list(level, "Tolerations", &lines);
}

fn spread(page: &mut Page, level: usize, constraints: &Value) {
    let mut list: Vec<&Value> = items(constraints).collect();
    list.sort_by_key(|constraint| dig_str(constraint, "topologyKey"));
    if list.is_empty() {
        return;
    }
    let lines: Vec<String> = list
        .into_iter()
        .map(|constraint| {
            let selector = super::selector_text(&constraint["labelSelector"]);
            let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
            let when = match selector.as_str() {
                "" => String::new(),
                selector => format!(" for selector {selector}"),
            };
            format!(
                "{}:{} when max skew {skew} is exceeded{when}",
                dig_str(constraint, "topologyKey"),
                dig_str(constraint, "whenUnsatisfiable")
            )
        })
        .collect();
    page.list(level, "Topology Spread Constraints", &lines);
}

/// `Pod Template:`, as workloads show it.
pub fn template(page: &mut Page, template: &Value) {
    page.line(0, "Pod Template:");
    if !template.is_object() {
        return page.line(1, "<unset>");
    }
    page.map(1, "Labels", dig(template, "metadata.labels"), "=");
    if dig(template, "metadata.annotations").as_object().is_some_and(|map| !map.is_empty()) {
        page.annotations(1, "Annotations", dig(template, "metadata.annotations"));
    }
    let spec = &template["spec"];
    page.some(1, "Service Account", &spec["serviceAccountName"]);
    if items(&spec["initContainers"]).next().is_some() {
        containers(page, 1, "Init Containers", &spec["initContainers"], None);
    }
    containers(page, 1, "Containers", &spec["containers"], None);
    volumes(page, 1, &spec["volumes"]);
    spread(page, 1, &spec["topologySpreadConstraints"]);
    page.some(1, "Priority Class Name", &spec["priorityClassName"]);
    page.map(1, "Node-Selectors", &spec["nodeSelector"], "=");
    tolerations(page, 1, &spec["tolerations"]);
}

/// A template alone, as `rollout history --revision` shows it: its columns are not aligned.
pub fn template_text(value: &Value) -> String {
    let mut page = Page::new(jiff::Timestamp::UNIX_EPOCH);
    template(&mut page, value);
    page.raw()
}
