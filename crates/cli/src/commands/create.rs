//! `create`: from files, or one object of a common kind from flags.

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Arg, Command};
use serde_json::{Map, Value, json};

use super::apply;
use crate::{
    cx::{Cx, dig_str},
    error::{Error, Result},
    fail,
    flags::{self, list, switch, text},
    output::Reporter,
    resources::{self, Found},
};

pub const MANAGER: &str = "kubectl-create";

fn shared() -> Vec<Arg> {
    let mut own = vec![
        switch("save-config", "Note what is sent, for a later apply"),
        text("validate", "strict, warn or ignore: what becomes of fields that the server does not know"),
        flags::dry_run(),
        flags::field_manager(),
    ];
    own.extend(flags::output());
    own
}

fn generator(name: &'static str, about: &'static str, own: Vec<Arg>) -> Command {
    flags::command(name, about, "NAME", own.into_iter().chain(shared()).collect())
}

fn sources() -> Vec<Arg> {
    vec![
        list("from-literal", "A key and its value, such as color=blue"),
        list("from-file", "A file, or KEY=FILE, or a directory of files"),
        list("from-env-file", "A file of lines KEY=VALUE"),
        switch("append-hash", "Not supported: name the object anew when its content changes"),
    ]
}

fn service_flags(more: Vec<Arg>) -> Vec<Arg> {
    let mut own = vec![list("tcp", "PORT or PORT:TARGETPORT; may be repeated")];
    own.extend(more);
    own
}

fn subjects() -> Vec<Arg> {
    vec![
        text("clusterrole", "The ClusterRole that is granted"),
        list("subject-user", "A user").long("user"),
        list("group", "A group"),
        list("serviceaccount", "A service account, as NAMESPACE:NAME"),
    ]
}

fn rules() -> Vec<Arg> {
    vec![
        list("verb", "What may be done"),
        list("resource", "With which resources"),
        list("resource-name", "With which objects of these"),
    ]
}

pub fn command() -> Command {
    let mut own = shared();
    own.extend(flags::files());
    own.push(text("raw", "Post the file to this path"));
    own.push(switch("edit", "Not supported: write the file first"));
    own.push(flags::selector());
    let image = || list("image", "The image of a container");
    let name_flag = || text("node-port", "The port on every node");
    let secrets = Command::new("secret").about("Create a secret").subcommand_required(true).subcommands([
        generator(
            "generic",
            "Create a secret from files, directories or literal values",
            with(sources(), text("type", "The type of the secret")),
        ),
        generator(
            "tls",
            "Create a TLS secret",
            vec![text("cert", "PEM of the certificate"), text("key", "PEM of its key")],
        ),
        generator(
            "docker-registry",
            "Create a secret for a registry of images",
            vec![
                text("docker-server", "The registry").default_value("https://index.docker.io/v1/"),
                text("docker-username", "The user"),
                text("docker-password", "The password"),
                text("docker-email", "The address"),
            ],
        ),
    ]);
    let services =
        Command::new("service").visible_alias("svc").about("Create a service").subcommand_required(true).subcommands([
            generator(
                "clusterip",
                "Create a ClusterIP service",
                service_flags(vec![text("clusterip", "An address of its own, or None")]),
            ),
            generator("nodeport", "Create a NodePort service", service_flags(vec![name_flag()])),
            generator("loadbalancer", "Create a LoadBalancer service", service_flags(vec![])),
            generator(
                "externalname",
                "Create an ExternalName service",
                service_flags(vec![text("external-name", "The name outside")]),
            ),
        ]);
    apply::grouped(flags::command("create", "Create a resource from a file, from stdin or from flags", "", own))
        .subcommands([
            generator(
                "deployment",
                "Create a deployment",
                vec![image(), text("replicas", "How many pods"), text("port", "The port of the container")],
            )
            .visible_alias("deploy"),
            generator("configmap", "Create a config map from files, directories or literal values", sources())
                .visible_alias("cm"),
            generator("namespace", "Create a namespace", vec![]).visible_alias("ns"),
            generator("job", "Create a job", vec![image(), text("from", "cronjob/NAME: take its template")]),
            generator(
                "cronjob",
                "Create a cron job",
                vec![image(), text("schedule", "When, as cron has it"), text("restart", "OnFailure or Never")],
            )
            .visible_alias("cj"),
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
            generator("role", "Create a role", rules()),
            generator(
                "clusterrole",
                "Create a cluster role",
                rules()
                    .into_iter()
                    .chain([
                        list("non-resource-url", "Which paths"),
                        text("aggregation-rule", "KEY=VALUE of the roles that it takes together"),
                    ])
                    .collect(),
            ),
            generator(
                "rolebinding",
                "Create a role binding",
                with(subjects(), text("role", "The Role that is granted")),
            ),
            generator("clusterrolebinding", "Create a cluster role binding", subjects()),
            generator("serviceaccount", "Create a service account", vec![]).visible_alias("sa"),
            generator(
                "token",
                "Request a service account token",
                vec![
                    text("audience", "Who may take it"),
                    text("duration", "How long it holds"),
                    text("bound-object-kind", "Pod, Secret or Node"),
                    text("bound-object-name", "Its name"),
                    text("bound-object-uid", "Its uid"),
                ],
            ),
            generator(
                "quota",
                "Create a quota",
                vec![list("hard", "RESOURCE=AMOUNT"), list("scopes", "What it counts")],
            ),
            generator(
                "poddisruptionbudget",
                "Create a pod disruption budget",
                vec![
                    text("selector", "Which pods"),
                    text("min-available", "How many must stay"),
                    text("max-unavailable", "How many may go"),
                ],
            )
            .visible_alias("pdb"),
            generator(
                "priorityclass",
                "Create a priority class",
                vec![
                    text("value", "The priority"),
                    text("description", "What it is for"),
                    switch("global-default", "For pods that name none"),
                    text("preemption-policy", "PreemptLowerPriority or Never"),
                ],
            )
            .visible_alias("pc"),
            secrets,
            services,
        ])
}

