use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::table::{Field, Shape, Type, message, same_name};
use super::wire::{Reader, Wire};
use super::zero::is_pointer;
use super::{MAGIC, ProtobufError, short};
use crate::schema::{self, Kind, TypeRef};

/// Schemas nest, but no honest object does so deeper.
const MAX_DEPTH: usize = 100;

/// An object from its envelope, as JSON with `apiVersion` and `kind`.
pub fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    decode_within(bytes, 0)
}

fn decode_within(bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), [].as_slice());
    for field in Reader(envelope) {
        match field.map_err(|_| truncated("the envelope"))? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Reader(type_meta) {
                    match field.map_err(|_| truncated("the envelope"))? {
                        (1, Wire::Bytes(text)) => api_version = string(text),
                        (2, Wire::Bytes(text)) => kind = string(text),
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(message)) => raw = message,
            _ => {}
        }
    }
    let ty = type_of(&api_version, &kind)
        .ok_or_else(|| ProtobufError::UnknownKind { api_version: api_version.clone(), kind: kind.clone() })?;
    let fields = message(ty.name())
        .ok_or_else(|| ProtobufError::UnknownKind { api_version: api_version.clone(), kind: kind.clone() })?;
    let mut object = Map::new();
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Walk { depth }.fields(fields, ty, raw, &mut object, "")?;
    Ok(Value::Object(object))
}

/// Options are the same for every group, under whose version clients send them.
fn type_of(api_version: &str, kind: &str) -> Option<TypeRef<'static>> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    schema::of(group, version, kind).or_else(|| schema::of("", "v1", kind).filter(|_| kind.ends_with("Options")))
}

fn truncated(place: &str) -> ProtobufError {
    ProtobufError::Truncated(if place.is_empty() { "the object".into() } else { place.into() })
}

