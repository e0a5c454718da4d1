//! Tables of custom resources, by the columns that their definition names
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#additional-printer-columns>).

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, format};
use crate::{
    jsonpath::JsonPath,
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
    kind: Kind,
    /// A path that cannot be read finds nothing.
    path: Option<JsonPath>,
}

/// `type` of a column: a value of another type is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Shows everything, as text.
    String,
    Integer,
    Number,
    Boolean,
    /// Shows how long ago it was.
    Date,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            _ => return None,
        })
    }
}

impl CustomPrinter {
    /// `additional` is `spec.versions[].additionalPrinterColumns`; without any, the age is shown.
    pub fn new(additional: &Value) -> Self {
        if items(additional).is_empty() {
            let definition = Column { kind: "date", ..AGE }.to_value();
            let path = column_path(".metadata.creationTimestamp");
            return Self { columns: vec![CustomColumn { definition, kind: Kind::Date, path }] };
        }
        let columns = items(additional).iter().map(|column| {
            let path = text(&column["jsonPath"]);
            let description = match text(&column["description"]) {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                description => description.to_owned(),
            };
            CustomColumn {
                kind: Kind::of(text(&column["type"])).unwrap_or(Kind::String),
                path: column_path(path),
                definition: json!({
                    "name": column["name"], "type": column["type"], "format": text(&column["format"]),
                    "description": description, "priority": int(&column["priority"]),
                }),
            }
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

/// A definition writes it without its braces.
fn column_path(path: &str) -> Option<JsonPath> {
    JsonPath::parse(&format!("{{{path}}}")).ok()
}

impl CustomColumn {
    /// The first value that is found, as upstream shows one only.
    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.as_ref().and_then(|path| path.find(object, true).ok());
        let first = found.and_then(|found| found.into_iter().flatten().next());
        let Some(first) = first.map(Cow::into_owned) else { return Value::Null };
        match (self.kind, &first) {
            (_, Value::Null) => Value::Null,
            (Kind::String, Value::String(_)) => first,
            (Kind::String, other) => other.to_string().into(),
            (Kind::Integer, Value::Number(number)) => {
                number.as_i64().or(number.as_f64().map(|number| number as i64)).into()
            }
            (Kind::Number, Value::Number(_)) | (Kind::Boolean, Value::Bool(_)) => first,
            (Kind::Date, Value::String(written)) => match time::parse(written) {
                Some(_) => time::age(&first, now).into(),
                None => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_of_the_columns_type() {
        let object = json!({"a": {
            "int": 3, "float": 2.5, "text": "x", "truth": true, "map": {"k": true}, "list": [1, 2],
            "date": "1970-01-01T00:00:00Z",
        }});
        let rows = [
            ("string", ".a.text", json!("x")),
            ("string", ".a.int", json!("3")),
            ("string", ".a.truth", json!("true")),
            ("string", ".a.map", json!("{\"k\":true}")),
            ("string", ".a.list", json!("[1,2]")),
            ("string", ".a.list[*]", json!("1")),
            ("string", ".a.missing", json!(null)),
            ("string", ".a[", json!(null)),
            ("integer", ".a.int", json!(3)),
            ("integer", ".a.float", json!(2)),
            ("integer", ".a.text", json!(null)),
            ("number", ".a.float", json!(2.5)),
            ("boolean", ".a.truth", json!(true)),
            ("boolean", ".a.int", json!(null)),
            ("date", ".a.date", json!("60s")),
            ("date", ".a.text", json!("<invalid>")),
            ("date", ".a.int", json!(null)),
        ];
        let now = "1970-01-01T00:01:00Z".parse().unwrap();
        for (kind, path, expected) in rows {
            let printer = CustomPrinter::new(&json!([{"name": "X", "type": kind, "jsonPath": path}]));
            assert_eq!(printer.row(&object, now)[1], expected, "{kind} {path}");
        }
        let printer = CustomPrinter::new(&json!([{"name": "X", "type": "integer", "jsonPath": ".a", "priority": 1}]));
        let described = "Custom resource definition column (in JSONPath format): .a";
        let expected = json!({"name": "X", "type": "integer", "format": "", "description": described, "priority": 1});
        assert_eq!(printer.columns()[1], expected);
    }

    #[test]
    fn without_columns_the_age_is_shown() {
        let printer = CustomPrinter::new(&Value::Null);
        let object = json!({"metadata": {"name": "x", "creationTimestamp": "1970-01-01T00:00:00Z"}});
        let now = "1970-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(printer.row(&object, now), [json!("x"), json!("60s")]);
        assert_eq!(printer.columns().len(), 2);
        assert_eq!((&printer.columns()[1]["name"], &printer.columns()[1]["type"]), (&json!("Age"), &json!("date")));
    }
}
