//! `edit` and `diff`: objects as text, with the user's own programs.

use std::{fs, path::Path};

use clap::Command;
use knarr_api::schema;
use serde_json::{Value, json};

use super::{apply, change};
use crate::{
    api::Query,
    cx::{Cx, dig},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
    merge,
    output::{Reporter, drop_managed_fields, pretty},
    resources::{self, Found, Info, Search},
    say, yaml,
};

const EDITED: &str = "# Please edit the object below. Lines beginning with a '#' will be ignored,\n# and an empty file will abort the edit. If an error occurs while saving this file will be\n# reopened with the relevant failures.\n#\n";
const ATTEMPTS: usize = 5;

pub fn commands() -> Vec<Command> {
    let mut edit = vec![
        switch("output-patch", "Print the patch"),
        switch("save-config", "Note what is sent, for a later apply"),
        flags::selector(),
        text("subresource", "Edit a subresource"),
        text("validate", "strict, warn or ignore"),
        flags::field_manager(),
        switch("windows-line-endings", "Not supported: lines end as the editor ends them"),
    ];
    edit.extend(flags::output());
    edit.extend(flags::files());
    let mut diff = vec![
        switch("server-side", "Compare with what server-side apply would make"),
        switch("force-conflicts", "With --server-side: take over fields"),
        switch("prune", "Not supported: delete what is gone with `knarr delete -l`"),
        flags::selector(),
        flags::field_manager(),
        switch("show-managed-fields", "Keep metadata.managedFields"),
        text("concurrency", "Not needed: objects are compared one after another"),
    ];
    diff.extend(flags::files());
    vec![
        flags::command("edit", "Edit a resource on the server", "TYPE/NAME", edit),
        flags::command("diff", "Diff the live version against a would-be applied version", "", diff),
    ]
}

/// Runs a program of the user's choice with this terminal; answers with its exit code.
#[allow(clippy::disallowed_methods)]
fn start(line: &str, more: &[&Path]) -> Result<i32> {
    // An editor and a diff program are the user's, as EDITOR and KUBECTL_EXTERNAL_DIFF name them.
    let mut words = line.split_whitespace();
    let program = words.next().ok_or_else(|| fail!("no program is named"))?;
    let status = std::process::Command::new(program).args(words).args(more).status();
    let status = status.map_err(|error| fail!("unable to launch {line:?}: {error}"))?;
    Ok(status.code().unwrap_or(1))
}

