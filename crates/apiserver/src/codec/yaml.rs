//! YAML to `Value`. Keys that occur twice are told of by their lines, as Go's parser does it.

use std::{cell::RefCell, collections::HashSet, fmt};

use knarr_api::field::quote;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{json, nesting, strict::OF_LINES};

/// Finding a line reads the document once more, so that only so many are looked for.
const MAX_LINES: usize = 10;

/// The value, and what Go's parser says of keys that occur twice, which is one error for all of them.
pub fn parse(body: &[u8]) -> Result<(Value, Option<String>), serde_yaml::Error> {
    if nesting::is_too_deep(body) {
        return Err(Error::custom("the document nests too deeply"));
    }
    let (value, duplicates) = json::read(serde_yaml::Deserializer::from_slice(body))?;
    if duplicates.is_empty() {
        return Ok((value, None));
    }
    let of_line = |(line, key): (usize, String)| format!("  line {line}: key {} already set in map", quote(&key));
    let lines: Vec<_> = (0..MAX_LINES).map_while(|nth| find(body, nth)).map(of_line).collect();
    Ok((value, Some(format!("{OF_LINES}{}", lines.join("\n")))))
}

/// The line and the key of the nth duplicate.
fn find(body: &[u8], nth: usize) -> Option<(usize, String)> {
    let search = RefCell::new(Search { skip: nth, found: None });
    // The parser knows the place of a value only where reading it fails.
    let error = Node(&search).deserialize(serde_yaml::Deserializer::from_slice(body)).err()?;
    let key = search.into_inner().found?;
    Some((error.location()?.line(), key))
}

struct Search {
    skip: usize,
    found: Option<String>,
}

/// Reads any value for its keys.
#[derive(Clone, Copy)]
struct Node<'s>(&'s RefCell<Search>);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    scalars_are_passed_over!();

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while map.next_key_seed(Key { search: self.0, seen: &mut seen })?.is_some() {
            map.next_value_seed(self)?;
        }
        Ok(())
    }
}

/// Reads a key, and fails at the one that is looked for.
struct Key<'s, 'm> {
    search: &'s RefCell<Search>,
    seen: &'m mut HashSet<String>,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        if self.seen.insert(key.to_owned()) {
            return Ok(());
        }
        let mut search = self.search.borrow_mut();
        if search.skip > 0 {
            search.skip -= 1;
            return Ok(());
        }
        search.found = Some(key.to_owned());
        Err(E::custom("found"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_occur_twice_are_named_by_line() {
        let body = "\nmetadata:\n  name: x\nspec:\n  foo: 1\n  list:\n  - a: 1\n    a: 2\n  foo: 2\n";
        let (value, told) = parse(body.as_bytes()).unwrap();
        assert_eq!(value, json!({"metadata": {"name": "x"}, "spec": {"foo": 2, "list": [{"a": 2}]}}));
        assert_eq!(
            told.unwrap(),
            "yaml: unmarshal errors:\n  line 8: key \"a\" already set in map\n  line 9: key \"foo\" already set in map"
        );
        assert_eq!(parse(b"a: 1\nb: [~, 1.5, -2, true, x]\n").unwrap().1, None);
        assert_eq!(parse(br#"{"a": 1, "a": 2}"#).unwrap().1.unwrap().lines().count(), 2);
        assert!(parse(b"a: [").is_err());
        assert!(parse("[".repeat(3 << 20).as_bytes()).is_err());
    }
}
