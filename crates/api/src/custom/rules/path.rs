//! `fieldPath` of a rule: `.spec.replicas`, `.labels['a.b/c']`.

use serde_json::Value;

/// The path as it stands in errors, or why it is none of this schema.
pub(crate) fn field_path(path: &str, schema: &Value) -> Result<String, String> {
    let mut tokens = tokens(path).into_iter();
    let mut end = || tokens.next();
    let (mut schema, mut written) = (schema, String::new());
    while let Some(token) = end() {
        let name = match token.as_str() {
            "[" => {
                let quoted = end().ok_or("unexpected end of JSON path")?;
                let name = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let name = name.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let name = unescape(name).map_err(|why| format!("invalid string literal: {why}"))?;
                let below = step(schema, &name, &mut written)?;
                let close = end().ok_or("unexpected end of JSON path")?;
                if close != "]" {
                    return Err(format!("expected ] but got {close}"));
                }
                schema = below;
                continue;
            }
            "." => end().ok_or("unexpected end of JSON path")?,
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        schema = step(schema, &name, &mut written)?;
    }
    Ok(written)
}

fn step<'a>(schema: &'a Value, name: &str, written: &mut String) -> Result<&'a Value, String> {
    let below = if schema["properties"].is_object() {
        written.push_str(if written.is_empty() { "" } else { "." });
        written.push_str(name);
        schema["properties"].get(name)
    } else if schema["additionalProperties"].is_object() {
        written.push_str(&format!("[{name}]"));
        schema.get("additionalProperties")
    } else {
        None
    };
    below.ok_or_else(|| "does not refer to a valid field".to_owned())
}

/// Dots and brackets by themselves, and what lies between them; a quoted string is one.
fn tokens(path: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '.' | '[' | ']' => 1,
            '\'' => {
                let bytes = rest.as_bytes();
                (1..bytes.len()).find(|i| bytes[*i] == b'\'' && bytes[i - 1] != b'\\').map_or(rest.len(), |end| end + 1)
            }
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        tokens.push(rest[..length].to_owned());
        rest = &rest[length..];
    }
    tokens
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        plain.push(match chars.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some(c @ ('\'' | '\\')) => c,
            Some(other) => return Err(format!("invalid escape char \\{other}")),
            None => '\\',
        });
    }
    Ok(plain)
}
