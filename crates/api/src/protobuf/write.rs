//! JSON text to the bytes of a message, in one pass and without a tree.
//!
//! A message's length stands before it, so every message is written behind one byte that is widened where it does not
//! do. Properties come in any order and are brought into that of their numbers when their struct ends.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use super::plan::{Form, Plan, Slot};
use super::table::Shape;
use super::writer::Writer;

const NANOS: i128 = 1_000_000_000;

/// Writes the properties that the plan knows into a message.
pub(super) struct Fields<'o> {
    pub plan: &'static Plan,
    pub out: &'o mut Writer,
}

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { plan, out } = self;
        let message = out.begin_parts();
        while let Some(slot) = map.next_key_seed(Name(plan))? {
            let Some(slot) = slot else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let start = out.len();
            map.next_value_seed(Property { slot, out })?;
            out.part(slot.rank, start);
        }
        out.end_parts(message, |rank| &plan.ranked(rank).path);
        Ok(())
    }
}

/// A property's name to its slot; `None` for what has no field.
struct Name(&'static Plan);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Slot>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Slot>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a property")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.slot(name))
    }
}

/// A property's value, which is one field, or as many as a list or map has entries.
struct Property<'o> {
    slot: &'static Slot,
    out: &'o mut Writer,
}

impl<'de> DeserializeSeed<'de> for Property<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.slot.shape {
            Shape::One => One { tag: self.slot.tag(), form: &self.slot.form, out: self.out }.deserialize(json),
            Shape::List | Shape::Map => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Property<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.slot.shape == Shape::Map { "an object" } else { "an array" })
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.slot.shape != Shape::List {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        let (tag, form) = (self.slot.tag(), &self.slot.form);
        while list.next_element_seed(One { tag, form, out: &mut *self.out })?.is_some() {}
        Ok(())
    }

    /// Entries in the order of their keys, as Go sorts them.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.slot.shape != Shape::Map {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        let Self { slot, out } = self;
        let first = out.len();
        let mut entries: Vec<(String, usize)> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let start = out.len();
            let entry = out.begin(slot.tag());
            out.bytes(1, key.as_bytes());
            map.next_value_seed(One { tag: 2, form: &slot.form, out: &mut *out })?;
            out.end(entry);
            entries.push((key, start));
        }
        if !entries.is_sorted() {
            out.sort_from(first, entries);
        }
        Ok(())
    }
}

