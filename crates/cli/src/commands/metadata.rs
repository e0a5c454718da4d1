//! `label` and `annotate`: small changes of what objects say about themselves.

use clap::Command;
use serde_json::{Map, Value, json};

use super::change::{self, MERGE};
use crate::{
    cx::{Cx, dig},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
    output::Reporter,
    resources::{Info, Search},
    say,
};

pub fn commands() -> [Command; 2] {
    [("label", "Update the labels on a resource"), ("annotate", "Update the annotations on a resource")]
        .map(|(name, about)| command(name, about))
}

fn command(name: &'static str, about: &'static str) -> Command {
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

/// `label` and `annotate`: what is set and what is removed, behind the words that name objects.
pub async fn run(cx: &Cx, field: &str) -> Result<()> {
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
        change::send(cx, info, MERGE, &json!({ "metadata": metadata }), manager).await?
    };
    reporter.done(&object, what)
}
