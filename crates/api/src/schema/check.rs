//! Does a JSON value fit its type? Answers in the words of upstream's decoder, which clients match on.

use std::fmt;

use serde_json::{Map, Value};

use super::{Kind, TypeRef};
use crate::quantity::Quantity;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The type has no such field. Only an error under `fieldValidation=Strict`; a warning under `Warn`.
    #[error("unknown field \"{path}\"")]
    UnknownField { path: String },
    /// The value can't be decoded; always an error.
    #[error("json: cannot unmarshal {value} into Go {place} of type {expected}")]
    WrongType { value: String, place: Place, expected: String },
    /// A scalar with a syntax of its own (quantity, time, base64) does not have it; always an error.
    #[error("{message}")]
    Malformed { message: String },
}

impl SchemaError {
    /// True where the object can't be used whatever the level of field validation.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, SchemaError::UnknownField { .. })
    }
}

/// Where a value of a wrong type stands: the innermost Go struct, and the path from the root without indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub structure: String,
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.structure.is_empty() && self.path.is_empty() {
            return f.write_str("value");
        }
        write!(f, "struct field {}.{}", self.structure, self.path)
    }
}

/// All unknown fields, and the first value of a wrong type, of `value` as an object of type `ty`.
pub fn check(ty: TypeRef<'_>, value: &Value) -> Vec<SchemaError> {
    let mut checker = Checker { path: Vec::new(), errors: Vec::new(), failed: false, structure: TypeName(ty) };
    checker.value(ty, value);
    checker.errors
}

/// `strict decoding error: unknown field "spec.foo", unknown field "spec.bar"`; `None` where nothing is unknown.
pub fn strict_message(errors: &[SchemaError]) -> Option<String> {
    let unknown: Vec<String> = errors.iter().filter(|e| !e.is_fatal()).map(ToString::to_string).collect();
    (!unknown.is_empty()).then(|| format!("strict decoding error: {}", unknown.join(", ")))
}

/// Drops what the types do not know, nulls, and of the built-ins' optional lists and maps those that are empty: what
/// upstream keeps of an object after decoding it.
pub fn prune(ty: TypeRef<'_>, value: &mut Value) {
    match (ty.kind(), value) {
        (Kind::Struct, Value::Object(map)) => map.retain(|name, value| match ty.field(name) {
            Some(field) if value.is_null() => field.is_nullable(),
            Some(field) => {
                prune(field.ty(), value);
                !ty.is_builtin() || field.is_required() || !is_left_out(field.ty(), value)
            }
            None => ty.is_open(),
        }),
        (Kind::Map, Value::Object(map)) => {
            let element = ty.element();
            map.values_mut().for_each(|value| nothing_is_zero(element, value));
        }
        (Kind::List, Value::Array(items)) => {
            let element = ty.element();
            items.iter_mut().for_each(|value| nothing_is_zero(element, value));
        }
        _ => {}
    }
}

/// Go's encoder leaves out lists and maps that are empty. (A struct without members is a pointer that is set.)
fn is_left_out(ty: TypeRef<'_>, value: &Value) -> bool {
    match (ty.kind(), value) {
        (Kind::List, Value::Array(items)) => items.is_empty(),
        (Kind::Map, Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

/// A null inside a list or map decodes to the zero value of its type, where that can be told.
fn nothing_is_zero(ty: TypeRef<'_>, value: &mut Value) {
    if value.is_null() {
        *value = match ty.kind() {
            Kind::String | Kind::Bytes => Value::String(String::new()),
            Kind::Struct => Value::Object(Map::new()),
            Kind::Int32 | Kind::Int64 => Value::from(0),
            Kind::Boolean => Value::Bool(false),
            Kind::Quantity => Value::String("0".to_owned()),
            _ => return,
        };
        return;
    }
    prune(ty, value);
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

#[derive(Clone, Copy)]
struct TypeName<'a>(TypeRef<'a>);

impl fmt::Display for TypeName<'_> {
    /// The name of a Go struct without its package.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name().rsplit('.').next().unwrap_or_default())
    }
}

struct Checker<'a> {
    path: Vec<Step<'a>>,
    errors: Vec<SchemaError>,
    /// Upstream's decoder reports the first wrong type only.
    failed: bool,
    structure: TypeName<'a>,
}

