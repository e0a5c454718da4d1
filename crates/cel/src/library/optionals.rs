//! Values that may be there or not. `or` and `orValue` look at their argument only when they need it, which is why
//! evaluation knows them itself; their rows are here for their types.

use super::{Cost, Outcome, Row, Sig, global, member, run};
use crate::value::Value;

const ONE: Cost = Cost::Fixed(1);
const MAYBE: Sig = Sig::Optional(&Sig::A);

pub(crate) const ROWS: &[Row] = &[
    global("optional.of", &[Sig::A], MAYBE, ONE, run!([value] => Ok(Value::some(value.clone())))),
    global("optional.none", &[], MAYBE, ONE, |_| Ok(Value::Optional(None))),
    global(
        "optional.ofNonZeroValue",
        &[Sig::A],
        MAYBE,
        ONE,
        run!([value] => Ok(match is_zero(value) {
            true => Value::Optional(None),
            false => Value::some(value.clone()),
        })),
    ),
    global("optional.unwrap", &[Sig::List(&MAYBE)], Sig::List(&Sig::A), ONE, unwrap),
    member("unwrapOpt", &[Sig::List(&MAYBE)], Sig::List(&Sig::A), ONE, unwrap),
    member("hasValue", &[MAYBE], Sig::Bool, ONE, run!([Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())))),
    member(
        "value",
        &[MAYBE],
        Sig::A,
        ONE,
        run!([Value::Optional(inner)] => match inner {
            Some(value) => Ok(Value::clone(value)),
            None => Err("optional.none() dereference".to_owned()),
        }),
    ),
    member(
        "or",
        &[MAYBE, MAYBE],
        MAYBE,
        Cost::Fixed(0),
        run!(
            [Value::Optional(None), other] => Ok(other.clone()),
            [some, _] => Ok(some.clone()),
        ),
    ),
    member(
        "orValue",
        &[MAYBE, Sig::A],
        Sig::A,
        Cost::Fixed(0),
        run!(
            [Value::Optional(None), other] => Ok(other.clone()),
            [Value::Optional(Some(value)), _] => Ok(Value::clone(value)),
        ),
    ),
    member(
        "first",
        &[Sig::List(&Sig::A)],
        MAYBE,
        ONE,
        run!([Value::List(list)] => Ok(Value::Optional(
        list.get(0).transpose()?.map(Into::into)))),
    ),
    member(
        "last",
        &[Sig::List(&Sig::A)],
        MAYBE,
        ONE,
        run!([Value::List(list)] => Ok(Value::Optional(
        list.len().checked_sub(1).and_then(|last| list.get(last)).transpose()?.map(Into::into)))),
    ),
];

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Optional(None) => true,
        Value::Bool(value) => !value,
        Value::Int(value) | Value::Duration(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Double(value) => *value == 0.0,
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => value.size() == 0,
        _ => false,
    }
}

fn unwrap<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else { return super::no_overload() };
    let mut all = Vec::new();
    for value in list.iter() {
        match value? {
            Value::Optional(Some(value)) => all.push(Value::clone(&value)),
            Value::Optional(None) => {}
            _ => return super::no_overload(),
        }
    }
    Ok(Value::list(all))
}
