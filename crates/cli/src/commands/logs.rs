//! `logs`: what containers wrote.

use clap::Command;
use futures::{StreamExt, stream::SelectAll};
use serde_json::Value;

use crate::{
    api::Query,
    cx::{Cx, dig, dig_str, items, write_out},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
    resources::{Info, Search},
};

use super::describe::selector_text;

pub fn command() -> Command {
    flags::command(
        "logs",
        "Print the logs for a container in a pod",
        "POD | TYPE/NAME [CONTAINER]",
        vec![
            flags::container(),
            switch("all-containers", "All containers of the pods"),
            switch("all-pods", "All pods of a workload"),
            switch("follow", "Go on with what is written").short('f'),
            switch("previous", "The container's run before this one").short('p'),
            switch("timestamps", "Put the time before every line"),
            switch("prefix", "Put pod and container before every line"),
            switch("ignore-errors", "Go on where following one log fails"),
            text("since", "Only what is newer, such as 5s or 2m"),
            text("since-time", "Only what is newer than this time"),
            text("tail", "How many of the last lines"),
            text("limit-bytes", "At most this many bytes"),
            text("max-log-requests", "How many logs are followed at once"),
            flags::no_patience(),
            flags::selector(),
        ],
    )
}

/// One container's log.
struct Source {
    pod: Info,
    container: String,
    path: String,
}

