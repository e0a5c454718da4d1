//! All functions and operators, as rows: what they are called, what they take and give, what they cost and what they
//! do. The checker, the estimate and the evaluation read the same rows.

mod authz;
mod compare;
mod conversions;
pub(crate) mod formats;
pub(crate) mod json_patch;
mod lists;
mod network;
mod numbers;
mod optionals;
pub(crate) mod quantity;
mod regexes;
pub(crate) mod semver;
mod sets;
mod strings;
mod text_format;
pub(crate) mod time;
pub(crate) mod url;

use std::{collections::HashMap, sync::LazyLock};

use crate::{types::Type, value::Value};

/// The type of an argument or a result in a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sig {
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    Type,
    List(&'static Sig),
    Map(&'static Sig, &'static Sig),
    Optional(&'static Sig),
    Opaque(&'static str),
    /// Parameters: the same type wherever they stand in the row.
    A,
    B,
}

/// What a call costs beside its arguments, in cel-go's units: estimated in `estimate/`, counted in `eval/cost.rs`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cost {
    Fixed(u64),
    /// A string is walked through this many times.
    Text(u64),
    /// Like `Text(1)`, and the result is as long as what was walked through.
    SameText,
    Replace,
    Split,
    Join,
    /// The whole of a list is visited, with all that is in it.
    Visit,
    Regex,
    Contains,
    InList,
    /// The smaller of both is walked through.
    Equality,
    Concat,
    ConcatLists,
    ToBytes,
    FromBytes,
    Quote,
    Format,
    Validate,
    /// An address or a range in a range; true: the second has to be parsed.
    ContainsIp(bool),
    ContainsCidr(bool),
    Selector,
    /// A list as long as the result is made.
    NewList,
    Flatten,
    /// Every element of the argument with this number is compared with every other.
    SelfCompare(usize),
    /// Every element with every of the other list, this many times.
    Sets(u64),
}

pub(crate) type Outcome<'a> = Result<Value<'a>, String>;

/// One overload of a function.
pub(crate) struct Row {
    pub name: &'static str,
    /// Called on its first argument: `a.name(b)`.
    pub member: bool,
    pub args: &'static [Sig],
    pub result: Sig,
    pub cost: Cost,
    pub run: for<'a> fn(&[Value<'a>]) -> Outcome<'a>,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

pub(crate) type Run = for<'a> fn(&[Value<'a>]) -> Outcome<'a>;

pub(crate) const fn global(name: &'static str, args: &'static [Sig], result: Sig, cost: Cost, run: Run) -> Row {
    Row { name, member: false, args, result, cost, run }
}

pub(crate) const fn member(name: &'static str, args: &'static [Sig], result: Sig, cost: Cost, run: Run) -> Row {
    Row { name, member: true, args, result, cost, run }
}

/// The overloads of a function; empty for a name that is none.
pub(crate) fn overloads(name: &str) -> &'static [&'static Row] {
    static TABLE: LazyLock<HashMap<&'static str, Vec<&'static Row>>> = LazyLock::new(|| {
        let mut table: HashMap<&'static str, Vec<&'static Row>> = HashMap::new();
        let all: [&'static [Row]; 15] = [
            compare::ROWS,
            numbers::ROWS,
            conversions::ROWS,
            strings::ROWS,
            text_format::ROWS,
            regexes::ROWS,
            lists::ROWS,
            sets::ROWS,
            optionals::ROWS,
            time::ROWS,
            url::ROWS,
            network::ROWS,
            quantity::ROWS,
            semver::ROWS,
            formats::ROWS,
        ];
        for row in all.into_iter().chain([authz::ROWS, json_patch::ROWS]).chain(compare::ORDER).flatten() {
            table.entry(row.name).or_default().push(row);
        }
        table
    });
    TABLE.get(name).map(Vec::as_slice).unwrap_or_default()
}

impl Sig {
    /// The type, with the parameters put in.
    pub fn instantiate(self, params: &[Type; 2]) -> Type {
        match self {
            Sig::Dyn => Type::Dyn,
            Sig::Bool => Type::Bool,
            Sig::Int => Type::Int,
            Sig::Uint => Type::Uint,
            Sig::Double => Type::Double,
            Sig::String => Type::String,
            Sig::Bytes => Type::Bytes,
            Sig::Timestamp => Type::Timestamp,
            Sig::Duration => Type::Duration,
            Sig::Type => Type::Type,
            Sig::List(element) => Type::list(element.instantiate(params)),
            Sig::Map(key, value) => Type::map(key.instantiate(params), value.instantiate(params)),
            Sig::Optional(inner) => Type::optional(inner.instantiate(params)),
            Sig::Opaque(name) => Type::Opaque(name),
            Sig::A => params[0].clone(),
            Sig::B => params[1].clone(),
        }
    }

    /// Does a value fit, as far as it can be seen from outside?
    pub fn fits(self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Sig::Dyn | Sig::A | Sig::B, _)
            | (Sig::Bool, Value::Bool(_))
            | (Sig::Int, Value::Int(_))
            | (Sig::Uint, Value::Uint(_))
            | (Sig::Double, Value::Double(_))
            | (Sig::String, Value::String(_))
            | (Sig::Bytes, Value::Bytes(_))
            | (Sig::Timestamp, Value::Timestamp(_))
            | (Sig::Duration, Value::Duration(_))
            | (Sig::Type, Value::Type(_))
            | (Sig::Map(..), Value::Map(_))
            | (Sig::Optional(_), Value::Optional(_)) => true,
            (Sig::List(element), Value::List(list)) => match list.get(0) {
                Some(Ok(first)) => element.fits(&first),
                _ => true,
            },
            (Sig::Opaque(name), Value::Opaque(opaque)) => opaque.name() == name,
            _ => false,
        }
    }
}

/// What a row's types rule out, and evaluation meets only where types are not known before.
pub(crate) fn no_overload<'a>() -> Outcome<'a> {
    Err("no such overload".to_owned())
}

/// A match arm for the values a row declares, and `no such overload` for all others.
macro_rules! run {
    ($($pattern:pat => $result:expr),+ $(,)?) => {
        |args| match args {
            $($pattern => $result,)+
            _ => $crate::library::no_overload(),
        }
    };
}
pub(crate) use run;
