//! From JSON to values and back.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Number, Value as Json};

use super::{Key, List, Map, Text, Value};
use crate::{library::time, schema::Declaration, types::Type};

/// A schema says that a string is a time, and that a number without a fraction is a double nevertheless.
pub(crate) fn read<'a>(json: &'a Json, declaration: Option<&'a Declaration>) -> Result<Value<'a>, String> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => self::number(number, declaration),
        Json::Array(list) => Value::List(List::Json(list, declaration)),
        Json::Object(map) => Value::Map(Map::Json(map, declaration)),
        Json::String(text) => match declaration.map(|declaration| &declaration.ty) {
            Some(Type::Bytes) => {
                let bytes = STANDARD.decode(text).map_err(|error| format!("invalid data: {error}"))?;
                Value::Bytes(bytes.into())
            }
            Some(Type::Timestamp) => Value::Timestamp(time::date_or_timestamp(text)?),
            Some(Type::Duration) => Value::Duration(time::duration(text)?),
            _ => Value::String(Text::Borrowed(text)),
        },
    })
}

fn number<'a>(number: &Number, declaration: Option<&Declaration>) -> Value<'a> {
    let double = number.as_f64().unwrap_or(f64::NAN);
    match declaration.map(|declaration| &declaration.ty) {
        Some(Type::Double) => Value::Double(double),
        Some(Type::Int) if number.as_i64().is_none() && double.fract() == 0.0 => Value::Int(double as i64),
        _ => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Value::Int(value),
            (None, Some(value)) => Value::Uint(value),
            (None, None) => Value::Double(double),
        },
    }
}

impl Value<'_> {
    /// The value as JSON; an error names the type that has no form there.
    pub fn to_json(&self) -> Result<Json, String> {
        Ok(match self {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => Json::from(*value),
            Value::Uint(value) => Json::from(*value),
            Value::Double(value) => Json::from(*value),
            Value::String(text) => Json::from(&**text),
            Value::Bytes(bytes) => Json::from(STANDARD.encode(bytes)),
            Value::Timestamp(at) => Json::from(at.to_string()),
            Value::Duration(nanoseconds) => Json::from(time::duration_text(*nanoseconds)),
            Value::List(List::Json(list, _)) => Json::Array(list.to_vec()),
            Value::List(list) => Json::Array(list.iter().map(|value| value?.to_json()).collect::<Result<_, _>>()?),
            Value::Map(Map::Json(map, _)) => Json::Object((*map).clone()),
            Value::Map(Map::Owned(map) | Map::Total(map)) => {
                let entry = |(key, value): (&Key<'_>, &Value<'_>)| match key {
                    Key::String(name) => Ok((name.to_string(), value.to_json()?)),
                    key => Err(format!("a map with the key {:?} has no form in JSON", key)),
                };
                Json::Object(map.iter().map(entry).collect::<Result<_, String>>()?)
            }
            Value::Optional(Some(value)) => value.to_json()?,
            Value::Optional(None) => Json::Null,
            Value::Struct(object) => {
                let entry = |(name, value): (&String, &Value<'_>)| Ok((name.clone(), value.to_json()?));
                Json::Object(object.fields.iter().map(entry).collect::<Result<_, String>>()?)
            }
            Value::Type(_) | Value::Opaque(_) | Value::Composed => {
                return Err(format!("a value of type {} has no form in JSON", self.type_of()));
            }
        })
    }
}
