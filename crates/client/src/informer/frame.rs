//! One event of a watch. Most of what a controller spends is spent here, so an event is read in one pass where its
//! object allows it.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Object,
    wire::{ListMetadata, WireError, refused},
};

pub(super) enum Frame<K> {
    Applied(K),
    Deleted(K),
    /// The server's position, without an object.
    Bookmark(String),
}

impl<K: Object> Frame<K> {
    pub fn read(line: &[u8]) -> Result<Self, WireError> {
        let wrong = |source| WireError::Decode { what: "a watch event", source };
        let object = match serde_json::from_slice(line).map_err(wrong)? {
            Line::Read(frame) => return Ok(frame),
            Line::Text { kind, object } => match kind {
                Kind::Applied => object_of(object).map(Frame::Applied),
                Kind::Deleted => object_of(object).map(Frame::Deleted),
                Kind::Bookmark => {
                    serde_json::from_str(object).map(|Bookmark { metadata }| Frame::Bookmark(metadata.resource_version))
                }
                Kind::Error => return Err(refused(object.as_bytes(), 500)),
            },
        };
        object.map_err(wrong)
    }
}

#[derive(Clone, Copy, Deserialize)]
enum Kind {
    #[serde(rename = "ADDED", alias = "MODIFIED")]
    Applied,
    #[serde(rename = "DELETED")]
    Deleted,
    #[serde(rename = "BOOKMARK")]
    Bookmark,
    /// Its object is a Status.
    #[serde(other)]
    Error,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: ListMetadata,
}

enum Line<'a, K> {
    Read(Frame<K>),
    Text { kind: Kind, object: &'a str },
}

impl<'de: 'a, 'a, K: Object> Deserialize<'de> for Line<'a, K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

struct Reader<'a, K>(PhantomData<(&'a str, K)>);

impl<'de: 'a, 'a, K: Object> Visitor<'de> for Reader<'a, K> {
    type Value = Line<'a, K>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a watch event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut event: A) -> Result<Self::Value, A::Error> {
        let (mut kind, mut text, mut frame) = (None, None, None);
        while let Some(key) = event.next_key::<&str>()? {
            match (key, kind) {
                ("type", _) => kind = Some(event.next_value()?),
                ("object", Some(Kind::Applied)) if K::LEAN => frame = Some(Frame::Applied(event.next_value()?)),
                ("object", Some(Kind::Deleted)) if K::LEAN => frame = Some(Frame::Deleted(event.next_value()?)),
                ("object", _) => text = Some(event.next_value::<&RawValue>()?.get()),
                _ => drop(event.next_value::<IgnoredAny>()?),
            }
        }
        match (frame, kind, text) {
            (Some(frame), ..) => Ok(Line::Read(frame)),
            (None, None, _) => Err(A::Error::missing_field("type")),
            (None, _, None) => Err(A::Error::missing_field("object")),
            (None, Some(kind), Some(object)) => Ok(Line::Text { kind, object }),
        }
    }
}

/// Without who manages which field: nobody who watches asks for it, and read it would be a tree of small pieces, often
/// larger than the rest of the object.
pub(super) fn object_of<K: Object>(object: &str) -> Result<K, serde_json::Error> {
    #[derive(Deserialize)]
    struct Whole<'a> {
        #[serde(borrow, default)]
        metadata: Metadata<'a>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata<'a> {
        #[serde(borrow, default)]
        managed_fields: Option<&'a RawValue>,
    }
    if K::LEAN {
        return serde_json::from_str(object);
    }
    let whole: Whole<'_> = serde_json::from_str(object)?;
    let Some(managed) = whole.metadata.managed_fields.map(RawValue::get) else { return serde_json::from_str(object) };
    // A raw value is a part of the text it was read from.
    let start = managed.as_ptr().addr() - object.as_ptr().addr();
    let rest = [&object[..start], "null", &object[start + managed.len()..]].concat();
    serde_json::from_str(&rest)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::lean::Pod;

    #[test]
    fn who_manages_what_is_left_out() {
        let managed = r#""managedFields":[{"manager":"m","fieldsV1":{"f:data":{".":{}}}}]"#;
        let data = r#""data":{"managedFields":"[]"}"#;
        for text in [
            format!(r#"{{"metadata":{{"name":"ä",{managed},"uid":"u"}},{data}}}"#),
            format!(r#"{{{data},"metadata":{{"uid":"u","name":"ä",{managed}}}}}"#),
            format!(r#"{{"metadata":{{"name":"ä","uid":"u"}},{data}}}"#),
            format!(r#"{{"metadata":{{"managedFields":null,"name":"ä","uid":"u"}},{data}}}"#),
        ] {
            let map: ConfigMap = object_of(&text).unwrap();
            assert_eq!((map.metadata.name.as_deref(), map.metadata.uid.as_deref()), (Some("ä"), Some("u")), "{text}");
            assert_eq!(map.data.unwrap()["managedFields"], "[]");
            assert!(map.metadata.managed_fields.is_none());
            let pod: Pod = object_of(&text).unwrap();
            assert_eq!((pod.metadata.name.as_deref(), pod.metadata.managed_fields), (Some("ä"), None));
        }
        assert!(object_of::<ConfigMap>("{").is_err());
    }

    /// Read in one pass or in two, with the type first or last, they are the same.
    #[test]
    fn frames() {
        fn name<K: Object>(line: &str) -> (&'static str, String) {
            let named = |object: &K| object.meta().name.clone().unwrap_or_default();
            match Frame::<K>::read(line.as_bytes()) {
                Ok(Frame::Applied(object)) => ("applied", named(&object)),
                Ok(Frame::Deleted(object)) => ("deleted", named(&object)),
                Ok(Frame::Bookmark(version)) => ("bookmark", version),
                Err(error) if error.is_expired() => ("expired", String::new()),
                Err(_) => ("wrong", String::new()),
            }
        }
        let object = r#""object":{"metadata":{"name":"a","resourceVersion":"7"}}"#;
        let status = r#""object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old","reason":"Expired","code":410}"#;
        for (line, expected) in [
            (format!(r#"{{"type":"ADDED",{object}}}"#), ("applied", "a")),
            (format!(r#"{{"type":"MODIFIED",{object}}}"#), ("applied", "a")),
            (format!(r#"{{{object},"type":"MODIFIED"}}"#), ("applied", "a")),
            (format!(r#"{{"type":"DELETED","more":[1],{object}}}"#), ("deleted", "a")),
            (format!(r#"{{"type":"BOOKMARK",{object}}}"#), ("bookmark", "7")),
            (format!(r#"{{"type":"ERROR",{status}}}"#), ("expired", "")),
            (format!("{{{object}}}"), ("wrong", "")),
            (r#"{"type":"ADDED"}"#.to_owned(), ("wrong", "")),
            (r#"{"type":"ADDED","object":{"metadata":7}}"#.to_owned(), ("wrong", "")),
            ("{".to_owned(), ("wrong", "")),
        ] {
            let expected = (expected.0, expected.1.to_owned());
            assert_eq!(name::<ConfigMap>(&line), expected, "{line}");
            assert_eq!(name::<Pod>(&line), expected, "{line}");
        }
    }
}
