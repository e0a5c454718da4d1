//! `$(NAME)` in command, args and env: replaced where the name is known, left as written where it is not;
//! `$$` is a dollar sign.

use std::collections::HashMap;

pub fn expand(text: &str, known: &HashMap<&str, &str>) -> String {
    expand_with(text, |name| known.get(name).copied())
}

/// As [`expand`], with each name looked up as it comes.
pub fn expand_with<'a>(text: &str, mut value_of: impl FnMut(&str) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        rest = match after.chars().next() {
            Some('$') => {
                out.push('$');
                &after[1..]
            }
            Some('(') => match after.find(')') {
                Some(end) => {
                    match value_of(&after[1..end]) {
                        Some(value) => out.push_str(value),
                        None => out.push_str(&rest[dollar..dollar + 2 + end]),
                    }
                    &after[end + 1..]
                }
                None => {
                    out.push_str("$(");
                    &after[1..]
                }
            },
            Some(other) => {
                out.push('$');
                out.push(other);
                &after[other.len_utf8()..]
            }
            None => {
                out.push('$');
                after
            }
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_as_documented() {
        let known = HashMap::from([("A", "one"), ("B", "two"), ("EMPTY", "")]);
        for (input, expected) in [
            ("$(A)", "one"),
            ("___$(A)-$(B)___", "___one-two___"),
            ("$(EMPTY)", ""),
            ("$(UNKNOWN)x", "$(UNKNOWN)x"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$one"),
            ("$$$$(A)", "$$(A)"),
            ("$A", "$A"),
            ("$", "$"),
            ("a$", "a$"),
            ("$(A", "$(A"),
            ("$(A)$(", "one$("),
            ("$()", "$()"),
            ("$é$(B)", "$étwo"),
            ("", ""),
        ] {
            assert_eq!(expand(input, &known), expected, "{input}");
        }
    }
}
