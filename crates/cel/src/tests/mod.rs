//! Expressions, and what becomes of them.

mod compile;
mod composed;
mod costs;
mod estimates;
mod language;
mod laws;
mod libraries;

use serde_json::{Value as Json, json};

use crate::{Budget, Declaration, Env, EvalError, Expect, Program, Value, Variables};

/// What the variables of the tests are: `self`, and `x`, of which nothing is known before.
fn schema() -> Json {
    json!({"type": "object", "properties": {
        "n": {"type": "integer"},
        "d": {"type": "number"},
        "s": {"type": "string"},
        "b": {"type": "boolean"},
        "at": {"type": "string", "format": "date-time"},
        "for": {"type": "string", "format": "duration"},
        "raw": {"type": "string", "format": "byte"},
        "list": {"type": "array", "items": {"type": "integer"}},
        "names": {"type": "array", "items": {"type": "string"}},
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "port": {"x-kubernetes-int-or-string": true},
        "a-b.c": {"type": "integer"},
        "namespace": {"type": "string"},
        "object": {"type": "object", "properties": {"f": {"type": "integer"}}},
    }})
}

fn object() -> Json {
    json!({
        "n": 3, "d": 2, "s": "hello", "b": true, "at": "2024-02-29T12:30:45.5Z", "for": "1h30m", "raw": "aGk=",
        "list": [1, 2, 3], "names": ["a", "b"], "set": ["x", "y"], "keyed": [{"k": "a", "v": 1}, {"k": "b", "v": 2}],
        "map": {"one": 1, "two": 2}, "port": "http", "a-b.c": 7, "namespace": "default", "object": {"f": 1}
    })
}

fn env(declaration: &Declaration) -> Env {
    Env::kubernetes().declare("self", declaration.ty.clone()).declare("x", crate::Type::Dyn)
}

fn compile(source: &str) -> Result<Program, String> {
    let declaration = Declaration::of(&schema(), "selfType", false).unwrap();
    env(&declaration).compile(source, Expect::Any).map_err(|error| error.text)
}

/// The value as text, or what went wrong, and what it cost.
fn evaluate(source: &str) -> (String, u64) {
    let declaration = Declaration::of(&schema(), "selfType", false).unwrap();
    let program = match env(&declaration).compile(source, Expect::Any) {
        Ok(program) => program,
        Err(error) => return (format!("compile: {error}"), 0),
    };
    let (object, other) = (object(), json!({"a": [1, "two", null], "m": {"k-1": 1.5}, "__x__": 1}));
    let variables =
        Variables::new().with("self", Value::declared(&object, &declaration).unwrap()).with("x", Value::json(&other));
    let mut budget = Budget::kubernetes();
    let before = budget.remaining();
    let result = program.evaluate(&variables, &mut budget);
    let text = match result {
        Ok(value) => value.to_json().map_or_else(|_| format!("{value:?}"), |json| json.to_string()),
        Err(EvalError::Failed(text)) => format!("error: {text}"),
        Err(other) => format!("stopped: {other}"),
    };
    (text, before - budget.remaining())
}

/// Each row: an expression, and its value in JSON or its error.
fn values(rows: &[(&str, &str)]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(source, expected)| {
            let (found, _) = evaluate(source);
            (found != *expected).then(|| format!("{source}\n  expected {expected}\n  found    {found}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each row: an expression that is true.
fn holds(rows: &[&str]) {
    values(&rows.iter().map(|row| (*row, "true")).collect::<Vec<_>>());
}
