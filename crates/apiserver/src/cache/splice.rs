//! How an object lies in the store, and how its resourceVersion gets in.
//!
//! An object's resourceVersion is the revision of the transaction that writes it, which nobody knows while the
//! object is being encoded. So the stored form leaves it out and keeps to a fixed beginning,
//! `{"apiVersion":"v1","kind":"Pod","metadata":{`, right after which the revision is inserted when it is known.
//! Encoding happens once per write, and reads only ever copy bytes.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use super::event::{CLOSING, Change};

const METADATA: &[u8] = b"\"metadata\":{";
const REVISION: &[u8] = b"\"resourceVersion\":\"";

/// The stored form: everything but `metadata.resourceVersion`, with type and metadata in front.
pub fn encode(object: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(2048);
    out.push(b'{');
    for key in ["apiVersion", "kind"] {
        let text = object.get(key).and_then(Value::as_str).unwrap_or_default();
        push_member(&mut out, key, &Value::from(text));
    }
    separate(&mut out);
    out.extend_from_slice(METADATA);
    if let Some(metadata) = object.get("metadata").and_then(Value::as_object) {
        for (key, value) in metadata.iter().filter(|(key, _)| *key != "resourceVersion") {
            push_member(&mut out, key, value);
        }
    }
    out.push(b'}');
    if let Some(object) = object.as_object() {
        let rest = object.iter().filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata"));
        for (key, value) in rest {
            push_member(&mut out, key, value);
        }
    }
    out.push(b'}');
    out
}

fn separate(out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
}

fn push_member(out: &mut Vec<u8>, key: &str, value: &Value) {
    separate(out);
    // Writing a `Value` to memory cannot fail: its keys are strings and its numbers finite.
    let _ = serde_json::to_writer(&mut *out, key);
    out.push(b':');
    let _ = serde_json::to_writer(out, value);
}

/// Where the first member of `metadata` begins. The beginning is fixed by [`encode`], so the search is short.
fn metadata_offset(json: &[u8]) -> Option<usize> {
    memchr::memmem::find(&json[..json.len().min(512)], METADATA).map(|at| at + METADATA.len())
}

/// The served form of stored bytes, as a watch tells it.
pub fn with_revision(stored: &[u8], revision: u64, change: Change) -> Line {
    let Some(offset) = metadata_offset(stored) else { return line(change, stored, &[], None) };
    let (head, tail) = stored.split_at(offset);
    line(change, head, tail, Some(revision))
}

/// Served bytes under another revision, as the last state of a deleted object is sent.
pub fn replace_revision(served: &[u8], revision: u64, change: Change) -> Line {
    let Some(offset) = metadata_offset(served) else { return line(change, served, &[], None) };
    let (head, tail) = served.split_at(offset);
    let Some(after) = tail.strip_prefix(REVISION) else { return line(change, head, tail, Some(revision)) };
    let end = after.iter().position(|byte| *byte == b'"').map_or(after.len(), |quote| quote + 1);
    let rest = &after[end..];
    line(change, head, rest.strip_prefix(b",").unwrap_or(rest), Some(revision))
}

/// One line of a watch, and the object in it: every object is watched once at least, and so its bytes are kept once for
/// those who watch and for those who read.
pub struct Line {
    pub whole: Bytes,
    pub object: Bytes,
}

fn line(change: Change, head: &[u8], tail: &[u8], revision: Option<u64>) -> Line {
    let opening = change.opening();
    let mut out = BytesMut::with_capacity(opening.len() + head.len() + tail.len() + REVISION.len() + 24);
    out.put_slice(opening);
    out.put_slice(head);
    if let Some(revision) = revision {
        put_revision(&mut out, revision, tail);
    }
    out.put_slice(tail);
    let object = opening.len()..out.len();
    out.put_slice(CLOSING);
    let whole = out.freeze();
    Line { object: whole.slice(object), whole }
}

fn put_revision(out: &mut BytesMut, revision: u64, tail: &[u8]) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(revision).as_bytes();
    out.put_slice(REVISION);
    out.put_slice(digits);
    out.put_slice(b"\"");
    if tail.first() != Some(&b'}') {
        out.put_slice(b",");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_revision_goes_in_and_is_replaced() {
        let rows = [
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"metadata": "{"}}, "spec": {}}),
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {}}),
            json!({"kind": "X", "apiVersion": "a/v1", "metadata": {"resourceVersion": "5", "uid": "\"u\""}, "z": [1, null]}),
        ];
        for mut object in rows {
            let served = with_revision(&encode(&object), 42, Change::Added);
            object["metadata"]["resourceVersion"] = "42".into();
            assert_eq!(serde_json::from_slice::<Value>(&served.object).unwrap(), object);
            let line = serde_json::json!({"type": "ADDED", "object": object});
            assert_eq!(serde_json::from_slice::<Value>(&served.whole).unwrap(), line);
            let served = replace_revision(&served.object, 1_000, Change::Deleted);
            object["metadata"]["resourceVersion"] = "1000".into();
            assert_eq!(serde_json::from_slice::<Value>(&served.object).unwrap(), object);
            let line = serde_json::json!({"type": "DELETED", "object": object});
            assert_eq!(serde_json::from_slice::<Value>(&served.whole).unwrap(), line);
            assert!(served.whole.ends_with(b"\n"));
        }
    }
}
