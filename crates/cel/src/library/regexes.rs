//! Regular expressions: `matches`, `find` and `findAll`.

use super::{Cost, Outcome, Row, Sig, global, member, run};
use crate::{regexp, value::Value};

const TWO: &[Sig] = &[Sig::String, Sig::String];

pub(crate) const ROWS: &[Row] = &[
    member("matches", TWO, Sig::Bool, Cost::Regex, run!([Value::String(text), Value::String(by)] => matches(text, by))),
    global("matches", TWO, Sig::Bool, Cost::Regex, run!([Value::String(text), Value::String(by)] => matches(text, by))),
    member(
        "find",
        TWO,
        Sig::String,
        Cost::Regex,
        run!([Value::String(text), Value::String(by)] => {
            let found = compiled(by)?.find(text).map_or("", |found| found.as_str()).to_owned();
            Ok(Value::text(found))
        }),
    ),
    member(
        "findAll",
        TWO,
        Sig::List(&Sig::String),
        Cost::Regex,
        run!(
        [Value::String(text), Value::String(by)] => all(text, by, -1)),
    ),
    member(
        "findAll",
        &[Sig::String, Sig::String, Sig::Int],
        Sig::List(&Sig::String),
        Cost::Regex,
        run!(
        [Value::String(text), Value::String(by), Value::Int(most)] => all(text, by, *most)),
    ),
];

/// Patterns are compiled once: expressions are evaluated again and again with the same.
fn compiled(pattern: &str) -> Result<std::sync::Arc<regex::Regex>, String> {
    regexp::cached(pattern)
}

fn matches<'a>(text: &str, pattern: &str) -> Outcome<'a> {
    Ok(Value::Bool(compiled(pattern)?.is_match(text)))
}

fn all<'a>(text: &str, pattern: &str, most: i64) -> Outcome<'a> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let found = compiled(pattern)?.find_iter(text).take(most).map(|found| Value::text(found.as_str())).collect();
    Ok(Value::list(found))
}