pub async fn run(cx: &Cx) -> Result<()> {
    let args = cx.flags.args();
    let selector = cx.flags.some("selector");
    if args.is_empty() && selector.is_none() {
        return Err(Error::Usage("expected 'logs [-f] [-p] (POD | TYPE/NAME) [-c CONTAINER]'.\nPOD or TYPE/NAME is a required argument for the logs command".into()));
    }
    if cx.flags.some("since").is_some() && cx.flags.some("since-time").is_some() {
        return Err(fail!("at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    let container = cx.flags.some("container").or_else(|| args.get(1).copied());
    if container.is_some() && cx.flags.on("all-containers") {
        return Err(fail!(
            "--all-containers=true should not be specified with container name {}",
            container.unwrap_or_default()
        ));
    }
    let pods = match selector {
        Some(_) => Search { all: true, ..Search::from_flags(cx) }.with_args(&["pods"]).run(cx).await?.all()?,
        None => pods_of(cx, args[0], cx.flags.on("all-pods")).await?,
    };
    if pods.is_empty() {
        eprintln!("No resources found in {} namespace.", cx.namespace().await?);
        return Ok(());
    }
    let every = cx.flags.on("all-containers") || cx.flags.on("all-pods");
    let mut sources = Vec::new();
    for pod in &pods {
        for name in containers(pod, container, every)? {
            sources.push(source(cx, pod, name)?);
        }
    }
    let prefix = cx.flags.switch("prefix").unwrap_or(cx.flags.on("all-pods"));
    let most = cx.flags.number::<usize>("max-log-requests")?.unwrap_or(5);
    if cx.flags.on("follow") && sources.len() > 1 {
        if sources.len() > most {
            return Err(fail!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {most}, use --max-log-requests to increase the limit",
                sources.len()
            ));
        }
        return follow(cx, sources, prefix).await;
    }
    for source in sources {
        if let Err(error) = copy(cx, &source, prefix).await {
            if !cx.flags.on("ignore-errors") {
                return Err(error);
            }
            crate::say!("error: {error}")?;
        }
    }
    Ok(())
}

/// The pods behind a word: a pod's own name, or a workload's pods.
pub async fn pods_of(cx: &Cx, word: &str, all: bool) -> Result<Vec<Info>> {
    let word = if word.contains('/') { word.to_owned() } else { format!("pods/{word}") };
    let found = Search { latest: true, ..Search::default() }.with_args(&[&word]).run(cx).await?;
    let namespace = cx.namespace().await?;
    let mut found = found.all().map_err(|error| match error.is_not_found() {
        true => fail!("error from server (NotFound): {} in namespace \"{namespace}\"", error.message()),
        false => error,
    })?;
    let Some(info) = found.pop() else { return Ok(found) };
    if info.resource.kind == "Pod" {
        return Ok(vec![info]);
    }
    let selector = match info.resource.kind.as_str() {
        "Service" | "ReplicationController" => super::describe::labels_text(dig(&info.object, "spec.selector"), ","),
        _ => selector_text(dig(&info.object, "spec.selector")),
    };
    if selector.is_empty() {
        return Err(fail!("cannot get the logs from {}: it selects no pods", info.label()));
    }
    let pods = cx.discovery().await?.by_plural("", "pods")?;
    let search = Search { selector, ..Search::default() };
    let mut pods = search.list(cx, &pods, Some(&info.namespace)).await?;
    pods.sort_by_key(worth_reading);
    if pods.is_empty() {
        return Err(fail!("timed out waiting for the condition: no pod of {} is there", info.label()));
    }
    if pods.len() > 1 && !all {
        eprintln!("Found {} pods, using pod/{}", pods.len(), pods[0].name);
        pods.truncate(1);
    }
    Ok(pods)
}

/// Pods that run and are ready come first: those that have been for longest, then those that restarted most.
fn worth_reading(pod: &Info) -> impl Ord + use<> {
    let status = &pod.object["status"];
    let ready = items(&status["conditions"]).find(|c| c["type"] == "Ready" && c["status"] == "True");
    let since = ready.map_or("", |ready| dig_str(ready, "lastTransitionTime")).to_owned();
    let restarts = items(&status["containerStatuses"]).filter_map(|c| c["restartCount"].as_i64()).max().unwrap_or(0);
    let born = dig_str(&pod.object, "metadata.creationTimestamp").to_owned();
    let unassigned = dig(&pod.object, "spec.nodeName").is_null();
    (unassigned, dig_str(status, "phase") != "Running", ready.is_none(), since, -restarts, born)
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    items(&pod["spec"][list]).map(|container| dig_str(container, "name").to_owned()).collect()
}

fn containers(pod: &Info, wanted: Option<&str>, every: bool) -> Result<Vec<String>> {
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| names(&pod.object, list));
    if every {
        return Ok(lists.concat());
    }
    match wanted {
        Some(name) => Ok(vec![named_container(pod, name)?]),
        None => Ok(vec![default_container(pod, false)?]),
    }
}

/// A container of the pod, whatever its list.
pub fn named_container(pod: &Info, name: &str) -> Result<String> {
    let suffixes = [("containers", ""), ("initContainers", " (init)"), ("ephemeralContainers", " (ephem)")];
    let all = || {
        suffixes.iter().flat_map(|(list, suffix)| names(&pod.object, list).into_iter().map(move |name| (name, *suffix)))
    };
    if all().any(|(known, _)| known == name) {
        return Ok(name.into());
    }
    let all: Vec<String> = all().map(|(name, suffix)| format!("{name}{suffix}")).collect();
    Err(fail!("container {name} is not valid for pod {} out of: {}", pod.name, all.join(", ")))
}

/// The container that is meant where none is named; it is said where there was a choice.
pub fn default_container(pod: &Info, quiet: bool) -> Result<String> {
    let annotated = dig(&pod.object, "metadata.annotations")["kubectl.kubernetes.io/default-container"].as_str();
    let own = names(&pod.object, "containers");
    if let Some(name) = annotated.filter(|name| own.iter().any(|known| known == name)) {
        return Ok(name.into());
    }
    let first = own.first().ok_or_else(|| fail!("the pod {} has no containers", pod.name))?;
    let init = names(&pod.object, "initContainers");
    if own.len() + init.len() > 1 && !quiet {
        let all: Vec<String> = own.iter().cloned().chain(init.iter().map(|name| format!("{name} (init)"))).collect();
        eprintln!("Defaulted container \"{first}\" out of: {}", all.join(", "));
    }
    Ok(first.clone())
}

fn source(cx: &Cx, pod: &Info, container: String) -> Result<Source> {
    let flags = &cx.flags;
    let tail = flags.number::<i64>("tail")?;
    let tail = tail.or(flags.some("selector").map(|_| 10)).filter(|lines| *lines >= 0);
    let since = flags.seconds("since")?.filter(|seconds| *seconds > 0.0).map(|seconds| seconds.ceil() as i64);
    let query = Query::default()
        .add("container", &container)
        .some("follow", flags.on("follow").then_some("true"))
        .some("previous", flags.on("previous").then_some("true"))
        .some("timestamps", flags.on("timestamps").then_some("true"))
        .some("sinceSeconds", since)
        .some("sinceTime", flags.some("since-time"))
        .some("tailLines", tail)
        .some("limitBytes", flags.number::<u64>("limit-bytes")?.filter(|bytes| *bytes > 0));
    let path = query.on(&pod.path(Some("log")));
    Ok(Source { pod: pod.clone(), container, path })
}

async fn copy(cx: &Cx, source: &Source, prefix: bool) -> Result<()> {
    let mut chunks = cx.api().await?.bytes(&source.path).await?;
    let mut lines = Lines::new(source, prefix);
    while let Some(chunk) = chunks.next().await {
        lines.write(&chunk?)?;
    }
    Ok(())
}

async fn follow(cx: &Cx, sources: Vec<Source>, prefix: bool) -> Result<()> {
    let mut all = SelectAll::new();
    let mut writers = Vec::new();
    for (at, source) in sources.iter().enumerate() {
        all.push(cx.api().await?.bytes(&source.path).await?.map(move |chunk| (at, chunk)));
        writers.push(Lines::new(source, prefix));
    }
    while let Some((at, chunk)) = all.next().await {
        match chunk {
            Ok(chunk) => writers[at].write(&chunk)?,
            Err(error) if cx.flags.on("ignore-errors") => crate::say!("error: {error}")?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Puts the prefix before each line, also where a line comes in pieces.
struct Lines {
    prefix: String,
    begun: bool,
}

impl Lines {
    fn new(source: &Source, prefix: bool) -> Self {
        let prefix = if prefix { format!("[pod/{}/{}] ", source.pod.name, source.container) } else { String::new() };
        Self { prefix, begun: false }
    }

    fn write(&mut self, chunk: &[u8]) -> Result<()> {
        use std::io::Write as _;
        if self.prefix.is_empty() {
            let mut out = std::io::stdout().lock();
            out.write_all(chunk)?;
            return Ok(out.flush()?);
        }
        let mut text = String::new();
        for line in String::from_utf8_lossy(chunk).split_inclusive('\n') {
            if !self.begun {
                text += &self.prefix;
            }
            text += line;
            self.begun = !line.ends_with('\n');
        }
        write_out(&text)
    }
}
