//! `cordon`, `uncordon` and `taint`: which pods nodes take.

use clap::Command;
use serde_json::{Value, json};

use super::{
    apply,
    change::{self, MERGE},
};
use crate::{
    cx::{Cx, dig, dig_mut, dig_str, items},
    error::{Error, Result},
    fail,
    flags::{self, switch},
    output::Reporter,
    resources::{Info, Search},
    say,
};

pub fn commands() -> [Command; 3] {
    let cordon = |name, about| flags::command(name, about, "NODE", vec![flags::selector(), flags::dry_run()]);
    let mut taint = vec![
        switch("all", "All nodes"),
        switch("overwrite", "Change the value of a taint that is there"),
        flags::selector(),
    ];
    taint.extend(flags::writing());
    [
        cordon("cordon", "Mark node as unschedulable"),
        cordon("uncordon", "Mark node as schedulable"),
        flags::command(
            "taint",
            "Update the taints on one or more nodes",
            "NODE NAME KEY=VALUE:EFFECT... KEY-...",
            taint,
        ),
    ]
}

/// The nodes that the words and selectors of a command mean.
pub async fn asked(cx: &Cx) -> Result<Vec<Info>> {
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
    for info in asked(cx).await? {
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
    change::send(
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
    let object = change::send(cx, info, MERGE, &patch, "kubectl-taint").await?;
    reporter.done(&object, what)
}
