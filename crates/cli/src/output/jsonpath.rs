//! JSONPath as kubectl has it: text with `{...}` in between; paths with filters, slices, unions, `..` and `range`.
//! (<https://kubernetes.io/docs/reference/kubectl/jsonpath/>)

use std::cmp::Ordering;

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Root,
    Field(String),
    /// `..`
    Descend,
    /// `*`
    All,
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: i64,
    },
    Index(i64),
    Union(Vec<Step>),
    Filter(Operand, Option<(Compare, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
pub struct JsonPath {
    nodes: Vec<Node>,
}

type Result<T> = std::result::Result<T, String>;

impl JsonPath {
    /// A template: text with expressions in braces.
    pub fn parse(template: &str) -> Result<Self> {
        let mut parser = Parser { chars: template.chars().collect(), at: 0, braced: true };
        let nodes = parser.nodes(false)?;
        Ok(Self { nodes })
    }

    /// One path, with or without braces and leading dot, as `--sort-by` and custom columns take it.
    pub fn relaxed(path: &str) -> Result<Self> {
        let inner = path.strip_prefix('{').map_or(Some(path), |rest| rest.strip_suffix('}'));
        let bad = || {
            "unexpected path string, expected a 'name1.name2' or '.name1.name2' or '{name1.name2}' or '{.name1.name2}'"
                .to_owned()
        };
        let inner = inner.ok_or_else(bad)?;
        if inner.is_empty() {
            return Ok(Self { nodes: Vec::new() });
        }
        let dot = if inner.starts_with(['.', '[', '$', '@']) { "" } else { "." };
        Self::parse(&format!("{{{dot}{inner}}}"))
    }

    /// What every expression found, one list each.
    pub fn find(&self, data: &Value, missing_ok: bool) -> Result<Vec<Vec<Value>>> {
        let mut found = Vec::new();
        let run = Run { root: data, missing_ok };
        for node in &self.nodes {
            run.results(node, data, &mut found)?;
        }
        Ok(found)
    }

    pub fn print(&self, data: &Value, missing_ok: bool) -> Result<String> {
        let found = self.find(data, missing_ok)?;
        Ok(found.iter().map(|values| values.iter().map(text).collect::<Vec<_>>().join(" ")).collect())
    }
}

/// A value as a template shows it: strings bare, parts of objects as JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    braced: bool,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += 1;
        c
    }

    fn eat(&mut self, text: &str) -> bool {
        let fits = text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c));
        if fits {
            self.at += text.chars().count();
        }
        fits
    }

    fn blanks(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn nodes(&mut self, in_range: bool) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        let mut text = String::new();
        while let Some(c) = self.next() {
            if c != '{' {
                text.push(c);
                continue;
            }
            if !text.is_empty() {
                nodes.push(Node::Text(std::mem::take(&mut text)));
            }
            if self.action(&mut nodes)? {
                return if in_range { Ok(nodes) } else { Err("not in range, nothing to end".into()) };
            }
        }
        if in_range {
            return Err("unterminated range".into());
        }
        if !text.is_empty() {
            nodes.push(Node::Text(text));
        }
        Ok(nodes)
    }

    /// What stands in one pair of braces; true for `end`.
    fn action(&mut self, nodes: &mut Vec<Node>) -> Result<bool> {
        loop {
            self.blanks();
            match self.peek() {
                None => return Err("unclosed action".into()),
                Some('}') => {
                    self.at += 1;
                    return Ok(false);
                }
                Some('"' | '\'') => {
                    let text = self.quoted()?;
                    nodes.push(Node::Text(text));
                }
                Some(_) if self.eat("range ") => {
                    let path = self.path()?;
                    self.blanks();
                    if self.next() != Some('}') {
                        return Err("unclosed action".into());
                    }
                    let inner = self.nodes(true)?;
                    nodes.push(Node::Range(path, inner));
                    return Ok(false);
                }
                Some(_) if self.eat("end}") => return Ok(true),
                Some('.' | '[' | '$' | '@' | '*') => {
                    let path = self.path()?;
                    nodes.push(Node::Path(path));
                }
                Some(c) if c.is_ascii_digit() || c == '-' => {
                    let mut number = String::new();
                    while self.peek().is_some_and(|c| c.is_ascii_digit() || matches!(c, '-' | '.' | 'e')) {
                        number.extend(self.next());
                    }
                    nodes.push(Node::Text(number));
                }
                Some(c) if c.is_alphabetic() => {
                    let mut word = String::new();
                    while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                        word.extend(self.next());
                    }
                    return Err(format!("unrecognized identifier {word}"));
                }
                Some(c) => return Err(format!("unrecognized character in action: U+{:04X} '{c}'", u32::from(c))),
            }
        }
    }

    fn quoted(&mut self) -> Result<String> {
        let quote = self.next().unwrap_or('"');
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err("unterminated quoted string".into()),
                Some(c) if c == quote => return Ok(text),
                Some('\\') => text.push(match self.next() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(c) => c,
                    None => return Err("unterminated quoted string".into()),
                }),
                Some(c) => text.push(c),
            }
        }
    }

    fn path(&mut self) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        loop {
            match self.peek() {
                Some('$') if steps.is_empty() => {
                    self.at += 1;
                    steps.push(Step::Root);
                }
                Some('@') if steps.is_empty() => self.at += 1,
                Some('*') if steps.is_empty() => {
                    self.at += 1;
                    steps.push(Step::All);
                }
                Some('.') => {
                    self.at += 1;
                    if self.peek() == Some('.') {
                        self.at += 1;
                        steps.push(Step::Descend);
                    }
                    self.field(&mut steps);
                }
                Some('[') => {
                    self.at += 1;
                    let step = self.bracket()?;
                    steps.push(step);
                }
                Some(c) if !self.braced && !matches!(c, ' ' | '=' | '!' | '<' | '>' | ')') => {
                    return Err(format!("unexpected {c:?} in a filter"));
                }
                _ => return Ok(steps),
            }
        }
    }

    fn field(&mut self, steps: &mut Vec<Step>) {
        let mut name = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => {
                    self.at += 1;
                    name.extend(self.next());
                }
                c if c.is_whitespace() || "{}[].,()<>=!|&+:@'\"$".contains(c) => break,
                c => {
                    name.push(c);
                    self.at += 1;
                }
            }
        }
        match name.as_str() {
            "" => {}
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
    }

    fn bracket(&mut self) -> Result<Step> {
        self.blanks();
        if self.eat("?(") {
            let filter = self.filter()?;
            return if self.eat("]") { Ok(filter) } else { Err("unterminated filter".into()) };
        }
        let mut parts = Vec::new();
        loop {
            self.blanks();
            let part = match self.peek() {
                Some('\'' | '"') => Step::Field(self.quoted()?),
                Some('*') => {
                    self.at += 1;
                    Step::All
                }
                _ => self.numbers()?,
            };
            parts.push(part);
            self.blanks();
            match self.next() {
                Some(',') => {}
                Some(']') => break,
                _ => return Err("unterminated array".into()),
            }
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Step::Union(parts) })
    }

    fn numbers(&mut self) -> Result<Step> {
        let mut text = String::new();
        while self.peek().is_some_and(|c| c.is_ascii_digit() || matches!(c, '-' | ':' | ' ')) {
            text.extend(self.next());
        }
        let bad = || format!("invalid array index {text}");
        let number = |text: &str| -> Result<Option<i64>> {
            if text.trim().is_empty() { Ok(None) } else { text.trim().parse().map(Some).map_err(|_| bad()) }
        };
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [one] => Ok(Step::Index(number(one)?.ok_or_else(bad)?)),
            [from, to] => Ok(Step::Slice { from: number(from)?, to: number(to)?, step: 1 }),
            [from, to, step] => {
                Ok(Step::Slice { from: number(from)?, to: number(to)?, step: number(step)?.unwrap_or(1) })
            }
            _ => Err(bad()),
        }
    }

    fn filter(&mut self) -> Result<Step> {
        let left = self.operand()?;
        self.blanks();
        let operators = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        let compare = operators.into_iter().find(|(text, _)| self.eat(text)).map(|(_, compare)| compare);
        let right = match compare {
            Some(compare) => Some((compare, self.operand()?)),
            None => None,
        };
        self.blanks();
        if !self.eat(")") {
            return Err("unterminated filter".into());
        }
        Ok(Step::Filter(left, right))
    }

    fn operand(&mut self) -> Result<Operand> {
        self.blanks();
        match self.peek() {
            Some('\'' | '"') => Ok(Operand::Literal(self.quoted()?.into())),
            Some('@' | '$' | '.') => {
                let braced = std::mem::replace(&mut self.braced, false);
                let path = self.path();
                self.braced = braced;
                Ok(Operand::Path(path?))
            }
            _ => {
                let mut word = String::new();
                while self.peek().is_some_and(|c| !c.is_whitespace() && !")=!<>".contains(c)) {
                    word.extend(self.next());
                }
                serde_json::from_str(&word).map(Operand::Literal).map_err(|_| format!("unrecognized identifier {word}"))
            }
        }
    }
}