fn string(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[derive(Clone, Copy)]
struct Walk {
    depth: usize,
}

impl Walk {
    fn deeper(self, place: &str) -> Result<Self, ProtobufError> {
        if self.depth >= MAX_DEPTH {
            return Err(ProtobufError::Depth(place.to_owned()));
        }
        Ok(Self { depth: self.depth + 1 })
    }

    /// Reads a message into the properties of a struct. What the table does not know is left out, as upstream
    /// does with fields of versions to come.
    fn fields(
        self,
        fields: &'static [Field],
        ty: TypeRef<'_>,
        bytes: &[u8],
        out: &mut Map<String, Value>,
        place: &str,
    ) -> Result<(), ProtobufError> {
        let walk = self.deeper(place)?;
        for found in Reader(bytes) {
            let (tag, wire) = found.map_err(|_| truncated(place))?;
            let Some(field) = fields.iter().find(|field| field.tag == tag) else { continue };
            let Some(property) = ty.fields().find(|property| same_name(field.name, property.name())) else {
                // A struct that is inlined in JSON is a message of its own here.
                if let (Type::Message(inner), Wire::Bytes(bytes), Shape::One) = (field.ty, wire, field.shape)
                    && let Some(inner) = message(inner)
                {
                    walk.fields(inner, ty, bytes, out, place)?;
                }
                continue;
            };
            let name = property.name();
            let place = if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
            match field.shape {
                Shape::One => {
                    let keeps_zero = property.is_required() || is_pointer(ty.name(), name);
                    if let Some(value) = walk.value(field, property.ty(), ty, wire, &place)?
                        && (keeps_zero || !is_zero(&value, field.ty))
                    {
                        out.insert(name.to_owned(), value);
                    }
                }
                Shape::List => {
                    let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                    if let (Value::Array(list), Some(value)) =
                        (list, walk.value(field, property.ty().element(), ty, wire, &place)?)
                    {
                        list.push(value);
                    }
                }
                Shape::Map => {
                    let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
                    if let Value::Object(map) = map {
                        walk.entry(field, property.ty().element(), ty, wire, map, &place)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(
        self,
        field: &Field,
        element: TypeRef<'_>,
        owner: TypeRef<'_>,
        wire: Wire<'_>,
        out: &mut Map<String, Value>,
        place: &str,
    ) -> Result<(), ProtobufError> {
        let Wire::Bytes(bytes) = wire else { return Err(ProtobufError::Type(place.to_owned())) };
        let (mut key, mut value) = (String::new(), None);
        for found in Reader(bytes) {
            match found.map_err(|_| truncated(place))? {
                (1, Wire::Bytes(text)) => key = string(text),
                (2, wire) => value = self.value(field, element, owner, wire, place)?,
                _ => {}
            }
        }
        // A value that is its type's zero may be left out of an entry.
        let empty = || Value::String(String::new());
        out.insert(key, value.unwrap_or_else(empty));
        Ok(())
    }

    /// `None` where a message says nothing, such as a time that is not set. `owner` is the struct that holds it.
    fn value(
        self,
        field: &Field,
        ty: TypeRef<'_>,
        owner: TypeRef<'_>,
        wire: Wire<'_>,
        place: &str,
    ) -> Result<Option<Value>, ProtobufError> {
        let value = match (field.ty, wire) {
            (Type::String, Wire::Bytes(bytes)) => string(bytes).into(),
            (Type::Bytes, Wire::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
            (Type::Boolean, Wire::Varint(number)) => (number != 0).into(),
            // Negative numbers are written as ten bytes of two's complement.
            (Type::Integer, Wire::Varint(number)) => number.cast_signed().into(),
            (Type::Double, Wire::Fixed64(bits)) => double(f64::from_bits(bits)),
            (Type::Message(name), Wire::Bytes(bytes)) => return self.message(name, ty, owner, bytes, place),
            _ => return Err(ProtobufError::Type(place.to_owned())),
        };
        Ok(Some(value))
    }

    fn message(
        self,
        name: &'static str,
        ty: TypeRef<'_>,
        owner: TypeRef<'_>,
        bytes: &[u8],
        place: &str,
    ) -> Result<Option<Value>, ProtobufError> {
        let malformed = || truncated(place);
        match ty.kind() {
            Kind::Time => return Ok(time(bytes).ok_or_else(malformed)?.map(|at| crate::time::seconds(at).into())),
            Kind::MicroTime => return Ok(time(bytes).ok_or_else(malformed)?.map(|at| crate::time::micros(at).into())),
            Kind::Quantity => return text_in(bytes, 1).map(|text| text.map(Value::from)).ok_or_else(malformed),
            Kind::IntOrString => return int_or_string(bytes).map(Some).ok_or_else(malformed),
            _ => {}
        }
        match short(name) {
            "rawextension" | "fieldsv1" | "json" => return self.raw(bytes, place),
            union @ ("jsonschemapropsorbool" | "jsonschemapropsorarray" | "jsonschemapropsorstringarray") => {
                return self.union(union, owner, bytes, place).map(Some);
            }
            _ => {}
        }
        let fields = message(name).ok_or_else(|| ProtobufError::Type(place.to_owned()))?;
        if ty.kind() == Kind::List {
            // A list with a name of its own, such as the values of a user's extra field.
            let mut list = Vec::new();
            let items = fields.first().ok_or_else(|| ProtobufError::Type(place.to_owned()))?;
            for found in Reader(bytes) {
                let (_, wire) = found.map_err(|_| truncated(place))?;
                list.extend(self.value(items, ty.element(), owner, wire, place)?);
            }
            return Ok(Some(list.into()));
        }
        let mut object = Map::new();
        self.fields(fields, ty, bytes, &mut object, place)?;
        Ok(Some(Value::Object(object)))
    }

    /// JSON inside a message, or an object with an envelope of its own.
    fn raw(self, bytes: &[u8], place: &str) -> Result<Option<Value>, ProtobufError> {
        let mut raw = [].as_slice();
        for found in Reader(bytes) {
            if let (1, Wire::Bytes(bytes)) = found.map_err(|_| truncated(place))? {
                raw = bytes;
            }
        }
        if raw.is_empty() {
            return Ok(None);
        }
        if raw.starts_with(MAGIC) {
            let walk = self.deeper(place)?;
            return decode_within(raw, walk.depth).map(Some);
        }
        serde_json::from_slice(raw).map(Some).map_err(|_| ProtobufError::Type(place.to_owned()))
    }

    /// A schema, or a truth, or a list: the unions of JSON Schema. `schema` is the type they stand in, which is
    /// also that of the schemas in them.
    fn union(self, union: &str, schema: TypeRef<'_>, bytes: &[u8], place: &str) -> Result<Value, ProtobufError> {
        let wrong = || ProtobufError::Type(place.to_owned());
        let fields = message(schema.name()).ok_or_else(wrong)?;
        let read = |bytes| {
            let mut object = Map::new();
            self.fields(fields, schema, bytes, &mut object, place).map(|()| Value::Object(object))
        };
        let (mut one, mut list) = (None, Vec::new());
        for found in Reader(bytes) {
            match (union, found.map_err(|_| truncated(place))?) {
                ("jsonschemapropsorbool", (1, Wire::Varint(truth))) => one = one.or(Some((truth != 0).into())),
                ("jsonschemapropsorbool", (2, Wire::Bytes(bytes))) => one = Some(read(bytes)?),
                (_, (1, Wire::Bytes(bytes))) => one = Some(read(bytes)?),
                ("jsonschemapropsorarray", (2, Wire::Bytes(bytes))) => list.push(read(bytes)?),
                (_, (2, Wire::Bytes(bytes))) => list.push(string(bytes).into()),
                _ => return Err(wrong()),
            }
        }
        Ok(one.unwrap_or_else(|| list.into()))
    }
}

fn double(number: f64) -> Value {
    // Whole numbers are written without a point, as Go does.
    if number.fract() == 0.0 && number.abs() < 1e15 {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
        return (number as i64).into();
    }
    number.into()
}

fn is_zero(value: &Value, ty: Type) -> bool {
    match (ty, value) {
        (Type::Message(_), _) => false,
        (_, Value::String(text)) => text.is_empty(),
        (_, Value::Bool(truth)) => !truth,
        (_, Value::Number(number)) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

/// Seconds and nanoseconds since 1970. The outer `None` is a malformed message, the inner one a time that is not
/// set: Go writes that as an empty message.
fn time(bytes: &[u8]) -> Option<Option<Timestamp>> {
    let (mut seconds, mut nanos) = (None, 0);
    for found in Reader(bytes) {
        match found.ok()? {
            (1, Wire::Varint(number)) => seconds = Some(number.cast_signed()),
            (2, Wire::Varint(number)) => nanos = i32::try_from(number.cast_signed()).ok()?,
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Some(None) };
    Timestamp::new(seconds, nanos).ok().map(Some)
}

fn text_in(bytes: &[u8], wanted: u32) -> Option<Option<String>> {
    let mut text = None;
    for found in Reader(bytes) {
        if let (tag, Wire::Bytes(bytes)) = found.ok()?
            && tag == wanted
        {
            text = Some(string(bytes));
        }
    }
    Some(text)
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number, mut text) = (false, 0i64, String::new());
    for found in Reader(bytes) {
        match found.ok()? {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(value)) => text = string(value),
            _ => {}
        }
    }
    Some(if is_text { text.into() } else { number.into() })
}
