//! Evaluation, with a count of what it costs. The costs are cel-go's, so that the limits mean the same.

mod attributes;
mod composed;
mod cost;
mod folds;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    ast::{Call, Expr, Kind, Struct as Construction},
    error::EvalError,
    library::{Cost, Row},
    program::{Inner, Variables},
    types::Type,
    value::{Key, Map, Struct, Value},
};

/// What making a list, a map and an object costs.
pub(crate) const LIST: u64 = 10;
pub(crate) const MAP: u64 = 30;
pub(crate) const STRUCT: u64 = 40;
/// Naming something, or reaching into it.
pub(crate) const REACH: u64 = 1;

pub(crate) type Evaluated<'a> = Result<Value<'a>, EvalError>;

pub(crate) struct Evaluator<'p, 'a> {
    program: &'p Inner,
    variables: &'p Variables<'a>,
    /// What comprehensions named, the innermost last.
    scopes: Vec<(&'p str, Value<'a>)>,
    cost: u64,
    /// What the composed variables cost that were made on the way. They have limits of their own.
    composed: u64,
    /// How many of the composed variables the expression may name: those that stand before it.
    visible: usize,
    limit: u64,
    remaining: u64,
}

fn failed(text: impl Into<String>) -> EvalError {
    EvalError::Failed(text.into())
}

fn no_overload() -> EvalError {
    failed("no such overload")
}

impl<'p, 'a> Evaluator<'p, 'a> {
    pub fn new(program: &'p Inner, variables: &'p Variables<'a>, limit: u64, remaining: u64) -> Self {
        let (scopes, visible) = (Vec::new(), usize::MAX);
        Self { program, variables, scopes, cost: 0, composed: 0, visible, limit, remaining }
    }

