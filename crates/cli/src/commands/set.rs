//! `set`: changes the parts of an object that are changed most often.

use clap::{Arg, Command};
use knarr_api::schema;
use serde_json::{Value, json};

use super::{apply, change};
use crate::{
    cx::{Cx, dig, dig_mut, dig_str, items},
    error::{Error, Result},
    fail,
    flags::{self, list, switch, text},
    merge,
    output::Reporter,
    resources::{Info, Search},
    say,
};

pub fn command() -> Command {
    let sub = |name, about, usage, more: Vec<Arg>| {
        let mut own = more;
        own.extend([switch("all", "All objects of the kinds"), flags::selector()]);
        own.extend(flags::writing());
        own.extend(flags::files());
        flags::command(name, about, usage, own)
    };
    let containers = || text("containers", "Which containers: names, or * for all").short('c');
    Command::new("set").about("Set specific features on objects").subcommand_required(true).subcommands([
        sub("image", "Update the image of a pod template", "TYPE/NAME CONTAINER=IMAGE...", vec![]),
        sub(
            "env",
            "Update environment variables on a pod template",
            "TYPE/NAME KEY=VALUE... KEY-...",
            vec![
                containers(),
                list("env", "KEY=VALUE").short('e'),
                text("from", "configmap/NAME or secret/NAME: all of its keys"),
                text("prefix", "Put this before the names of --from"),
                list("keys", "Only these keys of --from"),
                switch("list", "Show what there is"),
                switch("overwrite", "Change what is there (the default)"),
            ],
        ),
        sub(
            "resources",
            "Update resource requests and limits",
            "TYPE/NAME",
            vec![containers(), text("limits", "cpu=1,memory=1Gi"), text("requests", "cpu=1,memory=1Gi")],
        ),
        sub("serviceaccount", "Update the service account of a resource", "TYPE NAME SERVICE_ACCOUNT", vec![])
            .visible_alias("sa"),
        sub("selector", "Set the selector on a resource", "TYPE NAME EXPRESSION", vec![]),
        sub(
            "subject",
            "Update the subjects of a role binding",
            "TYPE NAME",
            vec![
                list("subject-user", "A user").long("user"),
                list("group", "A group"),
                list("serviceaccount", "NAMESPACE:NAME"),
            ],
        ),
    ])
}

pub async fn run(cx: &Cx, what: &str) -> Result<()> {
    let args = cx.flags.args();
    let is_change = |word: &str| word.contains('=') || (word.ends_with('-') && word.len() > 1);
    let first = match what {
        "image" | "env" | "selector" => args.iter().position(|word| is_change(word)).unwrap_or(args.len()),
        "serviceaccount" => args.len().saturating_sub(1),
        _ => args.len(),
    };
    let (objects, words) = args.split_at(first);
    if words.is_empty() && what == "image" {
        return Err(fail!("at least one image update is required"));
    }
    let source = if what == "env" { from(cx).await? } else { Vec::new() };
    let found = Search::from_flags(cx).with_args(objects).run(cx).await?;
    let mut errors = found.errors;
    let mut reporter = Reporter::new(cx)?;
    for info in &found.infos {
        let mut object = info.object.clone();
        let changed = match what {
            "image" => image(&mut object, words),
            "env" if cx.flags.on("list") => {
                show(&object, info)?;
                continue;
            }
            "env" => env(cx, &mut object, words, &source),
            "resources" => resources(cx, &mut object),
            "serviceaccount" => {
                let name = *words.first().unwrap_or(&"");
                pod_spec(&mut object).map(|spec| {
                    spec["serviceAccountName"] = name.into();
                    spec["serviceAccount"] = name.into();
                })
            }
            "selector" => selector(&mut object, words),
            _ => subject(cx, &mut object),
        };
        if let Err(error) = match changed {
            Ok(()) => send(cx, info, &object, what, &mut reporter).await,
            Err(error) => Err(error),
        } {
            errors.push(error);
        }
    }
    Error::collected(errors)
}

