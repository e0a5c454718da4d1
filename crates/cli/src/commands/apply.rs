//! `apply`: brings objects to what files say, by a patch made here or by server-side apply.

use clap::Command;
pub use knarr_api::apply::LAST_APPLIED;
use knarr_api::schema;
use serde_json::{Value, json};

use crate::{
    api::Query,
    cx::{Cx, dig, dig_mut, dig_str},
    error::{Error, Result},
    fail,
    flags::{self, DryRun, switch, text},
    merge,
    output::{self, Format, Printer, Reporter, refuse},
    resources::{self, Found, Info, Search},
};

pub const CLIENT_SIDE: &str = "kubectl-client-side-apply";
const ATTEMPTS: usize = 5;

pub fn command() -> Command {
    let mut own = vec![
        switch("server-side", "Let the server merge, and keep track of who manages which field"),
        switch("force-conflicts", "With --server-side: take over fields that others manage"),
        switch("force", "Not supported: use `knarr replace --force`"),
        switch("prune", "Not supported: delete what is gone with `knarr delete -l`"),
        switch("all", "Not supported: it goes with --prune"),
        switch("overwrite", "What the file says holds against what others changed"),
        switch("wait", "Not supported: it goes with --prune and --force"),
        switch("openapi-patch", "Patches are made by the schema of the API; off is not supported"),
        text("validate", "strict, warn or ignore: what becomes of fields that the server does not know"),
        flags::selector(),
    ];
    own.extend(flags::writing());
    own.extend(flags::files());
    let view = {
        let mut own = flags::files();
        own.push(text("output", "yaml or json").short('o'));
        own.push(flags::selector());
        own.push(switch("all", "All objects of a kind"));
        flags::command("view-last-applied", "View what was applied last", "TYPE/NAME", own)
    };
    grouped(flags::command("apply", "Apply a configuration to resources by file name or stdin", "", own))
        .subcommand(view)
}

/// A command that has both subcommands and flags of its own.
pub fn grouped(command: Command) -> Command {
    command
        .mut_arg("args", |arg| arg.hide(true))
        .mut_arg("rest", |arg| arg.hide(true))
        .args_conflicts_with_subcommands(true)
}

pub async fn run(cx: &Cx) -> Result<()> {
    if cx.flags.switch("overwrite") == Some(false) {
        return Err(refuse("overwrite=false", "compare first with `knarr diff`"));
    }
    if cx.flags.switch("openapi-patch") == Some(false) {
        return Err(refuse("openapi-patch=false", "patches are made by the schema of the API"));
    }
    let server_side = cx.flags.on("server-side");
    if cx.flags.on("force-conflicts") && !server_side {
        return Err(fail!("--force-conflicts only works with --server-side"));
    }
    if server_side && cx.dry_run()? == DryRun::Client {
        return Err(fail!("--dry-run=client doesn't work with --server-side (did you mean --dry-run=server instead?)"));
    }
    if cx.flags.list("filename").is_empty() {
        return Err(fail!("must specify one of -f and -k"));
    }
    let Found { mut infos, mut errors, .. } = resources::from_files(cx).await?;
    if let Some(selector) = cx.flags.some("selector") {
        let selector = knarr_api::selector::LabelSelector::parse(selector).map_err(|error| fail!("{error}"))?;
        infos.retain(|info| selector.matches_value(dig(&info.object, "metadata.labels")));
    }
    if infos.is_empty() && errors.is_empty() {
        return Err(fail!("no objects passed to apply"));
    }
    let mut reporter = Reporter::new(cx)?;
    let mut results = Vec::new();
    let several = infos.len() > 1;
    for info in infos {
        let done = if server_side { on_server(cx, &info).await } else { on_client(cx, &info).await };
        match done {
            Ok((object, what)) if several && !reporter.says_it() => results.push((object, what)),
            Ok((object, what)) => reporter.done(&object, what)?,
            Err(error) => errors.push(error),
        }
    }
    if !results.is_empty() {
        let objects = results.into_iter().map(|(object, _)| object).collect();
        Printer::new(cx, Format::of(cx)?).object(&output::list_of(objects))?;
    }
    Error::collected(errors)
}

async fn on_server(cx: &Cx, info: &Info) -> Result<(Value, &'static str)> {
    if info.name.is_empty() {
        return Err(fail!("from {}: cannot use generate name with apply", info.source));
    }
    let mut query = cx.write_query("kubectl")?.add("fieldValidation", cx.validation()?);
    if cx.flags.on("force-conflicts") {
        query = query.add("force", "true");
    }
    let body = info.object.to_string().into_bytes();
    let applied = cx.api().await?.patch(&query.on(&info.path(None)), "application/apply-patch+yaml", body).await;
    match applied {
        Ok(object) => Ok((object, "serverside-applied")),
        Err(error) if error.reason() == "Conflict" => Err(conflict(&error)),
        Err(error) => Err(error),
    }
}

fn conflict(error: &Error) -> Error {
    let Error::Status(status) = error else { return fail!("{error}") };
    let hint = "Please review the fields above--they currently have other managers. Here\n\
        are the ways you can resolve this warning:\n\
        * If you intend to manage all of these fields, please re-run the apply\n  \
          command with the `--force-conflicts` flag.\n\
        * If you do not intend to manage all of the fields, please edit your\n  \
          manifest to remove references to the fields that should keep their\n  \
          current managers.\n\
        * You may co-own fields by updating your manifest to match the existing\n  \
          value; in this case, you'll become the manager if the other manager(s)\n  \
          stop managing the field (remove it from their configuration).\n\
        See https://kubernetes.io/docs/reference/using-api/server-side-apply/#conflicts";
    fail!("{}\n{hint}", dig_str(status, "message"))
}

