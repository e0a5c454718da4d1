//! Names, and reaching into what they name: `self.spec.ports[0].?name`.

use super::{Evaluated, Evaluator, REACH, failed, named, no_overload};
use crate::{
    ast::{Expr, Kind},
    error::EvalError,
    value::{Key, Value},
};

/// A name, or a path that begins with one.
pub(super) fn is_attribute(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Ident(_) => true,
        Kind::Select(select) => !select.test,
        Kind::Call(call) => matches!(call.function.as_str(), "_[_]" | "_[?_]"),
        _ => false,
    }
}

fn found<'a>(value: Option<Result<Value<'a>, String>>) -> Result<Option<Value<'a>>, EvalError> {
    value.transpose().map_err(EvalError::Failed)
}

impl<'p, 'a> Evaluator<'p, 'a> {
    /// `root`: what the name at the beginning costs; each step costs [`REACH`].
    pub(super) fn attribute(&mut self, expr: &'p Expr, root: u64) -> Evaluated<'a> {
        match &expr.kind {
            Kind::Ident(name) => {
                self.charge(root)?;
                self.lookup(name)
            }
            Kind::Select(select) => {
                if let Some(name) = self.program.checked.qualified.get(&expr.id) {
                    self.charge(root)?;
                    return self.lookup(name);
                }
                let operand = self.operand(&select.operand, root)?;
                if select.test {
                    return self.has(&operand, &select.field);
                }
                self.charge(REACH)?;
                self.field(operand, &select.field, select.optional)
            }
            Kind::Call(call) => {
                let [operand, index] = &call.args[..] else { return Err(no_overload()) };
                let operand = self.operand(operand, root)?;
                let index = self.eval(index)?;
                self.charge(REACH)?;
                at(operand, &index, call.function == "_[?_]")
            }
            _ => self.eval(expr),
        }
    }

    fn operand(&mut self, expr: &'p Expr, root: u64) -> Evaluated<'a> {
        if is_attribute(expr) && self.constant(expr).is_none() {
            return self.attribute(expr, root);
        }
        let value = self.eval(expr)?;
        self.charge(root)?;
        Ok(value)
    }

    fn lookup(&self, name: &str) -> Evaluated<'a> {
        let local = self.scopes.iter().rev().find(|(known, _)| *known == name);
        let known = local.or_else(|| self.variables.list.iter().rev().find(|(known, _)| *known == name));
        match known {
            Some((_, value)) => Ok(value.clone()),
            None => named(name).map(Value::Type).ok_or_else(|| failed(format!("no such attribute(s): {name}"))),
        }
    }

    fn field(&mut self, operand: Value<'a>, name: &str, optional: bool) -> Evaluated<'a> {
        let value = match &operand {
            Value::Map(map) => found(map.field(name))?,
            Value::Struct(object) => object.fields.get(name).cloned(),
            Value::Composed => self.composed(name)?,
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => {
                return match self.field(Value::clone(inner), name, true)? {
                    value @ Value::Optional(_) => Ok(value),
                    value => Ok(Value::some(value)),
                };
            }
            _ => return Err(no_overload()),
        };
        reached(value, optional, || name.to_owned())
    }

    fn has(&mut self, operand: &Value<'a>, name: &str) -> Evaluated<'a> {
        Ok(Value::Bool(match operand {
            Value::Map(map) => map.field(name).is_some(),
            Value::Struct(object) => object.fields.contains_key(name),
            Value::Composed => self.composed(name)?.is_some(),
            Value::Optional(None) => false,
            Value::Optional(Some(inner)) => return self.has(&Value::clone(inner), name),
            _ => return Err(no_overload()),
        }))
    }
}

fn reached<'a>(value: Option<Value<'a>>, optional: bool, key: impl Fn() -> String) -> Evaluated<'a> {
    match (value, optional) {
        (Some(value), false) => Ok(value),
        (value, true) => Ok(Value::Optional(value.map(Into::into))),
        (None, false) => Err(failed(format!("no such key: {}", key()))),
    }
}

fn at<'a>(operand: Value<'a>, index: &Value<'a>, optional: bool) -> Evaluated<'a> {
    match &operand {
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => match at(Value::clone(inner), index, true)? {
            value @ Value::Optional(_) => Ok(value),
            value => Ok(Value::some(value)),
        },
        Value::Map(map) => {
            let key = Key::of(index).ok_or_else(no_overload)?;
            reached(found(map.get(&key))?, optional, || key.to_string())
        }
        Value::List(list) => {
            let (Some(Key::Int(_) | Key::Uint(_)), Some(number)) = (Key::of(index), whole(index)) else {
                return Err(no_overload());
            };
            let value = found(usize::try_from(number).ok().and_then(|index| list.get(index)))?;
            match (value, optional) {
                (None, false) => Err(failed(format!("index out of bounds: {number}"))),
                (value, optional) => reached(value, optional, String::new),
            }
        }
        _ => Err(no_overload()),
    }
}

fn whole(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        Value::Double(value) => Some(*value as i128),
        _ => None,
    }
}
