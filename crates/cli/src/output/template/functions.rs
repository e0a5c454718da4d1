//! The functions of Go's `text/template` and of kubectl.

use std::cmp::Ordering;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::run::Found;
use knarr_api::jsonpath::order;

type Result<T> = std::result::Result<T, String>;

pub fn is_true(value: &Found) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
    }
}

/// As Go's `%v` prints it.
pub fn shown(value: Option<&Value>) -> String {
    match value {
        None => "<no value>".into(),
        Some(Value::Null) => "<nil>".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(list)) => {
            format!("[{}]", list.iter().map(|item| shown(Some(item))).collect::<Vec<_>>().join(" "))
        }
        Some(Value::Object(map)) => {
            let pairs = map.iter().map(|(key, item)| format!("{key}:{}", shown(Some(item))));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        Some(other) => other.to_string(),
    }
}

pub fn call(name: &str, arguments: &[Found]) -> Result<Found> {
    let few = || format!("wrong number of args for {name}: got {}", arguments.len());
    let first = || arguments.first().ok_or_else(few);
    let second = || arguments.get(1).ok_or_else(few);
    let compare = || -> Result<Option<Ordering>> {
        Ok(match (first()?, second()?) {
            (Some(left), Some(right)) => order(left, right).or((left == right).then_some(Ordering::Equal)),
            (left, right) => (left == right).then_some(Ordering::Equal),
        })
    };
    let truth = |value: bool| Ok(Some(Value::Bool(value)));
    match name {
        "not" => truth(!is_true(first()?)),
        "eq" => {
            let left = first()?;
            second()?;
            truth(arguments[1..].iter().any(|right| same(left, right)))
        }
        "ne" => truth(!same(first()?, second()?)),
        "lt" => truth(compare()? == Some(Ordering::Less)),
        "le" => truth(compare()?.is_some_and(Ordering::is_le)),
        "gt" => truth(compare()? == Some(Ordering::Greater)),
        "ge" => truth(compare()?.is_some_and(Ordering::is_ge)),
        "len" => match first()? {
            Some(Value::String(text)) => Ok(Some(text.len().into())),
            Some(Value::Array(list)) => Ok(Some(list.len().into())),
            Some(Value::Object(map)) => Ok(Some(map.len().into())),
            other => Err(format!("error calling len: len of {}", shown(other.as_ref()))),
        },
        "index" => {
            first()?;
            let (value, keys) = (arguments[0].clone(), &arguments[1..]);
            keys.iter().try_fold(value, |value, key| index(value, key.as_ref()))
        }
        "slice" => slice(first()?, &arguments[1..]),
        "exists" => {
            first()?;
            let found = arguments[1..].iter().try_fold(arguments[0].clone(), |value, key| index(value, key.as_ref()));
            truth(matches!(found, Ok(Some(_))))
        }
        "print" => Ok(Some(print(arguments).into())),
        "println" => {
            let texts: Vec<String> = arguments.iter().map(|value| shown(value.as_ref())).collect();
            Ok(Some(format!("{}\n", texts.join(" ")).into()))
        }
        "printf" => Ok(Some(printf(&shown(first()?.as_ref()), &arguments[1..]).into())),
        "html" => Ok(Some(html(&print(arguments)).into())),
        "js" => Ok(Some(print(arguments).replace('\\', "\\\\").replace('\'', "\\'").replace('"', "\\\"").into())),
        "urlquery" => {
            Ok(Some(url::form_urlencoded::byte_serialize(print(arguments).as_bytes()).collect::<String>().into()))
        }
        "base64decode" => {
            let text = shown(first()?.as_ref());
            let bytes = STANDARD.decode(&text).map_err(|error| format!("base64 decode failed: {error}"))?;
            Ok(Some(String::from_utf8_lossy(&bytes).into_owned().into()))
        }
        _ => Err(format!("function \"{name}\" not defined")),
    }
}

