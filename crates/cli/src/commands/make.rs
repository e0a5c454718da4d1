//! `expose`, `autoscale` and `run`: an object made for another, or a pod for now.

use std::time::Duration;

use clap::Command;
use serde_json::{Value, json};

use super::{create, exec, wait};
use crate::{
    cx::{Cx, dig, dig_str, items},
    error::{Error, Result},
    fail,
    flags::{self, list, switch, text},
    output::{Reporter, refuse},
    resources::{Info, Search},
};

fn shared(mut own: Vec<clap::Arg>) -> Vec<clap::Arg> {
    own.push(switch("save-config", "Note what is sent, for a later apply"));
    own.extend(flags::writing());
    own
}

/// For an object that is there, or in a file.
fn of_another(own: Vec<clap::Arg>) -> Vec<clap::Arg> {
    shared(own).into_iter().chain(flags::files()).collect()
}

pub fn commands() -> Vec<Command> {
    vec![
        flags::command(
            "expose",
            "Take a resource and expose it as a new Kubernetes service",
            "TYPE NAME",
            of_another(vec![
                text("port", "The port of the service"),
                text("target-port", "The port of the pods"),
                text("protocol", "TCP, UDP or SCTP"),
                text("name", "The name of the service"),
                text("type", "ClusterIP, NodePort, LoadBalancer or ExternalName"),
                text("selector", "Which pods"),
                text("labels", "Labels of the service").short('l'),
                text("cluster-ip", "An address of its own, or None"),
                text("external-ip", "An address outside"),
                text("load-balancer-ip", "The address that a load balancer should have"),
                text("session-affinity", "None or ClientIP"),
                text("overrides", "JSON that is merged into the object"),
            ]),
        ),
        flags::command(
            "autoscale",
            "Auto-scale a deployment, replica set, stateful set, or replication controller",
            "TYPE NAME",
            of_another(vec![
                text("min", "At least this many pods"),
                text("max", "At most this many pods"),
                text("name", "The name of the autoscaler"),
                text("cpu-percent", "Use of the requested CPU to aim at"),
                text("cpu", "The same, as 50% or as an amount"),
                text("memory", "Use of memory to aim at"),
            ]),
        ),
        flags::command("run", "Run a particular image on the cluster", "NAME", {
            let mut own = vec![
                text("image", "The image"),
                text("image-pull-policy", "Always, IfNotPresent or Never"),
                text("port", "The port of the container"),
                list("env", "NAME=VALUE"),
                list("annotations", "KEY=VALUE"),
                text("labels", "KEY=VALUE,...").short('l'),
                text("restart", "Always, OnFailure or Never"),
                switch("command", "The words behind -- are the command, not its arguments"),
                switch("expose", "Make a service too"),
                switch("rm", "Delete the pod afterwards"),
                switch("attach", "Show what it writes"),
                switch("privileged", "With all rights"),
                switch("quiet", "Say less").short('q'),
                text("overrides", "JSON that is merged into the object"),
                text("override-type", "merge or strategic"),
                text("pod-running-timeout", "How long to wait until it runs"),
                switch("leave-stdin-open", "Not supported: standard input ends with the first session"),
                text("grace-period", "Seconds that the pod has to end"),
                switch("force", "Do not wait for its end"),
                switch("wait", "Wait for its end"),
                text("timeout", "How long"),
                text("cascade", "What becomes of dependents"),
            ];
            own.extend(flags::terminal());
            shared(own)
        }),
    ]
}

fn pairs(texts: &[&str]) -> Result<Value> {
    let pair = |text: &&str| {
        let (key, value) = text.split_once('=').ok_or_else(|| fail!("unexpected label spec: {text}"))?;
        Ok((key.to_owned(), Value::from(value)))
    };
    Ok(Value::Object(texts.iter().map(pair).collect::<Result<_>>()?))
}

