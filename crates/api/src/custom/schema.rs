//! A structural schema, parsed: what pruning, defaults and validation walk.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Value;

use super::{format::Format, pattern::Pattern};
use crate::value::{entries, items, text, truth};

/// A schema nested deeper than this is refused; the bound keeps every walk off the end of the stack.
pub(crate) const MAX_DEPTH: usize = 200;

/// One node of a schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    /// None: any type. An integer or a string has both names.
    pub types: Vec<String>,
    pub nullable: bool,
    pub default: Option<Value>,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Option<Additional>,
    pub items: Option<Box<Schema>>,
    pub list: ListType,
    /// `x-kubernetes-preserve-unknown-fields`
    pub keeps_unknown: bool,
    /// `x-kubernetes-embedded-resource`
    pub is_resource: bool,
    /// What a value must be like beside its type; most nodes have nothing to say.
    pub checks: Option<Box<Checks>>,
}

/// `additionalProperties`
#[derive(Clone, Debug)]
pub(crate) enum Additional {
    /// `false`: validation refuses them, so that pruning lets them stand.
    Forbidden,
    /// `true`: anything. Upstream's pruning knows no fields there; so an object below it ends up empty.
    Any,
    Schema(Box<Schema>),
}

/// `x-kubernetes-list-type`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    /// Not said: merged as one value, but compared element by element.
    #[default]
    Unsaid,
    Atomic,
    Set,
    /// Told apart by these keys.
    Map(Vec<String>),
}

/// OpenAPI's value validations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    pub format: Option<(String, Format)>,
    pub maximum: Option<f64>,
    pub exclusive_maximum: bool,
    pub minimum: Option<f64>,
    pub exclusive_minimum: bool,
    pub multiple_of: Option<f64>,
    pub max_length: Option<i64>,
    pub min_length: Option<i64>,
    pub pattern: Option<Arc<Pattern>>,
    pub max_items: Option<i64>,
    pub min_items: Option<i64>,
    pub max_properties: Option<i64>,
    pub min_properties: Option<i64>,
    pub required: Vec<String>,
    pub allowed: Vec<Value>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Schema>,
}

impl Additional {
    pub fn schema(&self) -> Option<&Schema> {
        match self {
            Additional::Forbidden | Additional::Any => None,
            Additional::Schema(schema) => Some(schema),
        }
    }
}

impl Schema {
    /// Parses `openAPIV3Schema`; `null` knows no fields.
    pub fn parse(schema: &Value) -> Result<Schema, String> {
        Parser::default().node(schema, 0)
    }

    /// The schema of a field of an object.
    pub fn child(&self, name: &str) -> Option<&Schema> {
        self.properties.get(name).or_else(|| self.additional.as_ref()?.schema())
    }
}

/// Patterns repeat a lot in generated schemas, and each is an automaton: equal ones are shared.
#[derive(Default)]
struct Parser {
    patterns: HashMap<String, Arc<Pattern>>,
}

impl Parser {
    fn node(&mut self, schema: &Value, depth: usize) -> Result<Schema, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
        let types = match (&schema["x-kubernetes-int-or-string"], schema["type"].as_str()) {
            (Value::Bool(true), _) => vec!["integer".to_owned(), "string".to_owned()],
            (_, Some(kind)) if !kind.is_empty() => vec![kind.to_owned()],
            _ => Vec::new(),
        };
        let mut parsed = Schema {
            checks: self.checks(schema, &types, depth)?,
            types,
            nullable: truth(&schema["nullable"]),
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            list: match text(&schema["x-kubernetes-list-type"]) {
                "atomic" => ListType::Atomic,
                "set" => ListType::Set,
                "map" => ListType::Map(strings(&schema["x-kubernetes-list-map-keys"])),
                _ => ListType::Unsaid,
            },
            keeps_unknown: truth(&schema["x-kubernetes-preserve-unknown-fields"]),
            is_resource: truth(&schema["x-kubernetes-embedded-resource"]),
            ..Schema::default()
        };
        for (name, property) in entries(&schema["properties"]) {
            parsed.properties.insert(name.clone(), self.node(property, depth + 1)?);
        }
        parsed.additional = match &schema["additionalProperties"] {
            Value::Bool(true) => Some(Additional::Any),
            Value::Bool(false) => Some(Additional::Forbidden),
            values @ Value::Object(_) => Some(Additional::Schema(Box::new(self.node(values, depth + 1)?))),
            _ => None,
        };
        if schema["items"].is_object() {
            parsed.items = Some(Box::new(self.node(&schema["items"], depth + 1)?));
        }
        Ok(parsed)
    }

    fn checks(&mut self, schema: &Value, types: &[String], depth: usize) -> Result<Option<Box<Checks>>, String> {
        const KEYS: [&str; 19] = [
            "format",
            "maximum",
            "minimum",
            "multipleOf",
            "maxLength",
            "minLength",
            "pattern",
            "maxItems",
            "minItems",
            "maxProperties",
            "minProperties",
            "required",
            "enum",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "exclusiveMaximum",
            "exclusiveMinimum",
        ];
        if !KEYS.iter().any(|key| schema.get(key).is_some_and(|value| !value.is_null())) {
            return Ok(None);
        }
        let (float, int) = (|key: &str| schema[key].as_f64(), |key: &str| schema[key].as_i64());
        Ok(Some(Box::new(Checks {
            format: Format::of(text(&schema["format"]), types)
                .map(|format| (text(&schema["format"]).to_owned(), format)),
            maximum: float("maximum"),
            exclusive_maximum: truth(&schema["exclusiveMaximum"]),
            minimum: float("minimum"),
            exclusive_minimum: truth(&schema["exclusiveMinimum"]),
            multiple_of: float("multipleOf"),
            max_length: int("maxLength"),
            min_length: int("minLength"),
            pattern: match text(&schema["pattern"]) {
                "" => None,
                pattern => Some(self.pattern(pattern)),
            },
            max_items: int("maxItems"),
            min_items: int("minItems"),
            max_properties: int("maxProperties"),
            min_properties: int("minProperties"),
            required: strings(&schema["required"]),
            allowed: items(&schema["enum"]).to_vec(),
            all_of: self.nodes(&schema["allOf"], depth)?,
            any_of: self.nodes(&schema["anyOf"], depth)?,
            one_of: self.nodes(&schema["oneOf"], depth)?,
            not: if schema["not"].is_object() { Some(self.node(&schema["not"], depth + 1)?) } else { None },
        })))
    }

    fn nodes(&mut self, list: &Value, depth: usize) -> Result<Vec<Schema>, String> {
        items(list).iter().map(|schema| self.node(schema, depth + 1)).collect()
    }

    fn pattern(&mut self, pattern: &str) -> Arc<Pattern> {
        if let Some(known) = self.patterns.get(pattern) {
            return Arc::clone(known);
        }
        let new = Arc::new(Pattern::new(pattern));
        self.patterns.insert(pattern.to_owned(), Arc::clone(&new));
        new
    }
}

fn strings(list: &Value) -> Vec<String> {
    items(list).iter().map(|one| text(one).to_owned()).collect()
}
