//! What the server offers, and who asks: `api-resources`, `api-versions`, `cluster-info`, `auth`, `top`.

use clap::Command;
use knarr_api::quantity::Quantity;
use serde_json::{Value, json};

use crate::{
    api::Query,
    cx::{Cx, dig, dig_str, items, write_out},
    error::{Error, Result},
    fail,
    flags::{self, list, switch, text},
    output::{Format, Printer},
    say, tabs,
};

pub fn commands() -> Vec<Command> {
    let output = || text("output", "wide or name").short('o');
    let headers = || switch("no-headers", "Leave out the line of headers");
    let top = |name, about, usage, more: Vec<clap::Arg>| {
        let mut own = more;
        own.extend([
            headers(),
            flags::selector(),
            text("sort-by", "cpu or memory"),
            switch("use-protocol-buffers", "Not needed"),
        ]);
        flags::command(name, about, usage, own)
    };
    vec![
        flags::command(
            "api-resources",
            "Print the supported API resources on the server",
            "",
            vec![
                output(),
                headers(),
                text("api-group", "Only this group"),
                switch("namespaced", "Only what is in namespaces; =false: only what is not"),
                list("verbs", "Only what all of this can be done with"),
                list("categories", "Only what is in all of these categories"),
                text("sort-by", "name or kind"),
                switch("cached", "Not needed: nothing is cached"),
            ],
        ),
        flags::command(
            "api-versions",
            "Print the supported API versions on the server, in the form of \"group/version\"",
            "",
            vec![],
        ),
        flags::command("cluster-info", "Display cluster information", "", vec![]),
        Command::new("auth").about("Inspect authorization").subcommand_required(true).subcommands([
            flags::command(
                "can-i",
                "Check whether an action is allowed",
                "VERB [TYPE[/NAME]]",
                vec![
                    switch("list", "Show all that may be done"),
                    switch("quiet", "Answer by the exit code only").short('q'),
                    text("subresource", "About a subresource"),
                    flags::all_namespaces(),
                    headers(),
                ],
            ),
            flags::command("whoami", "Show who is asking", "", flags::output()),
        ]),
        Command::new("top").about("Display resource (CPU/memory) usage").subcommand_required(true).subcommands([
            top(
                "node",
                "Display resource usage of nodes",
                "NAME",
                vec![switch("show-capacity", "Shares of the capacity, not of what may be used")],
            )
            .visible_alias("nodes"),
            top(
                "pod",
                "Display resource usage of pods",
                "NAME",
                vec![
                    switch("containers", "Show containers"),
                    switch("sum", "Show the sum"),
                    flags::all_namespaces(),
                    flags::field_selector(),
                ],
            )
            .visible_alias("pods"),
        ]),
    ]
}

pub async fn api_resources(cx: &Cx) -> Result<()> {
    let flags = &cx.flags;
    let mut found: Vec<_> =
        cx.discovery().await?.resources.iter().filter(|r| r.preferred && !r.verbs.is_empty()).cloned().collect();
    let verbs = flags.list("verbs");
    let categories = flags.list("categories");
    found.retain(|r| {
        flags.text("api-group").is_none_or(|group| r.group == group)
            && flags.switch("namespaced").is_none_or(|wanted| r.namespaced == wanted)
            && verbs.iter().all(|verb| r.can(verb))
            && categories.iter().all(|category| r.categories.iter().any(|known| known == category))
    });
    match flags.some("sort-by") {
        Some("name") => found.sort_by(|a, b| a.plural.cmp(&b.plural)),
        Some("kind") => found.sort_by(|a, b| a.kind.cmp(&b.kind)),
        None => found.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural))),
        Some(_) => return Err(fail!("--sort-by accepts only name or kind")),
    }
    let wide = match flags.some("output") {
        Some("name") => {
            let lines: String = found.iter().map(|r| format!("{}\n", r.qualified())).collect();
            return write_out(&lines);
        }
        Some("wide") => true,
        None => false,
        Some(other) => return Err(fail!("--output {other} is not available")),
    };
    let mut table = String::new();
    if !flags.on("no-headers") {
        table += "NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND";
        table += if wide { "\tVERBS\tCATEGORIES\n" } else { "\n" };
    }
    for r in found {
        table += &format!("{}\t{}\t{}\t{}\t{}", r.plural, r.short.join(","), r.api_version(), r.namespaced, r.kind);
        if wide {
            table += &format!("\t{}\t{}", r.verbs.join(","), r.categories.join(","));
        }
        table.push('\n');
    }
    write_out(&tabs::TABLE.align(&table))
}