fn overridden(cx: &Cx, object: Value) -> Result<Value> {
    let Some(text) = cx.flags.some("overrides") else { return Ok(object) };
    let patch: Value = serde_json::from_str(text).map_err(|error| fail!("Invalid JSON Patch: {error}"))?;
    match cx.flags.text("override-type").unwrap_or("merge") {
        "merge" => knarr_api::patch::merge_patch(&object, &patch).map_err(|error| fail!("{error}")),
        "strategic" => {
            let (group, version) = dig_str(&object, "apiVersion").split_once('/').unwrap_or(("", "v1"));
            let ty = knarr_api::schema::of(group, version, dig_str(&object, "kind"));
            super::apply::patched(&object, ty, &patch)
        }
        other => Err(refuse(&format!("override-type={other}"), "use merge or strategic")),
    }
}

fn int_or_text(text: &str) -> Value {
    text.parse::<u16>().map_or_else(|_| text.into(), Value::from)
}

pub async fn expose(cx: &Cx) -> Result<()> {
    let found = Search { selector: String::new(), ..Search::from_flags(cx) }.run(cx).await?.all()?;
    let mut reporter = Reporter::new(cx)?;
    for info in found {
        let object = overridden(cx, service(cx, &info)?)?;
        let object = create::finish(cx, object, "kubectl-expose").await?;
        reporter.done(&object, "exposed")?;
    }
    Ok(())
}

fn service(cx: &Cx, info: &Info) -> Result<Value> {
    let (object, flags) = (&info.object, &cx.flags);
    let kind = info.resource.kind.as_str();
    let selector = match (flags.some("selector"), kind) {
        (Some(text), _) => pairs(&text.split(',').collect::<Vec<_>>())?,
        (None, "Service" | "ReplicationController") => dig(object, "spec.selector").clone(),
        (None, "Pod") => dig(object, "metadata.labels").clone(),
        (None, "Deployment" | "ReplicaSet") => dig(object, "spec.selector.matchLabels").clone(),
        _ => return Err(fail!("cannot expose a {kind}")),
    };
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        return Err(fail!(
            "couldn't retrieve selectors via --selector flag or introspection: the {} has no labels and cannot be exposed",
            kind.to_lowercase()
        ));
    }
    let spec = if kind == "Pod" { &object["spec"] } else { dig(object, "spec.template.spec") };
    let known: Vec<(u64, String)> = match kind {
        "Service" => items(dig(object, "spec.ports"))
            .map(|port| (port["port"].as_u64().unwrap_or(0), dig_str(port, "protocol").into()))
            .collect(),
        _ => items(&spec["containers"])
            .flat_map(|container| items(&container["ports"]))
            .map(|port| (port["containerPort"].as_u64().unwrap_or(0), dig_str(port, "protocol").into()))
            .collect(),
    };
    let asked: Vec<u64> = match flags.some("port") {
        Some(text) => {
            text.split(',').map(|port| port.parse().map_err(|_| fail!("invalid port {port}"))).collect::<Result<_>>()?
        }
        None => known.iter().map(|(port, _)| *port).collect(),
    };
    if asked.is_empty() && flags.some("cluster-ip") != Some("None") {
        return Err(fail!("couldn't find port via --port flag or introspection"));
    }
    let several = asked.len() > 1;
    let ports: Vec<Value> = asked.iter().enumerate().map(|(at, port)| {
        let protocol = flags.some("protocol").map(str::to_owned);
        let protocol = protocol.or_else(|| known.iter().find(|(number, _)| number == port).map(|(_, protocol)| protocol.clone()));
        let protocol = protocol.filter(|text| !text.is_empty()).unwrap_or("TCP".into());
        let mut entry = json!({"port": port, "protocol": protocol, "targetPort": flags.some("target-port").map_or(json!(port), int_or_text)});
        if several {
            entry["name"] = format!("port-{}", at + 1).into();
        }
        entry
    }).collect();
    let mut spec = json!({"selector": selector});
    if !ports.is_empty() {
        spec["ports"] = ports.into();
    }
    for (flag, field) in [
        ("type", "type"),
        ("cluster-ip", "clusterIP"),
        ("load-balancer-ip", "loadBalancerIP"),
        ("session-affinity", "sessionAffinity"),
    ] {
        if let Some(value) = flags.some(flag) {
            spec[field] = value.into();
        }
    }
    if let Some(address) = flags.some("external-ip") {
        spec["externalIPs"] = json!([address]);
    }
    let mut metadata = json!({"name": flags.some("name").unwrap_or(&info.name)});
    let labels = match flags.some("labels") {
        Some(text) => pairs(&text.split(',').collect::<Vec<_>>())?,
        None => dig(object, "metadata.labels").clone(),
    };
    if labels.as_object().is_some_and(|labels| !labels.is_empty()) {
        metadata["labels"] = labels;
    }
    if cx.asked_namespace().is_some() || cx.dry_run()? == flags::DryRun::None {
        metadata["namespace"] = info.namespace.clone().into();
    }
    Ok(
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}),
    )
}

