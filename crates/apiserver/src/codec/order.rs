//! What is wrong with the fields of a JSON document, in the order in which a typed decoder comes across it. Only documents
//! in which something is wrong are read for it.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::json::{MAX_REPORTED, Name, Step};

/// `unknown`: the paths of the fields that the type does not know. What they hold is not looked into, and that they occur
/// twice is not told.
pub fn in_document(body: &[u8], unknown: &[String]) -> Vec<String> {
    let mut reader = Reader { unknown: unknown.iter().map(String::as_str).collect(), told: Vec::new() };
    let at = Step { parent: None, name: Name::Root };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    // It has been read before, so it can be read.
    drop(Seed { at, reader: &mut reader }.deserialize(&mut deserializer));
    reader.told
}

struct Reader<'u> {
    unknown: HashSet<&'u str>,
    told: Vec<String>,
}

impl Reader<'_> {
    fn tell(&mut self, what: &str, path: &str) {
        if self.told.len() < MAX_REPORTED {
            self.told.push(format!("{what} field \"{path}\""));
        }
    }
}

struct Seed<'a, 'r, 'u> {
    at: Step<'a>,
    reader: &'r mut Reader<'u>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    scalars_are_passed_over!();

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        for index in 0.. {
            let at = Step { parent: Some(&self.at), name: Name::Index(index) };
            if seq.next_element_seed(Seed { at, reader: self.reader })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let at = Step { parent: Some(&self.at), name: Name::Field(&key) };
            let (path, is_new) = (at.to_string(), !keys.contains(&key));
            if self.reader.unknown.contains(path.as_str()) {
                if is_new {
                    self.reader.tell("unknown", &path);
                }
                map.next_value::<IgnoredAny>()?;
            } else {
                if !is_new {
                    self.reader.tell("duplicate", &path);
                }
                map.next_value_seed(Seed { at, reader: self.reader })?;
            }
            keys.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::in_document;

    #[test]
    fn fields_are_told_of_where_they_stand() {
        let rows: [(&str, &[&str], &[&str]); 5] = [
            (r#"{"a":1,"b":2}"#, &[], &[]),
            (r#"{"b":1,"a":{"c":1,"c":2},"a":3}"#, &["b"], &["unknown b", "duplicate a.c", "duplicate a"]),
            // Once, however often it is there, and whatever it holds.
            (r#"{"x":{"y":1,"y":2},"x":2,"z":[{"x":1}]}"#, &["x", "z[0].x"], &["unknown x", "unknown z[0].x"]),
            (
                r#"[{"op":"add","foo":1},{"path":"/a","path":"/b"}]"#,
                &["[0].foo"],
                &["unknown [0].foo", "duplicate [1].path"],
            ),
            (r#"{"a":[null,true,-1,1,1.5,"x"],"c":1}"#, &["c"], &["unknown c"]),
        ];
        for (body, unknown, expected) in rows {
            let unknown: Vec<_> = unknown.iter().map(|path| (*path).to_owned()).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|line| line.split_once(' ').unwrap())
                .map(|(what, path)| format!("{what} field \"{path}\""))
                .collect();
            assert_eq!(in_document(body.as_bytes(), &unknown), expected, "{body}");
        }
        let many: String = (0..300).map(|n| format!("\"a{n}\":1,\"a{n}\":1,")).collect();
        assert_eq!(in_document(format!("{{{many}\"z\":1}}").as_bytes(), &[]).len(), 100);
    }
}