fn with(mut flags: Vec<Arg>, more: Arg) -> Vec<Arg> {
    flags.push(more);
    flags
}

/// `create -f`
pub async fn from_files(cx: &Cx) -> Result<()> {
    if cx.flags.list("filename").is_empty() && cx.flags.some("kustomize").is_none() {
        return Err(fail!("must specify one of -f and -k"));
    }
    if let Some(path) = cx.flags.some("raw") {
        let mut text = String::new();
        match cx.flags.list("filename").as_slice() {
            ["-"] => _ = std::io::Read::read_to_string(&mut std::io::stdin(), &mut text)?,
            [file] => text = fs::read_to_string(file)?,
            _ => return Err(fail!("--raw can only use a single local file or stdin")),
        }
        return crate::cx::write_out(&cx.api().await?.raw(http::Method::POST, path, Some(text.into_bytes())).await?);
    }
    let Found { mut infos, mut errors, .. } = resources::from_files(cx).await?;
    if let Some(selector) = cx.flags.some("selector") {
        let selector = knarr_api::selector::LabelSelector::parse(selector).map_err(|error| fail!("{error}"))?;
        infos.retain(|info| selector.matches_value(&info.object["metadata"]["labels"]));
    }
    if infos.is_empty() && errors.is_empty() {
        return Err(fail!("no objects passed to create"));
    }
    let mut reporter = Reporter::new(cx)?;
    for info in infos {
        match apply::create(cx, &info, MANAGER).await {
            Ok(object) => reporter.done(&object, "created")?,
            Err(error) => errors.push(error),
        }
    }
    Error::collected(errors)
}

/// `create KIND NAME`
pub async fn generate(cx: &Cx, kind: &str) -> Result<()> {
    let args = cx.flags.args();
    let [name] = args.as_slice() else {
        return Err(Error::Usage(format!("exactly one NAME is required, got {}", args.len())));
    };
    if kind == "token" {
        return token(cx, name).await;
    }
    let object = match kind {
        "deployment" => deployment(cx, name)?,
        "configmap" => config_map(cx, name)?,
        "namespace" => {
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {}, "status": {}})
        }
        "serviceaccount" => json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}),
        "job" => job(cx, name).await?,
        "cronjob" => cron_job(cx, name)?,
        "ingress" => ingress(cx, name)?,
        "role" | "clusterrole" => role(cx, kind, name).await?,
        "rolebinding" | "clusterrolebinding" => binding(cx, kind, name)?,
        "quota" => quota(cx, name)?,
        "poddisruptionbudget" => budget(cx, name)?,
        "priorityclass" => priority_class(cx, name)?,
        other => match other.split_once(' ') {
            Some(("service", ty)) => service(cx, ty, name)?,
            Some(("secret", ty)) => secret(cx, ty, name)?,
            _ => return Err(fail!("unknown command \"{kind}\"")),
        },
    };
    let object = finish(cx, object, MANAGER).await?;
    Reporter::new(cx)?.done(&object, "created")
}

