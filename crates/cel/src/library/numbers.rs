//! Arithmetic. Nothing wraps around: what does not fit is an error.

use std::sync::Arc;

use super::{Cost, Outcome, Row, Sig, global, run, time};
use crate::{
    schema::ListKind,
    value::{List, Value, equal},
};

const ONE: Cost = Cost::Fixed(1);
const INT: &[Sig] = &[Sig::Int, Sig::Int];
const UINT: &[Sig] = &[Sig::Uint, Sig::Uint];
const DOUBLE: &[Sig] = &[Sig::Double, Sig::Double];
const LISTS: &[Sig] = &[Sig::List(&Sig::A), Sig::List(&Sig::A)];

pub(crate) const ROWS: &[Row] = &[
    global("_+_", INT, Sig::Int, ONE, run!([Value::Int(a), Value::Int(b)] => int(a.checked_add(*b)))),
    global("_+_", UINT, Sig::Uint, ONE, run!([Value::Uint(a), Value::Uint(b)] => uint(a.checked_add(*b)))),
    global("_+_", DOUBLE, Sig::Double, ONE, run!([Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)))),
    global(
        "_+_",
        &[Sig::String, Sig::String],
        Sig::String,
        Cost::Concat,
        run!(
        [Value::String(a), Value::String(b)] => Ok(Value::text([&**a, &**b].concat()))),
    ),
    global(
        "_+_",
        &[Sig::Bytes, Sig::Bytes],
        Sig::Bytes,
        Cost::Concat,
        run!(
        [Value::Bytes(a), Value::Bytes(b)] => Ok(Value::Bytes([&**a, &**b].concat().into()))),
    ),
    global(
        "_+_",
        LISTS,
        Sig::List(&Sig::A),
        Cost::ConcatLists,
        run!(
        [Value::List(a), Value::List(b)] => concat(a, b)),
    ),
    global(
        "_+_",
        &[Sig::Duration, Sig::Duration],
        Sig::Duration,
        ONE,
        run!(
        [Value::Duration(a), Value::Duration(b)] => time::span(a.checked_add(*b))),
    ),
    global(
        "_+_",
        &[Sig::Timestamp, Sig::Duration],
        Sig::Timestamp,
        ONE,
        run!(
        [Value::Timestamp(a), Value::Duration(b)] => time::shift(*a, *b)),
    ),
    global(
        "_+_",
        &[Sig::Duration, Sig::Timestamp],
        Sig::Timestamp,
        ONE,
        run!(
        [Value::Duration(a), Value::Timestamp(b)] => time::shift(*b, *a)),
    ),
    global("_-_", INT, Sig::Int, ONE, run!([Value::Int(a), Value::Int(b)] => int(a.checked_sub(*b)))),
    global("_-_", UINT, Sig::Uint, ONE, run!([Value::Uint(a), Value::Uint(b)] => uint(a.checked_sub(*b)))),
    global("_-_", DOUBLE, Sig::Double, ONE, run!([Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)))),
    global(
        "_-_",
        &[Sig::Duration, Sig::Duration],
        Sig::Duration,
        ONE,
        run!(
        [Value::Duration(a), Value::Duration(b)] => time::span(a.checked_sub(*b))),
    ),
    global(
        "_-_",
        &[Sig::Timestamp, Sig::Timestamp],
        Sig::Duration,
        ONE,
        run!(
        [Value::Timestamp(a), Value::Timestamp(b)] => time::between(*a, *b)),
    ),
    global(
        "_-_",
        &[Sig::Timestamp, Sig::Duration],
        Sig::Timestamp,
        ONE,
        run!(
        [Value::Timestamp(a), Value::Duration(b)] => match b.checked_neg() {
            Some(back) => time::shift(*a, back),
            None => Err("duration overflow".to_owned()),
        }),
    ),
    global("_*_", INT, Sig::Int, ONE, run!([Value::Int(a), Value::Int(b)] => int(a.checked_mul(*b)))),
    global("_*_", UINT, Sig::Uint, ONE, run!([Value::Uint(a), Value::Uint(b)] => uint(a.checked_mul(*b)))),
    global("_*_", DOUBLE, Sig::Double, ONE, run!([Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)))),
    global(
        "_/_",
        INT,
        Sig::Int,
        ONE,
        run!(
        [Value::Int(_), Value::Int(0)] => Err("division by zero".to_owned()),
        [Value::Int(a), Value::Int(b)] => int(a.checked_div(*b))),
    ),
    global(
        "_/_",
        UINT,
        Sig::Uint,
        ONE,
        run!(
        [Value::Uint(_), Value::Uint(0)] => Err("division by zero".to_owned()),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_div(*b))),
    ),
    global("_/_", DOUBLE, Sig::Double, ONE, run!([Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)))),
    global(
        "_%_",
        INT,
        Sig::Int,
        ONE,
        run!(
        [Value::Int(_), Value::Int(0)] => Err("modulus by zero".to_owned()),
        [Value::Int(a), Value::Int(b)] => int(a.checked_rem(*b))),
    ),
    global(
        "_%_",
        UINT,
        Sig::Uint,
        ONE,
        run!(
        [Value::Uint(_), Value::Uint(0)] => Err("modulus by zero".to_owned()),
        [Value::Uint(a), Value::Uint(b)] => uint(a.checked_rem(*b))),
    ),
    global("-_", &[Sig::Int], Sig::Int, ONE, run!([Value::Int(a)] => int(a.checked_neg()))),
    global("-_", &[Sig::Double], Sig::Double, ONE, run!([Value::Double(a)] => Ok(Value::Double(-a)))),
];

fn int<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map(Value::Int).ok_or_else(|| "integer overflow".to_owned())
}

fn uint<'a>(value: Option<u64>) -> Outcome<'a> {
    value.map(Value::Uint).ok_or_else(|| "unsigned integer overflow".to_owned())
}

/// Sets and lists that are maps are merged as applying them would: what both have stays in its place, with the second's
/// value; what only the second has comes after.
fn concat<'a>(a: &List<'a>, b: &List<'a>) -> Outcome<'a> {
    let mut all: Vec<Value<'a>> = a.iter().collect::<Result<_, _>>()?;
    let more: Vec<Value<'a>> = b.iter().collect::<Result<_, _>>()?;
    if matches!(a.kind(), ListKind::Atomic) {
        all.extend(more);
        return Ok(Value::List(List::Owned(Arc::new(all))));
    }
    let key = |value: &Value<'a>| match (a.kind(), value) {
        (ListKind::Map(names), Value::Map(map)) => names.iter().map(|name| map.field(name)).collect::<Vec<_>>(),
        _ => vec![Some(Ok(value.clone()))],
    };
    let same = |a: &Value<'a>, b: &Value<'a>| {
        key(a).iter().zip(&key(b)).all(|pair| match pair {
            (Some(Ok(a)), Some(Ok(b))) => equal(a, b).unwrap_or(false),
            (None, None) => true,
            _ => false,
        })
    };
    // Sets are bounded by the requests that they come from; a quadratic merge of big ones is not.
    const MOST: usize = 4096;
    if all.len().saturating_mul(more.len()) > MOST * MOST {
        return Err(format!(
            "lists of {} and {} elements are too big to be merged by their keys",
            all.len(),
            more.len()
        ));
    }
    for value in more {
        match all.iter_mut().find(|known| same(known, &value)) {
            Some(known) => *known = value,
            None => all.push(value),
        }
    }
    Ok(Value::List(List::Owned(Arc::new(all))))
}
