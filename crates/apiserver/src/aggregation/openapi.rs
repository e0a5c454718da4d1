//! Swagger 2.0 documents of other servers, cut down to a group version and joined with this server's own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::json::copy;

const REFERENCE: &str = "#/definitions/";

/// The part of a document that speaks of the paths below `prefix`, with the definitions that it needs; `None` where it
/// speaks of none.
pub fn part(document: &Value, prefix: &str) -> Option<Value> {
    let is_below = |path: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let paths = document["paths"].as_object()?.iter().filter(|(path, _)| is_below(path));
    let mut paths: Map<String, Value> = paths.map(|(path, item)| (path.clone(), item.clone())).collect();
    if paths.is_empty() {
        return None;
    }
    paths.values_mut().for_each(|item| follow(item, document));
    let mut wanted = Vec::new();
    paths.values().for_each(|item| references(item, &mut wanted));
    let mut definitions = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if let Some(definition) = document["definitions"].get(&name)
            && definitions.insert(name, definition.clone()).is_none()
        {
            references(definition, &mut wanted);
        }
    }
    let mut part = json!({ "paths": paths, "definitions": definitions });
    for key in ["info", "consumes", "produces", "securityDefinitions", "externalDocs"] {
        copy(&mut part, document, key);
    }
    Some(part)
}

/// Puts parameters and responses that a document names once where they are meant.
fn follow(value: &mut Value, document: &Value) {
    if let Some(at) = value.get("$ref").and_then(Value::as_str)
        && let Some((list @ ("parameters" | "responses"), name)) =
            at.strip_prefix("#/").and_then(|at| at.split_once('/'))
    {
        *value = document[list][name].clone();
        return;
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|value| follow(value, document)),
        Value::Array(values) => values.iter_mut().for_each(|value| follow(value, document)),
        _ => {}
    }
}

/// Adds such a part to a document. A definition that means something else there gets another name; a path that is there
/// already stays what it is.
pub fn merge(base: &mut Value, part: &Value) {
    let mut renamed = BTreeMap::new();
    let mut fresh: Vec<(String, Value)> = Vec::new();
    {
        let known = base["definitions"].as_object();
        let taken: BTreeSet<&String> = known.into_iter().flatten().map(|(name, _)| name).collect();
        for (name, definition) in part["definitions"].as_object().into_iter().flatten() {
            match base["definitions"].get(name) {
                Some(same) if same == definition => {}
                None => fresh.push((name.clone(), definition.clone())),
                Some(_) => {
                    let candidates = (2..).map(|number| format!("{name}_v{number}"));
                    let other = candidates.into_iter().find(|other| !taken.contains(other)).unwrap_or_default();
                    renamed.insert(name.clone(), other.clone());
                    fresh.push((other, definition.clone()));
                }
            }
        }
    }
    let mut paths = part["paths"].clone();
    rename(&mut paths, &renamed);
    fresh.iter_mut().for_each(|(_, definition)| rename(definition, &renamed));
    if let Some(definitions) = base["definitions"].as_object_mut() {
        definitions.extend(fresh);
    }
    if let (Some(all), Value::Object(paths)) = (base["paths"].as_object_mut(), paths) {
        for (path, item) in paths {
            all.entry(path).or_insert(item);
        }
    }
}

fn references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix(REFERENCE)) {
                into.push(name.to_owned());
            }
            fields.values().for_each(|value| references(value, into));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, into)),
        _ => {}
    }
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(at)) = fields.get_mut("$ref")
                && let Some(other) = at.strip_prefix(REFERENCE).and_then(|name| names.get(name))
            {
                *at = format!("{REFERENCE}{other}");
            }
            fields.values_mut().for_each(|value| rename(value, names));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| rename(value, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_cut_out_and_put_in() {
        let reference = |name: &str| json!({ "$ref": format!("{REFERENCE}{name}") });
        let theirs = json!({
            "paths": {
                "/apis/wardle.example.com/v1/": { "get": reference("Flunder"), "parameters": [{ "$ref": "#/parameters/p-1" }] },
                "/apis/wardle.example.com/v1beta1/": { "get": reference("Old") },
                "/apis": {},
            },
            "produces": ["application/json"],
            "parameters": { "p-1": { "name": "p", "in": "body", "schema": reference("Body") } },
            "definitions": {
                "Body": {},
                "Flunder": { "properties": { "metadata": reference("Meta"), "time": reference("Time") } },
                "Meta": { "description": "theirs" }, "Time": { "type": "string" }, "Old": {},
            },
        });
        let cut = part(&theirs, "/apis/wardle.example.com/v1").unwrap();
        assert_eq!(cut["paths"].as_object().unwrap().len(), 1);
        assert!(cut["definitions"].get("Old").is_none() && cut["definitions"].get("Body").is_some());
        assert_eq!(cut["paths"]["/apis/wardle.example.com/v1/"]["parameters"][0]["name"], "p");
        assert_eq!(cut["produces"], json!(["application/json"]));
        assert!(part(&theirs, "/apis/other").is_none());
        let mut ours = json!({
            "paths": { "/api": {} },
            "definitions": { "Meta": { "description": "ours" }, "Time": { "type": "string" } },
        });
        merge(&mut ours, &cut);
        assert_eq!(ours["definitions"]["Meta"]["description"], "ours");
        assert_eq!(ours["definitions"]["Meta_v2"]["description"], "theirs");
        assert_eq!(ours["definitions"]["Flunder"]["properties"]["metadata"], reference("Meta_v2"));
        assert_eq!(ours["definitions"]["Flunder"]["properties"]["time"], reference("Time"));
        assert_eq!(ours["paths"]["/apis/wardle.example.com/v1/"]["get"], reference("Flunder"));
    }
}
