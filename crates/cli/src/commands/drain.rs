//! `drain`: empties a node for maintenance, and never against a PodDisruptionBudget.

use std::time::Duration;

use clap::Command;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{delete, nodes};
use crate::{
    api::Query,
    cx::{Cx, dig, dig_str, items},
    error::{Error, Result},
    fail,
    flags::{self, DryRun, switch, text},
    resources::{Info, Search},
    say,
};

const AGAIN: Duration = Duration::from_secs(5);
const FOREVER: Duration = Duration::from_secs(168 * 3600);

pub fn command() -> Command {
    flags::command(
        "drain",
        "Drain node in preparation for maintenance",
        "NODE",
        vec![
            switch("delete-emptydir-data", "Go on where pods use emptyDir: its data is lost"),
            switch("disable-eviction", "Delete pods, past their budgets"),
            switch("force", "Go on where pods have no controller: nobody makes them anew"),
            switch("ignore-daemonsets", "Leave pods of daemon sets alone"),
            text("grace-period", "Seconds that a pod has to end; negative: its own"),
            text("pod-selector", "Only pods with these labels"),
            text("timeout", "How long to wait before giving up; 0 waits"),
            text(
                "skip-wait-for-delete-timeout",
                "Do not wait for pods that have been ending for longer than this many seconds",
            ),
            text("chunk-size", "Objects per request of a list"),
            flags::selector(),
            flags::dry_run(),
        ],
    )
}

