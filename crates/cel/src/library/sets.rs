//! Lists as sets.

use super::{Cost, Row, Sig, global, run};
use crate::value::{List, Value, equal};

const TWO: &[Sig] = &[Sig::List(&Sig::A), Sig::List(&Sig::A)];

pub(crate) const ROWS: &[Row] = &[
    global(
        "sets.contains",
        TWO,
        Sig::Bool,
        Cost::Sets(1),
        run!(
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(contains(a, b)?))),
    ),
    global(
        "sets.equivalent",
        TWO,
        Sig::Bool,
        Cost::Sets(2),
        run!(
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(contains(a, b)? && contains(b, a)?))),
    ),
    global(
        "sets.intersects",
        TWO,
        Sig::Bool,
        Cost::Sets(1),
        run!([Value::List(a), Value::List(b)] => {
            for one in b.iter() {
                if has(a, &one?)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }),
    ),
];

fn has<'a>(list: &List<'a>, wanted: &Value<'a>) -> Result<bool, String> {
    for one in list.iter() {
        if equal(&one?, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn contains<'a>(list: &List<'a>, part: &List<'a>) -> Result<bool, String> {
    for one in part.iter() {
        if !has(list, &one?)? {
            return Ok(false);
        }
    }
    Ok(true)
}