/// Sends a generated object, or leaves it at the client.
pub async fn finish(cx: &Cx, mut object: Value, manager: &str) -> Result<Value> {
    if cx.dry_run()? == flags::DryRun::Client {
        let namespaced =
            !matches!(dig_str(&object, "kind"), "Namespace" | "ClusterRole" | "ClusterRoleBinding" | "PriorityClass");
        if let (true, Some(namespace)) = (namespaced, cx.asked_namespace()) {
            object["metadata"]["namespace"] = namespace.into();
        }
        return Ok(if cx.flags.on("save-config") { apply::with_note(&object) } else { object });
    }
    let info = resources::placed(cx, object, "").await?;
    let kind = dig_str(&info.object, "kind").to_owned();
    apply::create(cx, &info, manager).await.map_err(|error| {
        let known = SAID.iter().find(|(known, _)| *known == kind && manager == MANAGER);
        match known.filter(|_| error.reason() != "Invalid") {
            Some((_, words)) => {
                let ty = dig_str(&info.object, "spec.type");
                fail!("failed to create {}{}", words.replace('@', ty), error.message())
            }
            None => error,
        }
    })
}

/// What kubectl says before the server's words.
const SAID: &[(&str, &str)] = &[
    ("ConfigMap", "configmap: "),
    ("CronJob", "cronjob: "),
    ("Deployment", "deployment: "),
    ("Ingress", "ingress: "),
    ("Job", "job: "),
    ("PriorityClass", "priorityclass: "),
    ("ResourceQuota", "quota: "),
    ("RoleBinding", "rolebinding: "),
    ("ClusterRoleBinding", "clusterrolebinding: "),
    ("Secret", "secret "),
    ("Service", "@ service: "),
    ("ServiceAccount", "serviceaccount: "),
];

fn pairs(items: &[&str]) -> Result<Map<String, Value>> {
    items
        .iter()
        .map(|item| {
            let (key, value) =
                item.split_once('=').ok_or_else(|| fail!("unexpected format: {item}, expected KEY=VALUE"))?;
            Ok((key.to_owned(), Value::from(value)))
        })
        .collect()
}

fn containers(images: &[&str], command: &[&str]) -> Vec<Value> {
    let container = |image: &&str| {
        let name = image.rsplit('/').next().unwrap_or(image).split([':', '@']).next().unwrap_or_default();
        let mut container = json!({"name": name, "image": image, "resources": {}});
        if !command.is_empty() {
            container["command"] = command.into();
        }
        container
    };
    images.iter().map(container).collect()
}

fn deployment(cx: &Cx, name: &str) -> Result<Value> {
    let (images, command) = (cx.flags.list("image"), cx.flags.rest());
    cx.flags.required("image").or_else(|error| if images.is_empty() { Err(error) } else { Ok("") })?;
    if images.len() > 1 && !command.is_empty() {
        return Err(fail!("cannot specify multiple --image options and command"));
    }
    let mut containers = containers(&images, &command);
    if let Some(port) = cx.flags.number::<u16>("port")? {
        containers[0]["ports"] = json!([{"containerPort": port}]);
    }
    Ok(json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"labels": {"app": name}, "name": name},
        "spec": {
            "replicas": cx.flags.number::<i32>("replicas")?.unwrap_or(1),
            "selector": {"matchLabels": {"app": name}},
            "strategy": {},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": containers}},
        },
        "status": {},
    }))
}