pub async fn run(cx: &Cx) -> Result<()> {
    let asked = nodes::asked(cx).await?;
    for node in &asked {
        nodes::cordon_one(cx, node, true).await?;
    }
    let mut failed = Vec::new();
    for node in &asked {
        match drain(cx, node).await {
            Ok(()) => say!("node/{} drained{}", node.name, cx.dry_run()?.note())?,
            Err(error) => {
                eprintln!("error: unable to drain node \"{}\" due to error: {error}, continuing command...", node.name);
                failed.push((node.name.clone(), error));
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    eprintln!("There are pending nodes to be drained:");
    failed.iter().for_each(|(name, _)| eprintln!(" {name}"));
    // What went wrong is said once more, without a mark.
    let texts: Vec<String> = failed.into_iter().map(|(_, error)| error.to_string()).collect();
    Err(Error::Raw(texts.join("\n")))
}

/// Why something is said, and about which pods.
type Reasons = Vec<(&'static str, Vec<String>)>;

/// What becomes of a pod.
enum Fate {
    Goes,
    GoesWithWarning(&'static str),
    Stays(Option<&'static str>),
    Refuses(&'static str),
}

fn fate(cx: &Cx, pod: &Value) -> Fate {
    if !dig(pod, "metadata.annotations")["kubernetes.io/config.mirror"].is_null() {
        return Fate::Stays(None);
    }
    let over = matches!(dig_str(pod, "status.phase"), "Succeeded" | "Failed");
    let owner = items(dig(pod, "metadata.ownerReferences")).find(|owner| owner["controller"] == true);
    if !over && owner.is_some_and(|owner| owner["kind"] == "DaemonSet") {
        return match cx.flags.on("ignore-daemonsets") {
            true => Fate::Stays(Some("ignoring DaemonSet-managed Pods")),
            false => Fate::Refuses("cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)"),
        };
    }
    let has_data = items(dig(pod, "spec.volumes")).any(|volume| volume["emptyDir"].is_object());
    if !over && has_data && !cx.flags.on("delete-emptydir-data") {
        return Fate::Refuses("cannot delete Pods with local storage (use --delete-emptydir-data to override)");
    }
    match owner {
        None if over || !dig(pod, "metadata.deletionTimestamp").is_null() => Fate::Goes,
        None if cx.flags.on("force") => Fate::GoesWithWarning("deleting Pods that declare no controller"),
        None => Fate::Refuses("cannot delete Pods that declare no controller (use --force to override)"),
        Some(_) => Fate::Goes,
    }
}

async fn drain(cx: &Cx, node: &Info) -> Result<()> {
    let pods = cx.discovery().await?.by_plural("", "pods")?;
    let search = Search {
        selector: cx.flags.some("pod-selector").unwrap_or_default().into(),
        field_selector: format!("spec.nodeName={}", node.name),
        ..Search::default()
    };
    let mut going: Vec<Info> = Vec::new();
    let (mut warnings, mut refusals): (Reasons, Reasons) = Default::default();
    let note = |list: &mut Reasons, why: &'static str, pod: &Info| {
        let name = format!("{}/{}", pod.namespace, pod.name);
        match list.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => list.push((why, vec![name])),
        }
    };
    for pod in search.list(cx, &pods, None).await? {
        match fate(cx, &pod.object) {
            Fate::Goes => going.push(pod),
            Fate::GoesWithWarning(why) => {
                note(&mut warnings, why, &pod);
                going.push(pod);
            }
            Fate::Stays(Some(why)) => note(&mut warnings, why, &pod),
            Fate::Stays(None) => {}
            Fate::Refuses(why) => note(&mut refusals, why, &pod),
        }
    }
    let told = |list: &Reasons, between: &str| {
        list.iter().map(|(why, names)| format!("{why}: {}", names.join(", "))).collect::<Vec<_>>().join(between)
    };
    if !refusals.is_empty() {
        let text = told(&refusals, ", ");
        return Err(fail!("{}", if refusals.len() > 1 { format!("[{text}]") } else { text }));
    }
    if !warnings.is_empty() {
        eprintln!("Warning: {}", told(&warnings, "; "));
    }
    evict(cx, going).await
}

/// Pods go one after another where a budget holds them back, and are waited for together.
async fn evict(cx: &Cx, pods: Vec<Info>) -> Result<()> {
    let patience =
        cx.flags.seconds("timeout")?.filter(|seconds| *seconds > 0.0).map_or(FOREVER, Duration::from_secs_f64);
    let deadline = Instant::now() + patience;
    let disabled = cx.flags.on("disable-eviction");
    let verb = if disabled { "deleting" } else { "evicting" };
    let dry_run = cx.dry_run()?;
    let mut waiting = pods.clone();
    let mut gone = Vec::new();
    while !waiting.is_empty() {
        let mut held = Vec::new();
        for pod in waiting {
            say!("{verb} pod {}/{}{}", pod.namespace, pod.name, dry_run.note())?;
            if dry_run == DryRun::Client {
                continue;
            }
            match ask(cx, &pod, disabled, dry_run).await {
                Ok(()) => gone.push(pod),
                Err(error) if error.is_not_found() => gone.push(pod),
                Err(error) if error.reason() == "TooManyRequests" => {
                    eprintln!(
                        "error when evicting pods/{:?} -n {:?} (will retry after 5s): {}",
                        pod.name,
                        pod.namespace,
                        error.message()
                    );
                    held.push(pod);
                }
                Err(error) => {
                    return Err(
                        error.prefixed(&format!("error when {verb} pods/{:?} -n {:?}", pod.name, pod.namespace))
                    );
                }
            }
        }
        waiting = held;
        if !waiting.is_empty() {
            if Instant::now() + AGAIN > deadline {
                return Err(fail!(
                    "error when evicting pods/{:?} -n {:?}: global timeout reached: {}s",
                    waiting[0].name,
                    waiting[0].namespace,
                    patience.as_secs()
                ));
            }
            sleep(AGAIN).await;
        }
    }
    let skip = cx.flags.number::<i64>("skip-wait-for-delete-timeout")?.filter(|seconds| *seconds > 0);
    for pod in gone.iter().filter(|_| dry_run == DryRun::None) {
        let ending = dig(&pod.object, "metadata.deletionTimestamp").as_str().and_then(knarr_api::time::parse);
        let old = |since| knarr_api::time::seconds_between(since, cx.now());
        if skip.is_some_and(|skip| ending.is_some_and(|since| old(since) > skip)) {
            continue;
        }
        delete::gone(cx, pod, Some(dig_str(&pod.object, "metadata.uid")), deadline).await?;
        say!("pod/{} {}", pod.name, if disabled { "deleted" } else { "evicted" })?;
    }
    Ok(())
}

async fn ask(cx: &Cx, pod: &Info, disabled: bool, dry_run: DryRun) -> Result<()> {
    let mut options = json!({});
    if let Some(grace) = cx.flags.number::<i64>("grace-period")?.filter(|seconds| *seconds >= 0) {
        options["gracePeriodSeconds"] = grace.into();
    }
    if dry_run == DryRun::Server {
        options["dryRun"] = json!(["All"]);
    }
    if disabled {
        return cx.api().await?.delete(&pod.path(None), &options).await.map(|_| ());
    }
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod.name, "namespace": pod.namespace}, "deleteOptions": options,
    });
    cx.api().await?.post(&Query::default().on(&pod.path(Some("eviction"))), &eviction).await.map(|_| ())
}
