//! `explain`: what the fields of a resource mean, from the server's own schema.

use std::collections::BTreeSet;

use clap::Command;
use serde_json::Value;

use crate::{
    cx::{Cx, dig, dig_str, items, write_out},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
};

/// Descriptions are wrapped at this column.
const WIDTH: usize = 80;
const MAX_DEPTH: usize = 40;

pub fn command() -> Command {
    flags::command(
        "explain",
        "Get documentation for a resource",
        "TYPE[.FIELD...]",
        vec![
            switch("recursive", "Show all fields below"),
            text("api-version", "The version to explain, as GROUP/VERSION"),
            text("output", "plaintext, or plaintext-openapiv2 (not supported)").short('o'),
        ],
    )
}

struct Document(Value);

impl Document {
    /// A schema with its references followed; `allOf` with one entry is that entry.
    fn follow<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        for _ in 0..8 {
            let reference = schema["$ref"].as_str().or_else(|| items(&schema["allOf"]).next()?["$ref"].as_str());
            let Some(name) = reference.and_then(|path| path.rsplit('/').next()) else { break };
            schema = &self.0["components"]["schemas"][name];
        }
        schema
    }

    fn kind(&self, schema: &Value) -> String {
        let target = self.follow(schema);
        if !schema["$ref"].is_null() || items(&schema["allOf"]).next().is_some() {
            let name = items(&schema["allOf"]).next().map_or(&schema["$ref"], |one| &one["$ref"]);
            let name = name.as_str().and_then(|path| path.rsplit('.').next()).unwrap_or_default();
            return match (name, target["properties"].is_object()) {
                (_, true) => name.to_owned(),
                (name, false) if target["type"] == "string" || target["oneOf"].is_array() => match name {
                    "Time" | "MicroTime" | "Quantity" | "IntOrString" => scalar(target, name),
                    _ => scalar(target, name),
                },
                (name, false) => name.to_owned(),
            };
        }
        match dig_str(schema, "type") {
            "array" => format!("[]{}", self.kind(&schema["items"])),
            "object" if schema["additionalProperties"].is_object() => {
                format!("map[string]{}", self.kind(&schema["additionalProperties"]))
            }
            "object" => "Object".into(),
            "" => "Object".into(),
            other => other.into(),
        }
    }

    /// What lies inside of a list or a map.
    fn inner<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let mut schema = self.follow(schema);
        for _ in 0..8 {
            schema = match () {
                () if schema["items"].is_object() => self.follow(&schema["items"]),
                () if schema["additionalProperties"].is_object() => self.follow(&schema["additionalProperties"]),
                () => break,
            };
        }
        schema
    }
}

fn scalar(target: &Value, name: &str) -> String {
    match dig_str(target, "type") {
        "" => name.to_owned(),
        kind => kind.to_owned(),
    }
}

