//! `pattern` of a schema: Go's regular expressions.

use std::sync::OnceLock;

pub(crate) use knarr_cel::regexp::compile;
use regex::Regex;

/// A pattern, compiled when the first value meets it: most of a big schema's patterns never meet one.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub text: String,
    compiled: OnceLock<Result<Regex, String>>,
}

impl Pattern {
    pub fn new(text: &str) -> Pattern {
        Pattern { text: text.to_owned(), compiled: OnceLock::new() }
    }

    /// True where the pattern is found anywhere in the text; an error where it is no pattern.
    pub fn is_match(&self, text: &str) -> Result<bool, &str> {
        let compiled = self.compiled.get_or_init(|| compile(&self.text));
        compiled.as_ref().map(|regex| regex.is_match(text)).map_err(String::as_str)
    }
}
