//! Keys in natural order, lists not indented, and the same choice of quotes and line breaks as the emitter that
//! Kubernetes uses, so that the two outputs can be compared byte by byte.

use std::{cmp::Ordering, fmt::Write as _, sync::LazyLock};

use regex::Regex;
use serde_json::{Map, Value};

/// A line is broken at the first blank behind this column.
const WIDTH: usize = 80;

pub fn to_string(value: &Value) -> String {
    let mut out = Emitter::default();
    out.node(value, -2, Place::Root);
    out.text.push('\n');
    out.text
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// Behind `key:`.
    Value,
    /// Behind `- `.
    Item,
}

#[derive(Default)]
struct Emitter {
    text: String,
}

impl Emitter {
    fn node(&mut self, value: &Value, indent: isize, place: Place) {
        match value {
            Value::Object(map) if !map.is_empty() => self.mapping(map, indent + 2, place),
            Value::Array(list) if !list.is_empty() => {
                let indent = if place == Place::Value { indent } else { indent + 2 };
                for (at, item) in list.iter().enumerate() {
                    match (at, place) {
                        (0, Place::Root) => {}
                        (0, Place::Item) => self.text.push(' '),
                        _ => self.line(indent),
                    }
                    self.text.push('-');
                    self.node(item, indent, Place::Item);
                }
            }
            scalar => {
                if place != Place::Root {
                    self.text.push(' ');
                }
                match scalar {
                    Value::Object(_) => self.text.push_str("{}"),
                    Value::Array(_) => self.text.push_str("[]"),
                    Value::String(text) => self.string(text, (indent + 2).max(0) as usize, false),
                    other => _ = write!(self.text, "{other}"),
                }
            }
        }
    }

    fn mapping(&mut self, map: &Map<String, Value>, indent: isize, place: Place) {
        let mut keys: Vec<&String> = map.keys().collect();
        keys.sort_by(|a, b| natural(a, b));
        for (at, key) in keys.into_iter().enumerate() {
            match (at, place) {
                (0, Place::Root) => {}
                (0, Place::Item) => self.text.push(' '),
                _ => self.line(indent),
            }
            self.string(key, 0, true);
            self.text.push(':');
            self.node(&map[key], indent, Place::Value);
        }
    }

    fn line(&mut self, indent: isize) {
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', indent.max(0) as usize));
    }

    fn column(&self) -> usize {
        self.text.rsplit('\n').next().map_or(0, |line| line.chars().count())
    }

    fn string(&mut self, text: &str, indent: usize, is_key: bool) {
        let shape = Shape::of(text);
        match () {
            () if text.contains('\n') && !is_key && shape.block => self.literal(text, indent),
            () if text.contains('\n') || !is_string(text) => self.double(text, indent, is_key),
            () if shape.plain => self.plain(text, indent, is_key),
            () if shape.single => self.single(text, indent, is_key),
            () => self.double(text, indent, is_key),
        }
    }

    /// `|`, with a mark for the line breaks at the end and, where the text begins with a blank, for the indentation.
    fn literal(&mut self, text: &str, indent: usize) {
        self.text.push('|');
        if text.starts_with([' ', '\n']) {
            self.text.push('2');
        }
        let body = text.strip_suffix('\n');
        match body {
            None => self.text.push('-'),
            Some(rest) if rest.is_empty() || rest.ends_with('\n') => self.text.push('+'),
            Some(_) => {}
        }
        for line in body.unwrap_or(text).split('\n') {
            self.text.push('\n');
            if !line.is_empty() {
                self.text.extend(std::iter::repeat_n(' ', indent));
                self.text.push_str(line);
            }
        }
    }

    fn plain(&mut self, text: &str, indent: usize, is_key: bool) {
        let chars: Vec<char> = text.chars().collect();
        let (mut column, mut spaces) = (self.column(), false);
        for (at, &c) in chars.iter().enumerate() {
            let next = chars.get(at + 1);
            if c == ' ' && !is_key && !spaces && column > WIDTH && next != Some(&' ') {
                self.line(indent as isize);
                column = indent;
            } else {
                self.text.push(c);
                column += 1;
            }
            spaces = c == ' ';
        }
    }

    fn single(&mut self, text: &str, indent: usize, is_key: bool) {
        self.text.push('\'');
        let chars: Vec<char> = text.chars().collect();
        let (mut column, mut spaces) = (self.column(), false);
        for (at, &c) in chars.iter().enumerate() {
            let inside = at > 0 && at + 1 < chars.len();
            if c == ' ' && !is_key && !spaces && column > WIDTH && inside && chars[at + 1] != ' ' {
                self.line(indent as isize);
                column = indent;
            } else {
                let quote = if c == '\'' { "''" } else { "" };
                if quote.is_empty() {
                    self.text.push(c)
                } else {
                    self.text.push_str(quote)
                }
                column += quote.len().max(1);
            }
            spaces = c == ' ';
        }
        self.text.push('\'');
    }

    fn double(&mut self, text: &str, indent: usize, is_key: bool) {
        self.text.push('"');
        let chars: Vec<char> = text.chars().collect();
        let (mut column, mut spaces) = (self.column(), false);
        for (at, &c) in chars.iter().enumerate() {
            let inside = at > 0 && at + 1 < chars.len();
            if c == ' ' && !is_key && !spaces && column > WIDTH && inside {
                self.line(indent as isize);
                column = indent;
                if chars[at + 1] == ' ' {
                    self.text.push('\\');
                    column += 1;
                }
            } else {
                let before = self.text.len();
                self.escaped(c);
                column += self.text[before..].chars().count();
            }
            spaces = c == ' ';
        }
        self.text.push('"');
    }

