//! `events`: what happened, oldest first.

use clap::Command;
use futures::StreamExt;
use serde_json::Value;

use super::describe::{event_age, sort_events};
use crate::{
    api::{JSON, Query},
    cx::{Cx, dig_str, write_out},
    error::Result,
    fail,
    flags::{self, list, switch, text},
    output::{Format, Printer, list_of},
    resources::Search,
    tabs,
};

pub fn command() -> Command {
    let mut own = vec![
        text("for", "Only events about this object, such as pod/web"),
        list("types", "Only events of these types: Normal, Warning"),
        switch("watch", "After listing, go on with new ones").short('w'),
        switch("no-headers", "Leave out the line of headers"),
        text("chunk-size", "Objects per request of a list"),
        flags::all_namespaces(),
    ];
    own.extend(flags::output());
    flags::command("events", "List events", "", own)
}

pub async fn run(cx: &Cx) -> Result<()> {
    let resource = cx.discovery().await?.by_plural("", "events")?;
    let mut fields = Vec::new();
    if let Some(object) = cx.flags.some("for") {
        let (kind, name) = object.split_once('/').ok_or_else(|| fail!("--for must be in resource/name form"))?;
        let kind = cx.discovery().await?.find(kind)?;
        fields = vec![format!("involvedObject.kind={}", kind.kind), format!("involvedObject.name={name}")];
    }
    let types: Vec<String> = cx.flags.list("types").into_iter().map(str::to_owned).collect();
    if let Some(bad) = types.iter().find(|known| !["normal", "warning"].contains(&known.to_lowercase().as_str())) {
        return Err(fail!("valid --types are Normal or Warning, not {bad}"));
    }
    let all = cx.flags.on("all-namespaces");
    let namespace = cx.namespace().await?;
    let scope = (!all).then_some(namespace.as_str());
    let fits = |event: &Value| {
        types.is_empty() || types.iter().any(|known| known.eq_ignore_ascii_case(dig_str(event, "type")))
    };
    let search = Search { field_selector: fields.join(","), ..Search::default() };
    let mut events: Vec<Value> = search.list(cx, &resource, scope).await?.into_iter().map(|info| info.object).collect();
    events.retain(fits);
    sort_events(&mut events);
    let format = Format::of(cx)?;
    if !format.is_table() {
        return Printer::new(cx, format).object(&list_of(events));
    }
    let watched = cx.flags.on("watch");
    if events.is_empty() && !watched {
        match all {
            true => eprintln!("No events found."),
            false => eprintln!("No events found in {namespace} namespace."),
        }
        return Ok(());
    }
    let mut table = String::new();
    if !cx.flags.on("no-headers") {
        table += if all { "NAMESPACE\t" } else { "" };
        table += "LAST SEEN\tTYPE\tREASON\tOBJECT\tMESSAGE\n";
    }
    events.iter().for_each(|event| table += &line(cx, event, all));
    write_out(&tabs::TABLE.align(&table))?;
    if !watched {
        return Ok(());
    }
    let query = Query::default().add("fieldSelector", &search.field_selector).add("watch", "1");
    let start = cx.api().await?.get(&Query::default().add("limit", 1).on(&resource.path(scope, None, None))).await?;
    let path =
        query.add("resourceVersion", dig_str(&start, "metadata.resourceVersion")).on(&resource.path(scope, None, None));
    let mut stream = cx.api().await?.watch(&path, JSON).await?;
    while let Some(event) = stream.next().await {
        let (kind, event) = event?;
        if kind != "DELETED" && kind != "BOOKMARK" && fits(&event) {
            write_out(&tabs::TABLE.align(&line(cx, &event, all)))?;
        }
    }
    Ok(())
}

fn line(cx: &Cx, event: &Value, all: bool) -> String {
    let namespace = if all { format!("{}\t", dig_str(event, "metadata.namespace")) } else { String::new() };
    let object = format!("{}/{}", dig_str(event, "involvedObject.kind"), dig_str(event, "involvedObject.name"));
    let age = event_age(event, cx.now());
    let (kind, reason, message) = (dig_str(event, "type"), dig_str(event, "reason"), dig_str(event, "message").trim());
    format!("{namespace}{age}\t{kind}\t{reason}\t{object}\t{message}\n")
}
