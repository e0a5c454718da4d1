//! `describe`: everything about an object that a person wants to read, with its events.

mod cluster;
mod containers;
mod jobs;
mod limits;
mod network;
mod pod;
mod rest;
mod rights;
mod scaling;
mod storage;
mod volumes;
mod workloads;

use std::fmt::Write as _;

use clap::Command;
use jiff::Timestamp;
use knarr_api::jsonpath;
use serde_json::Value;

use crate::{
    api::Query,
    cx::{Cx, dig, dig_str, items, write_out},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
    resources::{Found, Info, Search},
    tabs,
};

pub use pod::template_text as pod_template_text;

pub fn command() -> Command {
    let mut own = vec![
        switch("show-events", "Show what happened to the object"),
        text("chunk-size", "Objects per request of a list"),
        flags::selector(),
        flags::all_namespaces(),
    ];
    own.extend(flags::files());
    flags::command(
        "describe",
        "Show details of a specific resource or group of resources",
        "TYPE[/NAME] | TYPE [NAME_PREFIX]",
        own,
    )
}

pub async fn run(cx: &Cx) -> Result<()> {
    let search = Search::from_flags(cx).listing();
    if search.args.is_empty() && cx.flags.list("filename").is_empty() {
        return Err(fail!(
            "You must specify the type of resource to describe. Use \"knarr api-resources\" for a complete list of supported resources."
        ));
    }
    let mut found = search.run(cx).await?;
    if found.errors.iter().any(Error::is_not_found) {
        by_prefix(cx, &search, &mut found).await?;
    }
    let mut first = true;
    for info in &found.infos {
        let events = cx.flags.switch("show-events").unwrap_or(found.infos.len() == 1);
        let about = about(cx, info, events).await?;
        match found.by_prefix {
            true => crate::say!("{about}")?,
            false => write_out(&format!("{}{about}", if first { "" } else { "\n\n" }))?,
        }
        first = false;
    }
    if found.infos.is_empty() && found.errors.is_empty() {
        match search.all_namespaces {
            true => eprintln!("No resources found"),
            false => eprintln!("No resources found in {} namespace.", cx.namespace().await?),
        }
    }
    Error::collected(found.errors)
}

/// A name that no object has may be the beginning of several.
async fn by_prefix(cx: &Cx, search: &Search, found: &mut Found) -> Result<()> {
    let [kind, prefix] = search.args.as_slice() else { return Ok(()) };
    if kind.contains(['/', ',']) {
        return Ok(());
    }
    let resource = cx.discovery().await?.find(kind)?;
    let namespace = cx.namespace().await?;
    let listed = Search::default().list(cx, &resource, Some(&namespace)).await?;
    let fitting: Vec<Info> = listed.into_iter().filter(|info| info.name.starts_with(prefix.as_str())).collect();
    if !fitting.is_empty() {
        found.infos = fitting;
        found.by_prefix = true;
        found.errors.clear();
    }
    Ok(())
}

async fn about(cx: &Cx, info: &Info, show_events: bool) -> Result<String> {
    let mut page = Page::new(cx.now());
    let object = &info.object;
    let place = (info.resource.group.as_str(), info.resource.kind.as_str());
    match place {
        ("", "Pod") => pod::describe(&mut page, object),
        ("", "Node") => cluster::node(cx, &mut page, object).await?,
        ("", "Namespace") => cluster::namespace(cx, &mut page, object).await?,
        ("", "Service") => network::service(cx, &mut page, object).await?,
        ("", "Endpoints") => network::endpoints(&mut page, object),
        ("discovery.k8s.io", "EndpointSlice") => network::slice(&mut page, object),
        ("networking.k8s.io", "Ingress") => network::ingress(cx, &mut page, object).await?,
        ("networking.k8s.io", "NetworkPolicy") => network::policy(&mut page, object),
        ("apps", "Deployment") => workloads::deployment(cx, &mut page, object).await?,
        ("apps", "ReplicaSet") | ("", "ReplicationController") => workloads::replica_set(cx, &mut page, object).await?,
        ("apps", "StatefulSet") => workloads::stateful_set(cx, &mut page, object).await?,
        ("apps", "DaemonSet") => workloads::daemon_set(cx, &mut page, object).await?,
        ("batch", "Job") => jobs::job(&mut page, object),
        ("batch", "CronJob") => jobs::cron_job(&mut page, object),
        ("autoscaling", "HorizontalPodAutoscaler") => scaling::autoscaler(&mut page, object),
        ("policy", "PodDisruptionBudget") => scaling::budget(&mut page, object),
        ("", "ConfigMap") => rest::config_map(&mut page, object),
        ("", "Secret") => rest::secret(&mut page, object),
        ("", "ServiceAccount") => rest::service_account(cx, &mut page, object).await?,
        ("", "PersistentVolume") => storage::volume(&mut page, object),
        ("", "PersistentVolumeClaim") => storage::claim(cx, &mut page, object).await?,
        ("storage.k8s.io", "StorageClass") => storage::storage_class(&mut page, object),
        ("", "ResourceQuota") => limits::quota(&mut page, object),
        ("", "LimitRange") => limits::limit_range(&mut page, object),
        ("scheduling.k8s.io", "PriorityClass") => limits::priority_class(&mut page, object),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => rights::role(&mut page, object),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => rights::binding(&mut page, object),
        _ => rest::anything(&mut page, object),
    }
    let quiet = matches!(
        place,
        ("", "ResourceQuota" | "LimitRange" | "Namespace" | "Secret")
            | ("networking.k8s.io", "NetworkPolicy")
            | ("rbac.authorization.k8s.io", _)
    );
    if !quiet && show_events {
        let events = events(cx, info).await?;
        page.events(&events);
    }
    Ok(page.text())
}

