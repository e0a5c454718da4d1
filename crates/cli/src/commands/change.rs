//! Changes of objects: `patch`, `scale`, `replace`.

use clap::Command;
use serde_json::{Value, json};

use super::{apply, delete};
use crate::{
    api::Query,
    cx::{Cx, dig, dig_str},
    error::{Error, Result},
    fail,
    flags::{self, DryRun, switch, text},
    output::Reporter,
    resources::{self, Found, Info, Search},
};

pub const MERGE: &str = "application/merge-patch+json";

pub fn commands() -> [Command; 3] {
    let with = |mut own: Vec<clap::Arg>, name, about, usage| {
        own.extend(flags::writing());
        own.extend(flags::files());
        flags::command(name, about, usage, own)
    };
    [
        with(
            vec![
                text("patch", "The patch, as JSON or YAML").short('p'),
                text("patch-file", "A file with the patch"),
                text("type", "json, merge or strategic"),
                text("subresource", "Patch a subresource"),
                switch("local", "Not supported: change files by an editor"),
                flags::selector(),
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
                flags::selector(),
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
    ]
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
    let kind = match cx.flags.text("type").unwrap_or("strategic") {
        "json" => "application/json-patch+json",
        "merge" => MERGE,
        "strategic" => apply::patch_type(true),
        other => return Err(fail!("--type must be one of [json merge strategic], not {other:?}")),
    };
    let search = Search::from_flags(cx);
    let mut reporter = Reporter::new(cx)?;
    let found = search.run(cx).await?;
    let mut errors = found.errors;
    for info in &found.infos {
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
    if cx.flags.list("filename").is_empty() {
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
