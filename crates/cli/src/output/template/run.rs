//! From nodes and data to text.

use serde_json::Value;

use super::{
    functions,
    parse::{Base, Node, Operand, Pipe},
};

type Result<T> = std::result::Result<T, String>;

/// `None` is a field that was not there: it prints as `<no value>` and counts as false.
pub type Found = Option<Value>;

enum Flow {
    Next,
    Break,
    Continue,
}

/// How often numbers can be ranged over by one template, ranges within ranges counted; lists and maps end by themselves.
const MAX_ROUNDS: u64 = 100_000;

pub fn run(nodes: &[Node], data: &Value) -> Result<String> {
    let mut run = Run { out: String::new(), variables: vec![(String::new(), Some(data.clone()))], rounds: 0 };
    run.nodes(nodes, &Some(data.clone()))?;
    Ok(run.out)
}

struct Run {
    out: String,
    variables: Vec<(String, Found)>,
    /// Of ranges over numbers.
    rounds: u64,
}

impl Run {
    fn nodes(&mut self, nodes: &[Node], dot: &Found) -> Result<Flow> {
        let depth = self.variables.len();
        for node in nodes {
            match self.node(node, dot)? {
                Flow::Next => {}
                flow => {
                    self.variables.truncate(depth);
                    return Ok(flow);
                }
            }
        }
        self.variables.truncate(depth);
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &Found) -> Result<Flow> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.variables.is_empty() {
                    self.out.push_str(&functions::shown(value.as_ref()));
                }
            }
            Node::If(pipe, then, otherwise) => {
                let depth = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow = self.nodes(if functions::is_true(&value) { then } else { otherwise }, dot);
                self.variables.truncate(depth);
                return flow;
            }
            Node::With(pipe, then, otherwise) => {
                let depth = self.variables.len();
                let value = self.pipe(pipe, dot)?;
                let flow =
                    if functions::is_true(&value) { self.nodes(then, &value) } else { self.nodes(otherwise, dot) };
                self.variables.truncate(depth);
                return flow;
            }
            Node::Range(pipe, body, otherwise) => return self.range(pipe, body, otherwise, dot),
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn range(&mut self, pipe: &Pipe, body: &[Node], otherwise: &[Node], dot: &Found) -> Result<Flow> {
        let items: Vec<(Value, Value)> = match self.commands(pipe, dot)? {
            Some(Value::Array(list)) => list.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect(),
            Some(Value::Object(map)) => map.into_iter().map(|(key, item)| (key.into(), item)).collect(),
            Some(Value::Number(count)) => {
                let count = count.as_f64().unwrap_or(0.0) as u64;
                self.rounds = self.rounds.saturating_add(count);
                if self.rounds > MAX_ROUNDS {
                    return Err(format!("range can't go {count} times: {MAX_ROUNDS} is the most, all ranges together"));
                }
                (0..count).map(|at| (at.into(), at.into())).collect()
            }
            None | Some(Value::Null) => Vec::new(),
            Some(other) => return Err(format!("range can't iterate over {}", functions::shown(Some(&other)))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let depth = self.variables.len();
        for (key, item) in items {
            match pipe.variables.as_slice() {
                [only] => self.variables.push((only.clone(), Some(item.clone()))),
                [first, second] => {
                    self.variables.push((first.clone(), Some(key)));
                    self.variables.push((second.clone(), Some(item.clone())));
                }
                _ => {}
            }
            let flow = self.nodes(body, &Some(item))?;
            self.variables.truncate(depth);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::Next)
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Found) -> Result<Found> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                Some((_, held)) if !pipe.declares => *held = value.clone(),
                None if !pipe.declares => return Err(format!("undefined variable \"${name}\"")),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipe, dot: &Found) -> Result<Found> {
        let mut piped: Option<Found> = None;
        for command in &pipe.commands {
            let (first, rest) = command.split_first().ok_or("missing value for command")?;
            piped = Some(match &first.base {
                Base::Function(name) if first.fields.is_empty() => self.call(name, rest, piped, dot)?,
                _ if !rest.is_empty() || piped.is_some() => return Err("can't give argument to non-function".into()),
                _ => self.operand(first, dot)?,
            });
        }
        Ok(piped.flatten())
    }

    fn call(&mut self, name: &str, operands: &[Operand], piped: Option<Found>, dot: &Found) -> Result<Found> {
        // `and` and `or` stop at the first argument that decides.
        if let "and" | "or" = name {
            let mut last = None;
            for operand in operands {
                last = self.operand(operand, dot)?;
                if functions::is_true(&last) == (name == "or") {
                    return Ok(last);
                }
            }
            return Ok(piped.unwrap_or(last));
        }
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        functions::call(name, &arguments)
    }

    fn operand(&mut self, operand: &Operand, dot: &Found) -> Result<Found> {
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Literal(value) => Some(value.clone()),
            Base::Pipe(pipe) => self.pipe(pipe, dot)?,
            Base::Function(name) => self.call(name, &[], None, dot)?,
            Base::Variable(name) => {
                let held = self.variables.iter().rev().find(|(known, _)| known == name);
                held.ok_or_else(|| format!("undefined variable \"${name}\""))?.1.clone()
            }
        };
        operand.fields.iter().try_fold(base, |value, field| match value {
            Some(Value::Object(mut map)) => Ok(map.remove(field)),
            None | Some(Value::Null) => Err(format!("nil pointer evaluating interface {{}}.{field}")),
            Some(other) => {
                Err(format!("can't evaluate field {field} in type interface {{}}: {}", functions::shown(Some(&other))))
            }
        })
    }
}