/// The object with a note of what was applied, as every later `apply` wants to find it.
pub fn with_note(object: &Value) -> Value {
    let mut bare = object.clone();
    let annotations = dig_mut(&mut bare, "metadata.annotations");
    match annotations.as_object_mut() {
        Some(map) => _ = map.remove(LAST_APPLIED),
        None => *annotations = json!({}),
    }
    let note = output::go_escapes(&bare.to_string()) + "\n";
    bare["metadata"]["annotations"][LAST_APPLIED] = note.into();
    bare
}

async fn on_client(cx: &Cx, info: &Info) -> Result<(Value, &'static str)> {
    if info.name.is_empty() {
        return Err(fail!("from {}: cannot use generate name with apply", info.source));
    }
    let (api, dry_run) = (cx.api().await?, cx.dry_run()?);
    let modified = with_note(&info.object);
    for _ in 0..ATTEMPTS {
        let current = match api.get(&info.path(None)).await {
            Err(error) if error.is_not_found() => {
                if dry_run == DryRun::Client {
                    return Ok((modified, "created"));
                }
                let query = cx.write_query(CLIENT_SIDE)?.add("fieldValidation", cx.validation()?);
                let made = api.post(&query.on(&info.collection()), &modified).await;
                return Ok((made.map_err(|error| creating(error, info))?, "created"));
            }
            other => other?,
        };
        let note = dig(&current, "metadata.annotations")[LAST_APPLIED].as_str().map(str::to_owned);
        if note.is_none() {
            eprintln!(
                "Warning: resource {}/{} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. kubectl apply should only be used on resources created declaratively by either kubectl create --save-config or kubectl apply. The missing annotation will be patched automatically.",
                info.resource.plural, info.name
            );
        }
        let original: Value = match note.as_deref() {
            Some(note) => serde_json::from_str(note)
                .map_err(|error| fail!("the annotation {LAST_APPLIED} is no JSON: {error}"))?,
            None => json!({}),
        };
        let ty = schema::of(&info.resource.group, &info.resource.version, &info.resource.kind);
        let patch = merge::three_way(ty, &original, &modified, &current);
        if patch == json!({}) {
            return Ok((current, "unchanged"));
        }
        if dry_run == DryRun::Client {
            return Ok((patched(&current, ty, &patch)?, "configured"));
        }
        let kind = patch_type(ty.is_some());
        let query = cx.write_query(CLIENT_SIDE)?.add("fieldValidation", cx.validation()?);
        match api.patch(&query.on(&info.path(None)), kind, patch.to_string().into_bytes()).await {
            Err(error) if error.reason() == "Conflict" => {}
            Err(error) => {
                let prefix = format!(
                    "error when applying patch:\n{patch}\nto:\nResource: \"{}\", GroupVersionKind: \"{}, Kind={}\"\nName: {:?}, Namespace: {:?}\nfor: {:?}: error when patching {:?}",
                    gvr(info),
                    gv(info),
                    info.resource.kind,
                    info.name,
                    info.namespace,
                    info.source,
                    info.source
                );
                return Err(error.prefixed(&prefix));
            }
            Ok(object) => return Ok((object, "configured")),
        }
    }
    Err(fail!("{} was changed by somebody else {ATTEMPTS} times while it was being applied; try again", info.label()))
}

fn gv(info: &Info) -> String {
    format!("{}/{}", info.resource.group, info.resource.version)
}

fn gvr(info: &Info) -> String {
    format!("{}, Resource={}", gv(info), info.resource.plural)
}

pub fn patch_type(strategic: bool) -> &'static str {
    if strategic { "application/strategic-merge-patch+json" } else { "application/merge-patch+json" }
}

/// The object as a patch would make it.
pub fn patched(current: &Value, ty: Option<schema::TypeRef<'static>>, patch: &Value) -> Result<Value> {
    let done = match ty {
        Some(ty) => knarr_api::patch::strategic_merge_patch(ty, current, patch),
        None => knarr_api::patch::merge_patch(current, patch),
    };
    done.map_err(|error| fail!("{error}"))
}

pub fn creating(error: Error, info: &Info) -> Error {
    if info.source.is_empty() || matches!(error.reason(), "Invalid") {
        return error;
    }
    error.prefixed(&format!("error when creating \"{}\"", info.source))
}

pub async fn view_last_applied(cx: &Cx) -> Result<()> {
    let search = Search { all: cx.flags.on("all"), ..Search::from_flags(cx) };
    for info in search.run(cx).await?.all()? {
        let Some(note) = dig(&info.object, "metadata.annotations")[LAST_APPLIED].as_str() else {
            return Err(fail!("no last-applied-configuration annotation found on resource: {}", info.name));
        };
        let value: Value = serde_json::from_str(note)?;
        match cx.flags.text("output").unwrap_or("yaml") {
            "json" => crate::say!("{}", output::pretty(&value))?,
            "yaml" => crate::cx::write_out(&crate::yaml::to_string(&value))?,
            other => {
                return Err(fail!("Unexpected -o output mode: {other}, the flag 'output' must be one of yaml|json"));
            }
        }
    }
    Ok(())
}

/// Sends a new object of a command other than `apply`.
pub async fn create(cx: &Cx, info: &Info, manager: &str) -> Result<Value> {
    let object = if cx.flags.on("save-config") { with_note(&info.object) } else { info.object.clone() };
    if cx.dry_run()? == DryRun::Client {
        return Ok(object);
    }
    let query: Query = cx.write_query(manager)?.add("fieldValidation", cx.validation()?);
    cx.api().await?.post(&query.on(&info.collection()), &object).await.map_err(|error| creating(error, info))
}
