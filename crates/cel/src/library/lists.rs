//! Lists: Kubernetes' functions, and version 3 of cel-go's extension.

use std::{cmp::Ordering, sync::Arc};

use super::{Cost, Outcome, Row, Sig, global, member, no_overload, run};
use crate::value::{List, Value, compare, equal};

const LIST: Sig = Sig::List(&Sig::A);
/// `lists.range` makes no more than these.
const MAX_RANGE: i64 = 10_000_000;
const NOTHING: &str = "called on empty list";

pub(crate) const ROWS: &[Row] = &[
    member("isSorted", &[LIST], Sig::Bool, Cost::Visit, run!([Value::List(list)] => is_sorted(list))),
    member(
        "sum",
        &[Sig::List(&Sig::Int)],
        Sig::Int,
        Cost::Visit,
        run!([Value::List(list)] => sum(list, Value::Int(0))),
    ),
    member(
        "sum",
        &[Sig::List(&Sig::Uint)],
        Sig::Uint,
        Cost::Visit,
        run!([Value::List(list)] => sum(list, Value::Uint(0))),
    ),
    member(
        "sum",
        &[Sig::List(&Sig::Double)],
        Sig::Double,
        Cost::Visit,
        run!(
        [Value::List(list)] => sum(list, Value::Double(0.0))),
    ),
    member(
        "sum",
        &[Sig::List(&Sig::Duration)],
        Sig::Duration,
        Cost::Visit,
        run!(
        [Value::List(list)] => sum(list, Value::Duration(0))),
    ),
    member("min", &[LIST], Sig::A, Cost::Visit, run!([Value::List(list)] => extreme(list, "min", Ordering::Less))),
    member("max", &[LIST], Sig::A, Cost::Visit, run!([Value::List(list)] => extreme(list, "max", Ordering::Greater))),
    member(
        "indexOf",
        &[LIST, Sig::A],
        Sig::Int,
        Cost::Visit,
        run!(
        [Value::List(list), value] => index(list, value, false)),
    ),
    member(
        "lastIndexOf",
        &[LIST, Sig::A],
        Sig::Int,
        Cost::Visit,
        run!(
        [Value::List(list), value] => index(list, value, true)),
    ),
    member(
        "slice",
        &[LIST, Sig::Int, Sig::Int],
        LIST,
        Cost::NewList,
        run!(
        [Value::List(list), Value::Int(from), Value::Int(to)] => slice(list, *from, *to)),
    ),
    member("flatten", &[Sig::List(&LIST)], LIST, Cost::Flatten, run!([Value::List(list)] => flat(list, 1))),
    member(
        "flatten",
        &[Sig::List(&Sig::Dyn), Sig::Int],
        Sig::List(&Sig::Dyn),
        Cost::Flatten,
        run!(
        [Value::List(list), Value::Int(depth)] => flat(list, *depth)),
    ),
    global("lists.range", &[Sig::Int], Sig::List(&Sig::Int), Cost::NewList, run!([Value::Int(n)] => range(*n))),
    member(
        "reverse",
        &[LIST],
        LIST,
        Cost::NewList,
        run!([Value::List(list)] => {
            let mut all: Vec<Value<'_>> = list.iter().collect::<Result<_, _>>()?;
            all.reverse();
            Ok(Value::list(all))
        }),
    ),
    member("distinct", &[LIST], LIST, Cost::SelfCompare(0), run!([Value::List(list)] => distinct(list))),
    member("sort", &[LIST], LIST, Cost::SelfCompare(0), run!([Value::List(list)] => sort(list, list))),
    member(
        "@sortByAssociatedKeys",
        &[LIST, Sig::List(&Sig::B)],
        LIST,
        Cost::SelfCompare(1),
        run!(
        [Value::List(list), Value::List(keys)] => sort(list, keys)),
    ),
];

