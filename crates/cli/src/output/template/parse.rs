//! From text to nodes.

use serde_json::{Number, Value};

#[derive(Clone, Debug)]
pub enum Node {
    Text(String),
    Print(Pipe),
    If(Pipe, Vec<Node>, Vec<Node>),
    With(Pipe, Vec<Node>, Vec<Node>),
    Range(Pipe, Vec<Node>, Vec<Node>),
    Break,
    Continue,
}

/// `$a, $b := first | second`
#[derive(Clone, Debug)]
pub struct Pipe {
    pub variables: Vec<String>,
    /// `:=` and not `=`.
    pub declares: bool,
    pub commands: Vec<Vec<Operand>>,
}

#[derive(Clone, Debug)]
pub struct Operand {
    pub base: Base,
    pub fields: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum Base {
    Dot,
    Variable(String),
    Literal(Value),
    Function(String),
    Pipe(Box<Pipe>),
}

type Result<T> = std::result::Result<T, String>;

pub fn parse(text: &str) -> Result<Vec<Node>> {
    let mut parser = Parser { pieces: split(text)?, at: 0 };
    let (nodes, end) = parser.nodes(0)?;
    if matches!(end, End::OfText) { Ok(nodes) } else { Err("unexpected {{end}} or {{else}}".into()) }
}

enum Piece {
    Text(String),
    Action(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Field(String),
    Dot,
    Variable(String),
    Literal(Value),
    Mark(&'static str),
    Blank,
}

/// Cuts a template at its braces and trims where `{{-` and `-}}` say so.
fn split(mut text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut trim = false;
    loop {
        let begin = text.find("{{");
        let mut before = &text[..begin.unwrap_or(text.len())];
        if trim {
            before = before.trim_start();
        }
        let Some(begin) = begin else {
            pieces.push(Piece::Text(before.into()));
            return Ok(pieces);
        };
        let mut rest = &text[begin + 2..];
        if let Some(trimmed) = rest.strip_prefix('-').filter(|rest| rest.starts_with(char::is_whitespace)) {
            rest = trimmed;
            before = before.trim_end();
        }
        pieces.push(Piece::Text(before.into()));
        if let Some(comment) = rest.trim_start().strip_prefix("/*") {
            let (_, behind) = comment.split_once("*/").ok_or("unclosed comment")?;
            let behind = behind.trim_start();
            trim = behind.starts_with('-');
            text = behind.trim_start_matches('-').strip_prefix("}}").ok_or("comment ends before closing delimiter")?;
            continue;
        }
        let (tokens, used) = tokens(rest)?;
        trim = rest[..used].ends_with("-}}");
        text = &rest[used..];
        pieces.push(Piece::Action(tokens));
    }
}

fn tokens(text: &str) -> Result<(Vec<Token>, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    let word = |from: usize| {
        let end = text[from..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(text.len(), |end| from + end);
        (text[from..end].to_owned(), end)
    };
    loop {
        let rest = &text[at..];
        if rest.starts_with("}}") {
            return Ok((found, at + 2));
        }
        if rest.starts_with("-}}") {
            return Ok((found, at + 3));
        }
        let Some(c) = rest.chars().next() else { return Err("unclosed action".into()) };
        match c {
            c if c.is_whitespace() => {
                found.push(Token::Blank);
                at += c.len_utf8();
            }
            '"' | '`' => {
                let (literal, end) = quoted(text, at, c)?;
                found.push(Token::Literal(literal.into()));
                at = end;
            }
            '.' => {
                let (name, end) = word(at + 1);
                found.push(if name.is_empty() { Token::Dot } else { Token::Field(name) });
                at = end;
            }
            '$' => {
                let (name, end) = word(at + 1);
                found.push(Token::Variable(name));
                at = end;
            }
            c if c.is_ascii_digit() || (c == '-' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) => {
                let end = rest[1..]
                    .find(|c: char| !c.is_ascii_digit() && c != '.' && c != 'e')
                    .map_or(text.len(), |e| at + 1 + e);
                let number: Number =
                    text[at..end].parse().map_err(|_| format!("bad number syntax: {:?}", &text[at..end]))?;
                found.push(Token::Literal(Value::Number(number)));
                at = end;
            }
            c if c.is_alphabetic() || c == '_' => {
                let (name, end) = word(at);
                found.push(match name.as_str() {
                    "true" => Token::Literal(true.into()),
                    "false" => Token::Literal(false.into()),
                    "nil" => Token::Literal(Value::Null),
                    _ => Token::Word(name),
                });
                at = end;
            }
            _ => {
                let marks = [":=", "=", "|", "(", ")", ","];
                let mark = marks.into_iter().find(|mark| rest.starts_with(mark));
                let mark = mark.ok_or_else(|| format!("unexpected {c:?} in a template"))?;
                found.push(Token::Mark(mark));
                at += mark.len();
            }
        }
    }
}

fn quoted(text: &str, from: usize, quote: char) -> Result<(String, usize)> {
    let mut literal = String::new();
    let mut chars = text[from + 1..].char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((literal, from + 1 + at + 1)),
            '\\' if quote == '"' => match chars.next() {
                Some((_, 'n')) => literal.push('\n'),
                Some((_, 't')) => literal.push('\t'),
                Some((_, 'r')) => literal.push('\r'),
                Some((_, c)) => literal.push(c),
                None => break,
            },
            c => literal.push(c),
        }
    }
    Err("unterminated quoted string".into())
}

const MAX_DEPTH: usize = 64;

struct Parser {
    pieces: Vec<Piece>,
    at: usize,
}

/// What a run of nodes ended with.
enum End {
    OfText,
    OfBranch,
    Else,
    /// `else if` and the like: a branch that shares the `end` of the one around it.
    ElseBranch(Node),
}

impl Parser {
    fn nodes(&mut self, depth: usize) -> Result<(Vec<Node>, End)> {
        if depth > MAX_DEPTH {
            return Err("the template is nested too deeply".into());
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.at) {
            self.at += 1;
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.clone()));
                    continue;
                }
                Piece::Action(tokens) => tokens.clone(),
            };
            let mut line = Line { tokens: &tokens, at: 0, depth: 0 };
            match line.word().as_deref() {
                Some(word @ ("if" | "with" | "range")) => {
                    let node = self.branch(word, line.pipe()?, depth)?;
                    nodes.push(node);
                }
                Some("end") => return Ok((nodes, End::OfBranch)),
                Some("else") => {
                    return match line.word().as_deref() {
                        None => Ok((nodes, End::Else)),
                        Some(word) => Ok((nodes, End::ElseBranch(self.branch(word, line.pipe()?, depth)?))),
                    };
                }
                Some("break") => nodes.push(Node::Break),
                Some("continue") => nodes.push(Node::Continue),
                Some(word @ ("define" | "template" | "block")) => {
                    return Err(format!("{{{{{word}}}}} is not supported: write the template as one"));
                }
                _ => nodes.push(Node::Print(Line { tokens: &tokens, at: 0, depth: 0 }.pipe()?)),
            }
        }
        Ok((nodes, End::OfText))
    }

    fn branch(&mut self, word: &str, pipe: Pipe, depth: usize) -> Result<Node> {
        let (then, end) = self.nodes(depth + 1)?;
        let otherwise = match end {
            End::OfText => return Err("unexpected EOF".into()),
            End::OfBranch => Vec::new(),
            End::ElseBranch(node) => vec![node],
            End::Else => match self.nodes(depth + 1)? {
                (nodes, End::OfBranch) => nodes,
                _ => return Err("expected end; found {{else}}".into()),
            },
        };
        match word {
            "if" => Ok(Node::If(pipe, then, otherwise)),
            "with" => Ok(Node::With(pipe, then, otherwise)),
            "range" => Ok(Node::Range(pipe, then, otherwise)),
            _ => Err(format!("unexpected {word:?} in a template")),
        }
    }
}

