use std::fmt;

use super::SelectorError;

/// `status.phase!=Running`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    pub equal: bool,
    pub value: String,
}

/// Selects objects by a few fields, as the query parameter `fieldSelector` writes it.
///
/// It is only syntax: which fields a resource has, and their values, its strategy knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    pub const fn everything() -> Self {
        Self { requirements: Vec::new() }
    }

    /// A comma, `=` or backslash inside a value is written with a backslash before it.
    pub fn parse(query: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in terms(query) {
            if term.is_empty() {
                continue;
            }
            let invalid = || {
                let quoted = crate::field::quote(query);
                SelectorError::Syntax(format!(
                    "invalid selector: {quoted}; can't understand {}",
                    crate::field::quote(term)
                ))
            };
            let (field, equal, value) = split(term).ok_or_else(invalid)?;
            let value = unescape(value).map_err(SelectorError::Syntax)?;
            requirements.push(FieldRequirement { field: field.to_owned(), equal, value });
        }
        Ok(Self { requirements })
    }

    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that this selector requires of a field, where it requires exactly one: lets a list by
    /// `metadata.name` become a get, and one by `spec.nodeName` use an index.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let found = self.requirements.iter().find(|requirement| requirement.equal && requirement.field == field)?;
        Some(&found.value)
    }

    /// `value` gives the object's value of a field.
    pub fn matches<T: AsRef<str>>(&self, value: impl Fn(&str) -> T) -> bool {
        self.requirements
            .iter()
            .all(|requirement| (value(&requirement.field).as_ref() == requirement.value) == requirement.equal)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, FieldRequirement { field, equal, value }) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if *equal { "=" } else { "!=" };
            write!(f, "{comma}{field}{operator}{}", escape(value))?;
        }
        Ok(())
    }
}

/// Cuts at commas that no backslash escapes.
fn terms(query: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, byte) in query.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                found.push(&query[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    found.push(&query[start..]);
    found
}

fn split(term: &str) -> Option<(&str, bool, &str)> {
    for (i, _) in term.char_indices() {
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = term[i..].strip_prefix(operator) {
                return Some((&term[..i], equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(format!("invalid field selector: invalid escape sequence: \\{c}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".into()),
            },
            ',' | '=' => return Err(format!("invalid field selector: unescaped character in value: {c}")),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=")
}
