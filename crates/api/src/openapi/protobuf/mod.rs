//! OpenAPI documents in protobuf, as Go clients may ask for them: gnostic's messages of either edition.

#[cfg(test)]
mod tests;
pub(super) mod v2;
pub(super) mod v3;

use serde_json::{Map, Value};

/// Fields named `x-…`, their values as YAML, of which JSON is a part.
fn extensions(out: &mut Message, number: u32, object: &Value) {
    for (name, value) in entries(object).filter(|(name, _)| name.starts_with("x-")) {
        out.named(number, name, |any| any.yaml(value));
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The bytes of a message. Empty texts and false are left out, as proto3 does.
#[derive(Default)]
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn delimited(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn text(&mut self, number: u32, value: &Value) {
        if let Some(text) = value.as_str().filter(|text| !text.is_empty()) {
            self.delimited(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u32, values: &Value) {
        items(values).for_each(|value| self.text(number, value));
    }

    fn truth(&mut self, number: u32, value: &Value) {
        if value == &Value::Bool(true) {
            self.varint(u64::from(number) << 3);
            self.varint(1);
        }
    }

    /// A truth that is one of several members: false is written, too.
    fn chosen_truth(&mut self, number: u32, value: &Value) {
        if let Some(truth) = value.as_bool() {
            self.varint(u64::from(number) << 3);
            self.varint(truth.into());
        }
    }

    fn double(&mut self, number: u32, value: &Value) {
        if let Some(value) = value.as_f64().filter(|value| *value != 0.0) {
            self.varint(u64::from(number) << 3 | 1);
            self.bytes.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn count(&mut self, number: u32, value: &Value) {
        if let Some(value) = value.as_u64().filter(|value| *value != 0) {
            self.varint(u64::from(number) << 3);
            self.varint(value);
        }
    }

    fn message(&mut self, number: u32, write: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        write(&mut inner);
        self.delimited(number, &inner.bytes);
    }

    /// An entry of a map: a name and a value.
    fn named(&mut self, number: u32, name: &str, write: impl FnOnce(&mut Message)) {
        self.message(number, |entry| {
            entry.delimited(1, name.as_bytes());
            entry.message(2, write);
        });
    }

    /// An `Any` that carries YAML.
    fn yaml(&mut self, value: &Value) {
        self.delimited(2, format!("{value}\n").as_bytes());
    }
}