/// Keys and bytes of `--from-literal`, `--from-file` and `--from-env-file`.
fn data(cx: &Cx) -> Result<Vec<(String, Vec<u8>)>> {
    let mut found: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |key: String, bytes: Vec<u8>| {
        if found.iter().any(|(known, _)| *known == key) {
            return Err(fail!("cannot add key \"{key}\", another key by that name already exists"));
        }
        found.push((key, bytes));
        Ok(())
    };
    for literal in cx.flags.all("from-literal") {
        let (key, value) =
            literal.split_once('=').ok_or_else(|| fail!("invalid literal source {literal}, expected key=value"))?;
        let quoted = |q: char| value.len() > 1 && value.starts_with(q) && value.ends_with(q);
        let value = if quoted('"') || quoted('\'') { &value[1..value.len() - 1] } else { value };
        add(key.into(), value.into())?;
    }
    let read = |path: &str| fs::read(path).map_err(|_| fail!("error reading {path}: no such file or directory"));
    for source in cx.flags.all("from-file") {
        let (key, path) = source.split_once('=').map_or((None, source), |(key, path)| (Some(key), path));
        if key.is_none() && fs::metadata(path).is_ok_and(|m| m.is_dir()) {
            let mut files: Vec<_> = fs::read_dir(path)?.collect::<Result<_, _>>()?;
            files.sort_by_key(std::fs::DirEntry::file_name);
            for file in files.iter().filter(|file| file.path().is_file()) {
                add(file.file_name().to_string_lossy().into_owned(), fs::read(file.path())?)?;
            }
            continue;
        }
        let name = std::path::Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
        add(key.map(str::to_owned).or(name).unwrap_or_default(), read(path)?)?;
    }
    for path in cx.flags.all("from-env-file") {
        for line in String::from_utf8_lossy(&read(path)?).lines() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let own = || (line.to_owned(), std::env::var(line).unwrap_or_default());
            let (key, value) = line.split_once('=').map_or_else(own, |(key, value)| (key.to_owned(), value.to_owned()));
            add(key, value.into_bytes())?;
        }
    }
    Ok(found)
}

fn config_map(cx: &Cx, name: &str) -> Result<Value> {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    for (key, bytes) in data(cx)? {
        match String::from_utf8(bytes) {
            Ok(text) => object["data"][key] = text.into(),
            Err(error) => object["binaryData"][key] = STANDARD.encode(error.as_bytes()).into(),
        }
    }
    Ok(object)
}

fn secret(cx: &Cx, kind: &str, name: &str) -> Result<Value> {
    let mut object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let mut put = |key: &str, bytes: &[u8]| object["data"][key] = STANDARD.encode(bytes).into();
    let ty = match kind {
        "generic" => {
            data(cx)?.iter().for_each(|(key, bytes)| put(key, bytes));
            cx.flags.some("type").unwrap_or_default()
        }
        "tls" => {
            for (flag, key) in [("cert", "tls.crt"), ("key", "tls.key")] {
                let path = cx.flags.required(flag)?;
                put(key, &fs::read(path).map_err(|error| fail!("open {path}: {error}"))?);
            }
            "kubernetes.io/tls"
        }
        _ => {
            let (user, password) = (cx.flags.required("docker-username")?, cx.flags.required("docker-password")?);
            let server = cx.flags.required("docker-server")?;
            let email =
                cx.flags.some("docker-email").map(|email| format!("\"email\":{},", json!(email))).unwrap_or_default();
            let auth = STANDARD.encode(format!("{user}:{password}"));
            let config = format!(
                "{{\"auths\":{{{}:{{\"username\":{},\"password\":{},{email}\"auth\":\"{auth}\"}}}}}}",
                json!(server),
                json!(user),
                json!(password)
            );
            put(".dockerconfigjson", config.as_bytes());
            "kubernetes.io/dockerconfigjson"
        }
    };
    if !ty.is_empty() {
        object["type"] = ty.into();
    }
    Ok(object)
}

