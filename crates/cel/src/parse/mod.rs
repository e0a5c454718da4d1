//! The grammar of CEL (<https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax>), by descent.
//!
//! Its own and not a library's: the depth is bounded, the places in messages are those of cel-go, and macros become
//! nodes that the checker, the estimate and the evaluation know.

mod lex;
mod macros;

use self::lex::{Lexeme, Token, lex};
use crate::{
    ast::{Call, Element, Entry, Expr, Kind, Member, Select, Struct},
    error::Fault,
    escape::is_reserved,
    value::Value,
};

/// An expression deeper than this is refused: every walk over it stays on the stack.
const MAX_DEPTH: u16 = 150;
/// Brackets take more of the stack than nodes do while they are read.
const MAX_NESTED: u16 = 80;
/// And one with more characters: nothing of that size is written by hand.
const MAX_CHARACTERS: usize = 100_000;

pub(crate) struct Parsed {
    pub root: Expr,
    /// How many nodes there are.
    pub count: u32,
}

/// `bindings`: `cel.bind(x, value, expression)` is known.
pub(crate) fn parse(source: &str, bindings: bool) -> Result<Parsed, Vec<Fault>> {
    if source.chars().count() > MAX_CHARACTERS {
        let text = format!(
            "expression code point size exceeds limit: size: {}, limit {MAX_CHARACTERS}",
            source.chars().count()
        );
        return Err(vec![Fault { at: 0, text }]);
    }
    let mut parser = Parser { lexemes: lex(source)?, next: 0, count: 0, nested: 0, bindings };
    let root = parser.expression().and_then(|root| match parser.peek().token {
        Token::End => Ok(root),
        _ => Err(parser.unexpected("<EOF>")),
    });
    root.map(|root| Parsed { root, count: parser.count }).map_err(|fault| vec![fault])
}

type Parse = Result<Expr, Fault>;

struct Parser {
    lexemes: Vec<Lexeme>,
    next: usize,
    count: u32,
    nested: u16,
    bindings: bool,
}

const PRIMARY: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                       BYTES, IDENTIFIER}";
const RELATIONS: [&str; 7] = ["==", "!=", "<", "<=", ">", ">=", "in"];

impl Parser {
    fn peek(&self) -> &Lexeme {
        // The last lexeme is the end, which is never passed.
        &self.lexemes[self.next.min(self.lexemes.len() - 1)]
    }

