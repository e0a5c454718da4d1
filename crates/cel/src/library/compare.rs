//! Equality, order, and being in a list or a map.

use std::cmp::Ordering;

use super::{Cost, Outcome, Row, Sig, global, no_overload, run};
use crate::value::{Key, Value, compare, equal};

const ONE: Cost = Cost::Fixed(1);

pub(crate) const ROWS: &[Row] = &[
    global("_==_", &[Sig::A, Sig::A], Sig::Bool, Cost::Equality, run!([a, b] => equal(a, b).map(Value::Bool))),
    global("_!=_", &[Sig::A, Sig::A], Sig::Bool, Cost::Equality, run!([a, b] => Ok(Value::Bool(!equal(a, b)?)))),
    global("@in", &[Sig::A, Sig::List(&Sig::A)], Sig::Bool, Cost::InList, contains),
    global("@in", &[Sig::A, Sig::Map(&Sig::A, &Sig::B)], Sig::Bool, ONE, contains),
    global("!_", &[Sig::Bool], Sig::Bool, ONE, run!([Value::Bool(value)] => Ok(Value::Bool(!value)))),
];

/// The rows of one comparison: numbers are compared across types, everything else with its own.
macro_rules! order {
    ($name:literal, $holds:expr) => {
        &[
            global($name, &[Sig::Bool, Sig::Bool], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::Int, Sig::Int], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::Uint, Sig::Uint], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::Double, Sig::Double], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::String, Sig::String], Sig::Bool, Cost::Equality, |args| holds(args, $holds)),
            global($name, &[Sig::Bytes, Sig::Bytes], Sig::Bool, Cost::Equality, |args| holds(args, $holds)),
            global($name, &[Sig::Timestamp, Sig::Timestamp], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::Duration, Sig::Duration], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::Int, Sig::Uint], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::Int, Sig::Double], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::Uint, Sig::Int], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::Uint, Sig::Double], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::Double, Sig::Int], Sig::Bool, ONE, |args| holds(args, $holds)),
            global($name, &[Sig::Double, Sig::Uint], Sig::Bool, ONE, |args| holds(args, $holds)),
        ]
    };
}

pub(crate) const ORDER: [&[Row]; 4] = [
    order!("_<_", Ordering::is_lt),
    order!("_<=_", Ordering::is_le),
    order!("_>_", Ordering::is_gt),
    order!("_>=_", Ordering::is_ge),
];

fn holds<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Outcome<'a> {
    let [a, b] = args else { return no_overload() };
    // What has no order is not a number: nothing holds of it.
    Ok(Value::Bool(compare(a, b).is_some_and(holds)))
}

fn contains<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value, Value::List(list)] => {
            for element in list.iter() {
                if equal(value, &element?)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        [value, Value::Map(map)] => Ok(Value::Bool(Key::of(value).is_some_and(|key| map.contains(&key)))),
        _ => no_overload(),
    }
}