fn service(cx: &Cx, kind: &str, name: &str) -> Result<Value> {
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

async fn job(cx: &Cx, name: &str) -> Result<Value> {
    let command = cx.flags.rest();
    if let Some(from) = cx.flags.some("from") {
        let Some(("cronjob" | "cronjobs" | "cj" | "cronjob.batch", from)) = from.split_once('/') else {
            return Err(fail!("from must be an existing cronjob"));
        };
        let namespace = cx.namespace().await?;
        let parent = cx.api().await?.get(&format!("/apis/batch/v1/namespaces/{namespace}/cronjobs/{from}")).await?;
        let template = &parent["spec"]["jobTemplate"];
        let mut annotations = template["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        annotations.insert("cronjob.kubernetes.io/instantiate".into(), "manual".into());
        let owner = json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": from, "uid": parent["metadata"]["uid"], "controller": true}]);
        let mut metadata = json!({"name": name, "annotations": annotations, "ownerReferences": owner});
        if template["metadata"]["labels"].is_object() {
            metadata["labels"] = template["metadata"]["labels"].clone();
        }
        return Ok(
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"], "status": {}}),
        );
    }
    if cx.flags.list("image").is_empty() {
        return Err(fail!("either --image or --from must be specified"));
    }
    let pod = json!({"containers": one_container(name, cx.flags.list("image")[0], &command), "restartPolicy": "Never"});
    Ok(
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": {"metadata": {}, "spec": pod}}, "status": {}}),
    )
}

fn one_container(name: &str, image: &str, command: &[&str]) -> Value {
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !command.is_empty() {
        container["command"] = command.into();
    }
    json!([container])
}

fn cron_job(cx: &Cx, name: &str) -> Result<Value> {
    let images = cx.flags.list("image");
    let image = images.first().ok_or_else(|| fail!("required flag(s) \"image\" not set"))?;
    let pod = json!({
        "containers": one_container(name, image, &cx.flags.rest()),
        "restartPolicy": cx.flags.some("restart").unwrap_or("OnFailure"),
    });
    let template = json!({"metadata": {"name": name}, "spec": {"template": {"metadata": {}, "spec": pod}}});
    Ok(json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
        "spec": {"jobTemplate": template, "schedule": cx.flags.required("schedule")?}, "status": {},
    }))
}

fn backend(text: &str) -> Result<Value> {
    let (service, port) = text.split_once(':').ok_or_else(|| fail!("unable to parse backend: {text}"))?;
    let port = match port.parse::<u16>() {
        Ok(number) => json!({ "number": number }),
        Err(_) => json!({ "name": port }),
    };
    Ok(json!({"service": {"name": service, "port": port}}))
}

fn ingress(cx: &Cx, name: &str) -> Result<Value> {
    let rules = cx.flags.all("rule");
    if rules.is_empty() && cx.flags.some("default-backend").is_none() {
        return Err(fail!(
            "not enough information provided: every ingress has to either specify a default-backend (which catches all traffic) or a list of rules (which catch specific paths)"
        ));
    }
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

async fn role(cx: &Cx, kind: &str, name: &str) -> Result<Value> {
    let kind = if kind == "role" { "Role" } else { "ClusterRole" };
    let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}});
    if let Some(rule) = cx.flags.some("aggregation-rule") {
        let labels = pairs(&rule.split(',').collect::<Vec<_>>())?;
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        object["rules"] = Value::Null;
        return Ok(object);
    }
    let verbs = cx.flags.list("verb");
    if verbs.is_empty() {
        return Err(fail!("at least one verb must be specified"));
    }
    let (resources, urls) = (cx.flags.list("resource"), cx.flags.list("non-resource-url"));
    if resources.is_empty() && urls.is_empty() {
        return Err(fail!("at least one resource must be specified"));
    }
    // Resources of one group share a rule, in the order in which the groups were named.
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for word in resources {
        let (word, sub) = word.split_once('/').map_or((word, None), |(word, sub)| (word, Some(sub)));
        let (plural, group) = match word {
            "*" => ("*".into(), "*".into()),
            word => {
                let found = cx.discovery().await?.find(word)?;
                (found.plural.clone(), found.group.clone())
            }
        };
        let plural = sub.map_or_else(|| plural.clone(), |sub| format!("{plural}/{sub}"));
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, list)) => list.push(plural),
            None => groups.push((group, vec![plural])),
        }
    }
    groups.sort();
    let names = cx.flags.list("resource-name");
    let mut rules: Vec<Value> = Vec::new();
    for (group, resources) in groups {
        let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
        if !names.is_empty() {
            rule["resourceNames"] = names.clone().into();
        }
        rules.push(rule);
    }
    if !urls.is_empty() {
        rules.push(json!({"nonResourceURLs": urls, "verbs": verbs}));
    }
    object["rules"] = rules.into();
    Ok(object)
}

