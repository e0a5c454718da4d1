//! The grammar of label selectors in a query string:
//!
//! ```text
//! selector    := requirement ("," requirement)*
//! requirement := ["!"] key | key ("=" | "==" | "!=" | ">" | "<") value | key ("in" | "notin") "(" values ")"
//! ```

use super::label::{Operator, Requirement, SelectorError};
use crate::{field::quote, meta::names};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `!`, `=`, `==`, `!=`, `>`, `<`, `,`, `(` or `)`
    Sign(&'static str),
    End,
}

impl Token {
    fn literal(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Sign(sign) => sign,
            Self::End => "",
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
    token: Token,
}

pub(super) fn requirements(query: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser { rest: query, token: Token::End };
    parser.advance();
    let mut found = Vec::new();
    if parser.token == Token::End {
        return Ok(found);
    }
    loop {
        found.push(parser.requirement()?);
        match parser.token {
            Token::End => break,
            Token::Sign(",") => {
                parser.advance();
                if !matches!(parser.token, Token::Word(_) | Token::Sign("!")) {
                    return Err(parser.between("identifier after ','"));
                }
            }
            _ => return Err(parser.between("',' or 'end of string'")),
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(found)
}

impl Parser<'_> {
    fn advance(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let signs = ["==", "!=", "=", "!", ">", "<", ",", "(", ")"];
        if let Some(sign) = signs.into_iter().find(|sign| self.rest.starts_with(sign)) {
            self.rest = &self.rest[sign.len()..];
            self.token = Token::Sign(sign);
            return;
        }
        let ends = |c: char| " \t\r\n=!><,()".contains(c);
        let (word, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        self.token = if word.is_empty() { Token::End } else { Token::Word(word.to_owned()) };
    }

    /// A fault between two requirements.
    fn between(&self, expected: &str) -> SelectorError {
        SelectorError::Syntax(format!("found '{}', expected: {expected}", self.token.literal()))
    }

    /// A fault inside one.
    fn unexpected(&self, expected: &str) -> SelectorError {
        requirement_fault(format!("found '{}', expected: {expected}", self.token.literal()))
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let negated = self.token == Token::Sign("!");
        if negated {
            self.advance();
        }
        let Token::Word(key) = std::mem::replace(&mut self.token, Token::End) else {
            return Err(self.unexpected("identifier"));
        };
        check_key(&key)?;
        self.advance();
        if negated {
            return Ok(Requirement { key, operator: Operator::DoesNotExist, values: Vec::new() });
        }
        let (operator, list) = match &self.token {
            Token::End | Token::Sign(",") => {
                return Ok(Requirement { key, operator: Operator::Exists, values: Vec::new() });
            }
            Token::Sign("=" | "==") => (Operator::In, false),
            Token::Sign("!=") => (Operator::NotIn, false),
            Token::Sign(">") => (Operator::GreaterThan, false),
            Token::Sign("<") => (Operator::LessThan, false),
            Token::Word(word) if word == "in" => (Operator::In, true),
            Token::Word(word) if word == "notin" => (Operator::NotIn, true),
            _ => return Err(self.unexpected("in, notin, =, ==, !=, gt, lt")),
        };
        self.advance();
        let values = if list { self.list()? } else { vec![self.value()?] };
        check_values(&key, operator, &values)?;
        Ok(Requirement { key, operator, values })
    }

    /// A single value may be empty: `app=` and `app=,tier=x`.
    fn value(&mut self) -> Result<String, SelectorError> {
        match std::mem::replace(&mut self.token, Token::End) {
            Token::Word(word) => {
                self.advance();
                Ok(word)
            }
            Token::End => Ok(String::new()),
            Token::Sign(",") => {
                self.token = Token::Sign(",");
                Ok(String::new())
            }
            other => {
                self.token = other;
                Err(self.unexpected("identifier"))
            }
        }
    }

    fn list(&mut self) -> Result<Vec<String>, SelectorError> {
        if self.token != Token::Sign("(") {
            return Err(self.unexpected("'('"));
        }
        self.advance();
        let mut values = Vec::new();
        let mut value = String::new();
        loop {
            match std::mem::replace(&mut self.token, Token::End) {
                Token::Word(word) if value.is_empty() => value = word,
                Token::Sign(",") => values.push(std::mem::take(&mut value)),
                Token::Sign(")") => {
                    values.push(value);
                    self.advance();
                    values.sort_unstable();
                    values.dedup();
                    return Ok(values);
                }
                other => {
                    self.token = other;
                    return Err(self.unexpected("',' or ')'"));
                }
            }
            self.advance();
        }
    }
}

fn requirement_fault(why: String) -> SelectorError {
    SelectorError::Syntax(format!("unable to parse requirement: {why}"))
}

fn check_key(key: &str) -> Result<(), SelectorError> {
    match names::qualified_name(key).first() {
        None => Ok(()),
        Some(why) => Err(requirement_fault(format!("key: Invalid value: {}: {why}", quote(key)))),
    }
}

fn check_values(key: &str, operator: Operator, values: &[String]) -> Result<(), SelectorError> {
    for (i, value) in values.iter().enumerate() {
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) && value.parse::<i64>().is_err() {
            let why = "for 'Gt', 'Lt' operators, the value must be an integer";
            return Err(requirement_fault(format!("values[{i}]: Invalid value: {}: {why}", quote(value))));
        }
        if let Some(why) = names::label_value(value).first() {
            return Err(requirement_fault(format!("values[{i}][{key}]: Invalid value: {}: {why}", quote(value))));
        }
    }
    Ok(())
}
