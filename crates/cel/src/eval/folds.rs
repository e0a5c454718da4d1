//! Comprehensions. cel-go rewrites them to loops over an accumulator; the costs here are those of that loop's steps.

use std::{collections::BTreeMap, sync::Arc};

use super::{Evaluated, Evaluator, LIST, failed, no_overload};
use crate::{
    ast::{Comprehension, Expr, Fold, Kind},
    error::EvalError,
    value::{Key, Map, Value},
};

/// One element: what the variables are.
struct Step<'a> {
    first: Value<'a>,
    second: Option<Value<'a>>,
}

impl<'p, 'a> Evaluator<'p, 'a> {
    pub(super) fn fold(&mut self, fold: &'p Comprehension) -> Evaluated<'a> {
        let range = self.eval(&fold.range)?;
        let result = match fold.fold {
            Fold::All => self.quantifier(fold, &range, false),
            Fold::Exists => self.quantifier(fold, &range, true),
            Fold::ExistsOne => self.exists_one(fold, &range),
            Fold::List | Fold::Filter => self.list(fold, &range),
            Fold::Map | Fold::Entries => self.map(fold, &range),
        }?;
        // The accumulator is named once more for the result.
        self.charge(1)?;
        Ok(result)
    }

    /// The elements, each with its index or its key where two variables are asked for.
    fn steps(&self, range: &Value<'a>) -> Result<Vec<Key<'a>>, EvalError> {
        match range {
            Value::List(list) => Ok((0..list.len() as i64).map(Key::Int).collect()),
            Value::Map(map) => Ok(map.keys()),
            _ => Err(no_overload()),
        }
    }

    fn step(&self, fold: &Comprehension, range: &Value<'a>, key: Key<'a>) -> Result<Step<'a>, EvalError> {
        let value = |range: &Value<'a>| match (range, &key) {
            (Value::List(list), Key::Int(index)) => list.get(*index as usize),
            (Value::Map(map), key) => map.get(key),
            _ => None,
        };
        let value = |range| value(range).unwrap_or_else(|| Err("no such key".to_owned())).map_err(EvalError::Failed);
        let is_map = matches!(range, Value::Map(_));
        Ok(match (&fold.var2, is_map) {
            (Some(_), _) => Step { second: Some(value(range)?), first: key.value() },
            (None, true) => Step { first: key.value(), second: None },
            (None, false) => Step { first: value(range)?, second: None },
        })
    }

    fn within(&mut self, fold: &'p Comprehension, step: &Step<'a>, expr: &'p Expr) -> Evaluated<'a> {
        let length = self.scopes.len();
        self.scopes.push((&fold.var, step.first.clone()));
        if let (Some(name), Some(value)) = (&fold.var2, &step.second) {
            self.scopes.push((name, value.clone()));
        }
        let result = self.eval(expr);
        self.scopes.truncate(length);
        result
    }

    /// `all` and `exists`: ends with the first element that decides; a failure counts only if none does.
    fn quantifier(&mut self, fold: &'p Comprehension, range: &Value<'a>, deciding: bool) -> Evaluated<'a> {
        // The condition of the loop: for `exists` it is negated, which is a call more.
        let condition = if deciding { 3 } else { 2 };
        let mut error = None;
        let keys = self.steps(range)?;
        let count = keys.len();
        for (i, key) in keys.into_iter().enumerate() {
            // And the accumulator, to which the result is joined.
            self.charge(condition + 1)?;
            let step = self.step(fold, range, key)?;
            match self.within(fold, &step, &fold.body) {
                Ok(Value::Bool(value)) if value == deciding => {
                    if i + 1 < count {
                        self.charge(condition)?;
                    }
                    return Ok(Value::Bool(deciding));
                }
                Ok(Value::Bool(_)) => {}
                Ok(_) => error = error.or_else(|| Some(no_overload())),
                Err(EvalError::Failed(text)) => error = error.or(Some(EvalError::Failed(text))),
                Err(spent) => return Err(spent),
            }
        }
        error.map_or(Ok(Value::Bool(!deciding)), Err)
    }

    fn condition(&mut self, fold: &'p Comprehension, step: &Step<'a>, expr: &'p Expr) -> Result<bool, EvalError> {
        self.within(fold, step, expr)?.as_bool().ok_or_else(no_overload)
    }

    fn exists_one(&mut self, fold: &'p Comprehension, range: &Value<'a>) -> Evaluated<'a> {
        let mut found = 0;
        for key in self.steps(range)? {
            let step = self.step(fold, range, key)?;
            if self.condition(fold, &step, &fold.body)? {
                self.charge(2)?;
                found += 1;
            }
        }
        self.charge(1)?;
        Ok(Value::Bool(found == 1))
    }

    /// `map`, `transformList` and `filter`: each element kept is a list of one, joined to what there is.
    fn list(&mut self, fold: &'p Comprehension, range: &Value<'a>) -> Evaluated<'a> {
        let mut all = Vec::new();
        let one = match &fold.body.kind {
            _ if fold.fold == Fold::Filter => LIST + 1,
            Kind::Literal(_) => 0,
            _ => LIST,
        };
        for key in self.steps(range)? {
            let step = self.step(fold, range, key)?;
            let filter = if fold.fold == Fold::Filter { Some(&fold.body) } else { fold.filter.as_ref() };
            if let Some(filter) = filter
                && !self.condition(fold, &step, filter)?
            {
                continue;
            }
            // The accumulator, the list of one, and joining them.
            self.charge(2 + one)?;
            all.push(match fold.fold {
                Fold::Filter => step.first.clone(),
                _ => self.within(fold, &step, &fold.body)?,
            });
        }
        Ok(Value::list(all))
    }

    fn map(&mut self, fold: &'p Comprehension, range: &Value<'a>) -> Evaluated<'a> {
        let mut all: BTreeMap<Key<'a>, Value<'a>> = BTreeMap::new();
        for key in self.steps(range)? {
            let step = self.step(fold, range, key)?;
            if let Some(filter) = &fold.filter
                && !self.condition(fold, &step, filter)?
            {
                continue;
            }
            let value = self.within(fold, &step, &fold.body)?;
            // The accumulator and the insertion; `transformMap` names the key, too.
            self.charge(if fold.fold == Fold::Map { 3 } else { 2 })?;
            let entries: Vec<(Key<'a>, Value<'a>)> = match (fold.fold, value) {
                (Fold::Map, value) => vec![(Key::of(&step.first).ok_or_else(no_overload)?, value)],
                (_, Value::Map(entries)) => {
                    let value = |key: &Key<'a>| entries.get(key).unwrap_or(Ok(Value::Null)).map_err(EvalError::Failed);
                    let entry = |key: Key<'a>| Ok((key.clone(), value(&key)?));
                    entries.keys().into_iter().map(entry).collect::<Result<_, EvalError>>()?
                }
                _ => return Err(no_overload()),
            };
            for (key, value) in entries {
                if all.contains_key(&key) {
                    return Err(failed(format!("insert failed: key {key} already exists")));
                }
                all.insert(key, value);
            }
        }
        Ok(Value::Map(Map::Owned(Arc::new(all))))
    }
}
