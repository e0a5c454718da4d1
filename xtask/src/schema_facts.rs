//! Upstream's OpenAPI definitions say how lists and maps merge; the Rust types that the schema table is built from
//! do not. This reads just those facts: list types and keys, patch strategies and merge keys, map types, and which
//! properties are required.

use std::fmt::Write;

use anyhow::{Context, bail};
use serde_json::{Map, Value};

/// Prints the table for the definitions in the file that the arguments name.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [path] = arguments else { bail!("name one file: upstream's swagger.json, or a JSON schema made from it") };
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    print!("{}", extract(&serde_json::from_str(&text)?)?);
    Ok(())
}

/// One line a definition or property that has something to say: `definition TAB property TAB facts`.
fn extract(document: &Value) -> anyhow::Result<String> {
    let definitions = ["definitions", "$defs"]
        .iter()
        .find_map(|key| document.get(key))
        .and_then(Value::as_object)
        .context("the document has no definitions")?;
    let mut names: Vec<&String> = definitions.keys().filter(|name| is_served(name)).collect();
    names.sort();
    let mut out = String::from("# definition\tproperty (- is the definition itself)\tfacts\n");
    for name in names {
        let Some(definition) = definitions[name].as_object() else { continue };
        line(&mut out, name, "-", definition_facts(definition));
        let Some(properties) = definition.get("properties").and_then(Value::as_object) else { continue };
        for (property, schema) in properties {
            if let Some(schema) = schema.as_object() {
                line(&mut out, name, property, property_facts(schema));
            }
        }
    }
    Ok(out)
}

/// Only stable versions are built in.
fn is_served(definition: &str) -> bool {
    !definition.split('.').any(|part| part.starts_with('v') && (part.contains("alpha") || part.contains("beta")))
}

fn line(out: &mut String, definition: &str, property: &str, facts: Vec<String>) {
    if !facts.is_empty() {
        writeln!(out, "{definition}\t{property}\t{}", facts.join(" ")).expect("a String takes all");
    }
}

fn definition_facts(schema: &Map<String, Value>) -> Vec<String> {
    let mut facts = map_type(schema);
    if let Some(required) = schema.get("required").and_then(strings) {
        facts.push(format!("required={}", required.join(",")));
    }
    facts
}

fn property_facts(schema: &Map<String, Value>) -> Vec<String> {
    let mut facts = map_type(schema);
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    if let Some(list) = text("x-kubernetes-list-type") {
        facts.push(format!("list={list}"));
    }
    if let Some(keys) = schema.get("x-kubernetes-list-map-keys").and_then(strings) {
        facts.push(format!("keys={}", keys.join(",")));
    }
    if let Some(strategy) = text("x-kubernetes-patch-strategy") {
        facts.push(format!("patch={strategy}"));
    }
    if let Some(key) = text("x-kubernetes-patch-merge-key") {
        facts.push(format!("mergekey={key}"));
    }
    facts
}

fn map_type(schema: &Map<String, Value>) -> Vec<String> {
    schema.get("x-kubernetes-map-type").and_then(Value::as_str).map(|t| format!("map={t}")).into_iter().collect()
}

fn strings(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}