struct Run<'a> {
    root: &'a Value,
    missing_ok: bool,
}

impl Run<'_> {
    fn results(&self, node: &Node, current: &Value, found: &mut Vec<Vec<Value>>) -> Result<()> {
        match node {
            Node::Text(text) => found.push(vec![text.clone().into()]),
            Node::Path(steps) => found.push(self.follow(steps, current)?.into_iter().cloned().collect()),
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

    fn follow<'v>(&'v self, steps: &[Step], from: &'v Value) -> Result<Vec<&'v Value>> {
        let mut values = vec![from];
        for step in steps {
            values = self.step(step, &values)?;
        }
        Ok(values)
    }

    fn step<'v>(&'v self, step: &Step, values: &[&'v Value]) -> Result<Vec<&'v Value>> {
        let mut found: Vec<&'v Value> = Vec::new();
        match step {
            Step::Root => found.push(self.root),
            Step::Field(name) => {
                found.extend(values.iter().filter_map(|value| value.get(name.as_str())));
                if found.is_empty() && !self.missing_ok {
                    return Err(format!("{name} is not found"));
                }
            }
            Step::Descend => values.iter().for_each(|value| descend(value, &mut found)),
            Step::All => values.iter().for_each(|value| found.extend(children(value))),
            Step::Union(parts) => {
                for part in parts {
                    found.extend(self.step(part, values)?);
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
                        if self.matches(child, left, right.as_ref())? {
                            found.push(child);
                        }
                    }
                }
            }
        }
        Ok(found)
    }

    fn matches(&self, value: &Value, left: &Operand, right: Option<&(Compare, Operand)>) -> Result<bool> {
        let lenient = Run { root: self.root, missing_ok: true };
        let get = |operand: &Operand| -> Result<Option<Value>> {
            match operand {
                Operand::Literal(value) => Ok(Some(value.clone())),
                Operand::Path(steps) => Ok(lenient.follow(steps, value)?.first().map(|value| (*value).clone())),
            }
        };
        let left = get(left)?;
        let Some((compare, right)) = right else { return Ok(left.is_some()) };
        let (Some(left), Some(right)) = (left, get(right)?) else { return Ok(false) };
        let order = order(&left, &right);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_find_what_kubectl_finds() {
        let data = json!({"kind": "List", "n": 3, "items": [
            {"metadata": {"name": "a", "labels": {"app.k8s/x": "1"}}, "size": 5, "on": true},
            {"metadata": {"name": "b"}, "size": 10, "ports": [{"name": "http", "port": 80}]}]});
        for (template, expected) in [
            ("kind is {.kind}!", "kind is List!"),
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[0].metadata.labels.app\\.k8s/x}", "1"),
            ("{.items[0].metadata.labels['app\\.k8s/x']}", "1"),
            ("{range .items[*]}{.metadata.name}{\"\\t\"}{.size}{\"\\n\"}{end}", "a\t5\nb\t10\n"),
            ("{.items[?(@.size>5)].metadata.name}", "b"),
            ("{.items[?(@.metadata.name==\"a\")].size}", "5"),
            ("{.items[?(@.on==true)].size}", "5"),
            ("{.items[?(@.ports)].metadata.name}", "b"),
            ("{.items[-1:].metadata.name}", "b"),
            ("{.items[-1].metadata.name}", "b"),
            ("{.items[0,1].metadata.name}", "a b"),
            ("{..name}", "a b http"),
            ("{.items[*]['metadata.name', 'size']}", "5 10"),
            ("{.items[1].ports}", "[{\"name\":\"http\",\"port\":80}]"),
            ("{.missing}", ""),
            ("{$.n} {@.n}", "3 3"),
            ("plain", "plain"),
        ] {
            let printed = JsonPath::parse(template).and_then(|path| path.print(&data, true));
            assert_eq!(printed.as_deref(), Ok(expected), "{template}");
        }
        for template in ["{.a", "{end}", "{range .x}", "{.items[5]}", "{.n[0]}", "{foo}", "{.items[?(@.a]}"] {
            let printed = JsonPath::parse(template).and_then(|path| path.print(&data, true));
            assert!(printed.is_err(), "{template}: {printed:?}");
        }
        assert_eq!(JsonPath::parse("{.x}").and_then(|p| p.print(&data, false)), Err("x is not found".into()));
        for path in ["kind", ".kind", "{kind}", "{.kind}"] {
            assert_eq!(JsonPath::relaxed(path).and_then(|p| p.print(&data, false)).as_deref(), Ok("List"), "{path}");
        }
    }
}
