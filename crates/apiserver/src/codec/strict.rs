//! Fields that a type does not know, and keys that occur twice: upstream's words for them, and what becomes of them by the
//! client's wish. (<https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation>)

use knarr_api::schema::{self, SchemaError};
use serde_json::{Value, json};

use super::{Shape, order};
use crate::write::Validation;

/// How Go's YAML parser begins to say what is wrong with lines.
pub const OF_LINES: &str = "yaml: unmarshal errors:\n";
const OF_CONVERSION: &str = "error converting YAML to JSON: ";
/// What an operation of a JSON patch is made of.
const OF_OPERATIONS: [&str; 4] = ["op", "path", "from", "value"];

/// What is said of keys that occur twice in a document.
#[derive(Clone, Debug, Default)]
pub struct Repeated {
    /// Of YAML: one text, which names lines.
    pub lines: Option<String>,
    /// Of JSON: the paths of the keys.
    pub paths: Vec<String>,
}

impl Repeated {
    pub fn is_empty(&self) -> bool {
        self.lines.is_none() && self.paths.is_empty()
    }

    pub fn problems(&self) -> impl Iterator<Item = String> {
        let duplicates = self.paths.iter().map(|path| format!("duplicate field \"{path}\""));
        self.lines.iter().cloned().chain(duplicates)
    }
}

pub fn unknown_fields_told(paths: &[String]) -> impl Iterator<Item = String> {
    paths.iter().map(|path| format!("unknown field \"{path}\""))
}

/// Drops what the type does not know, and says which fields those were. A wrong type is an error, which names it.
pub fn unknown_fields(shape: Shape<'_>, object: &mut Value) -> Result<Vec<String>, String> {
    let (group, version, kind) = shape.gvk;
    if let Some(custom) = shape.custom {
        check_metadata(object)?;
        return Ok(custom.version().prune(object));
    }
    let Some(ty) = schema::of(group, version, kind) else { return Ok(Vec::new()) };
    let mut unknown = Vec::new();
    for problem in schema::check(ty, object) {
        match problem {
            SchemaError::UnknownField { path } => unknown.push(path),
            fatal => return Err(fatal.to_string()),
        }
    }
    schema::prune(ty, object);
    Ok(unknown)
}

/// The metadata of a custom resource is typed like everybody's; what its schema says is a rule, not a type.
fn check_metadata(object: &Value) -> Result<(), String> {
    // Any built-in knows it.
    let Some(ty) = schema::of("", "v1", "ConfigMap") else { return Ok(()) };
    let metadata = json!({"metadata": object["metadata"]});
    let wrong = schema::check(ty, &metadata).into_iter().find(SchemaError::is_fatal);
    wrong.map_or(Ok(()), |wrong| Err(wrong.to_string()))
}

/// Refuses, warns of, or passes over what is wrong with fields.
pub fn strictness(problems: Vec<String>, validation: Validation, warnings: &mut Vec<String>) -> Result<(), String> {
    match validation {
        Validation::Ignore => Ok(()),
        _ if problems.is_empty() => Ok(()),
        Validation::Warn => {
            warnings.extend(problems.into_iter().flat_map(by_line));
            Ok(())
        }
        Validation::Strict => Err(format!("strict decoding error: {}", problems.join(", "))),
    }
}

/// What the YAML parser says of all lines at once is a warning for each of them.
fn by_line(problem: String) -> Vec<String> {
    let told = problem.strip_prefix(OF_CONVERSION).unwrap_or(&problem);
    match told.strip_prefix(OF_LINES) {
        Some(lines) => lines.lines().map(|line| line.trim().to_owned()).collect(),
        None => vec![problem],
    }
}

/// The error of an apply whose YAML has keys twice.
pub fn of_conversion(lines: &str) -> String {
    format!("{OF_CONVERSION}{lines}")
}

/// What is wrong with the operations of a JSON patch.
pub fn of_operations(body: &[u8], patch: &Value) -> Vec<String> {
    let unknown: Vec<String> = patch
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .flat_map(|(index, operation)| operation.as_object().into_iter().flatten().map(move |(name, _)| (index, name)))
        .filter(|(_, name)| !OF_OPERATIONS.contains(&name.as_str()))
        .map(|(index, name)| format!("[{index}].{name}"))
        .collect();
    order::in_document(body, &unknown).iter().map(|problem| format!("json patch {problem}")).collect()
}

/// A value as Go prints it (`%v`), which is how upstream shows a strategic merge patch that it refuses.
pub fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(name, value)| format!("{name}:{}", go_text(value))).collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_yaml_is_a_warning_of_its_own() {
        let lines =
            "yaml: unmarshal errors:\n  line 5: key \"a\" already set in map\n  line 7: key \"b\" already set in map";
        let each = ["line 5: key \"a\" already set in map", "line 7: key \"b\" already set in map"];
        for (problem, expected) in [
            (lines.to_owned(), &each[..]),
            (of_conversion(lines), &each[..]),
            ("unknown field \"a\"".to_owned(), &["unknown field \"a\""]),
        ] {
            let mut warnings = Vec::new();
            strictness(vec![problem], Validation::Warn, &mut warnings).unwrap();
            assert_eq!(warnings, expected);
        }
        let refused = strictness(vec![lines.into(), "x".into()], Validation::Strict, &mut Vec::new());
        assert_eq!(refused.unwrap_err(), format!("strict decoding error: {lines}, x"));
    }

    #[test]
    fn values_are_shown_as_go_shows_them() {
        let value = json!({"b": [1, "x y", null, {"c": true}], "a": {}, "d": 1.5});
        assert_eq!(go_text(&value), "map[a:map[] b:[1 x y <nil> map[c:true]] d:1.5]");
    }
}
