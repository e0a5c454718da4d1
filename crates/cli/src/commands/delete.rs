//! `delete`, and waiting until what was deleted is gone.

use std::time::Duration;

use clap::Command;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::{
    api::{JSON, Query},
    cx::{Cx, dig_str},
    error::{Error, Result},
    fail,
    flags::{self, DryRun, switch, text},
    resources::{Info, Search},
    say,
};

/// kubectl waits a week where no time is given.
const FOREVER: Duration = Duration::from_secs(168 * 3600);

pub fn command() -> Command {
    let mut own = vec![
        switch("all", "All objects of the kinds"),
        text("cascade", "background, foreground or orphan: what becomes of dependents")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("background"),
        switch("force", "Do not wait for the node's word that a pod has ended"),
        text("grace-period", "Seconds that a pod has to end; negative: its own"),
        switch("now", "The same as --grace-period=1"),
        switch("ignore-not-found", "It is no error where an object does not exist"),
        switch("interactive", "Ask before deleting").short('i'),
        text("timeout", "How long to wait until the objects are gone"),
        switch("wait", "Wait until the objects are gone (the default)"),
        text("output", "name: print the names only").short('o'),
        text("raw", "Delete this path"),
        flags::selector(),
        flags::field_selector(),
        flags::all_namespaces(),
        flags::dry_run(),
    ];
    own.extend(flags::files());
    flags::command(
        "delete",
        "Delete resources by file names, stdin, resources and names, or by selector",
        "TYPE[/NAME] | TYPE [NAME...]",
        own,
    )
}

pub async fn run(cx: &Cx) -> Result<()> {
    if let Some(path) = cx.flags.some("raw") {
        return crate::cx::write_out(&cx.api().await?.raw(http::Method::DELETE, path, None).await?);
    }
    let options = Options::read(cx)?;
    let output = cx.flags.text("output").unwrap_or_default();
    if !matches!(output, "" | "name") {
        return Err(fail!("unexpected -o output mode: {output}. We only support '-o name'"));
    }
    let from_files = !cx.flags.list("filename").is_empty();
    let search = Search { names_only: true, latest: false, ..Search::from_flags(cx) };
    if search.args.is_empty() && !from_files {
        return Err(fail!(
            "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'"
        ));
    }
    if search.all && !search.selector.is_empty() {
        return Err(fail!("cannot set --all and --selector at the same time"));
    }
    let ignore_missing = cx.flags.on("ignore-not-found")
        || search.all
        || !search.selector.is_empty()
        || !search.field_selector.is_empty();
    let found = search.run(cx).await?;
    let mut errors = found.errors;
    if options.force && options.grace == Some(0) {
        eprintln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The resource may continue to run on the cluster indefinitely."
        );
    }
    if cx.flags.on("interactive") && !confirmed(&found.infos)? {
        return say!("deletion is cancelled");
    }
    let mut deleted = Vec::new();
    for info in &found.infos {
        match options.delete(cx, info).await {
            Ok(answer) => {
                report(cx, info, &options, output)?;
                deleted.push((info, uid_of(&answer)));
            }
            Err(error) if error.is_not_found() && ignore_missing => {}
            Err(error) => errors.push(error),
        }
    }
    if found.infos.is_empty() && errors.is_empty() && !cx.flags.on("ignore-not-found") {
        return say!("No resources found");
    }
    if options.wait {
        let deadline = Instant::now() + options.timeout;
        for (info, uid) in deleted {
            if let Err(error) = gone(cx, info, uid.as_deref(), deadline).await {
                errors.push(error);
            }
        }
    }
    Error::collected(errors)
}

fn confirmed(infos: &[Info]) -> Result<bool> {
    say!("You are about to delete the following {} resource(s):", infos.len())?;
    for info in infos {
        say!("{}", info.label())?;
    }
    crate::cx::write_out("Do you want to continue? (y/N): ")?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim().eq_ignore_ascii_case("y"))
}

pub struct Options {
    pub grace: Option<i64>,
    pub force: bool,
    pub policy: &'static str,
    pub wait: bool,
    pub timeout: Duration,
    pub dry_run: DryRun,
}

