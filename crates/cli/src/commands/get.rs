//! `get`: tables that the server makes, or objects in any format; once, or while they change.

use std::{cmp::Ordering, pin::pin};

use clap::Command;
use futures::StreamExt;
use knarr_api::jsonpath::{JsonPath, order};
use serde_json::{Value, json};

use crate::{
    api::{JSON, Query, TABLE},
    cx::{Cx, dig_str, write_out},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
    output::{
        Format, Printer, list_of,
        table::{Look, Rows},
    },
    resources::{self, Asked, Info, Search},
};

pub fn command() -> Command {
    let mut own = vec![
        flags::list("label-columns", "Show these labels as columns").short('L'),
        switch("no-headers", "Leave out the line of headers"),
        switch("show-labels", "Show all labels as the last column"),
        switch("show-kind", "Show the kind before the name"),
        text("sort-by", "Sort by a field, such as .metadata.creationTimestamp"),
        switch("watch", "After listing, go on with changes").short('w'),
        switch("watch-only", "Show changes only"),
        switch("output-watch-events", "Show what happened to each object of a watch"),
        switch("ignore-not-found", "It is no error where a named object does not exist"),
        text("chunk-size", "Objects per request of a list"),
        text("subresource", "Show a subresource, such as status or scale"),
        text("raw", "Ask for this path, and print the answer as it comes"),
        switch("server-print", "Not supported off: tables are always the server's"),
        flags::selector(),
        flags::field_selector(),
        flags::all_namespaces(),
    ];
    own.extend(flags::output());
    own.extend(flags::files());
    flags::command("get", "Display one or many resources", "TYPE[/NAME] | TYPE [NAME...]", own)
}

pub async fn run(cx: &Cx) -> Result<()> {
    if let Some(path) = cx.flags.some("raw") {
        return write_out(&cx.api().await?.raw(http::Method::GET, path, None).await?);
    }
    if cx.flags.switch("server-print") == Some(false) {
        return Err(crate::output::refuse("server-print=false", "tables are made by the server"));
    }
    let search = Search::from_flags(cx).listing();
    if search.args.is_empty() && cx.flags.list("filename").is_empty() {
        return Err(Error::Raw(format!(
            "You must specify the type of resource to get. Use \"knarr api-resources\" for a complete list of supported resources.\n\nerror: Required resource not specified.\nUse \"knarr explain <resource>\" for a detailed description of that resource (e.g. knarr explain pods).\nSee '{} -h' for help and examples",
            cx.command
        )));
    }
    let format = Format::of(cx)?;
    if cx.flags.on("watch") || cx.flags.on("watch-only") {
        return watch(cx, &search, format).await;
    }
    if format.is_table() { tables(cx, &search, &format).await } else { objects(cx, &search, format).await }
}

fn look(cx: &Cx, format: &Format) -> Look {
    Look {
        wide: matches!(format, Format::Wide),
        headers: !cx.flags.on("no-headers"),
        kind: cx.flags.on("show-kind"),
        show_labels: cx.flags.on("show-labels"),
        label_columns: cx.flags.list("label-columns").into_iter().map(str::to_owned).collect(),
        ..Look::default()
    }
}

async fn asked(cx: &Cx, search: &Search) -> Result<Vec<(Asked, String)>> {
    let mut found = Vec::new();
    if search.args.is_empty() {
        for info in resources::from_files(cx).await?.all()? {
            found.push((Asked { resource: info.resource, name: Some(info.name) }, info.namespace));
        }
        return Ok(found);
    }
    let namespace = cx.namespace().await?;
    for one in resources::parse(cx, &search.args, true).await? {
        if one.name.is_some() && !(search.selector.is_empty() && search.field_selector.is_empty()) {
            return Err(fail!("name cannot be provided when a selector is specified"));
        }
        if one.name.is_some() && search.all_namespaces && one.resource.namespaced {
            return Err(fail!("a resource cannot be retrieved by name across all namespaces"));
        }
        found.push((one, namespace.clone()));
    }
    Ok(found)
}

fn path(cx: &Cx, search: &Search, asked: &Asked, namespace: &str) -> (String, Query) {
    let namespace = (!search.all_namespaces).then_some(namespace);
    let path = asked.resource.path(namespace, asked.name.as_deref(), cx.flags.some("subresource"));
    let query = Query::default().add("labelSelector", &search.selector).add("fieldSelector", &search.field_selector);
    (path, query)
}