async fn send(cx: &Cx, info: &Info, object: &Value, what: &str, reporter: &mut Reporter) -> Result<()> {
    let ty = schema::of(&info.resource.group, &info.resource.version, &info.resource.kind);
    let patch = merge::two_way(ty, &info.object, object);
    let done = match what {
        "resources" => "resource requirements updated",
        "subject" => "subjects updated",
        "image" => "image updated",
        "env" => "env updated",
        "serviceaccount" => "serviceaccount updated",
        _ => "selector updated",
    };
    if patch == json!({}) {
        // kubectl is silent where an image is what it was, and says what it did elsewhere.
        return if matches!(what, "image" | "env") { Ok(()) } else { reporter.done(&info.object, done) };
    }
    let changed = change::send(cx, info, apply::patch_type(ty.is_some()), &patch, "kubectl-set").await?;
    reporter.done(&changed, done)
}

/// Where a kind keeps the specification of its pods.
fn pod_path(object: &Value) -> &'static str {
    match dig_str(object, "kind") {
        "Pod" => "spec",
        "CronJob" => "spec.jobTemplate.spec.template.spec",
        _ => "spec.template.spec",
    }
}

pub fn pod_spec(object: &mut Value) -> Result<&mut Value> {
    let path = pod_path(object);
    if !dig(object, path)["containers"].is_array() {
        return Err(fail!("{} has no pods", crate::output::name(object)));
    }
    Ok(dig_mut(object, path))
}

fn containers<'a>(spec: &'a mut Value, wanted: &'a str) -> impl Iterator<Item = &'a mut Value> {
    let lists = spec
        .as_object_mut()
        .into_iter()
        .flatten()
        .filter(|(key, _)| matches!(key.as_str(), "containers" | "initContainers"));
    let all = lists.flat_map(|(_, list)| list.as_array_mut().into_iter().flatten());
    all.filter(move |container| wanted == "*" || wanted.split(',').any(|name| container["name"] == name))
}

fn image(object: &mut Value, words: &[&str]) -> Result<()> {
    let spec = pod_spec(object)?;
    for word in words {
        let (name, image) = word.split_once('=').ok_or_else(|| fail!("invalid image: {word}"))?;
        let mut found = false;
        for container in containers(spec, name) {
            container["image"] = image.into();
            found = true;
        }
        if !found {
            return Err(fail!("unable to find container named \"{name}\""));
        }
    }
    Ok(())
}

/// The variables of `--from`.
async fn from(cx: &Cx) -> Result<Vec<Value>> {
    let Some(from) = cx.flags.some("from") else { return Ok(Vec::new()) };
    let found = Search::default().with_args(&[from]).run(cx).await?.all()?;
    let (keys, prefix) = (cx.flags.list("keys"), cx.flags.some("prefix").unwrap_or_default());
    let mut variables = Vec::new();
    for info in found {
        let reference = match info.resource.kind.as_str() {
            "ConfigMap" => "configMapKeyRef",
            "Secret" => "secretKeyRef",
            other => return Err(fail!("unsupported resource specified in --from: {other}")),
        };
        for key in info.object["data"].as_object().into_iter().flatten().map(|(key, _)| key) {
            if keys.is_empty() || keys.contains(&key.as_str()) {
                let name: String =
                    key.to_uppercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
                if name != *key {
                    eprintln!("Warning: key {key} transferred to {name}");
                }
                variables.push(json!({"name": format!("{prefix}{name}"), "valueFrom": {reference: {"name": info.name, "key": key}}}));
            }
        }
    }
    Ok(variables)
}

fn env(cx: &Cx, object: &mut Value, words: &[&str], source: &[Value]) -> Result<()> {
    let wanted = cx.flags.some("containers").unwrap_or("*").to_owned();
    let typed = cx.flags.all("env");
    let (mut set, mut removed): (Vec<Value>, Vec<&str>) = (source.to_vec(), Vec::new());
    for word in words.iter().chain(&typed) {
        match (word.split_once('='), word.strip_suffix('-')) {
            (Some((name, value)), _) => set.push(json!({"name": name, "value": value})),
            (None, Some(name)) => removed.push(name),
            (None, None) => {
                return Err(fail!(
                    "environment variables must be of the form key=value and can not contain any spaces: {word}"
                ));
            }
        }
    }
    let overwrite = cx.flags.switch("overwrite").unwrap_or(true);
    let spec = pod_spec(object)?;
    for container in containers(spec, &wanted) {
        let mut list = container["env"].as_array().cloned().unwrap_or_default();
        list.retain(|variable| !removed.contains(&dig_str(variable, "name")));
        for variable in &set {
            match list.iter_mut().find(|known| known["name"] == variable["name"]) {
                Some(known) if overwrite => known.clone_from(variable),
                Some(known) => {
                    return Err(fail!(
                        "'{}' already has a value ({}), and --overwrite is false",
                        dig_str(known, "name"),
                        dig_str(known, "value")
                    ));
                }
                None => list.push(variable.clone()),
            }
        }
        if list.is_empty() && container["env"].as_array().is_some_and(|old| !old.is_empty()) {
            container.as_object_mut().map(|container| container.remove("env"));
        } else if !list.is_empty() {
            container["env"] = list.into();
        }
    }
    Ok(())
}

