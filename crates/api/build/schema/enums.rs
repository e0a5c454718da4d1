//! `data/schema-enums-1.36.tsv`.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::facts;

/// The rows as a Rust static, in order. Each must name a string field, or a list or map of strings, and its values must
/// be distinct and in order.
pub fn emit(tsv: &str, definitions: &Map<String, Value>) -> String {
    let mut rows: Vec<_> = facts::rows(tsv).collect();
    rows.sort();
    let mut source = String::from("pub(crate) static ENUMS: &[(&str, &str, &[&str])] = &[\n");
    for (at, (key, json)) in rows.iter().enumerate() {
        let (definition, property) = key;
        let place = format!("data/schema-enums-1.36.tsv: {definition} {property}");
        assert!(at == 0 || rows[at - 1].0 != *key, "{place} stands there twice");
        let schema = definitions.get(definition).map(|definition| &definition["properties"][property]);
        assert!(schema.is_some_and(holds_strings), "{place} is no field that holds strings");
        let values: Vec<String> = serde_json::from_str(json).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert!(!values.is_empty() && values.is_sorted_by(|a, b| a < b), "{place}: {values:?} are out of order");
        writeln!(source, "({definition:?}, {property:?}, &{values:?}),").expect("a String takes all");
    }
    source.push_str("];\n");
    source
}

fn holds_strings(schema: &Value) -> bool {
    match schema["type"].as_str() {
        Some("string") => schema.get("format").is_none(),
        Some("array") => holds_strings(&schema["items"]),
        Some("object") => holds_strings(&schema["additionalProperties"]),
        _ => false,
    }
}