async fn tables(cx: &Cx, search: &Search, format: &Format) -> Result<()> {
    let sort = sort_path(cx)?;
    let (mut errors, mut found) = (Vec::new(), Vec::new());
    let all = asked(cx, search).await?;
    for (one, namespace) in &all {
        let (path, query) = path(cx, search, one, namespace);
        let query = query.some("includeObject", sort.as_ref().map(|_| "Object"));
        let query = if one.name.is_none() { query.add("limit", resources::page_size(cx)?) } else { query };
        match pages(cx, &path, &query).await {
            Ok(mut table) => {
                if let Some(sort) = &sort {
                    sort_rows(&mut table, sort)?;
                }
                found.push((one.resource.clone(), table));
            }
            Err(error) if error.is_not_found() && cx.flags.on("ignore-not-found") => {}
            Err(error) => errors.push(error),
        }
    }
    let kinds = found.iter().any(|(resource, _)| *resource != found[0].0);
    let (mut printed, mut begin) = (false, 0);
    while begin < found.len() {
        let resource = found[begin].0.clone();
        let end = begin + found[begin..].iter().take_while(|(other, _)| *other == resource).count();
        let mut look = look(cx, format);
        look.kind |= kinds;
        look.namespace = search.all_namespaces && resource.namespaced;
        let mut rows = Rows::default();
        found[begin..end].iter().for_each(|(_, table)| rows.add(table, &look, &resource, None));
        if !rows.is_empty() {
            let gap = if printed && look.headers { "\n" } else { "" };
            write_out(&format!("{gap}{}", rows.take(&look)))?;
            printed = true;
        }
        begin = end;
    }
    if !printed && errors.is_empty() && !cx.flags.on("ignore-not-found") {
        let namespaced = !search.all_namespaces && all.iter().all(|(one, _)| one.resource.namespaced);
        match all.first() {
            Some((_, namespace)) if namespaced => eprintln!("No resources found in {namespace} namespace."),
            _ => eprintln!("No resources found"),
        }
    }
    Error::collected(errors)
}

/// A whole table, however many answers it takes.
async fn pages(cx: &Cx, path: &str, query: &Query) -> Result<Value> {
    let mut table = cx.api().await?.get_as(&query.clone().on(path), TABLE).await?;
    if dig_str(&table, "kind") != "Table" {
        return Ok(plain_table(&table, cx.now()));
    }
    loop {
        let next = dig_str(&table, "metadata.continue").to_owned();
        if next.is_empty() {
            return Ok(table);
        }
        let mut page = cx.api().await?.get_as(&query.clone().add("continue", next).on(path), TABLE).await?;
        let mut rows = table["rows"].as_array_mut().map(std::mem::take).unwrap_or_default();
        rows.extend(page["rows"].as_array_mut().map(std::mem::take).unwrap_or_default());
        table["metadata"] = page["metadata"].take();
        table["rows"] = rows.into();
    }
}

/// The table of what the server has none for, such as a subresource of another kind.
fn plain_table(object: &Value, now: jiff::Timestamp) -> Value {
    let age = knarr_api::time::age(&object["metadata"]["creationTimestamp"], now);
    json!({
        "columnDefinitions": [{"name": "Name"}, {"name": "Age"}],
        "rows": [{"cells": [object["metadata"]["name"], age], "object": object}],
    })
}

async fn objects(cx: &Cx, search: &Search, format: Format) -> Result<()> {
    let mut found = search.run(cx).await?;
    if cx.flags.on("ignore-not-found") {
        found.errors.retain(|error| !error.is_not_found());
        if found.infos.is_empty() && found.errors.is_empty() && found.single {
            return Ok(());
        }
    }
    let mut printer = Printer::new(cx, format);
    if found.single && found.infos.len() == 1 {
        printer.object(&found.infos[0].object)?;
    } else if !found.infos.is_empty() || found.errors.is_empty() {
        let mut objects: Vec<Value> = found.infos.into_iter().map(|info| info.object).collect();
        if let Some(sort) = sort_path(cx)? {
            sort_by(&mut objects, &sort, |object| object)?;
        }
        printer.object(&list_of(objects))?;
    }
    Error::collected(found.errors)
}

struct Sort {
    path: JsonPath,
    text: String,
}

fn sort_path(cx: &Cx) -> Result<Option<Sort>> {
    let Some(text) = cx.flags.some("sort-by") else { return Ok(None) };
    let path = JsonPath::relaxed(text).map_err(|error| fail!("{error}"))?;
    let inner = text.trim_matches(['{', '}']);
    let text = format!("{{{}{inner}}}", if inner.starts_with('.') { "" } else { "." });
    Ok(Some(Sort { path, text }))
}

fn sort_rows(table: &mut Value, sort: &Sort) -> Result<()> {
    match table["rows"].as_array_mut() {
        Some(rows) => sort_by(rows, sort, |row| &row["object"]),
        None => Ok(()),
    }
}

