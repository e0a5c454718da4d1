//! Does an object keep to its schema? The order, the words and the kinds of errors are those of upstream's validator
//! (`kube-openapi/pkg/validation`), which users and programs match on.

mod embedded;
mod lists;
mod problem;
mod scalar;
mod scale;

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
};

use serde_json::{Map, Value};

use self::problem::Place;
use super::schema::{Additional, Checks, ListType, Schema};
use crate::field::FieldError;

pub(crate) use self::{embedded::check as embedded, lists::check as lists, scale::check as scale};

/// All that is wrong with a value. `old` is what stood there before: what was wrong then and is the same now passes.
pub(crate) fn check(schema: &Schema, value: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut walker = Walker { path: String::new() };
    let outcome = walker.part(schema, value, old);
    // Alternatives say the same of the same field; it is told once.
    let mut told = HashSet::new();
    outcome.errors.into_iter().filter(|error| told.insert(error.to_string())).collect()
}

/// What checking a value came to.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    /// How many checks went well; of several alternatives that fail, the one with the most is told of.
    matches: u64,
}

impl Outcome {
    fn merge(&mut self, other: Outcome) {
        self.errors.extend(other.errors);
        self.matches += other.matches;
    }

    /// One kind of check was done; failing checks count as little as upstream counts them.
    fn step(&mut self, other: Outcome) {
        self.merge(other);
        self.matches += 1;
    }

    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }
}

impl From<FieldError> for Outcome {
    fn from(error: FieldError) -> Self {
        Outcome { errors: vec![error], matches: 0 }
    }
}

struct Walker {
    path: String,
}

impl Walker {
    /// A field, an element or the whole: where nothing changed, what is wrong has been wrong before.
    fn part(&mut self, schema: &Schema, value: &Value, old: Option<&Value>) -> Outcome {
        let mut outcome = self.value(schema, schema, value, old);
        if !outcome.is_valid() && old == Some(value) {
            outcome.errors.clear();
        }
        outcome
    }

    /// `home` is the schema that says how the elements of a list are told apart: alternatives do not say.
    fn value(&mut self, schema: &Schema, home: &Schema, value: &Value, old: Option<&Value>) -> Outcome {
        let mut outcome = Outcome::default();
        let checks = schema.checks.as_deref();
        let place = Place(&self.path);
        if value.is_null() {
            outcome.merge(scalar::types(schema, value, place));
            outcome.merge(checks.map(|checks| scalar::allowed(checks, value, place)).unwrap_or_default());
            return outcome;
        }
        if !schema.types.is_empty() || checks.is_some_and(|checks| checks.format.is_some()) {
            outcome.step(scalar::types(schema, value, place));
        }
        outcome.step(match checks {
            Some(checks) => self.alternatives(checks, home, value, old),
            None => Outcome { matches: 1, ..Outcome::default() },
        });
        let place = Place(&self.path);
        match value {
            Value::String(text) => {
                outcome.step(checks.map(|checks| scalar::string(checks, text, place)).unwrap_or_default());
                if let Some(checks) = checks
                    && checks.format.is_some()
                {
                    outcome.step(scalar::format(checks, text, place));
                }
            }
            Value::Number(number) => {
                let checked = checks.map(|checks| scalar::number(checks, number, place)).unwrap_or_default();
                outcome.step(Outcome { matches: checked.matches + 1, ..checked });
            }
            Value::Array(items) => outcome.step(self.list(schema, home, items, old)),
            _ => {}
        }
        let place = Place(&self.path);
        outcome.step(checks.map(|checks| scalar::allowed(checks, value, place)).unwrap_or_default());
        if let Value::Object(map) = value {
            outcome.step(self.object(schema, map, old));
        }
        outcome.matches += 1;
        outcome
    }

    fn object(&mut self, schema: &Schema, map: &Map<String, Value>, old: Option<&Value>) -> Outcome {
        let checks = schema.checks.as_deref();
        if let Some(error) = checks.and_then(|checks| scalar::properties(checks, map.len(), Place(&self.path))) {
            return error.into();
        }
        let mut outcome = Outcome::default();
        for (name, value) in map {
            let old = old.and_then(|old| old.get(name));
            match (schema.properties.get(name), &schema.additional) {
                (Some(_), _) | (None, None | Some(Additional::Any)) => {}
                (None, Some(Additional::Forbidden)) => outcome.merge(Place(&self.path).forbidden(name).into()),
                (None, Some(Additional::Schema(values))) => {
                    outcome.merge(self.below(name, true, |walker| walker.part(values, value, old)));
                }
            }
        }
        for (name, property) in &schema.properties {
            if let Some(value) = map.get(name) {
                let old = old.and_then(|old| old.get(name));
                outcome.merge(self.below(name, false, |walker| walker.part(property, value, old)));
            }
        }
        for name in checks.map(|checks| checks.required.as_slice()).unwrap_or_default() {
            if !map.contains_key(name) {
                outcome.merge(Place(&self.path).required(name).into());
            }
        }
        outcome
    }

