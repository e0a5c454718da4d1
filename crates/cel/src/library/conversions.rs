//! From one type to another, sizes, and types as values.

use super::{Cost, Outcome, Row, Sig, global, member, run, time};
use crate::{
    types::Type,
    value::{List, Map, Value},
};

const ONE: Cost = Cost::Fixed(1);
const SIZED: [Sig; 4] = [Sig::String, Sig::Bytes, Sig::List(&Sig::A), Sig::Map(&Sig::A, &Sig::B)];

pub(crate) const ROWS: &[Row] = &[
    global("dyn", &[Sig::A], Sig::Dyn, ONE, run!([value] => Ok(value.clone()))),
    global("type", &[Sig::A], Sig::Type, ONE, run!([value] => Ok(Value::Type(outer(value.type_of()))))),
    global("size", &[SIZED[0]], Sig::Int, ONE, size),
    global("size", &[SIZED[1]], Sig::Int, ONE, size),
    global("size", &[SIZED[2]], Sig::Int, ONE, size),
    global("size", &[SIZED[3]], Sig::Int, ONE, size),
    member("size", &[SIZED[0]], Sig::Int, ONE, size),
    member("size", &[SIZED[1]], Sig::Int, ONE, size),
    member("size", &[SIZED[2]], Sig::Int, ONE, size),
    member("size", &[SIZED[3]], Sig::Int, ONE, size),
    global("bool", &[Sig::Bool], Sig::Bool, ONE, run!([value] => Ok(value.clone()))),
    global(
        "bool",
        &[Sig::String],
        Sig::Bool,
        ONE,
        run!([Value::String(text)] => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            text => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
        }),
    ),
    global("int", &[Sig::Int], Sig::Int, ONE, run!([value] => Ok(value.clone()))),
    global("int", &[Sig::Uint], Sig::Int, ONE, run!([Value::Uint(value)] => whole(i64::try_from(*value).ok()))),
    global(
        "int",
        &[Sig::Double],
        Sig::Int,
        ONE,
        run!([Value::Double(value)] =>
        whole((value.abs() < 9.223_372_036_854_775e18).then_some(*value as i64))),
    ),
    global(
        "int",
        &[Sig::String],
        Sig::Int,
        ONE,
        run!([Value::String(text)] =>
        text.parse().map(Value::Int).map_err(|_| unreadable("ParseInt", text))),
    ),
    global("int", &[Sig::Timestamp], Sig::Int, ONE, run!([Value::Timestamp(at)] => Ok(Value::Int(at.as_second())))),
    global("int", &[Sig::Duration], Sig::Int, ONE, run!([Value::Duration(nanos)] => Ok(Value::Int(*nanos)))),
    global("uint", &[Sig::Uint], Sig::Uint, ONE, run!([value] => Ok(value.clone()))),
    global("uint", &[Sig::Int], Sig::Uint, ONE, run!([Value::Int(value)] => natural(u64::try_from(*value).ok()))),
    global(
        "uint",
        &[Sig::Double],
        Sig::Uint,
        ONE,
        run!([Value::Double(value)] =>
        natural((*value > -1.0 && *value < 1.844_674_407_370_955e19).then_some(*value as u64))),
    ),
    global(
        "uint",
        &[Sig::String],
        Sig::Uint,
        ONE,
        run!([Value::String(text)] =>
        text.parse().map(Value::Uint).map_err(|_| unreadable("ParseUint", text))),
    ),
    global("double", &[Sig::Double], Sig::Double, ONE, run!([value] => Ok(value.clone()))),
    global("double", &[Sig::Int], Sig::Double, ONE, run!([Value::Int(value)] => Ok(Value::Double(*value as f64)))),
    global("double", &[Sig::Uint], Sig::Double, ONE, run!([Value::Uint(value)] => Ok(Value::Double(*value as f64)))),
    global(
        "double",
        &[Sig::String],
        Sig::Double,
        ONE,
        run!([Value::String(text)] =>
        text.parse().map(Value::Double).map_err(|_| unreadable("ParseFloat", text))),
    ),
    global("string", &[Sig::String], Sig::String, ONE, run!([value] => Ok(value.clone()))),
    global("string", &[Sig::Bool], Sig::String, ONE, run!([Value::Bool(value)] => Ok(Value::text(value.to_string())))),
    global("string", &[Sig::Int], Sig::String, ONE, run!([Value::Int(value)] => Ok(Value::text(value.to_string())))),
    global("string", &[Sig::Uint], Sig::String, ONE, run!([Value::Uint(value)] => Ok(Value::text(value.to_string())))),
    global("string", &[Sig::Double], Sig::String, ONE, run!([Value::Double(value)] => Ok(Value::text(double(*value))))),
    global(
        "string",
        &[Sig::Bytes],
        Sig::String,
        Cost::FromBytes,
        run!([Value::Bytes(bytes)] =>
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::text(text)),
            Err(_) => Err("invalid UTF-8 in bytes, cannot convert to string".to_owned()),
        }),
    ),
    global(
        "string",
        &[Sig::Timestamp],
        Sig::String,
        ONE,
        run!([Value::Timestamp(at)] => Ok(Value::text(at.to_string()))),
    ),
    global(
        "string",
        &[Sig::Duration],
        Sig::String,
        ONE,
        run!([Value::Duration(nanos)] =>
        Ok(Value::text(time::duration_text(*nanos)))),
    ),
    global("bytes", &[Sig::Bytes], Sig::Bytes, ONE, run!([value] => Ok(value.clone()))),
    global(
        "bytes",
        &[Sig::String],
        Sig::Bytes,
        Cost::ToBytes,
        run!([Value::String(text)] =>
        Ok(Value::Bytes(text.as_bytes().into()))),
    ),
    global("timestamp", &[Sig::Timestamp], Sig::Timestamp, ONE, run!([value] => Ok(value.clone()))),
    global("timestamp", &[Sig::Int], Sig::Timestamp, ONE, run!([Value::Int(seconds)] => time::from_seconds(*seconds))),
    global(
        "timestamp",
        &[Sig::String],
        Sig::Timestamp,
        ONE,
        run!([Value::String(text)] =>
        time::timestamp(text).map(Value::Timestamp)),
    ),
    global("duration", &[Sig::Duration], Sig::Duration, ONE, run!([value] => Ok(value.clone()))),
    global("duration", &[Sig::Int], Sig::Duration, ONE, run!([Value::Int(nanos)] => Ok(Value::Duration(*nanos)))),
    global(
        "duration",
        &[Sig::String],
        Sig::Duration,
        ONE,
        run!([Value::String(text)] =>
        time::duration(text).map(Value::Duration)),
    ),
];

fn size<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ (Value::String(_) | Value::Bytes(_))] => Ok(Value::Int(value.size() as i64)),
        [Value::List(list)] => Ok(Value::Int(List::len(list) as i64)),
        [Value::Map(map)] => Ok(Value::Int(Map::len(map) as i64)),
        _ => super::no_overload(),
    }
}

/// `type([1])` is `list`, whatever is in it.
pub(crate) fn outer(ty: Type) -> Type {
    match ty {
        Type::List(_) => Type::list(Type::Dyn),
        Type::Map(..) => Type::map(Type::Dyn, Type::Dyn),
        Type::Optional(_) => Type::optional(Type::Dyn),
        other => other,
    }
}

fn whole<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map(Value::Int).ok_or_else(|| "integer overflow".to_owned())
}

fn natural<'a>(value: Option<u64>) -> Outcome<'a> {
    value.map(Value::Uint).ok_or_else(|| "unsigned integer overflow".to_owned())
}

fn unreadable(what: &str, text: &str) -> String {
    format!("strconv.{what}: parsing {text:?}: invalid syntax")
}

/// As Go writes it in its shortest form: no point for whole numbers, an exponent where it is shorter.
pub(crate) fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let exponent = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    if (-4..21).contains(&exponent) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