impl<'a> Checker<'a> {
    fn value(&mut self, ty: TypeRef<'a>, value: &'a Value) {
        match (ty.kind(), value) {
            (_, Value::Null) | (Kind::Any, _) | (Kind::String, Value::String(_)) | (Kind::Boolean, Value::Bool(_)) => {}
            (Kind::Struct, Value::Object(map)) => self.structure(ty, map),
            (Kind::Map, Value::Object(map)) => {
                let element = ty.element();
                for (name, value) in map {
                    self.path.push(Step::Name(name));
                    // The decoder's own path for a wrong type ends at the map.
                    let (failed, seen) = (self.failed, self.errors.len());
                    self.value(element, value);
                    self.path.pop();
                    if !failed && self.failed && element.kind() != Kind::Struct {
                        self.move_up(seen);
                    }
                }
            }
            (Kind::List, Value::Array(items)) => {
                let element = ty.element();
                for (index, value) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    self.value(element, value);
                    self.path.pop();
                }
            }
            (Kind::Int32, Value::Number(number)) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {}
            (Kind::Int64, Value::Number(number)) if number.is_i64() => {}
            (Kind::Double, Value::Number(_)) => {}
            (Kind::Bytes, Value::String(text)) => self.bytes(text),
            (Kind::Time, Value::String(text)) => self.time(text, "2006-01-02T15:04:05Z07:00"),
            (Kind::MicroTime, Value::String(text)) => self.time(text, "2006-01-02T15:04:05.000000Z07:00"),
            (Kind::Quantity, Value::String(text)) => self.quantity(text),
            (Kind::Quantity, Value::Number(number)) => self.quantity(&number.to_string()),
            (Kind::IntOrString, Value::String(_)) => {}
            (Kind::IntOrString, Value::Number(n)) if n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {}
            (_, value) => self.wrong_type(ty, value),
        }
    }

    fn structure(&mut self, ty: TypeRef<'a>, map: &'a Map<String, Value>) {
        let outer = std::mem::replace(&mut self.structure, TypeName(ty));
        for (name, value) in map {
            self.path.push(Step::Name(name));
            match ty.field(name) {
                Some(field) => self.value(field.ty(), value),
                None if ty.is_open() => {}
                None => self.errors.push(SchemaError::UnknownField { path: self.full_path() }),
            }
            self.path.pop();
        }
        self.structure = outer;
    }

    fn full_path(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Name(name) if text.is_empty() => text.push_str(name),
                Step::Name(name) => {
                    text.push('.');
                    text.push_str(name);
                }
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    fn names_only(&self) -> String {
        let names: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Name(name) => Some(*name),
                Step::Index(_) => None,
            })
            .collect();
        names.join(".")
    }

    /// Takes the map's key off the path of the error just found.
    fn move_up(&mut self, seen: usize) {
        let path = self.names_only();
        if let Some(SchemaError::WrongType { place, .. }) = self.errors.get_mut(seen) {
            place.path = path;
        }
    }

    fn wrong_type(&mut self, ty: TypeRef<'a>, value: &Value) {
        let value = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if matches!(ty.kind(), Kind::Int32 | Kind::Int64 | Kind::IntOrString) => {
                format!("number {number}")
            }
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        // These types decode themselves, and so know no place.
        let place = match ty.kind() {
            Kind::Time | Kind::MicroTime | Kind::IntOrString => Place { structure: String::new(), path: String::new() },
            _ if self.path.is_empty() => Place { structure: String::new(), path: String::new() },
            _ => Place { structure: self.structure.to_string(), path: self.names_only() },
        };
        if let Kind::Quantity = ty.kind() {
            return self.malformed(QUANTITY_SYNTAX.to_owned());
        }
        let expected = go_type(ty);
        self.fail(SchemaError::WrongType { value, place, expected });
    }

    fn bytes(&mut self, text: &str) {
        use base64::Engine;
        // Go's decoder skips line breaks.
        let engine = base64::engine::general_purpose::STANDARD;
        let result = match text.contains(['\n', '\r']) {
            true => engine.decode(text.replace(['\n', '\r'], "")),
            false => engine.decode(text),
        };
        let at = match result {
            Ok(_) => return,
            Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => at,
            Err(_) => text.len().saturating_sub(text.len() % 4),
        };
        self.malformed(format!("illegal base64 data at input byte {at}"));
    }

    fn time(&mut self, text: &str, layout: &str) {
        if text.parse::<jiff::Timestamp>().is_err() {
            let (quoted, wanted) = (format!("{text:?}"), format!("{layout:?}"));
            self.malformed(format!("parsing time {quoted} as {wanted}: cannot parse {quoted} as \"2006\""));
        }
    }

    fn quantity(&mut self, text: &str) {
        if text.parse::<Quantity>().is_err() {
            self.malformed(QUANTITY_SYNTAX.to_owned());
        }
    }

    fn malformed(&mut self, message: String) {
        self.fail(SchemaError::Malformed { message });
    }

    fn fail(&mut self, error: SchemaError) {
        if !self.failed {
            self.failed = true;
            self.errors.push(error);
        }
    }
}

const QUANTITY_SYNTAX: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// The type's name in Go, as the decoder prints it. Named string types can't be told from plain strings.
fn go_type(ty: TypeRef<'_>) -> String {
    match ty.kind() {
        Kind::List => format!("[]{}", go_type(ty.element())),
        Kind::Map => format!("map[string]{}", go_type(ty.element())),
        Kind::String | Kind::Time | Kind::MicroTime | Kind::Quantity => "string".to_owned(),
        Kind::Bytes => "[]uint8".to_owned(),
        Kind::Int32 | Kind::IntOrString => "int32".to_owned(),
        Kind::Int64 => "int64".to_owned(),
        Kind::Double => "float64".to_owned(),
        Kind::Boolean => "bool".to_owned(),
        Kind::Any => "map[string]interface {}".to_owned(),
        Kind::Struct => {
            let mut parts = ty.name().rsplit('.');
            let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            format!("{package}.{name}")
        }
    }
}