struct Line<'a> {
    tokens: &'a [Token],
    at: usize,
    /// In how many brackets it is.
    depth: usize,
}

impl Line<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn blanks(&mut self) {
        while self.peek() == Some(&Token::Blank) {
            self.at += 1;
        }
    }

    fn word(&mut self) -> Option<String> {
        self.blanks();
        let Some(Token::Word(word)) = self.peek().cloned() else { return None };
        self.at += 1;
        Some(word)
    }

    fn pipe(&mut self) -> Result<Pipe> {
        let (variables, declares) = self.declaration();
        let mut commands = Vec::new();
        loop {
            let mut command = Vec::new();
            loop {
                self.blanks();
                match self.peek() {
                    None | Some(Token::Mark("|" | ")")) => break,
                    Some(_) => command.push(self.operand()?),
                }
            }
            if command.is_empty() {
                return Err("missing value for command".into());
            }
            commands.push(command);
            match self.peek() {
                Some(Token::Mark("|")) => self.at += 1,
                _ => return Ok(Pipe { variables, declares, commands }),
            }
        }
    }

    /// `$x :=` or `$i, $e :=`, where it is there.
    fn declaration(&mut self) -> (Vec<String>, bool) {
        let begin = self.at;
        let mut variables = Vec::new();
        loop {
            self.blanks();
            let Some(Token::Variable(name)) = self.peek().cloned() else { break };
            self.at += 1;
            variables.push(name);
            self.blanks();
            match self.peek() {
                Some(Token::Mark(",")) => self.at += 1,
                Some(Token::Mark(mark @ (":=" | "="))) => {
                    let declares = *mark == ":=";
                    self.at += 1;
                    return (variables, declares);
                }
                _ => break,
            }
        }
        self.at = begin;
        (Vec::new(), false)
    }

    fn operand(&mut self) -> Result<Operand> {
        let token = self.peek().cloned();
        self.at += 1;
        let mut fields = Vec::new();
        let base = match token {
            Some(Token::Dot) => Base::Dot,
            Some(Token::Field(name)) => {
                fields.push(name);
                Base::Dot
            }
            Some(Token::Variable(name)) => Base::Variable(name),
            Some(Token::Literal(value)) => Base::Literal(value),
            Some(Token::Word(name)) => Base::Function(name),
            Some(Token::Mark("(")) => {
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err("the template is nested too deeply".into());
                }
                let pipe = self.pipe()?;
                self.depth -= 1;
                self.at += 1;
                Base::Pipe(Box::new(pipe))
            }
            other => return Err(format!("unexpected {other:?} in operand")),
        };
        while let Some(Token::Field(name)) = self.peek() {
            fields.push(name.clone());
            self.at += 1;
        }
        Ok(Operand { base, fields })
    }
}