fn sort_by(values: &mut [Value], sort: &Sort, object: impl Fn(&Value) -> &Value) -> Result<()> {
    let key = |value: &Value| -> Result<Option<Value>> {
        let found = sort.path.find(object(value), true).map_err(|error| fail!("{error}"))?;
        Ok(found.into_iter().flatten().next().map(std::borrow::Cow::into_owned))
    };
    let mut keyed: Vec<(Option<Value>, Value)> =
        values.iter().map(|value| Ok((key(value)?, value.clone()))).collect::<Result<_>>()?;
    if !keyed.is_empty() && keyed.iter().all(|(key, _)| key.is_none()) {
        return Err(fail!("couldn't find any field with path \"{}\" in the list of objects", sort.text));
    }
    keyed.sort_by(|(a, _), (b, _)| match (a, b) {
        (Some(a), Some(b)) => compare(a, b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    });
    values.iter_mut().zip(keyed).for_each(|(place, (_, value))| *place = value);
    Ok(())
}

/// Quantities by amount, texts with numbers in them as people count.
fn compare(a: &Value, b: &Value) -> Ordering {
    let (Some(left), Some(right)) = (a.as_str(), b.as_str()) else { return order(a, b).unwrap_or(Ordering::Equal) };
    match (left.parse::<knarr_api::quantity::Quantity>(), right.parse()) {
        (Ok(left), Ok(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
        _ => natural(left, right),
    }
}

fn natural(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (mut i, mut j) = (0, 0);
    while let (Some(&x), Some(&y)) = (a.get(i), b.get(j)) {
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let run = |of: &[u8], at: usize| of[at..].iter().take_while(|c| c.is_ascii_digit()).count();
            let (m, n) = (run(a, i), run(b, j));
            let number = |of: &[u8]| String::from_utf8_lossy(of).parse::<u128>().unwrap_or(u128::MAX);
            let order = number(&a[i..i + m]).cmp(&number(&b[j..j + n]));
            if order.is_ne() {
                return order;
            }
            (i, j) = (i + m, j + n);
        } else if x != y {
            return x.cmp(&y);
        } else {
            (i, j) = (i + 1, j + 1);
        }
    }
    (a.len() - i).cmp(&(b.len() - j))
}

async fn watch(cx: &Cx, search: &Search, format: Format) -> Result<()> {
    let mut all = asked(cx, search).await?;
    if all.len() != 1 {
        return Err(fail!("you may only specify a single resource type"));
    }
    let (one, namespace) = all.remove(0);
    let mut look = look(cx, &format);
    look.namespace = search.all_namespaces && one.resource.namespaced;
    look.events = cx.flags.on("output-watch-events");
    let mut shower =
        Shower { table: format.is_table(), printer: Printer::new(cx, format), rows: Rows::default(), look };
    let (collection, mut query) = path(cx, search, &Asked { name: None, ..one.clone() }, &namespace);
    if let Some(name) = &one.name {
        query = query.add("fieldSelector", format!("metadata.name={name}"));
    }
    let accept = if shower.table { TABLE } else { JSON };
    let list = cx.api().await?.get_as(&query.clone().on(&collection), accept).await?;
    if !cx.flags.on("watch-only") {
        if one.name.is_some() && list["items"].as_array().or(list["rows"].as_array()).is_none_or(Vec::is_empty) {
            // It says what a plain `get` says.
            cx.api().await?.get(&one.resource.path(Some(&namespace), one.name.as_deref(), None)).await?;
        }
        shower.list(&list, &one)?;
    }
    let query = query.add("watch", "1").add("resourceVersion", dig_str(&list, "metadata.resourceVersion"));
    let mut events = pin!(cx.api().await?.watch(&query.on(&collection), accept).await?);
    while let Some(event) = events.next().await {
        let (kind, object) = event?;
        if kind != "BOOKMARK" {
            shower.event(&kind, &object, &one)?;
        }
    }
    Ok(())
}

struct Shower {
    table: bool,
    printer: Printer,
    rows: Rows,
    look: Look,
}

impl Shower {
    fn list(&mut self, list: &Value, asked: &Asked) -> Result<()> {
        if self.table {
            return self.event("ADDED", list, asked);
        }
        for object in list["items"].as_array().into_iter().flatten() {
            let mut object = object.clone();
            object["kind"] = asked.resource.kind.clone().into();
            object["apiVersion"] = asked.resource.api_version().into();
            self.event("ADDED", &Info::of(&asked.resource, object).object, asked)?;
        }
        Ok(())
    }

    fn event(&mut self, kind: &str, object: &Value, asked: &Asked) -> Result<()> {
        if self.table {
            self.rows.add(object, &self.look, &asked.resource, Some(kind));
            return write_out(&self.rows.take(&self.look));
        }
        match self.look.events {
            true => self.printer.object(&json!({"type": kind, "object": object})),
            false => self.printer.object(object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_sorted_as_people_count() {
        let mut texts = ["pod-10", "pod-9", "a", "100Mi", "1Gi"].map(|text| json!(text));
        texts.sort_by(compare);
        assert_eq!(texts, ["100Mi", "1Gi", "a", "pod-9", "pod-10"].map(|text| json!(text)));
    }
}
