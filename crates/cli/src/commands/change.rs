//! Small changes of objects: `label`, `annotate`, `taint`, `patch`, `scale`, `replace`, `cordon`.

use clap::Command;
use serde_json::{Map, Value, json};

use super::{apply, delete};
use crate::{
    api::Query,
    cx::{Cx, dig, dig_mut, dig_str, items},
    error::{Error, Result},
    fail,
    flags::{self, DryRun, switch, text},
    output::Reporter,
    resources::{self, Found, Info, Search},
    say,
};

pub const MERGE: &str = "application/merge-patch+json";

fn metadata_command(name: &'static str, about: &'static str) -> Command {
    let mut own = vec![
        switch("all", "All objects of the kinds"),
        switch("overwrite", "Change what is there already"),
        switch("list", "Show what is there"),
        switch("local", "Not supported: change files by an editor"),
        text("resource-version", "Only change this version of the object"),
        flags::selector(),
        flags::field_selector(),
        flags::all_namespaces(),
    ];
    own.extend(flags::writing());
    own.extend(flags::files());
    flags::command(name, about, "TYPE NAME KEY=VALUE... KEY-...", own)
}

pub fn commands() -> Vec<Command> {
    let with = |mut own: Vec<clap::Arg>, name, about, usage| {
        own.push(flags::selector());
        own.extend(flags::writing());
        own.extend(flags::files());
        flags::command(name, about, usage, own)
    };
    vec![
        metadata_command("label", "Update the labels on a resource"),
        metadata_command("annotate", "Update the annotations on a resource"),
        with(
            vec![switch("all", "All nodes"), switch("overwrite", "Change the value of a taint that is there")],
            "taint",
            "Update the taints on one or more nodes",
            "NODE NAME KEY=VALUE:EFFECT... KEY-...",
        ),
        with(
            vec![
                text("patch", "The patch, as JSON or YAML").short('p'),
                text("patch-file", "A file with the patch"),
                text("type", "json, merge or strategic"),
                text("subresource", "Patch a subresource"),
                switch("local", "Not supported: change files by an editor"),
            ],
            "patch",
            "Update fields of a resource",
            "TYPE NAME",
        ),
        with(
            vec![
                text("replicas", "The new number of pods"),
                text("current-replicas", "Only where this is the number now"),
                text("resource-version", "Only where this is the version now"),
                switch("all", "All objects of the kinds"),
                text("timeout", "Wait until the number is reached, at most this long"),
            ],
            "scale",
            "Set a new size for a deployment, replica set, or replication controller",
            "TYPE NAME",
        ),
        with(
            vec![
                switch("force", "Delete and create the object where it cannot be replaced"),
                text("grace-period", "With --force: seconds that a pod has to end"),
                text("timeout", "With --force: how long to wait"),
                text("cascade", "With --force: what becomes of dependents"),
                switch("save-config", "Note what is sent, for a later apply"),
                text("validate", "strict, warn or ignore"),
                text("subresource", "Replace a subresource"),
            ],
            "replace",
            "Replace a resource by file name or stdin",
            "",
        ),
        with(vec![], "cordon", "Mark node as unschedulable", "NODE"),
        with(vec![], "uncordon", "Mark node as schedulable", "NODE"),
    ]
}

/// `label` and `annotate`: what is set and what is removed, behind the words that name objects.
pub async fn metadata(cx: &Cx, field: &str) -> Result<()> {
    let what = field.trim_end_matches('s');
    let args = cx.flags.args();
    let is_change = |word: &str| word.contains('=') || word.ends_with('-');
    let first = args.iter().position(|word| is_change(word)).unwrap_or(args.len());
    let (mut set, mut removed) = (Map::new(), Vec::new());
    for word in &args[first..] {
        match (word.split_once('='), word.strip_suffix('-')) {
            (Some((key, value)), _) => _ = set.insert(key.into(), value.into()),
            (None, Some(key)) => removed.push(key),
            (None, None) => return Err(fail!("all resources must be specified before {what} changes: {word}")),
        }
    }
    if set.is_empty() && removed.is_empty() && !cx.flags.on("list") {
        return Err(fail!("at least one {what} update is required"));
    }
    if let Some(key) = removed.iter().find(|key| set.contains_key(**key)) {
        return Err(fail!(
            "can not both modify and remove {} in the same command",
            if what == "label" { format!("a label {key}") } else { format!("an annotation {key}") }
        ));
    }
    let search = Search::from_flags(cx).with_args(&args[..first]);
    let found = search.run(cx).await?;
    let mut errors = found.errors;
    let mut reporter = Reporter::new(cx)?;
    for info in &found.infos {
        if cx.flags.on("list") {
            if found.infos.len() > 1 || !found.single {
                say!("Listing {field} for {}.{}/{}:", info.resource.kind, info.resource.group, info.name)?;
            }
            for (key, value) in dig(&info.object, "metadata")[field].as_object().into_iter().flatten() {
                say!("{key}={}", value.as_str().unwrap_or_default())?;
            }
            continue;
        }
        if let Err(error) = change_metadata(cx, info, field, &set, &removed, &mut reporter).await {
            errors.push(error);
        }
    }
    Error::collected(errors)
}

