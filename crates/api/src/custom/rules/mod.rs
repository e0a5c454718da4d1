//! `x-kubernetes-validations`: rules in CEL, compiled, in the shape of the schema that they stand in
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules>).

mod path;
mod run;

use std::collections::BTreeMap;

use knarr_cel::{Declaration, Env, Expect, Program, Type};
use serde_json::Value;

pub(crate) use self::{path::field_path, run::check};
use super::schema::{ListType, MAX_DEPTH};
use crate::value::{entries, items, text, truth};

/// The rules of a node of a schema, and of what lies below it.
#[derive(Debug)]
pub(crate) struct Validator {
    /// `type` of the schema, which stands for the value in messages.
    kind: String,
    rules: Vec<Rule>,
    /// How the rules here see the value; there where rules are.
    declaration: Option<Declaration>,
    list: ListType,
    properties: BTreeMap<String, Validator>,
    additional: Option<Box<Validator>>,
    items: Option<Box<Validator>>,
}

/// One rule, compiled.
#[derive(Debug)]
pub(crate) struct Rule {
    /// An error says why it is none: definitions with such rules are refused, so that only old ones have them.
    pub program: Result<Program, String>,
    /// None without `messageExpression`.
    pub message_program: Option<Result<Program, String>>,
    /// `oldSelf` is named: it is a rule about changes.
    pub uses_old: bool,
    pub optional_old: bool,
    source: String,
    message: String,
    message_source: String,
    reason: String,
    field_path: Option<String>,
}

impl Validator {
    /// None for a schema without rules.
    pub fn of(schema: &Value) -> Option<Validator> {
        node(schema, true, 0)
    }

    /// As [`Validator::of`], for a part of an object, such as a default.
    pub fn of_part(schema: &Value) -> Option<Validator> {
        node(schema, embeds(schema), 0)
    }
}

pub(crate) fn embeds(schema: &Value) -> bool {
    truth(&schema["x-kubernetes-embedded-resource"])
}

fn node(schema: &Value, is_resource: bool, depth: usize) -> Option<Validator> {
    if depth > MAX_DEPTH || !schema.is_object() {
        return None;
    }
    let below = |schema: &Value| node(schema, embeds(schema), depth + 1);
    let written = items(&schema["x-kubernetes-validations"]);
    let declaration = match written {
        [] => None,
        _ => Declaration::of(schema, "selfType", is_resource),
    };
    let rules = declaration
        .as_ref()
        .map_or_else(Vec::new, |declaration| written.iter().map(|rule| compile(rule, schema, declaration)).collect());
    let properties = entries(&schema["properties"]);
    let validator = Validator {
        kind: text(&schema["type"]).to_owned(),
        rules,
        declaration,
        list: match text(&schema["x-kubernetes-list-type"]) {
            "map" => ListType::Map(
                items(&schema["x-kubernetes-list-map-keys"]).iter().map(|key| text(key).to_owned()).collect(),
            ),
            _ => ListType::Atomic,
        },
        properties: properties.filter_map(|(name, schema)| Some((name.clone(), below(schema)?))).collect(),
        additional: below(&schema["additionalProperties"]).map(Box::new),
        items: below(&schema["items"]).map(Box::new),
    };
    let has_rules = !validator.rules.is_empty()
        || !validator.properties.is_empty()
        || validator.additional.is_some()
        || validator.items.is_some();
    has_rules.then_some(validator)
}

/// Compiles a rule for values of this declaration.
pub(crate) fn compile(rule: &Value, schema: &Value, declaration: &Declaration) -> Rule {
    let optional_old = truth(&rule["optionalOldSelf"]);
    let old = match optional_old {
        true => Type::Optional(Box::new(declaration.ty.clone())),
        false => declaration.ty.clone(),
    };
    let env = Env::kubernetes().declare("self", declaration.ty.clone()).declare("oldSelf", old);
    let program = env.compile(text(&rule["rule"]), Expect::Bool).map_err(|error| match error.wrong_type {
        true => "cel expression must evaluate to a bool".to_owned(),
        false => format!("compilation failed: {error}"),
    });
    let message_source = text(&rule["messageExpression"]);
    let message_program = (!message_source.is_empty()).then(|| {
        env.compile(message_source, Expect::String).map_err(|error| match error.wrong_type {
            true => "messageExpression must evaluate to a string".to_owned(),
            false => format!("messageExpression compilation failed: {error}"),
        })
    });
    let path = text(&rule["fieldPath"]);
    Rule {
        uses_old: program.as_ref().is_ok_and(|program| program.uses("oldSelf")),
        optional_old,
        source: text(&rule["rule"]).to_owned(),
        message: text(&rule["message"]).to_owned(),
        message_source: message_source.to_owned(),
        reason: text(&rule["reason"]).to_owned(),
        field_path: if path.is_empty() { None } else { field_path(path, schema).ok() },
        program,
        message_program,
    }
}
