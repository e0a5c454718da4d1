//! `rollout`: how an update goes on, what there was before, and back to it.

use std::time::Duration;

use clap::Command;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{apply, change, describe, wait};
use crate::{
    api::Query,
    cx::{Cx, dig, dig_str, items, write_out},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
    output::Reporter,
    resources::{Info, Search},
    say, tabs,
};

const REVISION: &str = "deployment.kubernetes.io/revision";
const CAUSE: &str = "kubernetes.io/change-cause";
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
const FOREVER: Duration = Duration::from_secs(168 * 3600);

pub fn command() -> Command {
    let sub = |name, about, more: Vec<clap::Arg>| {
        let mut own = more;
        own.push(flags::selector());
        own.extend(flags::files());
        flags::command(name, about, "TYPE NAME", own)
    };
    let changing = |more: Vec<clap::Arg>| {
        let mut own = more;
        own.extend(flags::writing());
        own
    };
    Command::new("rollout").about("Manage the rollout of a resource").subcommand_required(true).subcommands([
        sub(
            "status",
            "Show the status of the rollout",
            vec![
                switch("watch", "Watch until it is done (the default)").short('w'),
                text("revision", "Fail where another revision takes over"),
                text("timeout", "How long to wait"),
            ],
        ),
        sub("history", "View rollout history", {
            let mut own = vec![text("revision", "Show this revision in detail")];
            own.extend(flags::output());
            own
        }),
        sub("undo", "Undo a previous rollout", changing(vec![text("to-revision", "The revision to go back to")])),
        sub("restart", "Restart a resource", changing(vec![])),
        sub("pause", "Mark the provided resource as paused", changing(vec![])),
        sub("resume", "Resume a paused resource", changing(vec![])),
    ])
}

pub async fn run(cx: &Cx, what: &str) -> Result<()> {
    let search = Search { all: cx.flags.some("selector").is_some(), ..Search::from_flags(cx) };
    if search.args.is_empty() && cx.flags.list("filename").is_empty() {
        return Err(fail!("required resource not specified"));
    }
    let found = search.run(cx).await?;
    let mut errors = found.errors;
    if found.infos.is_empty() && errors.is_empty() {
        eprintln!("No resources found in {} namespace.", cx.namespace().await?);
    }
    for info in &found.infos {
        let done = match what {
            "status" => status(cx, info).await,
            "history" => history(cx, info).await,
            "undo" => undo(cx, info).await,
            "restart" => restart(cx, info).await,
            "pause" => pause(cx, info, true).await,
            _ => pause(cx, info, false).await,
        };
        errors.extend(done.err());
    }
    Error::collected(errors)
}

fn number(object: &Value, path: &str) -> i64 {
    dig(object, path).as_i64().unwrap_or(0)
}

