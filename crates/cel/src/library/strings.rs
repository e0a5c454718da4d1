//! Strings: what every CEL knows, and version 2 of cel-go's extension. Positions count characters.

use super::{Cost, Outcome, Row, Sig, global, member, no_overload, run};
use crate::value::{List, Value};

/// A result bigger than this is refused: its cost is counted by what goes in, which says nothing of what comes out.
const MAX_RESULT_BYTES: usize = 16 << 20;

const TWO: &[Sig] = &[Sig::String, Sig::String];
const STRINGS: Sig = Sig::List(&Sig::String);

pub(crate) const ROWS: &[Row] = &[
    member(
        "contains",
        TWO,
        Sig::Bool,
        Cost::Contains,
        run!(
        [Value::String(a), Value::String(b)] => Ok(Value::Bool(a.contains(&**b)))),
    ),
    member(
        "startsWith",
        TWO,
        Sig::Bool,
        Cost::Text(1),
        run!(
        [Value::String(a), Value::String(b)] => Ok(Value::Bool(a.starts_with(&**b)))),
    ),
    member(
        "endsWith",
        TWO,
        Sig::Bool,
        Cost::Text(1),
        run!(
        [Value::String(a), Value::String(b)] => Ok(Value::Bool(a.ends_with(&**b)))),
    ),
    member(
        "charAt",
        &[Sig::String, Sig::Int],
        Sig::String,
        Cost::Fixed(1),
        run!(
        [Value::String(text), Value::Int(at)] => char_at(text, *at)),
    ),
    member(
        "indexOf",
        TWO,
        Sig::Int,
        Cost::Visit,
        run!(
        [Value::String(a), Value::String(b)] => Ok(index(a, b, 0))),
    ),
    member(
        "indexOf",
        &[Sig::String, Sig::String, Sig::Int],
        Sig::Int,
        Cost::Visit,
        run!(
        [Value::String(a), Value::String(b), Value::Int(from)] => Ok(index(a, b, offset(a, *from)?))),
    ),
    member(
        "lastIndexOf",
        TWO,
        Sig::Int,
        Cost::Visit,
        run!(
        [Value::String(a), Value::String(b)] => Ok(last_index(a, b, usize::MAX))),
    ),
    member(
        "lastIndexOf",
        &[Sig::String, Sig::String, Sig::Int],
        Sig::Int,
        Cost::Visit,
        run!(
        [Value::String(a), Value::String(b), Value::Int(from)] => Ok(last_index(a, b, offset(a, *from)?))),
    ),
    member(
        "lowerAscii",
        &[Sig::String],
        Sig::String,
        Cost::SameText,
        run!(
        [Value::String(text)] => Ok(Value::text(text.to_ascii_lowercase()))),
    ),
    member(
        "upperAscii",
        &[Sig::String],
        Sig::String,
        Cost::SameText,
        run!(
        [Value::String(text)] => Ok(Value::text(text.to_ascii_uppercase()))),
    ),
    member(
        "trim",
        &[Sig::String],
        Sig::String,
        Cost::SameText,
        run!(
        [Value::String(text)] => Ok(Value::text(text.trim()))),
    ),
    member(
        "substring",
        &[Sig::String, Sig::Int],
        Sig::String,
        Cost::SameText,
        run!(
        [Value::String(text), Value::Int(from)] => substring(text, *from, text.chars().count() as i64)),
    ),
    member(
        "substring",
        &[Sig::String, Sig::Int, Sig::Int],
        Sig::String,
        Cost::SameText,
        run!(
        [Value::String(text), Value::Int(from), Value::Int(to)] => substring(text, *from, *to)),
    ),
    member(
        "replace",
        &[Sig::String, Sig::String, Sig::String],
        Sig::String,
        Cost::Replace,
        run!(
        [Value::String(text), Value::String(old), Value::String(new)] => replace(text, old, new, -1)),
    ),
    member(
        "replace",
        &[Sig::String, Sig::String, Sig::String, Sig::Int],
        Sig::String,
        Cost::Replace,
        run!(
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(count)] =>
            replace(text, old, new, *count)),
    ),
    member(
        "split",
        TWO,
        STRINGS,
        Cost::Split,
        run!(
        [Value::String(text), Value::String(by)] => Ok(split(text, by, -1))),
    ),
    member(
        "split",
        &[Sig::String, Sig::String, Sig::Int],
        STRINGS,
        Cost::Split,
        run!(
        [Value::String(text), Value::String(by), Value::Int(count)] => Ok(split(text, by, *count))),
    ),
    member("join", &[STRINGS], Sig::String, Cost::Join, run!([Value::List(list)] => join(list, ""))),
    member(
        "join",
        &[STRINGS, Sig::String],
        Sig::String,
        Cost::Join,
        run!(
        [Value::List(list), Value::String(by)] => join(list, by)),
    ),
    global(
        "strings.quote",
        &[Sig::String],
        Sig::String,
        Cost::Quote,
        run!(
        [Value::String(text)] => Ok(Value::text(quote(text)))),
    ),
];

