//! `'%s is %d'.format([a, b])`

use super::{Cost, Outcome, Row, Sig, conversions, member, run, time};
use crate::value::{Key, List, Map, Value};

const MAX_PRECISION: usize = 1000;
const MAX_BYTES: usize = 16 << 20;

pub(crate) const ROWS: &[Row] = &[member(
    "format",
    &[Sig::String, Sig::List(&Sig::Dyn)],
    Sig::String,
    Cost::Format,
    run!([Value::String(pattern), Value::List(args)] => format(pattern, args)),
)];

fn format<'a>(pattern: &str, args: &List<'a>) -> Outcome<'a> {
    let mut text = String::new();
    let mut chars = pattern.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut precision = None;
        let mut clause = chars.next().ok_or("could not parse formatting clause: unexpected end of string")?;
        if clause == '%' {
            text.push('%');
            continue;
        }
        if clause == '.' {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let number: usize = digits.parse().map_err(|_| "could not parse formatting clause: invalid precision")?;
            if number > MAX_PRECISION {
                return Err(format!("precision {number} is too big, at most {MAX_PRECISION} is allowed"));
            }
            precision = Some(number);
            clause = chars.next().ok_or("could not parse formatting clause: unexpected end of string")?;
        }
        let arg = args.get(next).ok_or_else(|| format!("index {next} out of range"))??;
        next += 1;
        one(&mut text, clause, precision, &arg)?;
        if text.len() > MAX_BYTES {
            return Err(format!("the result of format has more than {MAX_BYTES} bytes"));
        }
    }
    Ok(Value::text(text))
}

fn one(text: &mut String, clause: char, precision: Option<usize>, arg: &Value<'_>) -> Result<(), String> {
    let name = arg.type_of();
    let wrong = |allowed: &str| Err(format!("error during formatting: {allowed}, was given {name}"));
    match (clause, arg) {
        ('s', arg) => shown(text, arg)?,
        ('d', Value::Int(value)) => text.push_str(&value.to_string()),
        ('d', Value::Uint(value)) => text.push_str(&value.to_string()),
        ('d', Value::Double(value)) if !value.is_finite() => text.push_str(&special(*value)),
        ('d', _) => return wrong("decimal clause can only be used on integers"),
        ('f', value) => match double(value) {
            Some(value) if value.is_finite() => text.push_str(&format!("{value:.*}", precision.unwrap_or(6))),
            Some(value) => text.push_str(&special(value)),
            None => return wrong("fixed-point clause can only be used on doubles"),
        },
        ('e', value) => match double(value) {
            Some(value) if value.is_finite() => text.push_str(&scientific(value, precision.unwrap_or(6))),
            Some(value) => text.push_str(&special(value)),
            None => return wrong("scientific clause can only be used on doubles"),
        },
        ('b', Value::Bool(value)) => text.push(if *value { '1' } else { '0' }),
        ('b', Value::Int(value)) => {
            text.push_str(&format!("{}{:b}", if *value < 0 { "-" } else { "" }, value.unsigned_abs()));
        }
        ('b', Value::Uint(value)) => text.push_str(&format!("{value:b}")),
        ('b', _) => return wrong("only integers and bools can be formatted as binary"),
        ('o', Value::Int(value)) => {
            text.push_str(&format!("{}{:o}", if *value < 0 { "-" } else { "" }, value.unsigned_abs()));
        }
        ('o', Value::Uint(value)) => text.push_str(&format!("{value:o}")),
        ('o', _) => return wrong("octal clause can only be used on integers"),
        ('x' | 'X', arg) => {
            let hex = match arg {
                Value::Int(value) => format!("{}{:x}", if *value < 0 { "-" } else { "" }, value.unsigned_abs()),
                Value::Uint(value) => format!("{value:x}"),
                Value::String(value) => value.bytes().map(|byte| format!("{byte:02x}")).collect(),
                Value::Bytes(value) => value.iter().map(|byte| format!("{byte:02x}")).collect(),
                _ => return wrong("only integers, byte buffers, and strings can be formatted as hex"),
            };
            text.push_str(&if clause == 'X' { hex.to_uppercase() } else { hex });
        }
        (other, _) => {
            return Err(format!("could not parse formatting clause: unrecognized formatting clause \"{other}\""));
        }
    }
    Ok(())
}

fn special(value: f64) -> String {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
    .to_owned()
}

fn double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        Value::Uint(value) => Some(*value as f64),
        _ => None,
    }
}

fn scientific(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// `%s`: strings as they are, lists and maps with what is in them.
fn shown(text: &mut String, value: &Value<'_>) -> Result<(), String> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(&value.to_string()),
        Value::Int(value) => text.push_str(&value.to_string()),
        Value::Uint(value) => text.push_str(&value.to_string()),
        Value::Double(value) if !value.is_finite() => text.push_str(&special(*value)),
        Value::Double(value) => text.push_str(&conversions::double(*value)),
        Value::String(value) => text.push_str(value),
        Value::Bytes(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
        Value::Timestamp(at) => text.push_str(&at.to_string()),
        Value::Duration(nanos) => text.push_str(&time::duration_text(*nanos)),
        Value::Type(ty) => text.push_str(&type_name(ty)),
        Value::List(list) => {
            text.push('[');
            for (i, element) in list.iter().enumerate() {
                text.push_str(if i == 0 { "" } else { ", " });
                shown(text, &element?)?;
            }
            text.push(']');
        }
        Value::Map(map) => entries(text, map)?,
        other => {
            let name = other.type_of();
            return Err(format!(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, \
                 lists, types, durations, and timestamps, was given {name}"
            ));
        }
    }
    if text.len() > MAX_BYTES { Err(format!("the result of format has more than {MAX_BYTES} bytes")) } else { Ok(()) }
}

fn entries(text: &mut String, map: &Map<'_>) -> Result<(), String> {
    let mut parts = Vec::with_capacity(map.len());
    for key in map.keys() {
        let value = map.get(&key).unwrap_or(Ok(Value::Null))?;
        let mut part = String::new();
        shown(&mut part, &Key::value(key))?;
        part.push_str(": ");
        shown(&mut part, &value)?;
        parts.push(part);
    }
    parts.sort();
    text.push_str(&format!("{{{}}}", parts.join(", ")));
    Ok(())
}

/// A type without what is in it: `list`, `map`.
pub(crate) fn type_name(ty: &crate::types::Type) -> String {
    use crate::types::Type;
    match ty {
        Type::List(_) => "list".to_owned(),
        Type::Map(..) => "map".to_owned(),
        Type::Optional(_) => "optional_type".to_owned(),
        Type::Null => "null_type".to_owned(),
        Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
        Type::Duration => "google.protobuf.Duration".to_owned(),
        other => other.to_string(),
    }
}