async fn change_metadata(
    cx: &Cx,
    info: &Info,
    field: &str,
    set: &Map<String, Value>,
    removed: &[&str],
    reporter: &mut Reporter,
) -> Result<()> {
    let now = &info.object["metadata"][field];
    if !cx.flags.on("overwrite") {
        for (key, value) in set {
            if let Some(old) = now[key].as_str().filter(|old| value != old) {
                return Err(match field {
                    "labels" => fail!("'{key}' already has a value ({old}), and --overwrite is false"),
                    _ => fail!(
                        "--overwrite is false but found the following declared annotation(s): '{key}' already has a value ({old})"
                    ),
                });
            }
        }
    }
    let mut patch = Map::new();
    for (key, value) in set.iter().filter(|(key, value)| now[key.as_str()] != **value) {
        patch.insert(key.clone(), value.clone());
    }
    for key in removed {
        if now[*key].is_null() {
            let noun = if field == "labels" { "label" } else { "annotation" };
            say!("{noun} \"{key}\" not found.")?;
        } else {
            patch.insert((*key).into(), Value::Null);
        }
    }
    let (added, gone) = (patch.values().any(|value| !value.is_null()), patch.values().any(Value::is_null));
    let what = match (field, added, gone) {
        ("annotations", ..) => "annotated",
        (_, false, false) => "not labeled",
        (_, true, _) => "labeled",
        (_, false, true) => "unlabeled",
    };
    let mut metadata = json!({ field: patch });
    if let Some(version) = cx.flags.some("resource-version") {
        metadata["resourceVersion"] = version.into();
    }
    let manager = if field == "labels" { "kubectl-label" } else { "kubectl-annotate" };
    let object = if patch.is_empty() {
        info.object.clone()
    } else {
        send(cx, info, MERGE, &json!({ "metadata": metadata }), manager).await?
    };
    reporter.done(&object, what)
}

/// Sends a patch, or makes it here where nothing is to be sent.
pub async fn send(cx: &Cx, info: &Info, kind: &str, patch: &Value, manager: &str) -> Result<Value> {
    if cx.dry_run()? == DryRun::Client {
        let ty = knarr_api::schema::of(&info.resource.group, &info.resource.version, &info.resource.kind);
        return match kind {
            "application/json-patch+json" => {
                knarr_api::patch::json_patch(&info.object, patch).map_err(|error| fail!("{error}"))
            }
            MERGE => apply::patched(&info.object, None, patch),
            _ => apply::patched(&info.object, ty, patch),
        };
    }
    let path = info.path(cx.flags.some("subresource"));
    cx.api().await?.patch(&cx.write_query(manager)?.on(&path), kind, patch.to_string().into_bytes()).await
}

pub async fn patch(cx: &Cx) -> Result<()> {
    let text = match (cx.flags.some("patch"), cx.flags.some("patch-file")) {
        (Some(text), None) => text.to_owned(),
        (None, Some(file)) => {
            std::fs::read_to_string(file).map_err(|error| fail!("unable to read patch file: {error}"))?
        }
        _ => {
            return Err(Error::Usage(
                "must specify --patch or --patch-file containing the contents of the patch".into(),
            ));
        }
    };
    let documents = crate::yaml::parse_all(&text).map_err(|error| fail!("unable to parse {text:?}: yaml: {error}"))?;
    let patch = documents.into_iter().next().unwrap_or(Value::Null);
    let asked = cx.flags.text("type").unwrap_or("strategic");
    let search = Search::from_flags(cx);
    let mut reporter = Reporter::new(cx)?;
    let found = search.run(cx).await?;
    let mut errors = found.errors;
    for info in &found.infos {
        let kind = match asked {
            "json" => "application/json-patch+json",
            "merge" => MERGE,
            "strategic" => apply::patch_type(true),
            other => return Err(fail!("--type must be one of [json merge strategic], not {other:?}")),
        };
        match send(cx, info, kind, &patch, "kubectl-patch").await {
            Ok(object) => {
                let same = object == info.object;
                reporter.done(&object, if same { "patched (no change)" } else { "patched" })?;
            }
            Err(error) => errors.push(error),
        }
    }
    Error::collected(errors)
}

