//! What calls cost, once their arguments are known. Counted before a function runs: what is too much is never begun.

use crate::{
    library::{Cost, Row},
    value::{Opaque, Value},
};

/// Walking through a string costs this much of a unit for each character.
const TEXT: f64 = 0.1;
/// And a pattern for each of its own, since nobody knows how many expressions are in it.
const PATTERN: f64 = 0.25;

fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

fn size(args: &[Value<'_>], at: usize) -> u64 {
    args.get(at).map_or(0, |value| match value {
        Value::Optional(Some(inner)) => inner.size(),
        value => value.size(),
    })
}

fn number(args: &[Value<'_>], at: usize) -> u64 {
    match args.get(at) {
        Some(Value::Int(value)) => u64::try_from(*value).unwrap_or(0),
        _ => 0,
    }
}

pub(super) fn actual(row: &Row, args: &[Value<'_>]) -> u64 {
    let text = |at: usize, times: u64| scaled(size(args, at), TEXT * times as f64);
    let pattern = |length: u64, size: u64| scaled(1 + length, TEXT).saturating_mul(scaled(size, PATTERN));
    match row.cost {
        Cost::Fixed(cost) => cost,
        Cost::Text(times) => text(0, times),
        Cost::SameText | Cost::ToBytes | Cost::FromBytes | Cost::Quote | Cost::Format => text(0, 1),
        Cost::Replace | Cost::Split => text(0, 2),
        Cost::Join => scaled(joined(args), 2.0 * TEXT),
        Cost::Visit => args.first().map_or(0, visit),
        Cost::Regex => pattern(size(args, 0), size(args, 1)),
        Cost::Contains => text(0, 1).saturating_mul(text(1, 1)),
        Cost::InList => size(args, 1),
        Cost::Equality => match args.first() {
            Some(Value::Opaque(_)) => 1,
            _ => scaled(size(args, 0).min(size(args, 1)), TEXT),
        },
        Cost::Concat => scaled(size(args, 0).saturating_add(size(args, 1)), TEXT),
        Cost::ConcatLists => 1,
        Cost::Validate => match args.first() {
            Some(Value::Opaque(Opaque::Format(format))) => pattern(size(args, 1), format.pattern_size),
            _ => 1,
        },
        Cost::ContainsIp(parsed) => scaled(2 * size(args, 0), TEXT) + if parsed { text(1, 1) } else { 0 },
        Cost::ContainsCidr(parsed) => {
            scaled(2 * size(args, 0), TEXT) + text(0, 1) + 1 + if parsed { text(1, 1) } else { 0 }
        }
        Cost::Selector => 10 + text(1, 1) + scaled(scaled(size(args, 1), 0.5), 50.0),
        Cost::NewList => 11_u64.saturating_add(match row.name {
            "lists.range" => number(args, 0),
            "slice" => number(args, 2).saturating_sub(number(args, 1)),
            _ => size(args, 0),
        }),
        Cost::Flatten => {
            let depth = if args.len() > 1 { number(args, 1) } else { 1 };
            11_u64.saturating_add(size(args, 0).saturating_mul(depth))
        }
        Cost::SelfCompare(at) => compared(&args[at]),
        Cost::Sets(times) => 1 + size(args, 0).saturating_mul(size(args, 1)).saturating_mul(times),
    }
}

fn joined(args: &[Value<'_>]) -> u64 {
    let Some(Value::List(list)) = args.first() else { return 0 };
    let parts: u64 = list.iter().flatten().map(|part| part.size()).sum();
    parts.saturating_add(size(args, 1).saturating_mul((list.len() as u64).saturating_sub(1)))
}

fn compared(list: &Value<'_>) -> u64 {
    let Value::List(list) = list else { return 1 };
    let has_text = matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_))));
    let factor = if has_text { 2.0 + TEXT } else { 2.0 };
    let count = list.len() as u64;
    11 + (count.saturating_mul(count) as f64 * factor) as u64
}

/// A visit to a value and all that is in it.
fn visit(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => (text.len() as f64 * TEXT) as u64,
        Value::Bytes(bytes) => (bytes.len() as f64 * TEXT) as u64,
        Value::List(list) => list.iter().flatten().map(|element| visit(&element)).sum(),
        Value::Map(map) => map
            .keys()
            .into_iter()
            .map(|key| {
                let below = map.get(&key).and_then(Result::ok).map_or(0, |value| visit(&value));
                below + visit(&key.value())
            })
            .sum(),
        _ => 1,
    }
}