async fn events(cx: &Cx, info: &Info) -> Result<Vec<Value>> {
    let uid = dig_str(&info.object, "metadata.uid");
    // A node's own events name it by its name.
    let uid = if info.resource.kind == "Node" && info.resource.group.is_empty() { &info.name } else { uid };
    let selector = format!(
        "involvedObject.name={},involvedObject.namespace={},involvedObject.kind={},involvedObject.uid={uid}",
        info.name, info.namespace, info.resource.kind
    );
    let resource = cx.discovery().await?.by_plural("", "events")?;
    let namespace = (!info.namespace.is_empty()).then_some(info.namespace.as_str());
    let selector = if namespace.is_none() { selector.replace("involvedObject.namespace=,", "") } else { selector };
    let mut list = cx
        .api()
        .await?
        .get(&Query::default().add("fieldSelector", &selector).on(&resource.path(namespace, None, None)))
        .await?;
    let mut found = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    if info.resource.kind == "Node" {
        let by_uid = selector.replace(&format!("uid={uid}"), &format!("uid={}", dig_str(&info.object, "metadata.uid")));
        let mut more = cx
            .api()
            .await?
            .get(&Query::default().add("fieldSelector", by_uid).on(&resource.path(None, None, None)))
            .await?;
        found.extend(more["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
    }
    sort_events(&mut found);
    Ok(found)
}

/// Oldest last.
pub fn sort_events(events: &mut [Value]) {
    events.sort_by_key(|event| {
        let last = ["lastTimestamp", "eventTime"].into_iter().find_map(|field| event[field].as_str());
        last.unwrap_or_default().to_owned()
    });
}

/// When an event was, and how often.
pub fn event_age(event: &Value, now: Timestamp) -> String {
    let ago = |value: &Value| knarr_api::time::age(value, now);
    let first = if event["firstTimestamp"].is_null() { &event["eventTime"] } else { &event["firstTimestamp"] };
    let series = &event["series"];
    match (series["count"].as_i64(), event["count"].as_i64()) {
        (Some(count), _) => format!("{} (x{count} over {})", ago(&series["lastObservedTime"]), ago(first)),
        (None, Some(count)) if count > 1 => format!("{} (x{count} over {})", ago(&event["lastTimestamp"]), ago(first)),
        _ => ago(if event["eventTime"].is_null() { first } else { &event["eventTime"] }),
    }
}

/// A text in columns that grows line by line.
pub struct Page {
    text: String,
    pub now: Timestamp,
}

impl Page {
    pub fn new(now: Timestamp) -> Self {
        Self { text: String::new(), now }
    }

    pub fn line(&mut self, level: usize, text: impl std::fmt::Display) {
        let _ = writeln!(self.text, "{}{text}", "  ".repeat(level));
    }

    /// `Label:  value`
    pub fn field(&mut self, level: usize, label: &str, value: impl std::fmt::Display) {
        self.line(level, format_args!("{label}:\t{value}"));
    }

    /// A field that is left out where there is nothing to show.
    pub fn some(&mut self, level: usize, label: &str, value: &Value) {
        let text = show(value);
        if !text.is_empty() {
            self.field(level, label, text);
        }
    }

    pub fn name(&mut self, object: &Value) {
        self.field(0, "Name", dig_str(object, "metadata.name"));
    }

    pub fn names(&mut self, object: &Value) {
        self.name(object);
        self.field(0, "Namespace", dig_str(object, "metadata.namespace"));
    }

    pub fn labels(&mut self, object: &Value) {
        self.map(0, "Labels", dig(object, "metadata.labels"), "=");
    }

    pub fn labels_and_annotations(&mut self, object: &Value) {
        self.labels(object);
        self.annotations(0, "Annotations", dig(object, "metadata.annotations"));
    }

    /// One pair a line, the first one behind the label.
    pub fn map(&mut self, level: usize, label: &str, map: &Value, sign: &str) {
        let pairs: Vec<String> =
            map.as_object().into_iter().flatten().map(|(key, value)| format!("{key}{sign}{}", show(value))).collect();
        self.list(level, label, &pairs);
    }

    pub fn list(&mut self, level: usize, label: &str, lines: &[String]) {
        match lines.split_first() {
            None => self.field(level, label, "<none>"),
            Some((first, rest)) => {
                self.field(level, label, first);
                rest.iter().for_each(|line| self.line(0, format_args!("\t{line}")));
            }
        }
    }

    pub fn annotations(&mut self, level: usize, label: &str, map: &Value) {
        const LONGEST: usize = 140;
        let mut lines = Vec::new();
        for (key, value) in map.as_object().into_iter().flatten() {
            if key == super::apply::LAST_APPLIED {
                continue;
            }
            let value = value.as_str().unwrap_or_default().trim_end_matches('\n');
            if value.len() + key.len() + 2 > LONGEST || value.contains('\n') {
                lines.push(format!("{key}:"));
                lines.extend(value.split('\n').map(|line| format!("  {}", shorten(line, LONGEST - 2))));
            } else {
                lines.push(format!("{key}: {value}"));
            }
        }
        self.list(level, label, &lines);
    }

    /// The conditions of the status, where it has any: what stands above the columns, and a row of each.
    pub fn conditions(&mut self, object: &Value, head: &[&str], row: impl Fn(&Value) -> String) {
        let mut conditions = items(dig(object, "status.conditions")).peekable();
        if conditions.peek().is_none() {
            return;
        }
        self.line(0, "Conditions:");
        head.iter().for_each(|line| self.line(1, line));
        conditions.for_each(|condition| self.line(1, row(condition)));
    }

    /// With all that a condition says; `looked` is the column of when it was last looked at.
    pub fn timed_conditions(&mut self, object: &Value, looked: &str) {
        let names = format!("Type\tStatus\t{looked}\tLastTransitionTime\tReason\tMessage");
        let head = [names.as_str(), "----\t------\t-----------------\t------------------\t------\t-------"];
        let field = looked.replacen('L', "l", 1);
        self.conditions(object, &head, |condition| {
            let text = |field| dig_str(condition, field);
            let (looked, changed) = (time(&condition[&field]), time(&condition["lastTransitionTime"]));
            let (kind, status, reason, message) = (text("type"), text("status"), text("reason"), text("message"));
            format!("{kind} \t{status} \t{looked} \t{changed} \t{reason} \t{message}")
        });
    }

    pub fn events(&mut self, events: &[Value]) {
        if events.is_empty() {
            return self.field(0, "Events", "<none>");
        }
        self.line(0, "Events:");
        self.line(1, "Type\tReason\tAge\tFrom\tMessage");
        self.line(1, "----\t------\t----\t----\t-------");
        for event in events {
            let source = match dig_str(event, "source.component") {
                "" => dig_str(event, "reportingComponent"),
                component => component,
            };
            let (kind, reason) = (dig_str(event, "type"), dig_str(event, "reason"));
            let age = event_age(event, self.now);
            let part = match dig_str(event, "involvedObject.fieldPath") {
                path if path.is_empty() || path.starts_with("spec.containers{") => String::new(),
                path => format!("{path}: "),
            };
            self.line(1, format_args!("{kind}\t{reason}\t{age}\t{source}\t{part}{}", dig_str(event, "message").trim()));
        }
    }

    pub fn text(&self) -> String {
        tabs::DESCRIBE.align(&self.text)
    }

    /// The text before its columns are aligned.
    pub fn raw(self) -> String {
        self.text
    }
}

fn shorten(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// A scalar as text; nothing where there is none.
pub fn show(value: &Value) -> String {
    jsonpath::text(value)
}

pub fn or_none(text: &str) -> &str {
    if text.is_empty() { "<none>" } else { text }
}

/// `Mon, 02 Jan 2006 15:04:05 +0000`
pub fn time(value: &Value) -> String {
    use jiff::tz::TimeZone;
    match value.as_str().and_then(knarr_api::time::parse) {
        Some(time) => time.to_zoned(TimeZone::system()).strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
        None => "<unset>".into(),
    }
}

/// `a=1,b=2`
pub fn labels_text(labels: &Value, between: &str) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    pairs.map(|(key, value)| format!("{key}={}", show(value))).collect::<Vec<_>>().join(between)
}

/// A label selector as `-l` takes it.
pub fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<(String, String)> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push((key.clone(), format!("{key}={}", show(value))));
    }
    for row in items(&selector["matchExpressions"]) {
        let key = dig_str(row, "key");
        let values = items(&row["values"]).map(show).collect::<Vec<_>>().join(",");
        parts.push((
            key.into(),
            match dig_str(row, "operator") {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "Exists" => key.to_owned(),
                _ => format!("!{key}"),
            },
        ));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// `ReplicaSet/web-1`, where somebody controls the object.
pub fn controller(object: &Value) -> Option<String> {
    let owner = items(dig(object, "metadata.ownerReferences")).find(|owner| owner["controller"] == true)?;
    Some(format!("{}/{}", dig_str(owner, "kind"), dig_str(owner, "name")))
}