/// What there is to say, and whether it is over.
fn progress(kind: &str, object: &Value) -> Result<(String, bool)> {
    let name = dig_str(object, "metadata.name");
    let n = |path: &str| number(object, path);
    let observed = n("metadata.generation") <= n("status.observedGeneration");
    let rolling = |path: &str| match dig_str(object, path) {
        "RollingUpdate" => Ok(()),
        _ => Err(fail!("rollout status is only available for RollingUpdate strategy type")),
    };
    Ok(match kind {
        "Deployment" if !observed => ("Waiting for deployment spec update to be observed...".into(), false),
        "Deployment" => {
            let late = items(dig(object, "status.conditions"))
                .any(|c| c["type"] == "Progressing" && c["reason"] == "ProgressDeadlineExceeded");
            if late {
                return Err(fail!("deployment \"{name}\" exceeded its progress deadline"));
            }
            let wanted = dig(object, "spec.replicas").as_i64().unwrap_or(1);
            let (updated, all, available) =
                (n("status.updatedReplicas"), n("status.replicas"), n("status.availableReplicas"));
            let waiting = format!("Waiting for deployment \"{name}\" rollout to finish:");
            match () {
                () if updated < wanted => {
                    (format!("{waiting} {updated} out of {wanted} new replicas have been updated..."), false)
                }
                () if all > updated => {
                    (format!("{waiting} {} old replicas are pending termination...", all - updated), false)
                }
                () if available < updated => {
                    (format!("{waiting} {available} of {updated} updated replicas are available..."), false)
                }
                () => (format!("deployment \"{name}\" successfully rolled out"), true),
            }
        }
        "DaemonSet" => {
            rolling("spec.updateStrategy.type")?;
            let (updated, wanted, available) =
                (n("status.updatedNumberScheduled"), n("status.desiredNumberScheduled"), n("status.numberAvailable"));
            let waiting = format!("Waiting for daemon set \"{name}\" rollout to finish:");
            match () {
                () if !observed => ("Waiting for daemon set spec update to be observed...".into(), false),
                () if updated < wanted => {
                    (format!("{waiting} {updated} out of {wanted} new pods have been updated..."), false)
                }
                () if available < wanted => {
                    (format!("{waiting} {available} of {wanted} updated pods are available..."), false)
                }
                () => (format!("daemon set \"{name}\" successfully rolled out"), true),
            }
        }
        "StatefulSet" => {
            rolling("spec.updateStrategy.type")?;
            let wanted = dig(object, "spec.replicas").as_i64().unwrap_or(1);
            let (ready, updated) = (n("status.readyReplicas"), n("status.updatedReplicas"));
            let revision = dig_str(object, "status.updateRevision");
            let partition = dig(object, "spec.updateStrategy.rollingUpdate.partition").as_i64();
            match () {
                () if n("status.observedGeneration") == 0 || !observed => {
                    ("Waiting for statefulset spec update to be observed...".into(), false)
                }
                () if ready < wanted => (format!("Waiting for {} pods to be ready...", wanted - ready), false),
                () if partition.is_some_and(|at| at > 0 && updated < wanted - at) => (
                    format!(
                        "Waiting for partitioned roll out to finish: {updated} out of {} new pods have been updated...",
                        wanted - partition.unwrap_or(0)
                    ),
                    false,
                ),
                () if partition.is_some() => {
                    (format!("partitioned roll out complete: {updated} new pods have been updated..."), true)
                }
                () if revision != dig_str(object, "status.currentRevision") => (
                    format!(
                        "waiting for statefulset rolling update to complete {updated} pods at revision {revision}..."
                    ),
                    false,
                ),
                () => (
                    format!(
                        "statefulset rolling update complete {} pods at revision {}...",
                        n("status.currentReplicas"),
                        dig_str(object, "status.currentRevision")
                    ),
                    true,
                ),
            }
        }
        other => return Err(fail!("no status viewer has been implemented for {other}")),
    })
}

async fn status(cx: &Cx, info: &Info) -> Result<()> {
    let kind = info.resource.kind.as_str();
    let (first, done) = progress(kind, &info.object)?;
    if done || cx.flags.switch("watch") == Some(false) {
        return say!("{first}");
    }
    let wanted = cx.flags.number::<i64>("revision")?.filter(|revision| *revision > 0);
    let patience =
        cx.flags.seconds("timeout")?.filter(|seconds| *seconds > 0.0).map_or(FOREVER, Duration::from_secs_f64);
    let said = std::sync::Mutex::new(String::new());
    let outcome = std::sync::Mutex::new(Ok(()));
    let set = |error| outcome.lock().map(|mut outcome| *outcome = Err(error)).is_ok();
    let seen = |object: &Value| {
        let revision = dig(object, "metadata.annotations")[REVISION].as_str().and_then(|text| text.parse::<i64>().ok());
        if let (Some(wanted), Some(now)) = (wanted, revision)
            && wanted != now
        {
            return set(fail!("desired revision ({wanted}) is different from the running revision ({now})"));
        }
        match progress(kind, object) {
            Err(error) => set(error),
            Ok((text, done)) => {
                // The same words again tell nothing.
                if let Ok(mut said) = said.lock()
                    && *said != text
                {
                    if let Err(error) = say!("{text}") {
                        return set(error);
                    }
                    *said = text;
                }
                done
            }
        }
    };
    wait::until(cx, info, patience, seen).await.map_err(|error| match error {
        Error::Plain(text) if text.starts_with("timed out") => fail!("timed out waiting for the condition"),
        other => other,
    })?;
    outcome.into_inner().unwrap_or(Ok(()))
}