pub async fn autoscale(cx: &Cx) -> Result<()> {
    let max: i32 =
        cx.flags.number("max")?.ok_or_else(|| Error::Raw("error: required flag(s) \"max\" not set".into()))?;
    if max < 1 {
        return Err(fail!("--max=MAXPODS is required and must be at least 1, max: {max}"));
    }
    let min = cx.flags.number::<i32>("min")?.filter(|min| *min > 0);
    if min.is_some_and(|min| max < min) {
        return Err(fail!(
            "--max=MAXPODS must be larger or equal to --min=MINPODS, max: {max}, min: {}",
            min.unwrap_or(0)
        ));
    }
    let mut metrics = Vec::new();
    let target = |amount: &str| match amount.strip_suffix('%').and_then(|percent| percent.parse::<i32>().ok()) {
        Some(percent) => json!({"type": "Utilization", "averageUtilization": percent}),
        None => json!({"type": "AverageValue", "averageValue": amount}),
    };
    if cx.flags.some("cpu-percent").is_some() {
        eprintln!(
            "Flag --cpu-percent has been deprecated, Use --cpu with percentage or resource quantity format (e.g., '70%' for utilization or '500m' for milliCPU)."
        );
    }
    let cpu = cx.flags.some("cpu").map(str::to_owned);
    let cpu = cpu.or(cx
        .flags
        .number::<i32>("cpu-percent")?
        .filter(|percent| *percent > 0)
        .map(|percent| format!("{percent}%")));
    for (name, amount) in [("cpu", cpu.as_deref()), ("memory", cx.flags.some("memory"))] {
        if let Some(amount) = amount {
            metrics.push(json!({"type": "Resource", "resource": {"name": name, "target": target(amount)}}));
        }
    }
    let mut reporter = Reporter::new(cx)?;
    for info in Search::from_flags(cx).run(cx).await?.all()? {
        if !info.resource.has("scale") {
            return Err(fail!("cannot autoscale a {}", info.resource.qualified()));
        }
        let mut metadata = json!({"name": cx.flags.some("name").unwrap_or(&info.name)});
        if cx.asked_namespace().is_some() || cx.dry_run()? == flags::DryRun::None {
            metadata["namespace"] = info.namespace.clone().into();
        }
        let mut spec = json!({
            "maxReplicas": max,
            "scaleTargetRef": {"apiVersion": info.resource.api_version(), "kind": info.resource.kind, "name": info.name},
        });
        if let Some(min) = min {
            spec["minReplicas"] = min.into();
        }
        if !metrics.is_empty() {
            spec["metrics"] = metrics.clone().into();
        }
        let status = json!({"currentMetrics": null, "desiredReplicas": 0});
        let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec, "status": status});
        let object = create::finish(cx, object, "kubectl-autoscale").await?;
        reporter.done(&object, "autoscaled")?;
    }
    Ok(())
}