fn show(object: &Value, info: &Info) -> Result<()> {
    let spec = dig(object, pod_path(object));
    for container in items(&spec["containers"]).chain(items(&spec["initContainers"])) {
        say!("# {}, container {}", format_args!("{} {}", info.resource.kind, info.name), dig_str(container, "name"))?;
        for variable in items(&container["env"]) {
            let name = dig_str(variable, "name");
            let from = &variable["valueFrom"];
            match from.as_object().and_then(|map| map.iter().next()) {
                None => say!("{name}={}", dig_str(variable, "value"))?,
                Some((kind, source)) => match kind.as_str() {
                    "configMapKeyRef" => {
                        say!("# {name} from configmap {}, key {}", dig_str(source, "name"), dig_str(source, "key"))?
                    }
                    "secretKeyRef" => {
                        say!("# {name} from secret {}, key {}", dig_str(source, "name"), dig_str(source, "key"))?
                    }
                    "fieldRef" => say!("# {name} from field path {}", dig_str(source, "fieldPath"))?,
                    _ => say!("# {name} from resource field {}", dig_str(source, "resource"))?,
                },
            }
        }
    }
    Ok(())
}

fn resources(cx: &Cx, object: &mut Value) -> Result<()> {
    let wanted = cx.flags.some("containers").unwrap_or("*").to_owned();
    if cx.flags.some("limits").is_none() && cx.flags.some("requests").is_none() {
        return Err(fail!("you must specify an update to requests or limits (in the form of --requests/--limits)"));
    }
    let spec = pod_spec(object)?;
    let mut found = false;
    for container in containers(spec, &wanted) {
        found = true;
        for field in ["limits", "requests"] {
            for pair in cx.flags.list(field) {
                let bad = || fail!("invalid argument syntax {pair}, expected <resource>=<quantity>");
                let (name, amount) = pair.split_once('=').ok_or_else(bad)?;
                amount.parse::<knarr_api::quantity::Quantity>().map_err(|error| fail!("{error}"))?;
                dig_mut(container, "resources")[field][name] = amount.into();
            }
        }
    }
    if found { Ok(()) } else { Err(fail!("unable to find container named {wanted}")) }
}

fn selector(object: &mut Value, words: &[&str]) -> Result<()> {
    let kind = dig_str(object, "kind").to_owned();
    if kind != "Service" {
        return Err(fail!("cannot set a selector on {}", crate::output::name(object)));
    }
    let mut labels = serde_json::Map::new();
    for pair in words.iter().flat_map(|word| word.split(',')) {
        let (key, value) = pair.split_once('=').ok_or_else(|| fail!("invalid label selector: {pair}"))?;
        labels.insert(key.into(), value.into());
    }
    object["spec"]["selector"] = labels.into();
    Ok(())
}

fn subject(cx: &Cx, object: &mut Value) -> Result<()> {
    if !matches!(dig_str(object, "kind"), "RoleBinding" | "ClusterRoleBinding") {
        return Err(fail!("setting subjects is only supported for RoleBinding/ClusterRoleBinding"));
    }
    let mut subjects: Vec<Value> = items(&object["subjects"]).cloned().collect();
    let mut add = |subject: Value| {
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    };
    for (flag, kind) in [("subject-user", "User"), ("group", "Group")] {
        for name in cx.flags.list(flag) {
            add(json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}));
        }
    }
    for account in cx.flags.list("serviceaccount") {
        let (namespace, name) =
            account.split_once(':').ok_or_else(|| fail!("serviceaccount must be <namespace>:<name>"))?;
        add(json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}));
    }
    object["subjects"] = subjects.into();
    Ok(())
}