/// A revision's number, why it came to be, and its pod template.
struct Revision {
    number: i64,
    cause: String,
    template: Value,
    object: Value,
}

async fn revisions(cx: &Cx, info: &Info) -> Result<Vec<Revision>> {
    let (group_path, is_deployment) = match info.resource.kind.as_str() {
        "Deployment" => ("replicasets", true),
        "DaemonSet" | "StatefulSet" => ("controllerrevisions", false),
        other => return Err(fail!("no history viewer has been implemented for \"{}\"", other)),
    };
    let path = format!("/apis/apps/v1/namespaces/{}/{group_path}", info.namespace);
    let query = Query::default().add("labelSelector", describe::selector_text(dig(&info.object, "spec.selector")));
    let list = cx.api().await?.get(&query.on(&path)).await?;
    let uid = dig(&info.object, "metadata.uid");
    let mut found: Vec<Revision> = items(&list["items"])
        .filter(|object| items(dig(object, "metadata.ownerReferences")).any(|owner| owner["uid"] == *uid))
        .filter_map(|object| {
            let annotations = dig(object, "metadata.annotations");
            let (number, template) = match is_deployment {
                true => (annotations[REVISION].as_str()?.parse().ok()?, dig(object, "spec.template").clone()),
                false => (object["revision"].as_i64()?, dig(object, "data.spec.template").clone()),
            };
            let cause = annotations[CAUSE].as_str().unwrap_or("<none>").to_owned();
            Some(Revision { number, cause, template, object: object.clone() })
        })
        .collect();
    found.sort_by_key(|revision| revision.number);
    Ok(found)
}

async fn history(cx: &Cx, info: &Info) -> Result<()> {
    let all = revisions(cx, info).await?;
    let asked = cx.flags.number::<i64>("revision")?.filter(|revision| *revision > 0);
    let find = |number: i64| all.iter().find(|revision| revision.number == number);
    if let Some(number) = asked {
        let revision = find(number).ok_or_else(|| fail!("unable to find the specified revision"))?;
        if cx.flags.some("output").is_some() {
            return crate::output::Printer::new(cx, crate::output::Format::of(cx)?).object(&revision.object);
        }
        let mut template = revision.template.clone();
        if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut)
            && revision.cause != "<none>"
        {
            metadata.insert("annotations".into(), json!({CAUSE: revision.cause}));
        }
        return write_out(&format!(
            "{} with revision #{number}\n{}\n",
            info.label(),
            describe::pod_template_text(&template)
        ));
    }
    let mut table = String::from("REVISION\tCHANGE-CAUSE\n");
    for revision in &all {
        table += &format!("{}\t{}\n", revision.number, revision.cause);
    }
    write_out(&format!("{} \n{}\n", info.label(), tabs::DESCRIBE.align(&table)))
}