pub async fn api_versions(cx: &Cx) -> Result<()> {
    let mut versions: Vec<String> = cx.discovery().await?.resources.iter().map(|r| r.api_version()).collect();
    versions.sort();
    versions.dedup();
    say!("{}", versions.join("\n"))
}

pub async fn cluster_info(cx: &Cx) -> Result<()> {
    let api = cx.api().await?;
    api.get("/version").await?;
    let colour = |text: &str, code: &str| match std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    say!("{} is running at {}", colour("Kubernetes control plane", "0;32"), colour(&api.server, "0;33"))?;
    let query = Query::default().add("labelSelector", "kubernetes.io/cluster-service=true");
    let services = api.get(&query.on("/api/v1/namespaces/kube-system/services")).await?;
    for service in items(&services["items"]) {
        let labels = dig(service, "metadata.labels");
        let name = dig_str(service, "metadata.name");
        let shown = labels["kubernetes.io/name"].as_str().unwrap_or(name);
        let port = items(dig(service, "spec.ports"))
            .next()
            .map_or(String::new(), |port| format!(":{}", dig_str(port, "name")));
        let link = format!("{}/api/v1/namespaces/kube-system/services/{name}{port}/proxy", api.server);
        say!("{} is running at {}", colour(shown, "0;32"), colour(&link, "0;33"))?;
    }
    say!("\nTo further debug and diagnose cluster problems, use 'kubectl cluster-info dump'.")
}

pub async fn can_i(cx: &Cx) -> Result<()> {
    if cx.flags.on("list") {
        return can_i_list(cx).await;
    }
    let args = cx.flags.args();
    let namespace = if cx.flags.on("all-namespaces") { String::new() } else { cx.namespace().await? };
    let spec = match args.as_slice() {
        [verb, path] if path.starts_with('/') => json!({"nonResourceAttributes": {"path": path, "verb": verb}}),
        [verb, resource] | [verb, resource, _] => {
            let (word, name) = resource
                .split_once('/')
                .map_or((*resource, args.get(2).copied().unwrap_or_default()), |(word, name)| (word, name));
            let (group, plural, namespaced) = match cx.discovery().await?.find(word) {
                Ok(found) => (found.group.clone(), found.plural.clone(), found.namespaced),
                Err(_) if word == "*" => ("*".into(), "*".into(), true),
                Err(_) => {
                    eprintln!("Warning: the server doesn't have a resource type '{word}'\n");
                    let (plural, group) = word.split_once('.').unwrap_or((word, ""));
                    (group.to_owned(), plural.to_owned(), true)
                }
            };
            if !namespaced {
                let group = if group.is_empty() { String::new() } else { format!(" in group '{group}'") };
                eprintln!("Warning: resource '{plural}' is not namespace scoped{group}\n");
            }
            let namespace = if namespaced { namespace } else { String::new() };
            let subresource = cx.flags.some("subresource").unwrap_or_default();
            json!({"resourceAttributes": {"namespace": namespace, "verb": verb, "group": group, "resource": plural, "subresource": subresource, "name": name}})
        }
        _ => {
            return Err(fail!(
                "you must specify two arguments: verb resource or verb resource/resourceName.\nSee 'knarr auth can-i -h' for help and examples."
            ));
        }
    };
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec});
    let answer = cx.api().await?.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await?;
    let allowed = dig(&answer, "status.allowed") == true;
    let mut text = if allowed { "yes" } else { "no" }.to_owned();
    if !allowed {
        for field in ["reason", "evaluationError"] {
            match dig_str(&answer["status"], field) {
                "" => {}
                why => text += &format!(" - {why}"),
            }
        }
    }
    if !cx.flags.on("quiet") {
        say!("{text}")?;
    }
    if allowed { Ok(()) } else { Err(Error::Exit(1)) }
}