    fn escaped(&mut self, c: char) {
        let short = match c {
            '\0' => '0',
            '\u{7}' => 'a',
            '\u{8}' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\u{b}' => 'v',
            '\u{c}' => 'f',
            '\r' => 'r',
            '\u{1b}' => 'e',
            '"' => '"',
            '\\' => '\\',
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            c if is_printable(c) => return self.text.push(c),
            c => {
                _ = match u32::from(c) {
                    code @ ..=0xff => write!(self.text, "\\x{code:02X}"),
                    code @ ..=0xffff => write!(self.text, "\\u{code:04X}"),
                    code => write!(self.text, "\\U{code:08X}"),
                };
                return;
            }
        };
        self.text.extend(['\\', short]);
    }
}

fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..) && c != '\u{feff}'
}

/// In which styles a text can be written and read back.
struct Shape {
    plain: bool,
    single: bool,
    block: bool,
}

impl Shape {
    fn of(text: &str) -> Shape {
        let chars: Vec<char> = text.chars().collect();
        let is_blank = |at: usize| chars.get(at).is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut special, mut space_break, mut break_space) = (false, false, false);
        for (at, &c) in chars.iter().enumerate() {
            indicators |= match (at, c) {
                (0, '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`') => {
                    true
                }
                (0, '?' | ':' | '-') | (_, ':') => is_blank(at + 1),
                (_, '#') => is_blank(at - 1),
                _ => false,
            };
            // Some readers take the two separators for ends of lines, and a colon before one for a key's.
            special |= !is_printable(c) || matches!(c, '\u{2028}' | '\u{2029}');
            let previous = at.checked_sub(1).map(|at| chars[at]);
            space_break |= c == '\n' && previous == Some(' ');
            break_space |= c == ' ' && previous == Some('\n');
        }
        let blank_end = |c: Option<&char>| matches!(c, Some(' ' | '\n'));
        let edge = blank_end(chars.first()) || blank_end(chars.last());
        let broken = special || space_break;
        Shape {
            plain: !(indicators || broken || break_space || edge || text.contains('\n')),
            single: !(broken || break_space),
            block: !(broken || text.ends_with(' ')),
        }
    }
}

static FLOAT: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"));
static BASE_60: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$"));
static INTEGER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^[-+]?(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]*|[1-9][0-9]*)$"));
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})?)?$",
    )
});

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|error| unreachable!("a constant pattern: {error}"))
}

/// Without quotes, a reader would take it for a string.
fn is_string(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "n",
        "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", ".nan", ".NaN", ".NAN", ".inf", ".Inf",
        ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF", "<<",
    ];
    if WORDS.contains(&text) {
        return false;
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return true;
    }
    let bare = text.replace('_', "");
    !(FLOAT.is_match(&bare) || INTEGER.is_match(&bare) || BASE_60.is_match(text) || TIME.is_match(text))
}

/// The order of keys: numbers in a name count as numbers, and letters come after everything else.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) else { return a.len().cmp(&b.len()) };
    let (left, right) = (a[at], b[at]);
    match (left.is_alphabetic(), right.is_alphabetic()) {
        (true, true) => return left.cmp(&right),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let digits = |of: &[char]| of[at..].iter().take_while(|c| c.is_ascii_digit()).collect::<String>();
    let (left_digits, right_digits) = (digits(&a), digits(&b));
    // A zero in the middle of a number is no leading zero.
    let inside =
        (left == '0' || right == '0') && a[..at].iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != '0');
    let lead = if inside { "1" } else { "" };
    let number = |digits: &str| format!("{lead}{digits}").parse::<i128>().unwrap_or(0);
    number(&left_digits)
        .cmp(&number(&right_digits))
        .then(left_digits.len().cmp(&right_digits.len()))
        .then(left.cmp(&right))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_written_as_kubectl_writes_it() {
        let long = "word ".repeat(20).trim_end().to_owned();
        let rows = [
            (json!({"b": [{"x": 1, "y": []}, "s"], "a": {}}), "a: {}\nb:\n- x: 1\n  \"y\": []\n- s\n"),
            (
                json!({"t": "2024-01-02T03:04:05Z", "n": "10", "p": "8080:80", "e": ""}),
                "e: \"\"\n\"n\": \"10\"\np: 8080:80\nt: \"2024-01-02T03:04:05Z\"\n",
            ),
            (
                json!({"l": "a\nb\n", "m": "a\nb", "x": "a \nb", "w": "\ta"}),
                "l: |\n  a\n  b\nm: |-\n  a\n  b\nw: \"\\ta\"\nx: \"a \\nb\"\n",
            ),
            (json!({"s": "a:\u{2029}"}), "s: \"a:\\P\"\n"),
            (json!({"a": "x: y", "b": "- z", "c": "it's", "d": "#"}), "a: 'x: y'\nb: '- z'\nc: it's\nd: '#'\n"),
            (json!({"k10": 1, "k9": 2, "k-": 3}), "k-: 3\nk9: 2\nk10: 1\n"),
            (json!([[1, 2], {"a": null}]), "- - 1\n  - 2\n- a: null\n"),
            (
                json!({"m": long}),
                "m: word word word word word word word word word word word word word word word word\n  word word word word\n",
            ),
            (json!("text"), "text\n"),
            (
                json!({"v": "1e3", "w": "0x1F", "x": "v1", "y": "1.2.3", "z": "10:30"}),
                "v: \"1e3\"\nw: \"0x1F\"\nx: v1\n\"y\": 1.2.3\nz: \"10:30\"\n",
            ),
        ];
        for (value, expected) in rows {
            assert_eq!(to_string(&value), expected, "{value}");
        }
    }
}
