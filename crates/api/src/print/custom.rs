//! Tables of custom resources, by the columns that their definition names
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#additional-printer-columns>).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, NAME, format};
use crate::{
    time,
    value::{int, items, text},
};

/// Made once per version of a definition; prints any number of objects.
#[derive(Clone, Debug)]
pub struct CustomPrinter {
    columns: Vec<CustomColumn>,
}

#[derive(Clone, Debug)]
struct CustomColumn {
    definition: Value,
    is_date: bool,
    path: Vec<Step>,
}

/// The part of JSONPath that printer columns use.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    Every,
    /// `[?(@.type=="Ready")]`
    Where {
        field: Vec<String>,
        value: String,
        equal: bool,
    },
}

impl CustomPrinter {
    /// `additional` is `spec.versions[].additionalPrinterColumns`; without any, the age is shown.
    pub fn new(additional: &Value) -> Self {
        if items(additional).is_empty() {
            let definition = AGE.to_value();
            let path = vec![Step::Field("metadata".into()), Step::Field("creationTimestamp".into())];
            return Self { columns: vec![CustomColumn { definition, is_date: true, path }] };
        }
        let columns = items(additional).iter().map(|column| CustomColumn {
            is_date: column["type"] == "date",
            path: parse(text(&column["jsonPath"])),
            definition: json!({
                "name": column["name"], "type": column["type"], "format": text(&column["format"]),
                "description": text(&column["description"]), "priority": int(&column["priority"]),
            }),
        });
        Self { columns: columns.collect() }
    }

    pub fn columns(&self) -> Vec<Value> {
        std::iter::once(NAME.to_value()).chain(self.columns.iter().map(|column| column.definition.clone())).collect()
    }

    pub fn row(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        std::iter::once(format::name(object))
            .chain(self.columns.iter().map(|column| column.cell(object, now)))
            .collect()
    }
}

impl CustomColumn {
    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = find(object, &self.path);
        let Some(first) = found.first() else { return Value::Null };
        match first {
            Value::String(written) if self.is_date => match time::parse(written) {
                Some(_) => time::age(first, now).into(),
                None => "<invalid>".into(),
            },
            Value::Object(_) | Value::Array(_) => first.to_string().into(),
            other => (*other).clone(),
        }
    }
}

fn find<'a>(object: &'a Value, path: &[Step]) -> Vec<&'a Value> {
    let mut found = vec![object];
    for step in path {
        found = found.into_iter().flat_map(|value| take(value, step)).collect();
    }
    found
}

fn take<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name.as_str()).into_iter().filter(|value| !value.is_null()).collect(),
        Step::Index(index) => {
            let list = items(value);
            let index = if *index < 0 { list.len() as i64 + index } else { *index };
            usize::try_from(index).ok().and_then(|index| list.get(index)).into_iter().collect()
        }
        Step::Every => match value {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        },
        Step::Where { field, value: wanted, equal } => {
            let matches = |one: &&Value| {
                let found = field.iter().fold(*one, |value, name| &value[name.as_str()]);
                (format::scalar(found, "") == *wanted) == *equal
            };
            items(value).iter().filter(matches).collect()
        }
    }
}

/// `.status.conditions[?(@.type=="Ready")].status`; a path that cannot be read finds nothing.
fn parse(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let Some(end) = closing(after) else { return unreadable() };
            let Some(step) = bracket(&after[..end]) else { return unreadable() };
            steps.push(step);
            rest = &after[end + 1..];
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let (name, after) = field_name(rest);
        match name.as_str() {
            "" => return unreadable(),
            "*" => steps.push(Step::Every),
            _ => steps.push(Step::Field(name)),
        }
        rest = after;
    }
    steps
}

/// A step that no object has.
fn unreadable() -> Vec<Step> {
    vec![Step::Index(i64::MAX)]
}

/// A name up to the next dot or bracket; a backslash keeps the character after it.
fn field_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => return (name, &text[i..]),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket closes, quotes and inner brackets left aside.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[' | '(') => depth += 1,
            (None, ']') if depth == 0 => return Some(i),
            (None, ']' | ')') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn unquoted(text: &str) -> Option<&str> {
    let text = text.trim();
    ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
}

fn bracket(inside: &str) -> Option<Step> {
    let inside = inside.trim();
    if inside == "*" {
        return Some(Step::Every);
    }
    if let Some(name) = unquoted(inside) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Some(filter) = inside.strip_prefix("?(").and_then(|filter| filter.strip_suffix(')')) {
        let (operator, equal) = if filter.contains("==") { ("==", true) } else { ("!=", false) };
        let (field, value) = filter.split_once(operator)?;
        let field = field.trim().strip_prefix("@.")?.split('.').map(str::to_owned).collect();
        let value = unquoted(value).unwrap_or(value.trim()).to_owned();
        return Some(Step::Where { field, value, equal });
    }
    inside.parse().ok().map(Step::Index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_printer_columns() {
        let object = json!({
            "spec": {"replicas": 3, "a.b": "dotted", "list": [{"n": 1}, {"n": 2}], "map": {"k": true}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
        });
        let rows = [
            (".spec.replicas", json!(3)),
            ("{.spec.replicas}", json!(3)),
            (".spec.a\\.b", json!("dotted")),
            (".spec['a.b']", json!("dotted")),
            (".spec.list[1].n", json!(2)),
            (".spec.list[-1].n", json!(2)),
            (".spec.list[*].n", json!(1)),
            (".status.conditions[?(@.type==\"Ready\")].status", json!("True")),
            (".status.conditions[?(@.type!='Ready')].type", json!("Other")),
            (".spec.map", json!("{\"k\":true}")),
            (".spec.missing", json!(null)),
            (".spec[", json!(null)),
        ];
        for (path, expected) in rows {
            let printer = CustomPrinter::new(&json!([{"name": "X", "type": "string", "jsonPath": path}]));
            assert_eq!(printer.row(&object, Timestamp::UNIX_EPOCH)[1], expected, "{path}");
        }
    }

    #[test]
    fn without_columns_the_age_is_shown() {
        let printer = CustomPrinter::new(&Value::Null);
        let object = json!({"metadata": {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"}});
        let now = "1970-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(printer.row(&object, now), [json!("x"), json!("60s")]);
        assert_eq!(printer.columns().len(), 2);
    }
}