pub async fn scale(cx: &Cx) -> Result<()> {
    let replicas: i32 = cx
        .flags
        .number("replicas")?
        .ok_or_else(|| Error::Raw("error: required flag(s) \"replicas\" not set".into()))?;
    if replicas < 0 {
        return Err(Error::Plain(
            "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0".into(),
        ));
    }
    let found = Search::from_flags(cx).run(cx).await?;
    let errors = found.errors;
    let mut reporter = Reporter::new(cx)?;
    if found.infos.is_empty() && errors.is_empty() {
        return Err(fail!("no objects passed to scale"));
    }
    for info in &found.infos {
        scale_one(cx, info, replicas, &mut reporter).await?;
    }
    Error::collected(errors)
}

async fn scale_one(cx: &Cx, info: &Info, replicas: i32, reporter: &mut Reporter) -> Result<()> {
    if !info.resource.has("scale") {
        return Err(Error::Raw(format!(
            "Error from server (NotFound): the server could not find the requested resource (patch {} {})",
            info.resource.qualified(),
            info.name
        )));
    }
    let now = dig(&info.object, "spec.replicas").as_i64().unwrap_or(1);
    if let Some(expected) =
        cx.flags.number::<i64>("current-replicas")?.filter(|expected| *expected >= 0 && *expected != now)
    {
        return Err(fail!("Expected replicas to be {expected}, was {now}"));
    }
    if let Some(version) = cx
        .flags
        .some("resource-version")
        .filter(|version| *version != dig_str(&info.object, "metadata.resourceVersion"))
    {
        return Err(fail!(
            "Expected resource version to be {version}, was {}",
            dig_str(&info.object, "metadata.resourceVersion")
        ));
    }
    if cx.dry_run()? != DryRun::Client {
        let body = json!({"spec": {"replicas": replicas}}).to_string().into_bytes();
        let path = cx.write_query("kubectl-scale")?.on(&info.path(Some("scale")));
        cx.api().await?.patch(&path, MERGE, body).await?;
        if let Some(seconds) = cx.flags.seconds("timeout")?.filter(|seconds| *seconds > 0.0) {
            let reached = |object: &Value| {
                let ready = dig(object, "status.replicas").as_i64().unwrap_or(0) == i64::from(replicas);
                ready
                    && dig(object, "status.observedGeneration").as_i64() >= dig(object, "metadata.generation").as_i64()
            };
            super::wait::until(cx, info, std::time::Duration::from_secs_f64(seconds), reached).await?;
        }
    }
    reporter.done(&info.object, "scaled")
}

pub async fn replace(cx: &Cx) -> Result<()> {
    if cx.flags.list("filename").is_empty() && cx.flags.some("kustomize").is_none() {
        return Err(Error::Usage("must specify --filename to replace".into()));
    }
    let Found { infos, mut errors, .. } = resources::from_files(cx).await?;
    if infos.is_empty() && errors.is_empty() {
        return Err(fail!("no objects passed to replace"));
    }
    let mut reporter = Reporter::new(cx)?;
    for info in infos {
        match replace_one(cx, &info).await {
            Ok(object) => reporter.done(&object, "replaced")?,
            Err(error) => errors.push(error),
        }
    }
    Error::collected(errors)
}

