//! Go's regular expressions, which are RE2's, in the dialect of the `regex` crate.
//!
//! Both are finite automata over the same language; they differ in what a few characters mean
//! (<https://github.com/google/re2/wiki/Syntax>).

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use regex::Regex;

/// As many patterns are kept compiled; when there are more, all are forgotten, which costs no more than time.
const KEPT: usize = 512;

/// A pattern that evaluation meets: compiled at its first use, and kept for the next.
pub(crate) fn cached(pattern: &str) -> Result<Arc<Regex>, String> {
    static PATTERNS: LazyLock<Mutex<HashMap<String, Arc<Regex>>>> = LazyLock::new(Mutex::default);
    let lock = || PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get(pattern) {
        return Ok(Arc::clone(known));
    }
    let compiled = Arc::new(compile(pattern)?);
    let mut patterns = lock();
    if patterns.len() >= KEPT {
        patterns.clear();
    }
    patterns.insert(pattern.to_owned(), Arc::clone(&compiled));
    Ok(compiled)
}

/// The error is in the words of Go.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(&translate(pattern)).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => format!("error parsing regexp: expression nests too deeply: `{pattern}`"),
        _ => format!("error parsing regexp: invalid syntax: `{pattern}`"),
    })
}

/// Says in this crate's dialect what Go reads.
fn translate(pattern: &str) -> String {
    let mut translator = Translator { chars: pattern.chars().collect(), at: 0, out: String::new() };
    while translator.at < translator.chars.len() {
        translator.outside();
    }
    translator.out
}

struct Translator {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Translator {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn keep(&mut self, count: usize) {
        let end = (self.at + count).min(self.chars.len());
        self.out.extend(&self.chars[self.at..end]);
        self.at = end;
    }

    fn replace(&mut self, count: usize, with: &str) {
        self.out.push_str(with);
        self.at += count;
    }

    fn outside(&mut self) {
        match self.peek(0) {
            Some('\\') => self.escape(false),
            Some('[') => self.class(),
            // A brace that is no repetition is itself in Go, and an error here.
            Some('{') if !self.is_repetition() => self.replace(1, "\\{"),
            _ => self.keep(1),
        }
    }

    /// `{2}`, `{2,}`, `{2,5}`
    fn is_repetition(&self) -> bool {
        let rest: String = self.chars[self.at + 1..].iter().take_while(|c| **c != '}').collect();
        let closed = self.at + 1 + rest.chars().count() < self.chars.len();
        let (low, high) = rest.split_once(',').unwrap_or((&rest, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        closed && !low.is_empty() && digits(low) && digits(high)
    }

    /// Go's classes of letters, digits and spaces are ASCII.
    fn escape(&mut self, in_class: bool) {
        match (self.peek(1), in_class) {
            (Some('d'), false) => self.replace(2, "[0-9]"),
            (Some('d'), true) => self.replace(2, "0-9"),
            (Some('w'), false) => self.replace(2, "[0-9A-Za-z_]"),
            (Some('w'), true) => self.replace(2, "0-9A-Za-z_"),
            (Some('s'), false) => self.replace(2, r"[\t\n\x0c\r ]"),
            (Some('s'), true) => self.replace(2, r"\t\n\x0c\r "),
            (Some('D'), _) => self.replace(2, "[^0-9]"),
            (Some('W'), _) => self.replace(2, "[^0-9A-Za-z_]"),
            (Some('S'), _) => self.replace(2, r"[^\t\n\x0c\r ]"),
            (Some('b'), false) => self.replace(2, r"(?-u:\b)"),
            // Escaped, these are themselves in Go and borders of words here.
            (Some('<'), _) => self.replace(2, "<"),
            (Some('>'), _) => self.replace(2, ">"),
            (Some('Q'), _) => self.quoted(),
            (Some('p' | 'P'), _) if self.peek(2) == Some('{') => {
                let length = self.chars[self.at..].iter().position(|c| *c == '}').map_or(2, |end| end + 1);
                self.keep(length);
            }
            (Some('x'), _) if self.peek(2) == Some('{') => {
                let length = self.chars[self.at..].iter().position(|c| *c == '}').map_or(2, |end| end + 1);
                self.keep(length);
            }
            _ => self.keep(2),
        }
    }

    /// `\Q...\E`: everything between is itself.
    fn quoted(&mut self) {
        self.at += 2;
        while let Some(c) = self.peek(0) {
            if c == '\\' && self.peek(1) == Some('E') {
                self.at += 2;
                return;
            }
            self.out.push_str(&regex::escape(&c.to_string()));
            self.at += 1;
        }
    }

    fn class(&mut self) {
        self.keep(1);
        if self.peek(0) == Some('^') {
            self.keep(1);
        }
        let mut first = true;
        while let Some(c) = self.peek(0) {
            match c {
                ']' if !first => return self.keep(1),
                ']' => self.replace(1, "\\]"),
                '\\' => self.escape(true),
                // `[:alpha:]` means the same in both; any other bracket, and these signs, would begin an operation.
                '[' if self.peek(1) == Some(':') => {
                    let end = self.chars[self.at..].iter().position(|c| *c == ']').map_or(1, |end| end + 1);
                    self.keep(end);
                }
                '[' => self.replace(1, "\\["),
                '&' => self.replace(1, "\\&"),
                '~' => self.replace(1, "\\~"),
                '-' if self.peek(1) == Some('-') => self.replace(1, "\\-"),
                _ => self.keep(1),
            }
            first = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_go_reads() {
        let rows = [
            ("^a{2}$", "aa", true),
            ("^{a}$", "{a}", true),
            ("^[[a]+$", "[a[", true),
            ("^[]a]+$", "]a", true),
            ("^[^]]$", "]", false),
            ("^[a&&b]+$", "a&b", true),
            (r"^\d+$", "12", true),
            (r"^\d+$", "\u{662}", false),
            (r"^\w$", "\u{e9}", false),
            (r"^[\w.-]+$", "a.b-c", true),
            (r"^[\D]$", "1", false),
            (r"^\S+$", "\u{e9}x", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^\Qa.b\E+$", "a.bb", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^\/\<\-$", "/<-", true),
            (r"^\p{L}+$", "\u{e9}", true),
            ("^[[:alpha:]]+$", "abc", true),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", "a-b.c", true),
            (r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE])?$", "1.5Gi", true),
            ("^[!-~]+$", "a!~", true),
        ];
        for (pattern, text, expected) in rows {
            assert_eq!(compile(pattern).map(|regex| regex.is_match(text)), Ok(expected), "{pattern} {text}");
        }
        assert!(compile("a(").is_err());
    }
}
