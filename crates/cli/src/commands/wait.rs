//! `wait`: until objects are gone, are there, have a condition, or have a value in a field.

use std::time::Duration;

use clap::Command;
use futures::StreamExt;
use knarr_api::jsonpath::{self, JsonPath};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::delete;
use crate::{
    api::{JSON, Query},
    cx::{Cx, dig, dig_str, items},
    error::{Error, Result},
    fail,
    flags::{self, list, switch, text},
    output::Reporter,
    resources::{Info, Search},
};

const PAUSE: Duration = Duration::from_millis(250);
const FOREVER: Duration = Duration::from_secs(168 * 3600);

pub fn command() -> Command {
    let mut own = vec![
        list("for", "delete, create, condition=NAME[=VALUE] or jsonpath='{PATH}'[=VALUE]"),
        text("timeout", "How long to wait; 0 looks once, negative waits a week").default_value("30s"),
        switch("all", "All objects of the kinds"),
        switch("local", "Not supported: objects are asked for at the server"),
        flags::selector(),
        flags::field_selector(),
        flags::all_namespaces(),
    ];
    own.extend(flags::output());
    own.extend(flags::files());
    flags::command("wait", "Wait for a specific condition on one or many resources", "TYPE/NAME", own)
}

enum Goal {
    Gone,
    There,
    Condition { name: String, status: String },
    Path { path: JsonPath, value: Option<String> },
}

impl Goal {
    fn parse(text: &str) -> Result<Self> {
        let lower = text.to_lowercase();
        if lower == "delete" {
            return Ok(Goal::Gone);
        }
        if lower == "create" {
            return Ok(Goal::There);
        }
        if let Some(condition) = text.strip_prefix("condition=") {
            let (name, status) = condition.split_once('=').unwrap_or((condition, "true"));
            return Ok(Goal::Condition { name: name.to_lowercase(), status: status.to_lowercase() });
        }
        if let Some(spec) = text.strip_prefix("jsonpath=") {
            let spec = spec.trim_matches('\'');
            // An equals sign in a filter is not the one before the value.
            let end = spec.rfind('}').map_or(0, |at| at + 1);
            let (path, value) = match spec[end..].find('=') {
                Some(at) => (&spec[..end + at], Some(spec[end + at + 1..].trim_matches(['"', '\'']))),
                None => (spec, None),
            };
            if value == Some("") {
                return Err(fail!(
                    "jsonpath wait has to have a value after equal sign, like --for=jsonpath='{{.status.readyReplicas}}'=3"
                ));
            }
            let path = JsonPath::relaxed(path.trim_matches('\'')).map_err(|error| fail!("{error}"))?;
            return Ok(Goal::Path { path, value: value.map(str::to_owned) });
        }
        Err(fail!("unrecognized condition: \"{text}\""))
    }

    fn is_met(&self, object: &Value) -> bool {
        match self {
            Goal::Gone => false,
            Goal::There => true,
            Goal::Condition { name, status } => items(dig(object, "status.conditions")).any(|condition| {
                let observed = condition["observedGeneration"].as_i64();
                let fresh =
                    observed.is_none_or(|seen| seen >= dig(object, "metadata.generation").as_i64().unwrap_or(0));
                fresh
                    && dig_str(condition, "type").to_lowercase() == *name
                    && dig_str(condition, "status").to_lowercase() == *status
            }),
            Goal::Path { path, value } => {
                let Ok(found) = path.find(object, true) else { return false };
                let mut found = found.iter().flatten();
                match value {
                    None => found.next().is_some(),
                    Some(value) => found.any(|one| jsonpath::text(one) == *value),
                }
            }
        }
    }
}

pub async fn run(cx: &Cx) -> Result<()> {
    let goals: Vec<Goal> = cx.flags.all("for").into_iter().map(Goal::parse).collect::<Result<_>>()?;
    if goals.is_empty() {
        return Err(Error::Raw("error: required flag(s) \"for\" not set".into()));
    }
    let seconds = cx.flags.seconds("timeout")?.unwrap_or(30.0);
    let patience = if seconds < 0.0 { FOREVER } else { Duration::from_secs_f64(seconds) };
    let deadline = Instant::now() + patience;
    let (creates, deletes) = (matches!(goals[0], Goal::There), matches!(goals[0], Goal::Gone));
    let search = Search::from_flags(cx);
    let search = Search { all: search.all || creates, ..search };
    let found = loop {
        let mut found = search.run(cx).await?;
        if deletes {
            found.errors.retain(|error| !error.is_not_found());
            break found;
        }
        let missing = found.infos.is_empty() && found.errors.iter().all(Error::is_not_found);
        if !creates || !missing || Instant::now() >= deadline {
            break found;
        }
        tokio::time::sleep(PAUSE).await;
    };
    if found.infos.is_empty() && found.errors.is_empty() && !deletes {
        return Err(fail!("no matching resources found"));
    }
    let mut errors = found.errors;
    let mut reporter = Reporter::new(cx)?;
    for info in &found.infos {
        match wait_for(cx, info, &goals, deadline).await {
            Ok(object) => reporter.done(&object, "condition met")?,
            Err(error) => errors.push(error),
        }
    }
    Error::collected(errors)
}

async fn wait_for(cx: &Cx, info: &Info, goals: &[Goal], deadline: Instant) -> Result<Value> {
    let mut object = info.object.clone();
    for goal in goals {
        match goal {
            Goal::Gone => {
                let uid = dig_str(&info.object, "metadata.uid");
                delete::gone(cx, info, Some(uid).filter(|uid| !uid.is_empty()), deadline).await?;
            }
            goal => {
                let patience = deadline.saturating_duration_since(Instant::now());
                object = until(cx, info, patience, |object| goal.is_met(object)).await?;
            }
        }
    }
    Ok(object)
}

/// Waits until an object is as wanted; it has to be there.
pub async fn until(cx: &Cx, info: &Info, patience: Duration, is_met: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + patience;
    let late = || fail!("timed out waiting for the condition on {}/{}", info.resource.plural, info.name);
    let api = cx.api().await?;
    loop {
        let object = api.get(&info.path(None)).await?;
        if is_met(&object) {
            return Ok(object);
        }
        let path = Query::default()
            .add("fieldSelector", format!("metadata.name={}", info.name))
            .add("watch", "1")
            .add("resourceVersion", dig_str(&object, "metadata.resourceVersion"))
            .on(&info.collection());
        let mut events = timeout_at(deadline, api.watch(&path, JSON)).await.map_err(|_| late())??;
        loop {
            match timeout_at(deadline, events.next()).await.map_err(|_| late())? {
                Some(Ok((kind, object))) if kind != "DELETED" && is_met(&object) => return Ok(object),
                Some(Ok(_)) => {}
                // The watch ended: what is there is looked at again.
                Some(Err(_)) | None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn goals_are_read_and_met() {
        let pod = json!({"metadata": {"generation": 2}, "status": {"phase": "Running", "podIP": "1.2.3.4", "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Old", "status": "True", "observedGeneration": 1}]}});
        for (text, expected) in [
            ("condition=Ready", true),
            ("condition=ready=True", true),
            ("condition=Ready=false", false),
            ("condition=Old", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath='{.status.phase}'=Failed", false),
            ("jsonpath={.status.podIP}", true),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
            ("create", true),
            ("delete", false),
        ] {
            let goal = Goal::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(goal.is_met(&pod), expected, "{text}");
        }
        assert!(Goal::parse("nothing").is_err());
    }
}
