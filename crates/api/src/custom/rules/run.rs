//! Rules, run over an object. Errors, their order and what ends the run are upstream's
//! (`apiserver/schema/cel/validation.go` of apiextensions-apiserver).

use std::collections::HashMap;

use knarr_cel::{Budget, EvalError, Value as CelValue, Variables};
use serde_json::Value;

use super::{Rule, Validator};
use crate::{
    custom::schema::ListType,
    field::{FieldError, FieldPath},
    value::items,
};

/// A message that an expression makes is no longer.
const MAX_MESSAGE_BYTES: usize = 5 * 1024;
const SPENT: &str = "validation failed due to running out of cost budget, no further validation rules will be run";

/// What is wrong with the object by its rules. `old` is there on update: rules about changes are run, and a rule about
/// a part that did not change refuses nothing.
pub(crate) fn check(validator: &Validator, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut run = Run { errors: Vec::new(), budget: Budget::kubernetes(), done: false };
    let correlation = Correlation { current: old.map(|old| (object, old)), parent: None };
    run.node(validator, object, old, correlation, &FieldPath::ROOT);
    for error in &mut run.errors {
        if error.field.is_empty() {
            "<nil>".clone_into(&mut error.field);
        }
    }
    run.errors
}

/// What a part was before, or what the part around it was, where it can't be told.
#[derive(Clone, Copy, Default)]
struct Correlation<'a> {
    current: Option<(&'a Value, &'a Value)>,
    parent: Option<(&'a Value, &'a Value)>,
}

impl<'a> Correlation<'a> {
    fn is_unchanged(self) -> bool {
        self.current.or(self.parent).is_some_and(|(new, old)| new == old)
    }

    fn below(self, new: &'a Value, old: Option<&'a Value>) -> Self {
        match self.current {
            None => self,
            Some(_) => Correlation { current: old.map(|old| (new, old)), parent: self.current },
        }
    }
}

struct Run {
    errors: Vec<FieldError>,
    budget: Budget,
    /// Too much was spent: nothing more is checked.
    done: bool,
}

