//! From the text of a template to its nodes.

use super::{Compare, Node, Operand, Result, Step};

pub fn template(text: &str) -> Result<Vec<Node>> {
    Parser { chars: text.chars().collect(), at: 0, braced: true, depth: 0 }.nodes(false)
}

/// Ranges in ranges, and filters in filters.
const MAX_DEPTH: usize = 32;

struct Parser {
    chars: Vec<char>,
    at: usize,
    braced: bool,
    depth: usize,
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

    /// What `inner` reads, one level down.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.depth += 1;
        let read = inner(self);
        self.depth -= 1;
        read
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
                    let inner = self.deeper(|this| this.nodes(true))?;
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
                    let step = self.deeper(Self::bracket)?;
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