async fn undo(cx: &Cx, info: &Info) -> Result<()> {
    let all = revisions(cx, info).await?;
    let name = &info.name;
    let asked = cx.flags.number::<i64>("to-revision")?.unwrap_or(0);
    let target = match asked {
        0 if all.len() < 2 => {
            return Err(fail!("no rollout history found for {} \"{name}\"", info.resource.kind.to_lowercase()));
        }
        0 => &all[all.len() - 2],
        number => all
            .iter()
            .find(|revision| revision.number == number)
            .ok_or_else(|| fail!("unable to find specified revision {number} in history"))?,
    };
    if info.resource.kind == "Deployment" && dig(&info.object, "spec.paused") == true {
        return Err(fail!(
            "cannot rollback a paused deployment; resume it first with 'kubectl rollout resume' and try again"
        ));
    }
    let mut template = target.template.clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    let mut reporter = Reporter::new(cx)?;
    if template == *dig(&info.object, "spec.template") {
        return reporter.done(
            &info.object,
            &format!("skipped rollback (current template already matches revision {})", target.number),
        );
    }
    let object = if info.resource.kind == "Deployment" {
        let mut patch = vec![json!({"op": "replace", "path": "/spec/template", "value": template})];
        if target.cause != "<none>" {
            patch.push(json!({"op": "add", "path": format!("/metadata/annotations/{}", CAUSE.replace('/', "~1")), "value": target.cause}));
        }
        change::send(cx, info, "application/json-patch+json", &patch.into(), "kubectl-rollout").await?
    } else {
        let mut patch = target.object["data"].clone();
        if let Some(template) = patch["spec"]["template"].as_object_mut() {
            template.insert("$patch".into(), "replace".into());
        }
        change::send(cx, info, apply::patch_type(true), &patch, "kubectl-rollout").await?
    };
    reporter.done(&object, "rolled back")
}

async fn restart(cx: &Cx, info: &Info) -> Result<()> {
    let (kind, name) = (info.resource.kind.as_str(), &info.name);
    if !matches!(kind, "Deployment" | "DaemonSet" | "StatefulSet") {
        return Err(fail!("{} \"{name}\" restarting is not supported", info.resource.qualified()));
    }
    if dig(&info.object, "spec.paused") == true {
        return Err(fail!(
            "{} \"{name}\" can't restart paused deployment (run rollout resume first)",
            info.resource.qualified()
        ));
    }
    let now: Timestamp = cx.now();
    let patch =
        json!({"spec": {"template": {"metadata": {"annotations": {RESTARTED: knarr_api::time::seconds(now)}}}}});
    let object = change::send(cx, info, apply::patch_type(true), &patch, "kubectl-rollout").await?;
    Reporter::new(cx)?.done(&object, "restarted")
}

async fn pause(cx: &Cx, info: &Info, on: bool) -> Result<()> {
    let (name, verb) = (&info.name, if on { "pausing" } else { "resuming" });
    if info.resource.kind != "Deployment" {
        return Err(fail!("{} \"{name}\" {verb} is not supported", info.resource.qualified()));
    }
    if dig(&info.object, "spec.paused").as_bool().unwrap_or(false) == on {
        let state = if on { "already paused" } else { "not paused" };
        return Err(fail!("{} \"{name}\" is {state}", info.resource.qualified()));
    }
    let value = if on { Value::Bool(true) } else { Value::Null };
    let object =
        change::send(cx, info, apply::patch_type(true), &json!({"spec": {"paused": value}}), "kubectl-rollout").await?;
    Reporter::new(cx)?.done(&object, if on { "paused" } else { "resumed" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_as_kubectl_tells_it() {
        let deployment = |updated: i64, all: i64, available: i64| {
            json!({"metadata": {"name": "web", "generation": 2}, "spec": {"replicas": 3}, "status": {"observedGeneration": 2,
                "updatedReplicas": updated, "replicas": all, "availableReplicas": available}})
        };
        for (object, expected, done) in [
            (
                deployment(1, 3, 3),
                "Waiting for deployment \"web\" rollout to finish: 1 out of 3 new replicas have been updated...",
                false,
            ),
            (
                deployment(3, 4, 3),
                "Waiting for deployment \"web\" rollout to finish: 1 old replicas are pending termination...",
                false,
            ),
            (
                deployment(3, 3, 2),
                "Waiting for deployment \"web\" rollout to finish: 2 of 3 updated replicas are available...",
                false,
            ),
            (deployment(3, 3, 3), "deployment \"web\" successfully rolled out", true),
        ] {
            assert_eq!(progress("Deployment", &object).ok(), Some((expected.to_owned(), done)));
        }
    }
}