async fn can_i_list(cx: &Cx) -> Result<()> {
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": cx.namespace().await?}});
    let answer = cx.api().await?.post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", &review).await?;
    let words =
        |list: &Value| format!("[{}]", items(list).map(knarr_api::jsonpath::text).collect::<Vec<_>>().join(" "));
    let mut rows = Vec::new();
    for rule in items(dig(&answer, "status.resourceRules")) {
        for group in items(&rule["apiGroups"]) {
            for resource in items(&rule["resources"]) {
                let (resource, group) = (resource.as_str().unwrap_or_default(), group.as_str().unwrap_or_default());
                let shown = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
                rows.push(format!("{shown}\t[]\t{}\t{}\n", words(&rule["resourceNames"]), words(&rule["verbs"])));
            }
        }
    }
    for rule in items(dig(&answer, "status.nonResourceRules")) {
        for url in items(&rule["nonResourceURLs"]) {
            rows.push(format!("\t[{}]\t[]\t{}\n", url.as_str().unwrap_or_default(), words(&rule["verbs"])));
        }
    }
    let head = if cx.flags.on("no-headers") { "" } else { "Resources\tNon-Resource URLs\tResource Names\tVerbs\n" };
    write_out(&tabs::TABLE.align(&format!("{head}{}", rows.concat())))
}

pub async fn whoami(cx: &Cx) -> Result<()> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}});
    let answer = cx.api().await?.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await?;
    let format = Format::of(cx)?;
    if !format.is_table() {
        return Printer::new(cx, format).object(&answer);
    }
    let user = dig(&answer, "status.userInfo");
    let words =
        |list: &Value| format!("[{}]", items(list).map(knarr_api::jsonpath::text).collect::<Vec<_>>().join(" "));
    let mut table = format!("ATTRIBUTE\tVALUE\nUsername\t{}\n", dig_str(user, "username"));
    if !dig_str(user, "uid").is_empty() {
        table += &format!("UID\t{}\n", dig_str(user, "uid"));
    }
    table += &format!("Groups\t{}\n", words(&user["groups"]));
    for (key, value) in user["extra"].as_object().into_iter().flatten() {
        table += &format!("Extra: {key}\t{}\n", words(value));
    }
    write_out(&tabs::TABLE.align(&table))
}

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

async fn metrics(cx: &Cx, path: &str) -> Result<Vec<Value>> {
    let name = cx.flags.args().first().copied().unwrap_or_default().to_owned();
    let query = Query::default().add("labelSelector", cx.flags.some("selector").unwrap_or_default());
    let query = query.add("fieldSelector", cx.flags.some("field-selector").unwrap_or_default());
    let path = if name.is_empty() { query.on(path) } else { format!("{path}/{name}") };
    if !cx.discovery().await?.resources.iter().any(|resource| resource.group == "metrics.k8s.io") {
        return Err(fail!("Metrics API not available"));
    }
    let answer = cx.api().await?.get(&path).await?;
    Ok(match answer["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![answer],
    })
}

/// Milli CPUs and bytes.
fn usage(value: &Value) -> (i64, i64) {
    (Quantity::or_zero(&value["cpu"]).milli_value(), Quantity::or_zero(&value["memory"]).value())
}

const MIB: i64 = 1 << 20;

fn sort(cx: &Cx, rows: &mut [(String, (i64, i64), String)]) -> Result<()> {
    match cx.flags.some("sort-by") {
        None => rows.sort_by(|a, b| a.0.cmp(&b.0)),
        Some("cpu") => rows.sort_by_key(|row| std::cmp::Reverse(row.1.0)),
        Some("memory") => rows.sort_by_key(|row| std::cmp::Reverse(row.1.1)),
        Some(_) => return Err(fail!("--sort-by accepts only cpu or memory")),
    }
    Ok(())
}