async fn replace_one(cx: &Cx, info: &Info) -> Result<Value> {
    if cx.flags.on("force") {
        let mut options = delete::Options::read(cx)?;
        options.wait = true;
        match options.delete(cx, info).await {
            Ok(_) => delete::gone(cx, info, None, tokio::time::Instant::now() + options.timeout).await?,
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        return apply::create(cx, info, "kubectl-replace").await;
    }
    let object = match dig(&info.object, "metadata.annotations").get(apply::LAST_APPLIED) {
        Some(_) => apply::with_note(&info.object),
        None if cx.flags.on("save-config") => apply::with_note(&info.object),
        None => info.object.clone(),
    };
    if cx.dry_run()? == DryRun::Client {
        return Ok(object);
    }
    let mut object = object;
    if object["metadata"]["resourceVersion"].is_null() {
        // Some kinds are only replaced by who says which version they mean.
        let now = cx.api().await?.get(&info.path(None)).await;
        let now = now.map_err(|error| error.prefixed(&format!("error when replacing \"{}\"", info.source)))?;
        object["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
    }
    let query: Query = cx.write_query("kubectl-replace")?.add("fieldValidation", cx.validation()?);
    let path = query.on(&info.path(cx.flags.some("subresource")));
    cx.api().await?.put(&path, &object).await.map_err(|error| match error.reason() {
        "Invalid" => error,
        _ => error.prefixed(&format!("error when replacing \"{}\"", info.source)),
    })
}

/// The nodes that the words and selectors of a command mean.
pub async fn nodes(cx: &Cx) -> Result<Vec<Info>> {
    let mut args = vec!["nodes"];
    args.extend(cx.flags.args());
    let search = Search::from_flags(cx);
    if args.len() == 1 && search.selector.is_empty() {
        return Err(Error::Usage(format!("USAGE: {} NODE [flags]", cx.command.trim_start_matches("knarr "))));
    }
    let search = Search { all: !search.selector.is_empty(), ..search };
    search.with_args(&args).run(cx).await?.all()
}

pub async fn cordon(cx: &Cx, on: bool) -> Result<()> {
    for info in nodes(cx).await? {
        cordon_one(cx, &info, on).await?;
    }
    Ok(())
}

pub async fn cordon_one(cx: &Cx, info: &Info, on: bool) -> Result<()> {
    let now = dig(&info.object, "spec.unschedulable").as_bool().unwrap_or(false);
    let word = if on { "cordoned" } else { "uncordoned" };
    if now == on {
        return say!("node/{} already {word}{}", info.name, cx.dry_run()?.note());
    }
    let value = if on { Value::Bool(true) } else { Value::Null };
    send(
        cx,
        info,
        apply::patch_type(true),
        &json!({"spec": {"unschedulable": value}}),
        if on { "kubectl-cordon" } else { "kubectl-uncordon" },
    )
    .await?;
    say!("node/{} {word}{}", info.name, cx.dry_run()?.note())
}

pub async fn taint(cx: &Cx) -> Result<()> {
    let args = cx.flags.args();
    let is_change = |word: &str| word.contains(['=', ':']) || word.ends_with('-');
    let first = args.iter().position(|word| is_change(word)).unwrap_or(args.len());
    let (mut added, mut removed): (Vec<Value>, Vec<(String, String)>) = Default::default();
    for word in &args[first..] {
        if let Some(gone) = word.strip_suffix('-') {
            let (key, effect) = gone.split_once(':').unwrap_or((gone, ""));
            removed.push((key.split('=').next().unwrap_or_default().into(), effect.into()));
            continue;
        }
        let (rest, effect) = word.rsplit_once(':').ok_or_else(|| fail!("invalid taint spec: {word}"))?;
        if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            return Err(Error::Usage(format!("invalid taint effect: {effect}, unsupported taint effect")));
        }
        let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
        let mut taint = json!({"key": key, "effect": effect});
        if !value.is_empty() {
            taint["value"] = value.into();
        }
        added.push(taint);
    }
    if added.is_empty() && removed.is_empty() {
        return Err(Error::Usage("at least one taint update is required".into()));
    }
    let mut words = vec!["nodes"];
    words.extend(args[..first].iter().skip(1));
    let search = Search::from_flags(cx);
    let search = Search { all: search.all || !search.selector.is_empty(), ..search };
    let found = search.with_args(&words).run(cx).await?;
    let mut errors = found.errors;
    // kubectl does not say here that it was only tried.
    let mut reporter = Reporter::new(cx)?.silent_about_dry_run();
    for info in &found.infos {
        if let Err(error) = taint_one(cx, info, &added, &removed, &mut reporter).await {
            errors.push(error);
        }
    }
    Error::collected(errors)
}

async fn taint_one(
    cx: &Cx,
    info: &Info,
    added: &[Value],
    removed: &[(String, String)],
    reporter: &mut Reporter,
) -> Result<()> {
    let same = |a: &Value, b: &Value| a["key"] == b["key"] && a["effect"] == b["effect"];
    let mut taints: Vec<Value> = items(dig(&info.object, "spec.taints")).cloned().collect();
    let count = taints.len();
    for (key, effect) in removed {
        let before = taints.len();
        taints
            .retain(|taint| taint["key"] != key.as_str() || (!effect.is_empty() && taint["effect"] != effect.as_str()));
        if taints.len() == before {
            let effect = if effect.is_empty() { String::new() } else { format!(":{effect}") };
            return Err(fail!("taint \"{key}{effect}\" not found"));
        }
    }
    let gone = taints.len() < count;
    for taint in added {
        if let Some(at) = taints.iter().position(|known| same(known, taint)) {
            if !cx.flags.on("overwrite") {
                return Err(fail!(
                    "node {} already has {} taint(s) with same effect(s) and --overwrite is false",
                    info.name,
                    dig_str(taint, "key")
                ));
            }
            taints.remove(at);
        }
    }
    let what = match (added.is_empty(), gone) {
        (false, true) => "modified",
        (false, false) => "tainted",
        _ => "untainted",
    };
    // kubectl puts new taints first.
    let all: Vec<Value> = added.iter().cloned().chain(taints).collect();
    let mut modified = info.object.clone();
    *dig_mut(&mut modified, "spec.taints") = all.clone().into();
    let patch = json!({"spec": {"taints": if all.is_empty() { Value::Null } else { all.into() }}});
    let object = send(cx, info, MERGE, &patch, "kubectl-taint").await?;
    reporter.done(&object, what)
}
