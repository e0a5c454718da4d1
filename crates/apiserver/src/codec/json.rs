//! JSON to `Value`, noting keys that occur twice: the last one wins, as in Go, but strict clients want to know.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, map::Entry};

/// Upstream reports no more than this many problems of one body.
pub(super) const MAX_REPORTED: usize = 100;

/// A place in a document, which upstream writes as `spec.containers[0].image`.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub parent: Option<&'a Step<'a>>,
    pub name: Name<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Name<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.name {
            Name::Root => Ok(()),
            Name::Index(index) => write!(f, "[{index}]"),
            Name::Field(name) if self.parent.is_some_and(|parent| !matches!(parent.name, Name::Root)) => {
                write!(f, ".{name}")
            }
            Name::Field(name) => f.write_str(name),
        }
    }
}

struct Seed<'a, 'r> {
    at: Step<'a>,
    duplicates: &'r mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let at = Step { parent: Some(&self.at), name: Name::Index(items.len()) };
            match seq.next_element_seed(Seed { at, duplicates: self.duplicates })? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let at = Step { parent: Some(&self.at), name: Name::Field(&key) };
            let value = map.next_value_seed(Seed { at, duplicates: self.duplicates })?;
            match members.entry(key) {
                Entry::Vacant(place) => drop(place.insert(value)),
                Entry::Occupied(mut place) => {
                    if self.duplicates.len() < MAX_REPORTED {
                        let at = Step { parent: Some(&self.at), name: Name::Field(place.key()) };
                        self.duplicates.push(at.to_string());
                    }
                    place.insert(value);
                }
            }
        }
        Ok(Value::Object(members))
    }
}

/// The value, and the paths of the keys that occur twice.
pub fn parse(bytes: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let parsed = read(&mut deserializer)?;
    deserializer.end()?;
    Ok(parsed)
}

/// As [`parse`], of any format that has JSON's values.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(Value, Vec<String>), D::Error> {
    let mut duplicates = Vec::new();
    let at = Step { parent: None, name: Name::Root };
    let value = Seed { at, duplicates: &mut duplicates }.deserialize(deserializer)?;
    Ok((value, duplicates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_named_by_path() {
        let rows: [(&str, &[&str]); 4] = [
            (r#"{"a":1,"b":[{"c":1,"c":2}],"a":3}"#, &["b[0].c", "a"]),
            (r#"{"spec":{"replicas":1,"replicas":2}}"#, &["spec.replicas"]),
            (r#"{"a":[1,-2,3.5,"x",null,true]}"#, &[]),
            ("7", &[]),
        ];
        for (text, expected) in rows {
            let (value, duplicates) = parse(text.as_bytes()).unwrap();
            assert_eq!(duplicates, expected);
            assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        }
        assert!(parse(b"{} x").is_err());
        assert!(parse(b"{\"a\":").is_err());
    }
}