/// One value under one number. A null writes nothing.
struct One<'o> {
    tag: u32,
    form: &'static Form,
    out: &'o mut Writer,
}

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        if !matches!(self.form, Form::Json) {
            return json.deserialize_any(self);
        }
        let raw = <&RawValue as serde::Deserialize>::deserialize(json)?.get();
        if raw != "null" {
            self.out.message(self.tag, |out| out.bytes(1, raw.as_bytes()));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.form {
            Form::Text | Form::Quantity => "a string",
            Form::Bytes => "base64",
            Form::Integer => "an integer",
            Form::Boolean => "a boolean",
            Form::Double => "a number",
            Form::Time | Form::MicroTime => "a time",
            Form::IntOrString => "an integer or a string",
            Form::NamedList { .. } => "an array",
            Form::SchemaOrBool(_) => "a schema or a boolean",
            Form::SchemaOrList(..) => "a schema or an array of schemas",
            Form::SchemaOrTexts(_) => "a schema or an array of strings",
            Form::Json | Form::Struct(_) => "an object",
        })
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<(), E> {
        match self.form {
            Form::Boolean => self.out.number(self.tag, truth.into()),
            Form::SchemaOrBool(_) => self.out.message(self.tag, |out| out.number(1, truth.into())),
            _ => return Err(E::invalid_type(Unexpected::Bool(truth), &self)),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        // Negative numbers are ten bytes of two's complement.
        let wire = number.cast_unsigned();
        match self.form {
            Form::Integer => self.out.number(self.tag, wire),
            #[expect(clippy::cast_precision_loss, reason = "as Go reads a whole number into a float64")]
            Form::Double => self.out.double(self.tag, number as f64),
            Form::Quantity => self.out.message(self.tag, |out| out.bytes(1, number.to_string().as_bytes())),
            Form::IntOrString => self.out.message(self.tag, |out| int_or_string(out, 0, wire, "")),
            _ => return Err(E::invalid_type(Unexpected::Signed(number), &self)),
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        match i64::try_from(number) {
            Ok(number) => self.visit_i64(number),
            Err(_) => self.visit_f64(number as f64),
        }
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        match self.form {
            Form::Double => self.out.double(self.tag, number),
            Form::Quantity => self.out.message(self.tag, |out| out.bytes(1, number.to_string().as_bytes())),
            _ => return Err(E::invalid_type(Unexpected::Float(number), &self)),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let wrong = |me: &Self| E::invalid_value(Unexpected::Str(text), me);
        match self.form {
            Form::Text => self.out.bytes(self.tag, text.as_bytes()),
            Form::Bytes => {
                let bytes = BASE64_STANDARD.decode(text).map_err(|_| wrong(&self))?;
                self.out.bytes(self.tag, &bytes);
            }
            Form::Time => {
                let at = crate::time::parse(text).ok_or_else(|| wrong(&self))?;
                self.out.message(self.tag, |out| time(out, at, NANOS));
            }
            Form::MicroTime => {
                let at = crate::time::parse(text).ok_or_else(|| wrong(&self))?;
                self.out.message(self.tag, |out| time(out, at, 1_000));
            }
            Form::Quantity => self.out.message(self.tag, |out| out.bytes(1, text.as_bytes())),
            Form::IntOrString => self.out.message(self.tag, |out| int_or_string(out, 1, 0, text)),
            _ => return Err(E::invalid_type(Unexpected::Str(text), &self)),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let (tag, element) = match self.form {
            Form::NamedList { tag, element } => (*tag, &**element),
            Form::SchemaOrList(_, element) => (2, &**element),
            Form::SchemaOrTexts(_) => (2, &Form::Text),
            _ => return Err(A::Error::invalid_type(Unexpected::Seq, &self)),
        };
        let message = self.out.begin(self.tag);
        while list.next_element_seed(One { tag, form: element, out: &mut *self.out })?.is_some() {}
        self.out.end(message);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let plan = match self.form {
            Form::Struct(ty) | Form::SchemaOrBool(ty) | Form::SchemaOrList(ty, _) | Form::SchemaOrTexts(ty) => {
                ty.plan()
            }
            _ => return Err(A::Error::invalid_type(Unexpected::Map, &self)),
        };
        let message = self.out.begin(self.tag);
        match self.form {
            Form::Struct(_) => Fields { plan, out: &mut *self.out }.visit_map(map)?,
            union => {
                // A schema that is there says yes.
                let number = if matches!(union, Form::SchemaOrBool(_)) {
                    self.out.number(1, 1);
                    2
                } else {
                    1
                };
                let schema = self.out.begin(number);
                Fields { plan, out: &mut *self.out }.visit_map(map)?;
                self.out.end(schema);
            }
        }
        self.out.end(message);
        Ok(())
    }
}

/// Go writes all three fields, whichever counts.
fn int_or_string(out: &mut Writer, kind: u64, number: u64, text: &str) {
    out.number(1, kind);
    out.number(2, number);
    out.bytes(3, text.as_bytes());
}

/// Seconds and nanoseconds since 1970, cut to what JSON can say of the type.
fn time(out: &mut Writer, at: Timestamp, unit_nanos: i128) {
    let nanos = at.as_nanosecond();
    let cut = nanos - nanos.rem_euclid(unit_nanos);
    let number = |part: i128| i64::try_from(part).unwrap_or_default().cast_unsigned();
    out.number(1, number(cut.div_euclid(NANOS)));
    out.number(2, number(cut.rem_euclid(NANOS)));
}