fn out_of_range(at: i64) -> String {
    format!("index out of range: {at}")
}

/// The byte that a character begins at.
fn byte_of(text: &str, at: usize) -> usize {
    text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte)
}

fn offset(text: &str, at: i64) -> Result<usize, String> {
    let length = text.chars().count();
    usize::try_from(at).ok().filter(|at| *at <= length).ok_or_else(|| out_of_range(at))
}

fn char_at<'a>(text: &str, at: i64) -> Outcome<'a> {
    let found = text.chars().nth(offset(text, at)?);
    Ok(Value::text(found.map(String::from).unwrap_or_default()))
}

fn index<'a>(text: &str, part: &str, from: usize) -> Value<'a> {
    if part.is_empty() {
        return Value::Int(from as i64);
    }
    let rest = &text[byte_of(text, from)..];
    Value::Int(rest.find(part).map_or(-1, |byte| (from + rest[..byte].chars().count()) as i64))
}

/// The last place at or before `from`.
fn last_index<'a>(text: &str, part: &str, from: usize) -> Value<'a> {
    if part.is_empty() {
        return Value::Int(from.min(text.chars().count()) as i64);
    }
    let end = byte_of(text, from).saturating_add(part.len()).min(text.len());
    let end = (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
    let found = text[..end].rfind(part).map(|byte| text[..byte].chars().count());
    Value::Int(found.filter(|at| *at <= from).map_or(-1, |at| at as i64))
}

fn substring<'a>(text: &str, from: i64, to: i64) -> Outcome<'a> {
    if from > to {
        return Err(format!("invalid substring range. start: {from}, end: {to}"));
    }
    let (from, to) = (offset(text, from)?, offset(text, to)?);
    Ok(Value::text(&text[byte_of(text, from)..byte_of(text, to)]))
}

fn replace<'a>(text: &str, old: &str, new: &str, count: i64) -> Outcome<'a> {
    let found = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old).count() };
    let count = usize::try_from(count).map_or(found, |count| count.min(found));
    let grown = (new.len().saturating_sub(old.len())).saturating_mul(count).saturating_add(text.len());
    if grown > MAX_RESULT_BYTES {
        return Err(format!("the result of replace would have {grown} bytes, at most {MAX_RESULT_BYTES} are allowed"));
    }
    Ok(Value::text(text.replacen(old, new, count)))
}

/// Zero: nothing; negative: as many as there are.
fn split<'a>(text: &str, by: &str, count: i64) -> Value<'a> {
    let text_of = |part: &str| Value::text(part);
    if count == 0 {
        return Value::list(Vec::new());
    }
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    if !by.is_empty() {
        return Value::list(text.splitn(most, by).map(text_of).collect());
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if parts.len() + 1 == most {
            break;
        }
        parts.push(Value::text(first.to_string()));
        rest = &rest[first.len_utf8()..];
    }
    if !rest.is_empty() {
        parts.push(text_of(rest));
    }
    Value::list(parts)
}

fn join<'a>(list: &List<'a>, by: &str) -> Outcome<'a> {
    let mut text = String::new();
    for (i, part) in list.iter().enumerate() {
        let Value::String(part) = part? else { return no_overload() };
        text.push_str(if i == 0 { "" } else { by });
        text.push_str(&part);
        if text.len() > MAX_RESULT_BYTES {
            return Err(format!("the result of join has more than {MAX_RESULT_BYTES} bytes"));
        }
    }
    Ok(Value::text(text))
}

/// In double quotes, safe to print.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