    pub fn root(&mut self) -> Evaluated<'a> {
        let program = self.program;
        self.eval(&program.root)
    }

    pub fn cost(&self) -> u64 {
        self.cost.saturating_add(self.composed)
    }

    fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        let remaining = self.remaining.saturating_sub(self.composed);
        if self.cost > remaining && remaining < self.limit {
            Err(EvalError::BudgetExceeded)
        } else if self.cost > self.limit {
            Err(EvalError::CostExceeded)
        } else {
            Ok(())
        }
    }

    fn constant(&self, expr: &Expr) -> Option<&'p Value<'static>> {
        self.program.constants[expr.id as usize].as_ref()
    }

    fn eval(&mut self, expr: &'p Expr) -> Evaluated<'a> {
        if let Some(value) = self.constant(expr) {
            return Ok(value.clone());
        }
        match &expr.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Ident(_) | Kind::Select(_) => self.attribute(expr, REACH),
            Kind::Call(call) => self.call(expr, call),
            Kind::List(list) => {
                let mut all = Vec::with_capacity(list.len());
                for element in list {
                    let value = self.eval(&element.value)?;
                    match (element.optional, value) {
                        (true, Value::Optional(inner)) => all.extend(inner.map(|value| Value::clone(&value))),
                        (true, _) => return Err(no_overload()),
                        (false, value) => all.push(value),
                    }
                }
                self.charge(LIST)?;
                Ok(Value::list(all))
            }
            Kind::Map(map) => {
                let mut all = BTreeMap::new();
                for entry in map {
                    let key = self.eval(&entry.key)?;
                    let value = self.eval(&entry.value)?;
                    let value = match (entry.optional, value) {
                        (true, Value::Optional(None)) => continue,
                        (true, Value::Optional(Some(inner))) => Value::clone(&inner),
                        (true, _) => return Err(no_overload()),
                        (false, value) => value,
                    };
                    let key = Key::of(&key).ok_or_else(|| failed("unsupported key type"))?;
                    if all.insert(key, value).is_some() {
                        return Err(failed("Failed with repeated key"));
                    }
                }
                self.charge(MAP)?;
                Ok(Value::Map(Map::Owned(Arc::new(all))))
            }
            Kind::Struct(object) => self.construct(object),
            Kind::Comprehension(fold) => self.fold(fold),
            Kind::Bind(bind) => {
                let init = self.eval(&bind.init)?;
                self.scopes.push((&bind.var, init));
                let body = self.eval(&bind.body);
                self.scopes.pop();
                body
            }
        }
    }

    fn construct(&mut self, object: &'p Construction) -> Evaluated<'a> {
        let mut fields = BTreeMap::new();
        for member in &object.fields {
            let value = match (member.optional, self.eval(&member.value)?) {
                (true, Value::Optional(None)) => continue,
                (true, Value::Optional(Some(inner))) => Value::clone(&inner),
                (true, _) => return Err(no_overload()),
                (false, value) => value,
            };
            fields.insert(member.name.clone(), value);
        }
        self.charge(STRUCT)?;
        Ok(Value::Struct(Arc::new(Struct { name: object.name.as_str().into(), fields })))
    }

    fn call(&mut self, expr: &'p Expr, call: &'p Call) -> Evaluated<'a> {
        match call.function.as_str() {
            "_&&_" => self.logical(call, false),
            "_||_" => self.logical(call, true),
            "_?_:_" => self.conditional(call),
            "_[_]" | "_[?_]" => self.attribute(expr, REACH),
            "or" | "orValue" => self.or(expr, call),
            _ => self.function(expr, call),
        }
    }

    /// What decides is taken even where the other side failed.
    fn logical(&mut self, call: &'p Call, deciding: bool) -> Evaluated<'a> {
        let [left, right] = &call.args[..] else { return Err(no_overload()) };
        let mut error = None;
        for side in [left, right] {
            match self.eval(side) {
                Ok(Value::Bool(value)) if value == deciding => return Ok(Value::Bool(deciding)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => error = error.or_else(|| Some(no_overload())),
                Err(EvalError::Failed(text)) => error = error.or(Some(EvalError::Failed(text))),
                Err(spent) => return Err(spent),
            }
        }
        error.map_or(Ok(Value::Bool(!deciding)), Err)
    }

    fn conditional(&mut self, call: &'p Call) -> Evaluated<'a> {
        let [condition, then, other] = &call.args[..] else { return Err(no_overload()) };
        let branch = match self.eval(condition)? {
            Value::Bool(true) => then,
            Value::Bool(false) => other,
            _ => return Err(no_overload()),
        };
        // A name that is a branch is looked up with the condition, at no cost of its own.
        if attributes::is_attribute(branch) { self.attribute(branch, 0) } else { self.eval(branch) }
    }

    /// The second is looked at only if the first holds nothing.
    fn or(&mut self, expr: &'p Expr, call: &'p Call) -> Evaluated<'a> {
        let (Some(target), [other]) = (&call.target, &call.args[..]) else { return self.function(expr, call) };
        match self.eval(target)? {
            Value::Optional(None) => self.eval(other),
            Value::Optional(Some(value)) if call.function == "orValue" => Ok(Value::clone(&value)),
            some @ Value::Optional(_) => Ok(some),
            _ => Err(no_overload()),
        }
    }

    fn function(&mut self, expr: &'p Expr, call: &'p Call) -> Evaluated<'a> {
        let resolved = &self.program.checked.calls[expr.id as usize];
        let mut args = Vec::with_capacity(call.args.len() + 1);
        if !resolved.is_qualified
            && let Some(target) = &call.target
        {
            args.push(self.eval(target)?);
        }
        for arg in &call.args {
            args.push(self.eval(arg)?);
        }
        let fits = |row: &&&'static Row| row.args.iter().zip(&args).all(|(sig, arg)| sig.fits(arg));
        let row = resolved.rows.iter().find(fits).ok_or_else(no_overload)?;
        if !(row.cost == Cost::InList && self.is_known_set(call)) {
            self.charge(cost::actual(row, &args))?;
        }
        (row.run)(&args).map_err(EvalError::Failed)
    }

    /// A list of constants is looked up, not walked through.
    fn is_known_set(&self, call: &Call) -> bool {
        let Some(Some(Value::List(list))) = call.args.get(1).map(|list| self.constant(list)) else { return false };
        list.iter().all(|value| {
            matches!(
                value,
                Ok(Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::String(_) | Value::Null)
            )
        })
    }
}

/// What is the same each time: literals, lists and maps of them, and what conversions make of them.
pub(crate) fn constants(program: &Inner) -> Vec<Option<Value<'static>>> {
    const CONVERSIONS: [&str; 9] = ["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "uint"];
    fn is_constant(expr: &Expr) -> bool {
        match &expr.kind {
            Kind::Literal(_) => true,
            Kind::List(list) => list.iter().all(|element| !element.optional && is_constant(&element.value)),
            Kind::Map(map) => {
                map.iter().all(|entry| !entry.optional && is_constant(&entry.key) && is_constant(&entry.value))
            }
            Kind::Call(call) => {
                let is_conversion = call.target.is_none() && CONVERSIONS.contains(&call.function.as_str());
                is_conversion && call.args.iter().all(is_constant)
            }
            _ => false,
        }
    }
    fn walk(expr: &Expr, program: &Inner, constants: &mut Vec<Option<Value<'static>>>) {
        if is_constant(expr) {
            let variables = Variables::default();
            // What fails fails each time it is asked for, and what is too much is too much each time.
            constants[expr.id as usize] = Evaluator::new(program, &variables, 100_000, u64::MAX).eval(expr).ok();
            return;
        }
        for child in expr.children() {
            walk(child, program, constants);
        }
    }
    let mut constants = vec![None; program.checked.types.len()];
    walk(&program.root, program, &mut constants);
    constants
}

/// The value of a name that is a type's.
fn named(name: &str) -> Option<Type> {
    crate::check::named_type(name)
}