fn binding(cx: &Cx, kind: &str, name: &str) -> Result<Value> {
    let (role, cluster_role) = (cx.flags.some("role"), cx.flags.some("clusterrole"));
    let role = match (role, cluster_role) {
        (Some(role), None) => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}),
        (None, Some(role)) => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}),
        _ => return Err(fail!("exactly one of clusterrole or role must be specified")),
    };
    let mut subjects = Vec::new();
    for (flag, kind) in [("subject-user", "User"), ("group", "Group")] {
        subjects.extend(
            cx.flags
                .list(flag)
                .iter()
                .map(|name| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})),
        );
    }
    for account in cx.flags.list("serviceaccount") {
        let (namespace, name) =
            account.split_once(':').ok_or_else(|| fail!("serviceaccount must be <namespace>:<name>"))?;
        subjects.push(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    let kind = if kind == "rolebinding" { "RoleBinding" } else { "ClusterRoleBinding" };
    let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "roleRef": role});
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    Ok(object)
}

fn quota(cx: &Cx, name: &str) -> Result<Value> {
    let mut spec = json!({});
    let hard = pairs(&cx.flags.list("hard"))?;
    if !hard.is_empty() {
        spec["hard"] = hard.into();
    }
    let scopes = cx.flags.list("scopes");
    if !scopes.is_empty() {
        spec["scopes"] = scopes.into();
    }
    Ok(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec, "status": {}}))
}

fn number_or_text(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
}

fn budget(cx: &Cx, name: &str) -> Result<Value> {
    let selector = cx.flags.some("selector").ok_or_else(|| fail!("a selector must be specified"))?;
    let mut spec = json!({"selector": {"matchLabels": pairs(&selector.split(',').collect::<Vec<_>>())?}});
    match (cx.flags.some("min-available"), cx.flags.some("max-unavailable")) {
        (Some(min), None) => spec["minAvailable"] = number_or_text(min),
        (None, Some(max)) => spec["maxUnavailable"] = number_or_text(max),
        (Some(_), Some(_)) => return Err(fail!("min-available and max-unavailable cannot be both specified")),
        (None, None) => return Err(fail!("one of min-available or max-unavailable must be specified")),
    }
    let status = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    Ok(
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec, "status": status}),
    )
}

fn priority_class(cx: &Cx, name: &str) -> Result<Value> {
    let mut object = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
        "value": cx.flags.number::<i32>("value")?.unwrap_or(0),
        "preemptionPolicy": cx.flags.some("preemption-policy").unwrap_or("PreemptLowerPriority"),
    });
    if cx.flags.on("global-default") {
        object["globalDefault"] = true.into();
    }
    if let Some(description) = cx.flags.some("description") {
        object["description"] = description.into();
    }
    Ok(object)
}

async fn token(cx: &Cx, name: &str) -> Result<()> {
    let mut spec = json!({});
    if let Some(audience) = cx.flags.some("audience") {
        spec["audiences"] = json!([audience]);
    }
    if let Some(seconds) = cx.flags.seconds("duration")?.filter(|seconds| *seconds > 0.0) {
        spec["expirationSeconds"] = (seconds as i64).into();
    }
    if let Some(kind) = cx.flags.some("bound-object-kind") {
        let bound = cx.flags.required("bound-object-name")?;
        spec["boundObjectRef"] = json!({"apiVersion": "v1", "kind": kind, "name": bound});
        if let Some(uid) = cx.flags.some("bound-object-uid") {
            spec["boundObjectRef"]["uid"] = uid.into();
        }
    }
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{name}/token", cx.namespace().await?);
    let answer =
        cx.api().await?.post(&path, &request).await.map_err(|error| error.prefixed("failed to create token"))?;
    match cx.flags.some("output") {
        None => crate::say!("{}", dig_str(&answer, "status.token")),
        Some(_) => crate::output::Printer::new(cx, crate::output::Format::of(cx)?).object(&answer),
    }
}