pub async fn run(cx: &Cx) -> Result<()> {
    let flags = &cx.flags;
    let args = flags.args();
    let Some((name, more)) = args.split_first() else { return Err(Error::Usage("NAME is required for run".into())) };
    let image = flags.some("image").ok_or_else(|| Error::Raw("error: required flag(s) \"image\" not set".into()))?;
    let words: Vec<&str> = more.iter().copied().chain(flags.rest()).collect();
    let interactive = flags.on("stdin") || flags.on("tty");
    let attaches = flags.switch("attach").unwrap_or(interactive);
    if flags.on("rm") && !attaches {
        return Err(fail!("--rm should only be used for attached containers"));
    }
    let restart = flags.some("restart").unwrap_or("Always");
    let mut container = json!({"name": name, "image": image, "resources": {}});
    if !words.is_empty() {
        container[if flags.on("command") { "command" } else { "args" }] = words.into();
    }
    if let Some(port) = flags.number::<u16>("port")? {
        container["ports"] = json!([{"containerPort": port}]);
    }
    if let Some(policy) = flags.some("image-pull-policy") {
        container["imagePullPolicy"] = policy.into();
    }
    let env: Vec<Value> = flags
        .all("env")
        .iter()
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or_else(|| fail!("invalid env: {pair}"))?;
            Ok(json!({"name": name, "value": value}))
        })
        .collect::<Result<_>>()?;
    if !env.is_empty() {
        container["env"] = env.into();
    }
    if flags.on("privileged") {
        container["securityContext"] = json!({"privileged": true});
    }
    if flags.on("stdin") {
        container["stdin"] = true.into();
        container["stdinOnce"] = true.into();
    }
    if flags.on("tty") {
        container["tty"] = true.into();
    }
    let labels = match flags.some("labels") {
        Some(text) => pairs(&text.split(',').collect::<Vec<_>>())?,
        None => json!({"run": name}),
    };
    let mut metadata = json!({"labels": labels, "name": name});
    let annotations = flags.all("annotations");
    if !annotations.is_empty() {
        metadata["annotations"] = pairs(&annotations)?;
    }
    let spec = json!({"containers": [container], "dnsPolicy": "ClusterFirst", "restartPolicy": restart});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {}});
    let pod = create::finish(cx, overridden(cx, pod)?, "kubectl-run").await?;
    let mut reporter = Reporter::new(cx)?;
    if flags.on("expose") {
        let port = flags.number::<u16>("port")?.ok_or_else(|| fail!("--port must be set when exposing a service"))?;
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "status": {"loadBalancer": {}},
            "spec": {"ports": [{"port": port, "protocol": "TCP", "targetPort": port}], "selector": pod["metadata"]["labels"]},
        });
        let service = create::finish(cx, service, "kubectl-run").await?;
        reporter.done(&service, "created")?;
    }
    if !attaches || cx.dry_run()? != flags::DryRun::None {
        return reporter.done(&pod, "created");
    }
    attach(cx, &pod, restart).await
}

/// Waits until the pod runs, attaches to it, and ends as it ends.
async fn attach(cx: &Cx, pod: &Value, restart: &str) -> Result<()> {
    let pods = cx.discovery().await?.by_plural("", "pods")?;
    let info = Info::of(&pods, pod.clone());
    let patience = Duration::from_secs_f64(cx.flags.seconds("pod-running-timeout")?.unwrap_or(60.0));
    let begun = |pod: &Value| !matches!(dig_str(pod, "status.phase"), "" | "Pending");
    let running = wait::until(cx, &info, patience, begun).await?;
    let name = dig_str(&items(dig(pod, "spec.containers")).next().cloned().unwrap_or_default(), "name").to_owned();
    let outcome = match dig_str(&running, "status.phase") {
        "Running" => exec::attach_to(cx, &info, &name, cx.flags.on("stdin"), cx.flags.on("tty")).await,
        _ => crate::cx::write_out(&cx.api().await?.raw(http::Method::GET, &info.path(Some("log")), None).await?),
    };
    let mut code = 0;
    if outcome.is_ok() && restart == "Never" {
        let over = |pod: &Value| matches!(dig_str(pod, "status.phase"), "Succeeded" | "Failed");
        let ended = wait::until(cx, &info, patience, over).await?;
        let state = items(dig(&ended, "status.containerStatuses")).next().cloned().unwrap_or_default();
        code = dig(&state, "state.terminated.exitCode").as_u64().unwrap_or(0);
    }
    if cx.flags.on("rm") {
        let options = json!({"propagationPolicy": "Background"});
        cx.api().await?.delete(&info.path(None), &options).await?;
        crate::say!("pod \"{}\" deleted from {} namespace", info.name, info.namespace)?;
    }
    outcome?;
    if code > 0 { Err(Error::Exit(u8::try_from(code).unwrap_or(1))) } else { Ok(()) }
}