fn is_sorted<'a>(list: &List<'a>) -> Outcome<'a> {
    let mut before: Option<Value<'a>> = None;
    for value in list.iter() {
        let value = value?;
        if let Some(before) = &before {
            match compare(before, &value) {
                None => return no_overload(),
                Some(Ordering::Greater) => return Ok(Value::Bool(false)),
                Some(_) => {}
            }
        }
        before = Some(value);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(list: &List<'a>, zero: Value<'a>) -> Outcome<'a> {
    let mut sum = zero;
    for value in list.iter() {
        sum = match (sum, value?) {
            (Value::Int(a), Value::Int(b)) => Value::Int(a.checked_add(b).ok_or("integer overflow")?),
            (Value::Uint(a), Value::Uint(b)) => Value::Uint(a.checked_add(b).ok_or("unsigned integer overflow")?),
            (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
            (Value::Duration(a), Value::Duration(b)) => Value::Duration(a.checked_add(b).ok_or("duration overflow")?),
            _ => return no_overload(),
        };
    }
    Ok(sum)
}

fn extreme<'a>(list: &List<'a>, name: &str, wanted: Ordering) -> Outcome<'a> {
    let mut best: Option<Value<'a>> = None;
    for value in list.iter() {
        let value = value?;
        let is_better = match &best {
            None => true,
            Some(best) => match compare(&value, best) {
                None => return no_overload(),
                Some(order) => order == wanted,
            },
        };
        if is_better {
            best = Some(value);
        }
    }
    best.ok_or_else(|| format!("{name} {NOTHING}"))
}

fn index<'a>(list: &List<'a>, wanted: &Value<'a>, last: bool) -> Outcome<'a> {
    let mut found = -1;
    for (i, value) in list.iter().enumerate() {
        if equal(&value?, wanted)? {
            found = i as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

fn slice<'a>(list: &List<'a>, from: i64, to: i64) -> Outcome<'a> {
    let wrong = |why: &str| Err(format!("cannot slice({from}, {to}), {why}"));
    let (Ok(start), Ok(end)) = (usize::try_from(from), usize::try_from(to)) else {
        return wrong("negative indexes not supported");
    };
    if start > end {
        return wrong("start index must be less than or equal to end index");
    }
    if list.len() < end {
        return wrong(&format!("list is length {}", list.len()));
    }
    Ok(Value::list((start..end).filter_map(|i| list.get(i)).collect::<Result<_, _>>()?))
}

fn flat<'a>(list: &List<'a>, depth: i64) -> Outcome<'a> {
    fn add<'a>(list: &List<'a>, depth: i64, all: &mut Vec<Value<'a>>) -> Result<(), String> {
        for value in list.iter() {
            match value? {
                Value::List(inner) if depth > 0 => add(&inner, depth - 1, all)?,
                other => all.push(other),
            }
        }
        Ok(())
    }
    if depth < 0 {
        return Err("level must be non-negative".to_owned());
    }
    let mut all = Vec::new();
    add(list, depth, &mut all)?;
    Ok(Value::list(all))
}

fn range<'a>(n: i64) -> Outcome<'a> {
    if n < 0 {
        return Err(format!("lists.range: size must be non-negative, got {n}"));
    }
    if n > MAX_RANGE {
        return Err(format!("lists.range: size {n} exceeds maximum allowed ({MAX_RANGE})"));
    }
    Ok(Value::list((0..n).map(Value::Int).collect()))
}

fn distinct<'a>(list: &List<'a>) -> Outcome<'a> {
    let mut kept: Vec<Value<'a>> = Vec::new();
    'values: for value in list.iter() {
        let value = value?;
        for known in &kept {
            if equal(known, &value)? {
                continue 'values;
            }
        }
        kept.push(value);
    }
    Ok(Value::list(kept))
}

fn sort<'a>(list: &List<'a>, keys: &List<'a>) -> Outcome<'a> {
    let keys: Vec<Value<'a>> = keys.iter().collect::<Result<_, _>>()?;
    let values: Vec<Value<'a>> = list.iter().collect::<Result<_, _>>()?;
    let Some(first) = keys.first() else { return Ok(Value::list(Vec::new())) };
    if compare(first, first).is_none() {
        return Err("list elements must be comparable".to_owned());
    }
    if keys.iter().any(|key| key.type_of() != first.type_of()) {
        return Err("list elements must have the same type".to_owned());
    }
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.into_iter().zip(values).collect();
    pairs.sort_by(|(a, _), (b, _)| compare(a, b).unwrap_or(Ordering::Equal));
    Ok(Value::List(List::Owned(Arc::new(pairs.into_iter().map(|(_, value)| value).collect()))))
}
