//! What the nodes of a template find in an object.

use std::{borrow::Cow, cell::Cell, cmp::Ordering};

use serde_json::Value;

use super::{Compare, Node, Operand, Result, Step};

/// What every node found, one list each.
pub fn find<'d>(nodes: &[Node], data: &'d Value, missing_ok: bool) -> Result<Vec<Vec<Cow<'d, Value>>>> {
    let (spent, mut found) = (Spent::default(), Vec::new());
    let run = Run { root: data, missing_ok, spent: &spent };
    nodes.iter().try_for_each(|node| run.results(node, data, &mut found))?;
    Ok(found)
}

/// Each `..` finds what is below all that was found before it; a few of them would find more than there is room for.
const MAX_FOUND: usize = 2_000_000;
/// How many values all steps of all expressions may come past on the way to what they find.
const MAX_PASSED: usize = 20_000_000;

fn check_count(found: usize) -> Result<()> {
    if found > MAX_FOUND { Err(format!("more than {MAX_FOUND} values are found")) } else { Ok(()) }
}

#[derive(Default)]
struct Spent {
    found: Cell<usize>,
    passed: Cell<usize>,
}

struct Run<'d, 's> {
    root: &'d Value,
    missing_ok: bool,
    spent: &'s Spent,
}

impl<'d> Run<'d, '_> {
    fn count(&self, more: usize) -> Result<()> {
        let found = self.spent.found.get() + more;
        self.spent.found.set(found);
        check_count(found)
    }

    fn pass(&self, more: usize) -> Result<()> {
        let passed = self.spent.passed.get() + more;
        self.spent.passed.set(passed);
        if passed > MAX_PASSED { Err(format!("more than {MAX_PASSED} values are looked at")) } else { Ok(()) }
    }

    fn results(&self, node: &Node, current: &'d Value, found: &mut Vec<Vec<Cow<'d, Value>>>) -> Result<()> {
        self.count(1)?;
        match node {
            Node::Text(text) => found.push(vec![Cow::Owned(text.clone().into())]),
            Node::Path(steps) => {
                let values = self.follow(steps, current)?;
                self.count(values.len())?;
                found.push(values.into_iter().map(Cow::Borrowed).collect());
            }
            Node::Range(steps, inner) => {
                for value in self.follow(steps, current)? {
                    for node in inner {
                        self.results(node, value, found)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn follow(&self, steps: &[Step], from: &'d Value) -> Result<Vec<&'d Value>> {
        let mut values = vec![from];
        for step in steps {
            values = self.step(step, &values)?;
            check_count(values.len())?;
            self.pass(values.len())?;
        }
        Ok(values)
    }

    fn step(&self, step: &Step, values: &[&'d Value]) -> Result<Vec<&'d Value>> {
        let mut found: Vec<&'d Value> = Vec::new();
        match step {
            Step::Root => found.push(self.root),
            Step::Field(name) => {
                found.extend(values.iter().filter_map(|value| value.get(name.as_str())));
                if found.is_empty() && !self.missing_ok {
                    return Err(format!("{name} is not found"));
                }
            }
            Step::Descend => {
                for value in values {
                    descend(value, &mut found);
                    check_count(found.len())?;
                }
            }
            Step::All => values.iter().for_each(|value| found.extend(children(value))),
            Step::Union(parts) => {
                for part in parts {
                    found.extend(self.step(part, values)?);
                    check_count(found.len())?;
                }
            }
            Step::Index(index) => {
                for list in values.iter().filter(|value| !value.is_null()) {
                    let list = list.as_array().ok_or_else(|| format!("{} is not array or slice", kind(list)))?;
                    let at = if *index < 0 { *index + list.len() as i64 } else { *index };
                    let value = usize::try_from(at).ok().and_then(|at| list.get(at));
                    let out = || format!("array index out of bounds: index {index}, length {}", list.len());
                    found.push(value.ok_or_else(out)?);
                }
            }
            Step::Slice { from, to, step } => {
                for list in values.iter().filter_map(|value| value.as_array()) {
                    let length = list.len() as i64;
                    let place = |at: i64| (if at < 0 { at + length } else { at }).clamp(0, length) as usize;
                    let (from, to) = (place(from.unwrap_or(0)), place(to.unwrap_or(length)));
                    let step = usize::try_from(*step).ok().filter(|step| *step > 0).ok_or("step must be > 0")?;
                    found.extend(list.get(from..to).unwrap_or_default().iter().step_by(step));
                }
            }
            Step::Filter(left, right) => {
                for value in values {
                    for child in children(value) {
                        self.pass(1)?;
                        if self.matches(child, left, right.as_ref())? {
                            found.push(child);
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    fn operand<'o>(&self, operand: &'o Operand, value: &'d Value) -> Result<Option<&'o Value>>
    where
        'd: 'o,
    {
        let lenient = Run { root: self.root, missing_ok: true, spent: self.spent };
        match operand {
            Operand::Literal(value) => Ok(Some(value)),
            Operand::Path(steps) => Ok(lenient.follow(steps, value)?.first().copied()),
        }
    }

    fn matches(&self, value: &'d Value, left: &Operand, right: Option<&(Compare, Operand)>) -> Result<bool> {
        let left = self.operand(left, value)?;
        let Some((compare, right)) = right else { return Ok(left.is_some()) };
        let (Some(left), Some(right)) = (left, self.operand(right, value)?) else { return Ok(false) };
        let order = order(left, right);
        Ok(match compare {
            Compare::Equal => order == Some(Ordering::Equal),
            Compare::NotEqual => order != Some(Ordering::Equal),
            Compare::Less => order == Some(Ordering::Less),
            Compare::LessOrEqual => order.is_some_and(Ordering::is_le),
            Compare::Greater => order == Some(Ordering::Greater),
            Compare::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        })
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "map[string]interface {}",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(_) => "int64",
        Value::Array(_) => "[]interface {}",
        Value::Null => "<nil>",
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(list) => Box::new(list.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn descend<'v>(value: &'v Value, found: &mut Vec<&'v Value>) {
    let mut inner = children(value).peekable();
    if inner.peek().is_some() {
        found.push(value);
        inner.for_each(|child| descend(child, found));
    }
}

/// How two scalars compare; `None` where they are of different kinds.
pub fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64()?.partial_cmp(&right.as_f64()?),
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        _ => None,
    }
}
