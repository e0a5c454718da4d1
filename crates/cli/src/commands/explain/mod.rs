//! `explain`: what the fields of a resource mean, from the server's own schema.

mod wrap;

use std::collections::BTreeSet;

use clap::Command;
use serde_json::Value;

use self::wrap::wrap;
use crate::{
    cx::{Cx, dig_str, items, write_out},
    error::{Error, Result},
    fail,
    flags::{self, switch, text},
};

const MAX_DEPTH: usize = 40;
/// Beside a field in a list, at most so many of its values stand.
const MAX_VALUES: usize = 4;

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
        page += &enumeration(at);
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

/// The values that a field may have, each as a word.
fn values(field: &Value) -> Vec<String> {
    let shown = |value: &Value| if value == "" { "\"\"".to_owned() } else { knarr_api::jsonpath::text(value) };
    items(&field["enum"]).map(shown).collect()
}

/// Each value on a line.
fn enumeration(field: &Value) -> String {
    let values = values(field);
    if values.is_empty() { String::new() } else { format!("ENUM:\n    {}", values.join("\n    ")) }
}

/// The first values on one line.
fn short_enumeration(field: &Value, indent: &str) -> String {
    let mut values = values(field);
    if values.is_empty() {
        return String::new();
    }
    if values.len() > MAX_VALUES {
        values.truncate(MAX_VALUES);
        values.push("....".to_owned());
    }
    format!("{indent}enum: {}\n", values.join(", "))
}

fn list(document: &Document, schema: &Value, level: usize, recursive: bool, seen: &BTreeSet<*const Value>) -> String {
    let required: Vec<&str> = items(&schema["required"]).filter_map(Value::as_str).collect();
    let indent = "  ".repeat(level);
    let mut page = String::new();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let mark = if required.contains(&name.as_str()) { " -required-" } else { "" };
        page += &format!("{indent}{name}\t<{}>{mark}\n", document.kind(field));
        page += &short_enumeration(field, &indent);
        let inner = document.inner(field);
        if !recursive {
            let text = match dig_str(field, "description") {
                "" => dig_str(inner, "description"),
                text => text,
            };
            page += &wrap(if text.is_empty() { "<no description>" } else { text }, level * 2 + 2);
            page += "\n";
        } else {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_listed_as_kubectl_lists_them() {
        let few = json!({"type": "string", "enum": ["Always", "Never"]});
        assert_eq!(enumeration(&few), "ENUM:\n    Always\n    Never");
        assert_eq!(short_enumeration(&few, "  "), "  enum: Always, Never\n");
        let many = json!({"type": "string", "enum": ["", "A", "B", "C", "D"]});
        assert_eq!(enumeration(&many), "ENUM:\n    \"\"\n    A\n    B\n    C\n    D");
        assert_eq!(short_enumeration(&many, "  "), "  enum: \"\", A, B, C, ....\n");
        // A list's values belong to its elements.
        let list = json!({"type": "array", "items": {"type": "string", "enum": ["A"]}});
        assert_eq!((enumeration(&list), short_enumeration(&list, "  ")), (String::new(), String::new()));
    }
}
