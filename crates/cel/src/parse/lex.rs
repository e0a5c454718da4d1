//! From characters to tokens.

use std::sync::Arc;

use crate::{error::Fault, value::Value};

#[derive(Clone, Debug)]
pub(crate) enum Token {
    /// A number, a string, bytes, `true`, `false` or `null`.
    Literal(Value<'static>),
    /// A whole number without a sign in front of it: one more fits with a minus than without.
    Int(u64),
    Ident(String),
    /// An operator, a bracket, a comma.
    Sign(&'static str),
    End,
}

#[derive(Debug)]
pub(crate) struct Lexeme {
    pub token: Token,
    /// In characters from the beginning.
    pub at: u32,
    pub text: String,
}

/// Longer ones first: the first that fits is taken.
const SIGNS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "?", ":", "+", "-", "*", "/", "%", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

pub(crate) fn lex(source: &str) -> Result<Vec<Lexeme>, Vec<Fault>> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0 };
    let (mut lexemes, mut faults) = (Vec::new(), Vec::new());
    loop {
        lexer.skip();
        let start = lexer.at;
        let token = match lexer.token() {
            Ok(token) => token,
            Err(text) => {
                faults.push(Fault { at: start as u32, text: format!("Syntax error: {text}") });
                lexer.at = lexer.at.max(start + 1);
                continue;
            }
        };
        let is_end = matches!(token, Token::End);
        let text = if is_end { "<EOF>".to_owned() } else { lexer.chars[start..lexer.at].iter().collect() };
        lexemes.push(Lexeme { token, at: start as u32, text });
        if is_end {
            return if faults.is_empty() { Ok(lexemes) } else { Err(faults) };
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn skip(&mut self) {
        while let Some(c) = self.peek(0) {
            if c == '/' && self.peek(1) == Some('/') {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            } else if matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{c}') {
                self.at += 1;
            } else {
                return;
            }
        }
    }

    fn token(&mut self) -> Result<Token, String> {
        let Some(first) = self.peek(0) else { return Ok(Token::End) };
        if first.is_ascii_digit() || first == '.' && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            return self.number();
        }
        if let Some((raw, bytes, prefix)) = self.string_prefix() {
            self.at += prefix;
            return self.string(raw, bytes);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let start = self.at;
            while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
                self.at += 1;
            }
            let word: String = self.chars[start..self.at].iter().collect();
            return Ok(match word.as_str() {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "null" => Token::Literal(Value::Null),
                "in" => Token::Sign("in"),
                _ => Token::Ident(word),
            });
        }
        for sign in SIGNS {
            if sign.chars().enumerate().all(|(i, c)| self.peek(i) == Some(c)) {
                self.at += sign.len();
                return Ok(Token::Sign(sign));
            }
        }
        self.at += 1;
        Err(format!("token recognition error at: '{first}'"))
    }

    fn digits(&mut self) {
        while self.peek(0).is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Result<Token, String> {
        let start = self.at;
        if self.peek(0) == Some('0') && self.peek(1) == Some('x') && self.peek(2).is_some_and(|c| c.is_ascii_hexdigit())
        {
            self.at += 2;
            while self.peek(0).is_some_and(|c| c.is_ascii_hexdigit()) {
                self.at += 1;
            }
            let digits: String = self.chars[start + 2..self.at].iter().collect();
            return self.whole(u64::from_str_radix(&digits, 16).ok());
        }
        self.digits();
        let mut is_double = false;
        if self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit()) {
            is_double = true;
            self.at += 1;
            self.digits();
        }
        if matches!(self.peek(0), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
            if self.peek(1 + sign).is_some_and(|c| c.is_ascii_digit()) {
                is_double = true;
                self.at += 1 + sign;
                self.digits();
            }
        }
        let text: String = self.chars[start..self.at].iter().collect();
        if is_double {
            let value = text.parse().map_err(|_| "invalid double literal".to_owned())?;
            return Ok(Token::Literal(Value::Double(value)));
        }
        self.whole(text.parse().ok())
    }

    fn whole(&mut self, value: Option<u64>) -> Result<Token, String> {
        if matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return value
                .map(|value| Token::Literal(Value::Uint(value)))
                .ok_or_else(|| "invalid uint literal".to_owned());
        }
        value.map(Token::Int).ok_or_else(|| "invalid int literal".to_owned())
    }

    /// `r`, `b` and both, in front of a quote.
    fn string_prefix(&self) -> Option<(bool, bool, usize)> {
        let (mut raw, mut bytes, mut length) = (false, false, 0);
        loop {
            match self.peek(length)? {
                '"' | '\'' => return Some((raw, bytes, length)),
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                _ => return None,
            }
            length += 1;
        }
    }

    fn string(&mut self, raw: bool, bytes: bool) -> Result<Token, String> {
        let quote = self.peek(0).unwrap_or('"');
        let is_triple = self.peek(1) == Some(quote) && self.peek(2) == Some(quote);
        let length = if is_triple { 3 } else { 1 };
        self.at += length;
        let mut out = Content::default();
        loop {
            let Some(c) = self.peek(0) else {
                return Err("token recognition error: the string is not closed".to_owned());
            };
            if (0..length).all(|i| self.peek(i) == Some(quote)) {
                self.at += length;
                break;
            }
            self.at += 1;
            match c {
                '\\' if !raw => self.escape(bytes, &mut out)?,
                '\n' | '\r' if !is_triple => {
                    return Err("token recognition error: a line ends within a string".to_owned());
                }
                // A quote after a backslash does not end a raw string.
                '\\' if self.peek(0) == Some(quote) => {
                    out.push(c);
                    out.push(quote);
                    self.at += 1;
                }
                c => out.push(c),
            }
        }
        Ok(Token::Literal(match bytes {
            true => Value::Bytes(out.bytes.into()),
            false => Value::text(Arc::from(String::from_utf8_lossy(&out.bytes).as_ref())),
        }))
    }

    fn escape(&mut self, bytes: bool, out: &mut Content) -> Result<(), String> {
        let invalid = || "token recognition error: invalid escape sequence in a string".to_owned();
        let c = self.peek(0).ok_or_else(invalid)?;
        self.at += 1;
        let mut code = |length: usize, radix: u32| {
            let digits: String = (0..length).filter_map(|i| self.peek(i)).collect();
            self.at += length;
            // A sign would pass for a part of the number.
            if digits.len() == length && digits.chars().all(|c| c.is_ascii_hexdigit()) {
                u32::from_str_radix(&digits, radix).map_err(|_| invalid())
            } else {
                Err(invalid())
            }
        };
        let code = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => u32::from(c),
            'x' | 'X' => code(2, 16)?,
            'u' if !bytes => code(4, 16)?,
            'U' if !bytes => code(8, 16)?,
            '0'..='3' => {
                self.at -= 1;
                let digits: String = (0..3).filter_map(|i| self.peek(i)).collect();
                self.at += 3;
                u32::from_str_radix(&digits, 8).ok().filter(|_| digits.len() == 3).ok_or_else(invalid)?
            }
            _ => return Err(invalid()),
        };
        if bytes {
            out.bytes.push(u8::try_from(code).map_err(|_| invalid())?);
        } else {
            out.push(char::from_u32(code).ok_or_else(invalid)?);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
}

impl Content {
    fn push(&mut self, c: char) {
        self.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