pub async fn top_node(cx: &Cx) -> Result<()> {
    let list = metrics(cx, &format!("{METRICS}/nodes")).await?;
    let nodes = cx.api().await?.get("/api/v1/nodes").await?;
    let of = if cx.flags.on("show-capacity") { "capacity" } else { "allocatable" };
    let mut rows = Vec::new();
    for metric in &list {
        let name = dig_str(metric, "metadata.name");
        let (cpu, memory) = usage(&metric["usage"]);
        let node = items(&nodes["items"]).find(|node| dig_str(node, "metadata.name") == name);
        let (all_cpu, all_memory) = node.map_or((0, 0), |node| usage(&node["status"][of]));
        let share = |part: i64, all: i64| if all == 0 { 0 } else { (part as f64 / all as f64 * 100.0) as i64 };
        let line =
            format!("{name}\t{cpu}m\t{}%\t{}Mi\t{}%\n", share(cpu, all_cpu), memory / MIB, share(memory, all_memory));
        rows.push((name.to_owned(), (cpu, memory), line));
    }
    sort(cx, &mut rows)?;
    let head = if cx.flags.on("no-headers") { "" } else { "NAME\tCPU(cores)\tCPU(%)\tMEMORY(bytes)\tMEMORY(%)\n" };
    write_out(&tabs::TABLE.align(&format!("{head}{}", rows.into_iter().map(|row| row.2).collect::<String>())))
}

pub async fn top_pod(cx: &Cx) -> Result<()> {
    let all = cx.flags.on("all-namespaces");
    let path = match all {
        true => format!("{METRICS}/pods"),
        false => format!("{METRICS}/namespaces/{}/pods", cx.namespace().await?),
    };
    let list = metrics(cx, &path).await?;
    if list.is_empty() {
        match all {
            true => eprintln!("No resources found"),
            false => eprintln!("No resources found in {} namespace.", cx.namespace().await?),
        }
        return Ok(());
    }
    let by_container = cx.flags.on("containers");
    let (mut rows, mut sum) = (Vec::new(), (0, 0));
    for metric in &list {
        let (namespace, name) = (dig_str(metric, "metadata.namespace"), dig_str(metric, "metadata.name"));
        let place = if all { format!("{namespace}\t") } else { String::new() };
        let key = format!("{namespace}/{name}");
        let mut pod = (0, 0);
        for container in items(&metric["containers"]) {
            let (cpu, memory) = usage(&container["usage"]);
            pod = (pod.0 + cpu, pod.1 + memory);
            if by_container {
                let line = format!("{place}{name}\t{}\t{cpu}m\t{}Mi\n", dig_str(container, "name"), memory / MIB);
                rows.push((key.clone(), (cpu, memory), line));
            }
        }
        sum = (sum.0 + pod.0, sum.1 + pod.1);
        if !by_container {
            rows.push((key, pod, format!("{place}{name}\t{}m\t{}Mi\n", pod.0, pod.1 / MIB)));
        }
    }
    sort(cx, &mut rows)?;
    let mut table = String::new();
    if !cx.flags.on("no-headers") {
        table += if all { "NAMESPACE\t" } else { "" };
        table +=
            if by_container { "POD\tNAME\tCPU(cores)\tMEMORY(bytes)\n" } else { "NAME\tCPU(cores)\tMEMORY(bytes)\n" };
    }
    rows.into_iter().for_each(|row| table += &row.2);
    if cx.flags.on("sum") {
        let gap = format!("{}{}", if all { "\t" } else { "" }, if by_container { "\t" } else { "" });
        table += &format!("{gap}\t________\t________\n{gap}\t{}m\t{}Mi\n", sum.0, sum.1 / MIB);
    }
    write_out(&tabs::TABLE.align(&table))
}