fn same(left: &Found, right: &Found) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => order(left, right).map_or(left == right, Ordering::is_eq),
        (left, right) => left == right,
    }
}

fn index(value: Found, key: Option<&Value>) -> Result<Found> {
    match (value, key) {
        (Some(Value::Object(mut map)), Some(Value::String(key))) => Ok(map.remove(key)),
        (Some(Value::Array(mut list)), Some(Value::Number(at))) => {
            let at = at.as_u64().and_then(|at| usize::try_from(at).ok()).filter(|at| *at < list.len());
            at.map(|at| Some(list.swap_remove(at))).ok_or_else(|| "error calling index: index out of range".into())
        }
        (None | Some(Value::Null), _) => Err("error calling index: index of untyped nil".into()),
        (value, _) => Err(format!("error calling index: can't index item of type {}", shown(value.as_ref()))),
    }
}

fn slice(value: &Found, bounds: &[Found]) -> Result<Found> {
    let bound = |at: usize, or: usize| match bounds.get(at) {
        Some(Some(Value::Number(number))) => number.as_u64().map_or(or, |number| number as usize),
        _ => or,
    };
    let out = || "error calling slice: index out of range".to_owned();
    match value {
        Some(Value::String(text)) => {
            text.get(bound(0, 0)..bound(1, text.len())).map(|t| Some(t.into())).ok_or_else(out)
        }
        Some(Value::Array(list)) => {
            list.get(bound(0, 0)..bound(1, list.len())).map(|list| Some(list.to_vec().into())).ok_or_else(out)
        }
        other => Err(format!("error calling slice: can't slice item of type {}", shown(other.as_ref()))),
    }
}

/// Go's `Sprint`: a blank between neighbours of which neither is a string.
fn print(arguments: &[Found]) -> String {
    let is_text = |value: &Found| matches!(value, Some(Value::String(_)));
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 && !is_text(&arguments[at - 1]) && !is_text(value) {
            out.push(' ');
        }
        out.push_str(&shown(value.as_ref()));
    }
    out
}

fn html(text: &str) -> String {
    let escapes = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&#34;"), ("'", "&#39;")];
    escapes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn printf(format: &str, arguments: &[Found]) -> String {
    let mut out = String::new();
    let mut arguments = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(flag) = chars.next_if(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | '+' | ' ' | '#')) {
            flags.push(flag);
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        out.push_str(&padded(&flags, verb, value));
    }
    out
}

/// Columns and digits; Rust's formatter takes no more than 65535.
const MAX_WIDTH: usize = 10_000;

fn padded(flags: &str, verb: char, value: &Found) -> String {
    let left = flags.contains('-');
    let numbers = flags.trim_start_matches(['-', '+', ' ', '#']);
    let count = |digits: &str| digits.parse::<usize>().ok().map(|count| count.min(MAX_WIDTH));
    let (width, precision) = numbers.split_once('.').map_or((numbers, None), |(w, p)| (w, count(p)));
    let plain = shown(value.as_ref());
    let text = match (verb, value) {
        ('q', Some(Value::String(text))) => Value::from(text.as_str()).to_string(),
        ('f', Some(Value::Number(number))) => {
            format!("{:.*}", precision.unwrap_or(6), number.as_f64().unwrap_or_default())
        }
        // Numbers that come from JSON are floats to Go.
        ('d', Some(Value::Number(number))) if number.as_i64().is_none() => format!("%!d(float64={plain})"),
        ('t' | 'v' | 's' | 'd' | 'q', _) => match precision {
            Some(precision) if verb == 's' => plain.chars().take(precision).collect(),
            _ => plain,
        },
        _ => format!("%!{verb}({plain})"),
    };
    let missing = count(width).unwrap_or(0).saturating_sub(text.chars().count());
    let fill = if width.starts_with('0') && !left { "0" } else { " " }.repeat(missing);
    if left { text + &fill } else { fill + &text }
}