impl Options {
    pub fn read(cx: &Cx) -> Result<Self> {
        let flags = &cx.flags;
        let mut grace = flags.number::<i64>("grace-period")?.filter(|seconds| *seconds >= 0);
        let force = flags.on("force");
        if flags.on("now") {
            if grace.is_some() {
                return Err(fail!("--now and --grace-period cannot be specified together"));
            }
            grace = Some(1);
        }
        if grace == Some(0) && !force {
            // The server is asked for the shortest time that still waits for the node.
            grace = Some(1);
        }
        if force && grace.is_none() {
            grace = Some(0);
        }
        if force && grace.is_some_and(|seconds| seconds > 0) {
            return Err(fail!("--force and --grace-period greater than 0 cannot be specified together"));
        }
        let policy = match flags.text("cascade").unwrap_or("background") {
            "background" | "true" => "Background",
            "foreground" => "Foreground",
            "orphan" | "false" => "Orphan",
            other => {
                return Err(fail!(
                    "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
                ));
            }
        };
        let dry_run = cx.dry_run()?;
        let wait = flags.switch("wait").unwrap_or(true)
            && dry_run == DryRun::None
            && !(force && grace == Some(0) && flags.switch("wait").is_none());
        let timeout =
            flags.seconds("timeout")?.filter(|seconds| *seconds > 0.0).map_or(FOREVER, Duration::from_secs_f64);
        Ok(Self { grace, force, policy, wait, timeout, dry_run })
    }

    pub async fn delete(&self, cx: &Cx, info: &Info) -> Result<Value> {
        if self.dry_run == DryRun::Client {
            return cx.api().await?.get(&info.path(None)).await;
        }
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": self.policy});
        if let Some(grace) = self.grace {
            options["gracePeriodSeconds"] = grace.into();
        }
        if self.dry_run == DryRun::Server {
            options["dryRun"] = json!(["All"]);
        }
        cx.api().await?.delete(&info.path(None), &options).await
    }
}

fn report(cx: &Cx, info: &Info, options: &Options, output: &str) -> Result<()> {
    if output == "name" {
        return say!("{}", info.label());
    }
    let how = if options.force && options.grace == Some(0) { "force deleted" } else { "deleted" };
    let place = if info.namespace.is_empty() { String::new() } else { format!(" from {} namespace", info.namespace) };
    let _ = cx;
    say!("{} \"{}\" {how}{place}{}", info.resource.kind_name(), info.name, options.dry_run.note())
}

fn uid_of(answer: &Value) -> Option<String> {
    let uid = if answer["kind"] == "Status" { dig_str(answer, "details.uid") } else { dig_str(answer, "metadata.uid") };
    Some(uid.to_owned()).filter(|uid| !uid.is_empty())
}

/// Waits until the object is gone, or another one has its name.
pub async fn gone(cx: &Cx, info: &Info, uid: Option<&str>, deadline: Instant) -> Result<()> {
    let late = || fail!("timed out waiting for the condition on {}/{}", info.resource.plural, info.name);
    let api = cx.api().await?;
    let query = Query::default().add("fieldSelector", format!("metadata.name={}", info.name));
    loop {
        let list = api.get(&query.clone().on(&info.collection())).await?;
        let there = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|object| uid.is_none_or(|uid| dig_str(object, "metadata.uid") == uid));
        if !there {
            return Ok(());
        }
        let version = dig_str(&list, "metadata.resourceVersion");
        let path = query.clone().add("watch", "1").add("resourceVersion", version).on(&info.collection());
        let mut events = timeout_at(deadline, api.watch(&path, JSON)).await.map_err(|_| late())??;
        loop {
            match timeout_at(deadline, events.next()).await.map_err(|_| late())? {
                Some(Ok((kind, _))) if kind == "DELETED" => return Ok(()),
                Some(Ok(_)) => {}
                // The watch ended: what is there is looked at again.
                Some(Err(_)) | None => break,
            }
        }
    }
}