    fn list(&mut self, schema: &Schema, home: &Schema, list: &[Value], old: Option<&Value>) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(items) = &schema.items {
            let before = Before::of(&home.list, old);
            for (index, value) in list.iter().enumerate() {
                let old = before.find(value, index);
                outcome.merge(self.at(index, |walker| walker.part(items, value, old)));
            }
        }
        if let Some(checks) = &schema.checks {
            outcome.errors.extend(scalar::count(checks, list.len(), Place(&self.path)));
        }
        outcome.matches += 1;
        outcome
    }

    /// `anyOf`, `oneOf`, `allOf` and `not`.
    fn alternatives(&mut self, checks: &Checks, home: &Schema, value: &Value, old: Option<&Value>) -> Outcome {
        let mut outcome = Outcome::default();
        if !checks.any_of.is_empty() {
            let tried = self.try_all(&checks.any_of, home, value, old, true);
            if tried.valid == 0 {
                outcome.merge(Place(&self.path).composite("must validate at least one schema (anyOf)").into());
            }
            outcome.merge(tried.best);
        }
        if !checks.one_of.is_empty() {
            let tried = self.try_all(&checks.one_of, home, value, old, false);
            let why = match tried.valid {
                1 => None,
                0 => Some("Found none valid".to_owned()),
                valid => Some(format!("Found {valid} valid alternatives")),
            };
            match why {
                None => outcome.merge(tried.best),
                Some(why) => {
                    let message = format!("must validate one and only one schema (oneOf). {why}");
                    outcome.merge(Place(&self.path).composite(&message).into());
                    if tried.valid == 0 {
                        outcome.merge(tried.best);
                    }
                }
            }
        }
        let mut valid = 0;
        for schema in &checks.all_of {
            let tried = self.value(schema, home, value, old);
            valid += usize::from(tried.is_valid());
            outcome.merge(tried);
        }
        if valid != checks.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            let message = format!("must validate all the schemas (allOf){none}");
            outcome.merge(Place(&self.path).composite(&message).into());
        }
        if let Some(not) = &checks.not
            && self.value(not, home, value, old).is_valid()
        {
            outcome.merge(Place(&self.path).composite("must not validate the schema (not)").into());
        }
        outcome.matches += 1;
        outcome
    }

    fn try_all(&mut self, schemas: &[Schema], home: &Schema, value: &Value, old: Option<&Value>, one: bool) -> Tried {
        let mut tried = Tried { valid: 0, best: Outcome::default() };
        let mut failed: Option<Outcome> = None;
        for schema in schemas {
            let outcome = self.value(schema, home, value, old);
            if outcome.is_valid() {
                tried.valid += 1;
                if tried.valid == 1 {
                    tried.best = outcome;
                }
                if one {
                    break;
                }
            } else if failed.as_ref().is_none_or(|best| outcome.matches > best.matches) {
                failed = Some(outcome);
            }
        }
        if let (0, Some(failed)) = (tried.valid, failed) {
            tried.best = failed;
        }
        tried
    }

    /// A map's keys always follow a dot, a property of the whole object does not.
    fn below(&mut self, name: &str, in_map: bool, walk: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        let length = self.path.len();
        if in_map || length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        let outcome = walk(self);
        self.path.truncate(length);
        outcome
    }

    fn at(&mut self, index: usize, walk: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        let length = self.path.len();
        write!(self.path, "[{index}]").unwrap_or_default();
        let outcome = walk(self);
        self.path.truncate(length);
        outcome
    }
}

/// Alternatives, tried.
struct Tried {
    valid: usize,
    /// The first that was valid, or of those that failed the one that got furthest.
    best: Outcome,
}

/// Finds what an element of a list was before.
enum Before<'a> {
    Unknown,
    ByIndex(&'a [Value]),
    /// By the values of the keys, as text.
    ByKeys(&'a [String], HashMap<String, &'a Value>),
}

impl<'a> Before<'a> {
    fn of(list: &'a ListType, old: Option<&'a Value>) -> Self {
        match (list, old) {
            (ListType::Unsaid, Some(Value::Array(old))) => Self::ByIndex(old),
            (ListType::Map(keys), Some(Value::Array(old))) => {
                // Of elements with the same keys the first counts.
                Self::ByKeys(keys, old.iter().rev().map(|element| (key_of(element, keys), element)).collect())
            }
            _ => Self::Unknown,
        }
    }

    fn find(&self, element: &Value, index: usize) -> Option<&'a Value> {
        let found = match self {
            Self::Unknown => None,
            Self::ByIndex(old) => old.get(index),
            Self::ByKeys(keys, old) => old.get(&key_of(element, keys)).copied(),
        };
        found.filter(|found| !found.is_null())
    }
}

fn key_of(element: &Value, keys: &[String]) -> String {
    let mut text = String::new();
    for key in keys {
        // No value is written as nothing at all, so that a missing key is like no other.
        let value = element.get(key).map(Value::to_string).unwrap_or_default();
        write!(text, "{value},").unwrap_or_default();
    }
    text
}