pub async fn edit(cx: &Cx) -> Result<()> {
    let found = Search::from_flags(cx).run(cx).await?.all()?;
    let editor =
        ["KUBE_EDITOR", "VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or("vi".into());
    let mut errors = Vec::new();
    for info in found {
        errors.extend(edit_one(cx, &info, &editor).await.err());
    }
    Error::collected(errors)
}

async fn edit_one(cx: &Cx, info: &Info, editor: &str) -> Result<()> {
    let is_json = cx.flags.text("output") == Some("json");
    let mut before = info.object.clone();
    drop_managed_fields(&mut before);
    let body = if is_json { pretty(&before) + "\n" } else { yaml::to_string(&before) };
    let suffix = if is_json { ".json" } else { ".yaml" };
    let file = tempfile::Builder::new().prefix("knarr-edit-").suffix(suffix).tempfile()?.into_temp_path();
    let (mut note, mut text) = (String::new(), body.clone());
    for _ in 0..ATTEMPTS {
        fs::write(&file, format!("{EDITED}{note}{text}"))?;
        if start(editor, &[&file])? != 0 {
            return Err(fail!("there was a problem with the editor {editor:?}"));
        }
        let edited = fs::read_to_string(&file)?;
        text = edited.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        if text.trim().is_empty() {
            return Err(Error::Raw("Edit cancelled, saved file was empty.".into()));
        }
        if text == body {
            return say!("Edit cancelled, no changes made.");
        }
        match save(cx, info, &before, &text).await {
            Ok(object) => return Reporter::new(cx)?.done(&object, "edited"),
            Err(error) => {
                let told = error.report(&cx.command).unwrap_or_default();
                let same = format!("# {}\n#\n", told.replace('\n', "\n# "));
                if same == note {
                    let kept =
                        tempfile::Builder::new().prefix("knarr-edit-").suffix(suffix).tempfile()?.into_temp_path();
                    fs::write(&kept, &text)?;
                    let kept = kept.keep().map_err(|error| fail!("{error}"))?;
                    eprintln!("A copy of your changes has been stored to \"{}\"", kept.display());
                    return Err(error);
                }
                note = same;
            }
        }
    }
    Err(fail!("edited {ATTEMPTS} times without success"))
}

async fn save(cx: &Cx, info: &Info, before: &Value, text: &str) -> Result<Value> {
    let after = yaml::parse_all(text).map_err(|error| fail!("The edited file had a syntax error: {error}"))?;
    let [after] = after.as_slice() else { return Err(fail!("the edited file must hold one object")) };
    if after["metadata"]["name"] != before["metadata"]["name"] || after["kind"] != before["kind"] {
        return Err(fail!("At least one of apiVersion, kind and name was changed"));
    }
    let after = if cx.flags.on("save-config") { apply::with_note(after) } else { after.clone() };
    let ty = schema::of(&info.resource.group, &info.resource.version, &info.resource.kind);
    let mut patch = merge::two_way(ty, before, &after);
    if cx.flags.on("output-patch") {
        say!("Patch: {patch}")?;
    }
    // What was edited is what was shown: another change in between is a conflict.
    crate::cx::dig_mut(&mut patch, "metadata.resourceVersion").clone_from(dig(before, "metadata.resourceVersion"));
    change::send(cx, info, apply::patch_type(ty.is_some()), &patch, "kubectl-edit").await
}

/// Exit code 0 where nothing differs, 1 where something does, more where it cannot be said.
pub async fn diff(cx: &Cx) -> Result<()> {
    if cx.flags.list("filename").is_empty() {
        return Err(Error::Usage("must specify --filename or --kustomize".into()));
    }
    let Found { mut infos, errors, .. } = resources::from_files(cx).await?;
    Error::collected(errors)?;
    if let Some(selector) = cx.flags.some("selector") {
        let selector = knarr_api::selector::LabelSelector::parse(selector).map_err(|error| fail!("{error}"))?;
        infos.retain(|info| selector.matches_value(dig(&info.object, "metadata.labels")));
    }
    let (live, merged) =
        (tempfile::Builder::new().prefix("LIVE-").tempdir()?, tempfile::Builder::new().prefix("MERGED-").tempdir()?);
    for info in &infos {
        let (mut before, mut after) = would_be(cx, info).await?;
        if !cx.flags.on("show-managed-fields") {
            drop_managed_fields(&mut before);
            drop_managed_fields(&mut after);
        }
        if info.resource.kind == "Secret" && info.resource.group.is_empty() {
            mask(&mut before, &mut after);
        }
        let gv = info.resource.api_version().replace('/', ".");
        let name = format!("{gv}.{}.{}.{}", info.resource.kind, info.namespace, info.name);
        for (folder, object) in [(&live, &before), (&merged, &after)] {
            let text = if object.is_null() { String::new() } else { yaml::to_string(object) };
            fs::write(folder.path().join(&name), text)?;
        }
    }
    let program = std::env::var("KUBECTL_EXTERNAL_DIFF").ok().filter(|program| !program.is_empty());
    match start(program.as_deref().unwrap_or("diff -u -N"), &[live.path(), merged.path()])? {
        0 => Ok(()),
        code => Err(Error::Exit(u8::try_from(code).unwrap_or(2))),
    }
}

/// What is there, and what would be there after an apply.
async fn would_be(cx: &Cx, info: &Info) -> Result<(Value, Value)> {
    let api = cx.api().await?;
    let dry = |manager: &str| {
        Query::default()
            .add("dryRun", "All")
            .add("fieldManager", cx.flags.some("field-manager").unwrap_or(manager).to_owned())
    };
    let live = match api.get(&info.path(None)).await {
        Err(error) if error.is_not_found() => Value::Null,
        other => other?,
    };
    if cx.flags.on("server-side") {
        let mut query = dry("kubectl");
        if cx.flags.on("force-conflicts") {
            query = query.add("force", "true");
        }
        let body = info.object.to_string().into_bytes();
        return Ok((live, api.patch(&query.on(&info.path(None)), "application/apply-patch+yaml", body).await?));
    }
    if live.is_null() {
        let made = api.post(&dry(apply::CLIENT_SIDE).on(&info.collection()), &info.object).await?;
        return Ok((live, made));
    }
    let note = dig(&live, "metadata.annotations")[apply::LAST_APPLIED].as_str();
    let original: Value = note.map_or(Ok(json!({})), serde_json::from_str)?;
    let ty = schema::of(&info.resource.group, &info.resource.version, &info.resource.kind);
    // The note itself is no difference that anybody looks for.
    let mut modified = apply::with_note(&info.object);
    if let Some(annotations) = modified["metadata"]["annotations"].as_object_mut() {
        annotations.remove(apply::LAST_APPLIED);
    }
    let patch = merge::three_way(ty, &original, &modified, &live);
    let patched = api
        .patch(
            &dry(apply::CLIENT_SIDE).on(&info.path(None)),
            apply::patch_type(ty.is_some()),
            patch.to_string().into_bytes(),
        )
        .await?;
    Ok((live, patched))
}

/// Secrets are compared, and not shown.
fn mask(before: &mut Value, after: &mut Value) {
    let keys: Vec<String> = [&*before, &*after]
        .iter()
        .flat_map(|object| object["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone()))
        .collect();
    for key in keys {
        let same = before["data"][&key] == after["data"][&key];
        let marks = if same { ["***", "***"] } else { ["*** (before)", "*** (after)"] };
        for (object, mark) in [&mut *before, &mut *after].into_iter().zip(marks) {
            if !object["data"][&key].is_null() {
                object["data"][&key] = mark.into();
            }
        }
    }
}