    fn sign(&self) -> &'static str {
        if let Token::Sign(sign) = self.peek().token { sign } else { "" }
    }

    fn take(&mut self, sign: &str) -> bool {
        let is_next = self.sign() == sign;
        self.next += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.take(sign) { Ok(()) } else { Err(self.unexpected(&format!("'{sign}'"))) }
    }

    fn unexpected(&self, expected: &str) -> Fault {
        let found = self.peek();
        Fault { at: found.at, text: format!("Syntax error: mismatched input '{}' expecting {expected}", found.text) }
    }

    fn node(&mut self, at: u32, kind: Kind) -> Parse {
        let mut expr = Expr { id: self.count, at, depth: 0, kind };
        self.count += 1;
        expr.depth = expr.children().iter().map(|child| child.depth + 1).max().unwrap_or(0);
        if expr.depth > MAX_DEPTH {
            return Err(Fault { at, text: format!("expression recursion limit exceeded: {MAX_DEPTH}") });
        }
        Ok(expr)
    }

    fn call(&mut self, at: u32, function: &str, args: Vec<Expr>) -> Parse {
        self.node(at, Kind::Call(Box::new(Call { target: None, function: function.to_owned(), args })))
    }

    fn expression(&mut self) -> Parse {
        self.nested += 1;
        if self.nested > MAX_NESTED {
            return Err(Fault {
                at: self.peek().at,
                text: format!("expression recursion limit exceeded: {MAX_NESTED}"),
            });
        }
        let condition = self.logical("||", "_||_")?;
        let at = self.peek().at;
        let expr = if self.take("?") {
            let then = self.logical("||", "_||_")?;
            self.expect(":")?;
            let other = self.expression()?;
            self.call(at, "_?_:_", vec![condition, then, other])
        } else {
            Ok(condition)
        };
        self.nested -= 1;
        expr
    }

    /// A chain of `||` or `&&` becomes a balanced tree: it may be longer than it may be deep.
    fn logical(&mut self, sign: &str, function: &str) -> Parse {
        let mut terms = vec![self.term(sign)?];
        let mut places = Vec::new();
        loop {
            let at = self.peek().at;
            if !self.take(sign) {
                break;
            }
            places.push(at);
            terms.push(self.term(sign)?);
        }
        self.balanced(function, terms, &places)
    }

    fn term(&mut self, sign: &str) -> Parse {
        if sign == "||" { self.logical("&&", "_&&_") } else { self.relation() }
    }

    fn balanced(&mut self, function: &str, mut terms: Vec<Expr>, places: &[u32]) -> Parse {
        if places.is_empty() {
            // A chain of one has no operator.
            return Ok(terms.remove(0));
        }
        let middle = places.len() / 2;
        let right = terms.split_off(middle + 1);
        let left = self.balanced(function, terms, &places[..middle])?;
        let right = self.balanced(function, right, &places[middle + 1..])?;
        self.call(places[middle], function, vec![left, right])
    }

    fn relation(&mut self) -> Parse {
        self.left(&RELATIONS, |parser| parser.left(&["+", "-"], |parser| parser.left(&["*", "/", "%"], Self::unary)))
    }

    fn left(&mut self, signs: &[&str], operand: impl Fn(&mut Self) -> Parse) -> Parse {
        let mut left = operand(self)?;
        loop {
            let (sign, at) = (self.sign(), self.peek().at);
            if !signs.contains(&sign) {
                return Ok(left);
            }
            self.next += 1;
            let right = operand(self)?;
            let function = if sign == "in" { "@in".to_owned() } else { format!("_{sign}_") };
            left = self.call(at, &function, vec![left, right])?;
        }
    }

    fn unary(&mut self) -> Parse {
        let (sign, at) = (self.sign(), self.peek().at);
        if sign != "!" && sign != "-" {
            return self.member();
        }
        let mut count = 0;
        while self.sign() == sign {
            let after = &self.lexemes[(self.next + 1).min(self.lexemes.len() - 1)].token;
            let is_number = matches!(after, Token::Int(_) | Token::Literal(Value::Double(_)));
            if sign == "-" && is_number {
                break;
            }
            self.next += 1;
            count += 1;
        }
        let operand = self.member()?;
        // Two of them are none.
        if count % 2 == 0 { Ok(operand) } else { self.call(at, if sign == "!" { "!_" } else { "-_" }, vec![operand]) }
    }

    fn member(&mut self) -> Parse {
        let mut expr = self.primary()?;
        loop {
            let at = self.peek().at;
            if self.take(".") {
                let optional = self.take("?");
                let name = self.name()?;
                let open = self.peek().at;
                expr = if !optional && self.take("(") {
                    let args = self.list(")")?;
                    self.member_call(open, expr, name, args)?
                } else {
                    self.node(at, Kind::Select(Box::new(Select { operand: expr, field: name, test: false, optional })))?
                };
            } else if self.take("[") {
                let function = if self.take("?") { "_[?_]" } else { "_[_]" };
                let index = self.expression()?;
                self.expect("]")?;
                expr = self.call(at, function, vec![expr, index])?;
            } else if self.sign() == "{"
                && let Some(name) = expr.qualified()
            {
                expr = self.message(at, name)?;
            } else {
                return Ok(expr);
            }
        }
    }

    /// Which types have constructors knows the checker.
    fn message(&mut self, at: u32, name: String) -> Parse {
        self.next += 1;
        let mut fields = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let name = self.name()?;
            let at = self.peek().at;
            self.expect(":")?;
            fields.push(Member { name, at, value: self.expression()?, optional });
            if !self.take(",") && self.sign() != "}" {
                return Err(self.unexpected("'}'"));
            }
        }
        self.node(at, Kind::Struct(Box::new(Struct { name, fields })))
    }

    fn name(&mut self) -> Result<String, Fault> {
        let Token::Ident(name) = &self.peek().token else { return Err(self.unexpected("IDENTIFIER")) };
        let name = name.clone();
        self.next += 1;
        Ok(name)
    }

    fn list(&mut self, close: &str) -> Result<Vec<Expr>, Fault> {
        let mut all = Vec::new();
        while !self.take(close) {
            all.push(self.expression()?);
            if !self.take(",") && self.sign() != close {
                return Err(self.unexpected(&format!("'{close}'")));
            }
        }
        Ok(all)
    }

    fn primary(&mut self) -> Parse {
        let at = self.peek().at;
        match self.peek().token.clone() {
            Token::Literal(value) => {
                self.next += 1;
                self.node(at, Kind::Literal(value))
            }
            Token::Int(value) => {
                self.next += 1;
                let value = i64::try_from(value).map_err(|_| Fault { at, text: "invalid int literal".to_owned() })?;
                self.node(at, Kind::Literal(Value::Int(value)))
            }
            Token::Ident(_) => self.ident(at),
            Token::Sign("-") => self.negative(at),
            Token::Sign("(") => {
                self.next += 1;
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => self.elements(at),
            Token::Sign("{") => self.entries(at),
            Token::Sign(".") => {
                self.next += 1;
                self.ident(at)
            }
            _ => Err(self.unexpected(PRIMARY)),
        }
    }

    fn negative(&mut self, at: u32) -> Parse {
        self.next += 1;
        let invalid = || Fault { at, text: "invalid int literal".to_owned() };
        let value = match self.peek().token.clone() {
            Token::Int(value) => Value::Int(0_i64.checked_sub_unsigned(value).ok_or_else(invalid)?),
            Token::Literal(Value::Double(value)) => Value::Double(-value),
            _ => return Err(self.unexpected(PRIMARY)),
        };
        self.next += 1;
        self.node(at, Kind::Literal(value))
    }

    fn ident(&mut self, at: u32) -> Parse {
        let name = self.name()?;
        if is_reserved(&name) {
            return Err(Fault { at, text: format!("reserved identifier: {name}") });
        }
        let open = self.peek().at;
        if self.take("(") {
            let args = self.list(")")?;
            return self.global_call(open, name, args);
        }
        self.node(at, Kind::Ident(name))
    }

    fn elements(&mut self, at: u32) -> Parse {
        self.next += 1;
        let mut list = Vec::new();
        while !self.take("]") {
            let optional = self.take("?");
            list.push(Element { value: self.expression()?, optional });
            if !self.take(",") && self.sign() != "]" {
                return Err(self.unexpected("']'"));
            }
        }
        self.node(at, Kind::List(list))
    }

    fn entries(&mut self, at: u32) -> Parse {
        self.next += 1;
        let mut map = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let key = self.expression()?;
            self.expect(":")?;
            map.push(Entry { key, value: self.expression()?, optional });
            if !self.take(",") && self.sign() != "}" {
                return Err(self.unexpected("'}'"));
            }
        }
        self.node(at, Kind::Map(map))
    }
}