impl Run {
    fn node<'a>(
        &mut self,
        validator: &Validator,
        value: &'a Value,
        old: Option<&'a Value>,
        correlation: Correlation<'a>,
        path: &FieldPath<'_>,
    ) {
        if self.done || value.is_null() {
            return;
        }
        self.rules(validator, value, old.filter(|old| !old.is_null()), correlation, path);
        match value {
            Value::Object(map) => {
                let is_root = correlation.parent.is_none();
                for (name, value) in map {
                    let before = old.and_then(|old| old.get(name));
                    // The version an object is seen in changes without anybody changing the object.
                    let correlation = match is_root && matches!(name.as_str(), "apiVersion" | "kind") {
                        true => Correlation::default(),
                        false => correlation.below(value, before),
                    };
                    if let Some(below) = &validator.additional {
                        self.node(below, value, before, correlation, &path.key(name));
                    }
                    if let Some(below) = validator.properties.get(name) {
                        self.node(below, value, before, correlation, &path.child(name));
                    }
                }
            }
            Value::Array(list) => {
                let Some(below) = &validator.items else { return };
                let known = Known::of(&validator.list, old);
                for (i, value) in list.iter().enumerate() {
                    let before = known.find(value);
                    self.node(below, value, before, correlation.below(value, before), &path.index(i));
                }
            }
            _ => {}
        }
    }

    fn rules<'a>(
        &mut self,
        validator: &Validator,
        value: &'a Value,
        old: Option<&'a Value>,
        correlation: Correlation<'a>,
        path: &FieldPath<'_>,
    ) {
        let Some(declaration) = &validator.declaration else { return };
        let kind = validator.kind.as_str();
        let current = match CelValue::declared(value, declaration) {
            Ok(current) => current,
            Err(why) => return self.errors.push(FieldError::invalid(path, kind, why)),
        };
        for rule in &validator.rules {
            if rule.uses_old && old.is_none() && !rule.optional_old {
                continue;
            }
            let mut variables = Variables::new().with("self", current.clone());
            if rule.uses_old {
                let before = old.map(|old| CelValue::declared(old, declaration)).transpose();
                let before = match before {
                    Ok(before) => before,
                    Err(why) => {
                        self.errors.push(FieldError::invalid(path, kind, why));
                        continue;
                    }
                };
                let before = match rule.optional_old {
                    true => CelValue::Optional(before.map(Into::into)),
                    false => before.unwrap_or(CelValue::Null),
                };
                variables = variables.with("oldSelf", before);
            }
            self.rule(rule, kind, &variables, correlation, path);
            if self.done {
                return;
            }
        }
    }

    fn rule(
        &mut self,
        rule: &Rule,
        kind: &str,
        variables: &Variables<'_>,
        correlation: Correlation<'_>,
        path: &FieldPath<'_>,
    ) {
        let program = match &rule.program {
            Ok(program) => program,
            Err(why) => {
                let why = format!("rule compile error: {why}");
                return self.errors.push(FieldError::invalid(path, kind, why));
            }
        };
        let (name, why) = (
            rule.shown(),
            match program.evaluate(variables, &mut self.budget) {
                Ok(CelValue::Bool(true)) => return,
                Ok(_) => return self.refuse(rule, kind, variables, correlation, path),
                Err(why) => why,
            },
        );
        let why = match why {
            EvalError::BudgetExceeded => {
                self.done = true;
                SPENT.to_owned()
            }
            EvalError::CostExceeded => {
                self.done = true;
                format!(
                    "'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {name}"
                )
            }
            EvalError::Failed(text) if text.starts_with("no such overload") => format!(
                "'{text}': call arguments did not match a supported operator, function or macro signature for rule: {name}"
            ),
            EvalError::Failed(text) => format!("{text} evaluating rule: {name}"),
        };
        self.errors.push(FieldError::invalid(path, kind, why));
    }

    fn refuse(
        &mut self,
        rule: &Rule,
        kind: &str,
        variables: &Variables<'_>,
        correlation: Correlation<'_>,
        path: &FieldPath<'_>,
    ) {
        // What was so before and is not touched refuses nothing.
        let is_let_through = !rule.uses_old && correlation.is_unchanged();
        let at = rule.field_path.as_deref().map_or(*path, |below| path.child(below));
        let detail = match self.message(rule, variables) {
            Ok(message) => message.unwrap_or_else(|| rule.message_or_default()),
            Err(why) => {
                self.done = true;
                if !is_let_through {
                    self.errors.push(FieldError::invalid(&at, kind, why));
                }
                return;
            }
        };
        if is_let_through {
            return;
        }
        self.errors.push(match rule.reason.as_str() {
            "FieldValueForbidden" => FieldError::forbidden(&at, detail),
            "FieldValueRequired" => FieldError::required(&at, detail),
            "FieldValueDuplicate" => FieldError::duplicate(&at, kind),
            _ => FieldError::invalid(&at, kind, detail),
        });
    }

    /// What `messageExpression` says; none where it says nothing usable. An error ends the run.
    fn message(&mut self, rule: &Rule, variables: &Variables<'_>) -> Result<Option<String>, String> {
        let Some(Ok(program)) = &rule.message_program else { return Ok(None) };
        match program.evaluate(variables, &mut self.budget) {
            Ok(CelValue::String(text)) => {
                let text = text.trim();
                let usable = !text.is_empty() && text.len() <= MAX_MESSAGE_BYTES && !text.contains('\n');
                Ok(usable.then(|| text.to_owned()))
            }
            Ok(_) | Err(EvalError::Failed(_)) => Ok(None),
            Err(EvalError::BudgetExceeded) => Err("messageExpression evaluation failed due to running out of cost \
                                                   budget, no further validation rules will be run"
                .to_owned()),
            Err(EvalError::CostExceeded) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                rule.message_source
            )),
        }
    }
}

impl Rule {
    /// How messages name it.
    fn shown(&self) -> &str {
        if self.message.is_empty() { self.source.trim() } else { self.message.trim() }
    }

    fn message_or_default(&self) -> String {
        match self.message.as_str() {
            "" => format!("failed rule: {}", self.shown()),
            message => message.trim().to_owned(),
        }
    }
}

/// What the elements of a list were, by their keys; nothing tells the elements of other lists apart.
struct Known<'l, 'a> {
    keys: &'l [String],
    elements: HashMap<Vec<String>, &'a Value>,
}

impl<'l, 'a> Known<'l, 'a> {
    fn of(list: &'l ListType, old: Option<&'a Value>) -> Self {
        let (ListType::Map(keys), Some(old)) = (list, old) else { return Self { keys: &[], elements: HashMap::new() } };
        // Of elements with the same keys the first counts.
        let elements = items(old).iter().rev().map(|element| (key_of(keys, element), element)).collect();
        Self { keys, elements }
    }

    fn find(&self, value: &Value) -> Option<&'a Value> {
        self.elements.get(&key_of(self.keys, value)).copied()
    }
}

fn key_of(keys: &[String], element: &Value) -> Vec<String> {
    keys.iter().map(|key| element[key.as_str()].to_string()).collect()
}
