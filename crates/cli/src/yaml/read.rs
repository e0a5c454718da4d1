//! The documents of a manifest.

use std::borrow::Cow;

use serde::Deserialize as _;
use serde_json::Value;
use serde_yaml::Value as Yaml;

/// The documents of a text, which may also be JSON; empty ones are left out.
pub fn parse_all(text: &str) -> Result<Vec<Value>, String> {
    let mut documents = Vec::new();
    let (text, mark) = mark_quoted_merges(text);
    for document in serde_yaml::Deserializer::from_str(&text) {
        let mut yaml = Yaml::deserialize(document).map_err(|error| error.to_string())?;
        yaml.apply_merge().map_err(|error| error.to_string())?;
        let value = from_yaml(yaml, mark)?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

/// A key `<<` in quotes merges nothing, but the reader does not tell what was quoted. So a character that the text does
/// not have is put into it, and taken out behind the merges.
fn mark_quoted_merges(text: &str) -> (Cow<'_, str>, Option<char>) {
    let is_there = [r#""<<""#, "'<<'"].iter().any(|quoted| text.contains(quoted));
    let Some(mark) = ('\u{e000}'..='\u{f8ff}').find(|mark| is_there && !text.contains(*mark)) else {
        return (text.into(), None);
    };
    let marked = text.replace(r#""<<""#, &format!("\"{mark}<<\"")).replace("'<<'", &format!("'{mark}<<'"));
    (marked.into(), Some(mark))
}

/// Keys that are no strings become strings, as JSON has no others.
fn from_yaml(yaml: Yaml, mark: Option<char>) -> Result<Value, String> {
    let unmarked = |text: String| match mark {
        Some(mark) => text.replace(&format!("{mark}<<"), "<<"),
        None => text,
    };
    Ok(match yaml {
        Yaml::Mapping(map) => {
            let entry = |(key, value): (Yaml, Yaml)| {
                let key = match key {
                    Yaml::String(key) => unmarked(key),
                    Yaml::Bool(key) => key.to_string(),
                    Yaml::Number(key) => key.to_string(),
                    other => return Err(format!("a key of a mapping is no string: {other:?}")),
                };
                Ok((key, from_yaml(value, mark)?))
            };
            Value::Object(map.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
        Yaml::Sequence(list) => {
            Value::Array(list.into_iter().map(|item| from_yaml(item, mark)).collect::<Result<_, _>>()?)
        }
        Yaml::Tagged(tagged) => from_yaml(tagged.value, mark)?,
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => value.into(),
        Yaml::String(text) => unmarked(text).into(),
        Yaml::Number(number) => serde_json::to_value(number).map_err(|error| error.to_string())?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::yaml::to_string;

    #[test]
    fn only_a_bare_key_merges() {
        let rows = [
            ("<<: {a: 1}\nb: 2", json!({"a": 1, "b": 2})),
            ("\"<<\": {a: 1}\nb: 2", json!({"<<": {"a": 1}, "b": 2})),
            ("'<<': {<<: {a: 1}}", json!({"<<": {"a": 1}})),
            ("{\"<<\": \"'<<'\"}", json!({"<<": "'<<'"})),
            ("'<<': |\n  \"<<\"\n  <<", json!({"<<": "\"<<\"\n<<"})),
        ];
        for (text, expected) in rows {
            assert_eq!(parse_all(text), Ok(vec![expected]), "{text}");
        }
        assert_eq!(parse_all(&to_string(&json!({"<<": "<<"}))), Ok(vec![json!({"<<": "<<"})]));
    }
}