pub async fn run(cx: &Cx) -> Result<()> {
    let args = cx.flags.args();
    let [word] = args.as_slice() else {
        return Err(Error::Usage("You must specify the type of resource to explain. Use \"knarr api-resources\" for a complete list of supported resources.".into()));
    };
    match cx.flags.some("output") {
        None | Some("plaintext") => {}
        Some(other) => return Err(fail!("the output format {other:?} is not supported: use plaintext")),
    }
    // `pods.spec` names a field, `deployments.apps` a group: the longest beginning that is a resource is one.
    let parts: Vec<&str> = word.split('.').collect();
    let discovery = cx.discovery().await?;
    let resource = discovery.find(parts[0]).map_err(|error| Error::Raw(error.to_string()))?;
    let mut fields: &[&str] = &parts[1..];
    for end in (2..=parts.len()).rev() {
        if let Ok(found) = discovery.find(&parts[..end].join("."))
            && found.group.split('.').next() == Some(parts[1])
        {
            fields = &parts[end..];
            break;
        }
    }
    let resource = match cx.flags.some("api-version") {
        Some(version) => discovery
            .of_kind(version, &resource.kind)
            .ok_or_else(|| fail!("couldn't find resource for \"{version}, Kind={}\"", resource.kind))?,
        None => resource,
    };
    let index = cx.api().await?.get("/openapi/v3").await?;
    let place = if resource.group.is_empty() {
        format!("api/{}", resource.version)
    } else {
        format!("apis/{}", resource.api_version())
    };
    let path = dig_str(&index["paths"][&place], "serverRelativeURL");
    if path.is_empty() {
        return Err(fail!("couldn't find resource for \"{}, Kind={}\"", resource.api_version(), resource.kind));
    }
    let document = Document(cx.api().await?.get(path).await?);
    let is_it = |schema: &&Value| {
        items(&schema["x-kubernetes-group-version-kind"]).any(|gvk| {
            gvk["kind"] == resource.kind.as_str()
                && gvk["version"] == resource.version.as_str()
                && gvk["group"] == resource.group.as_str()
        })
    };
    let schemas = document.0["components"]["schemas"].as_object();
    let schema = schemas.into_iter().flatten().map(|(_, schema)| schema).find(is_it);
    let schema = schema.ok_or_else(|| fail!("the server has no schema of {}", resource.kind))?;
    let mut page = String::new();
    if !resource.group.is_empty() {
        page += &format!("GROUP:      {}\n", resource.group);
    }
    page += &format!("KIND:       {}\nVERSION:    {}\n\n", resource.kind, resource.version);
    write_out(&std::mem::take(&mut page))?;
    let (mut at, mut here) = (schema, None);
    for field in fields {
        let inner = document.inner(at);
        at = inner["properties"].get(*field).ok_or_else(|| fail!("field \"{field}\" does not exist"))?;
        here = Some(*field);
    }
    if let Some(field) = here {
        page += &format!("FIELD: {field} <{}>\n", document.kind(at));
        page += &enumeration(document.inner(at), 0);
        page += "\n\n";
    }
    page += "DESCRIPTION:\n";
    // A field's own words come first, then those of its type.
    let mut texts: Vec<&str> = vec![dig_str(at, "description")];
    let inner = document.inner(at);
    if !std::ptr::eq(inner, at) && !texts.contains(&dig_str(inner, "description")) {
        texts.push(dig_str(inner, "description"));
    }
    texts.retain(|text| !text.is_empty());
    if texts.is_empty() {
        texts.push("<empty>");
    }
    for text in texts {
        page += &wrap(text, 4);
    }
    page += "    \n";
    if inner["properties"].is_object() {
        page += "FIELDS:\n";
        page += &list(&document, inner, 1, cx.flags.on("recursive"), &BTreeSet::new());
    }
    page += "\n";
    write_out(&page)
}

fn enumeration(schema: &Value, level: usize) -> String {
    let values: Vec<String> = items(&schema["enum"]).map(knarr_api::jsonpath::text).collect();
    match values.is_empty() {
        true => String::new(),
        false => format!(
            "{}ENUM:\n{}",
            " ".repeat(level * 2),
            values.iter().map(|value| format!("{}{value}\n", " ".repeat(level * 2 + 4))).collect::<String>()
        ),
    }
}

fn list(document: &Document, schema: &Value, level: usize, recursive: bool, seen: &BTreeSet<*const Value>) -> String {
    let required: Vec<&str> = items(&schema["required"]).filter_map(Value::as_str).collect();
    let indent = "  ".repeat(level);
    let mut page = String::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let mark = if required.contains(&name.as_str()) { " -required-" } else { "" };
        page += &format!("{indent}{name}\t<{}>{mark}\n", document.kind(field));
        let inner = document.inner(field);
        if !recursive {
            let values: Vec<String> = items(&dig(inner, "enum").clone()).map(knarr_api::jsonpath::text).collect();
            if !values.is_empty() {
                page += &format!("{indent}enum: {}\n", values.join(", "));
            }
            let text = match dig_str(field, "description") {
                "" => dig_str(inner, "description"),
                text => text,
            };
            page += &wrap(if text.is_empty() { "<no description>" } else { text }, level * 2 + 2);
            page += "\n";
        } else {
            let values: Vec<String> = items(&inner["enum"]).map(knarr_api::jsonpath::text).collect();
            if !values.is_empty() {
                page += &format!("{indent}enum: {}\n", values.join(", "));
            }
            // A schema may hold itself: it is shown once on every way down.
            let place = std::ptr::from_ref(inner);
            if inner["properties"].is_object() && !seen.contains(&place) && level < MAX_DEPTH {
                let mut seen = seen.clone();
                seen.insert(place);
                page += &list(document, inner, level + 1, recursive, &seen);
            }
        }
    }
    page
}

/// Paragraphs at a column, each line as long as fits.
fn wrap(text: &str, indent: usize) -> String {
    let fill = " ".repeat(indent);
    let mut page = String::new();
    for paragraph in text.split('\n') {
        let mut line = String::new();
        for word in paragraph.split(' ').filter(|word| !word.is_empty()) {
            if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH {
                page += &format!("{fill}{line}\n");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line += word;
        }
        page += &format!("{fill}{line}\n");
    }
    page
}
