//! A structural schema, parsed: what pruning, defaults and validation walk.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::value::{entries, truth};

/// A schema nested deeper than this is refused; the bound keeps every walk off the end of the stack.
pub(crate) const MAX_DEPTH: usize = 200;

/// One node of a schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    pub nullable: bool,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Schema>>,
    /// `x-kubernetes-preserve-unknown-fields`
    pub keeps_unknown: bool,
    /// `x-kubernetes-embedded-resource`
    pub is_resource: bool,
}

/// `additionalProperties`
#[derive(Clone, Debug)]
pub(crate) enum Additional {
    /// `true`: anything. Upstream's pruning knows no fields there; so an object below it ends up empty.
    Any,
    Schema(Box<Schema>),
}

impl Additional {
    pub fn schema(&self) -> Option<&Schema> {
        match self {
            Additional::Any => None,
            Additional::Schema(schema) => Some(schema),
        }
    }
}

impl Schema {
    /// Parses `openAPIV3Schema`; `null` knows no fields.
    pub fn parse(schema: &Value) -> Result<Schema, String> {
        parse(schema, 0)
    }

    /// The schema of a field of an object.
    pub fn child(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or_else(|| self.additional.as_ref()?.schema())
    }
}

fn parse(schema: &Value, depth: usize) -> Result<Schema, String> {
    if depth > MAX_DEPTH {
        return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
    }
    let mut parsed = Schema {
        nullable: truth(&schema["nullable"]),
        default: schema.get("default").filter(|default| !default.is_null()).cloned(),
        keeps_unknown: truth(&schema["x-kubernetes-preserve-unknown-fields"]),
        is_resource: truth(&schema["x-kubernetes-embedded-resource"]),
        ..Schema::default()
    };
    for (name, property) in entries(&schema["properties"]) {
        parsed.properties.insert(name.clone(), parse(property, depth + 1)?);
    }
    parsed.additional = match &schema["additionalProperties"] {
        Value::Bool(true) => Some(Additional::Any),
        values @ Value::Object(_) => Some(Additional::Schema(Box::new(parse(values, depth + 1)?))),
        _ => None,
    };
    if schema["items"].is_object() {
        parsed.items = Some(Box::new(parse(&schema["items"], depth + 1)?));
    }
    Ok(parsed)
}
