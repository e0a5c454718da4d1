//! Objects made up for tests, of every kind that has a message.

use std::collections::HashSet;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::protobuf::plan::{Form, Slot, Struct};
use crate::protobuf::table::Shape;
use crate::protobuf::zero::is_pointer;
use crate::schema;

/// How many structs one object may have before only new fields are added.
const MAX_STRUCTS: usize = 40;
const MAX_DEPTH: usize = 14;

/// Makes objects from a seed. Each field that a kind can reach is in the first object in which there is a place for it.
pub(crate) struct Generator {
    state: u64,
    seen: HashSet<(u32, &'static str)>,
    structs: usize,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed | 1, seen: HashSet::new(), structs: 0 }
    }

    /// Xorshift: good enough to choose by.
    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }

    /// Group, version and kind of all that can be written.
    pub(crate) fn kinds() -> Vec<(&'static str, &'static str, &'static str)> {
        let is_written = |&(group, version, kind): &(&str, &str, &str)| {
            schema::of(group, version, kind).and_then(Struct::of).is_some()
        };
        schema::kinds().filter(is_written).collect()
    }

    pub(crate) fn object(&mut self, (group, version, kind): (&str, &str, &str)) -> Value {
        self.structs = 0;
        let ty = schema::of(group, version, kind).and_then(Struct::of).unwrap();
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let mut object = self.fields(ty, 0);
        object.insert("apiVersion".into(), api_version.into());
        object.insert("kind".into(), kind.into());
        Value::Object(object)
    }

    /// As [`Generator::object`], with numbers that fit integers of every size; `None` for what has no message.
    pub(crate) fn modest_object(&mut self, gvk: (&str, &str, &str)) -> Option<Value> {
        let (group, version, kind) = gvk;
        schema::of(group, version, kind).and_then(Struct::of)?;
        let mut object = self.object(gvk);
        shrink(&mut object);
        Some(object)
    }

    fn fields(&mut self, ty: Struct, depth: usize) -> Map<String, Value> {
        self.structs += 1;
        let mut object = Map::new();
        for slot in ty.plan().slots() {
            let is_new = depth < MAX_DEPTH && self.seen.insert((ty.id(), slot.name));
            if is_new || (self.structs < MAX_STRUCTS && self.below(4) == 0) {
                object.insert(slot.name.to_owned(), self.property(ty, slot, depth));
            }
        }
        object
    }

    fn property(&mut self, ty: Struct, slot: &'static Slot, depth: usize) -> Value {
        let count = 1 + self.below(2);
        match slot.shape {
            Shape::List => (0..count).map(|_| self.value(&slot.form, true, depth)).collect(),
            Shape::Map => {
                let entry = |me: &mut Self| (me.text(true), me.value(&slot.form, true, depth));
                Value::Object((0..count).map(|_| entry(self)).collect())
            }
            Shape::One => {
                let keeps_zero = ty.requires(slot.name) || is_pointer(ty.name(), slot.name);
                self.value(&slot.form, keeps_zero, depth)
            }
        }
    }

    fn value(&mut self, form: &'static Form, zero: bool, depth: usize) -> Value {
        let some = u64::from(!zero);
        match form {
            Form::Text => self.text(zero).into(),
            Form::Bytes => {
                let length = some + self.below(200);
                BASE64_STANDARD.encode((0..length).map(|_| self.below(256) as u8).collect::<Vec<u8>>()).into()
            }
            Form::Integer if self.below(4) == 0 => json!(-1 - self.below(1 << 40).cast_signed()),
            Form::Integer => json!(some + self.below(300)),
            Form::Boolean => json!(!zero || self.below(2) == 0),
            Form::Double => json!(self.below(1000) as f64 + 0.5),
            Form::Time => crate::time::seconds(self.instant()).into(),
            Form::MicroTime => crate::time::micros(self.instant()).into(),
            Form::Quantity => format!("{}m", self.below(100_000)).into(),
            Form::IntOrString if self.below(2) == 0 => json!(self.below(1000)),
            Form::IntOrString => self.text(true).into(),
            Form::Json => json!({ "f:b": { ".": {} }, "a": [1, -2.5, null, self.text(true)] }),
            Form::NamedList { element, .. } => (0..self.below(3)).map(|_| self.value(element, true, depth)).collect(),
            Form::SchemaOrBool(_) if self.below(2) == 0 => json!(self.below(2) == 0),
            Form::SchemaOrList(_, schema) if self.below(2) == 0 => {
                (0..self.below(3)).map(|_| self.value(schema, true, depth + 1)).collect()
            }
            Form::SchemaOrTexts(_) if self.below(2) == 0 => (0..self.below(3)).map(|_| self.text(true)).collect(),
            Form::Struct(ty) | Form::SchemaOrBool(ty) | Form::SchemaOrList(ty, _) | Form::SchemaOrTexts(ty) => {
                Value::Object(self.fields(*ty, depth + 1))
            }
        }
    }

    fn instant(&mut self) -> Timestamp {
        let micros = self.below(4_000_000_000_000_000).cast_signed() - 1_000_000_000_000_000;
        Timestamp::from_microsecond(micros).unwrap()
    }

    fn text(&mut self, zero: bool) -> String {
        const LETTERS: [&str; 8] = ["a", "B", "7", "-", "\"", "\n", "é", "🦭"];
        let longest = if self.below(20) == 0 { 300 } else { 6 };
        let length = u64::from(!zero) + self.below(longest);
        (0..length).map(|_| LETTERS[self.below(8) as usize]).collect()
    }
}

fn shrink(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(large) = number.as_i64() {
                *value = (large % 1_000_000).into();
            }
        }
        Value::Array(list) => list.iter_mut().for_each(shrink),
        Value::Object(map) => map.values_mut().for_each(shrink),
        _ => {}
    }
}
