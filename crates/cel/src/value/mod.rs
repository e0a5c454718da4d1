//! Values of expressions. What comes from an object stays where it is: lists, maps and strings borrow from its JSON,
//! and an element becomes a value only when an expression asks for it.

mod compare;
mod convert;
mod opaque;

use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc};

use jiff::Timestamp;
use serde_json::{Map as JsonMap, Value as Json};

pub(crate) use self::opaque::{Authority, Cidr, Opaque};
pub(crate) use self::{
    compare::{compare, equal},
    convert::read,
};
use crate::{
    library::{quantity, semver},
    schema::{Declaration, ListKind},
    types::{ObjectType, Type},
};

/// A value; `'a` is the life of the objects that it was read from.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Timestamp),
    /// In nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Type),
    Opaque(Opaque<'a>),
    /// What an expression constructed: `Object.spec{replicas: 1}`.
    Struct(Arc<Struct<'a>>),
    /// The variables that are composed of others; each is made when an expression asks for it.
    Composed,
}

/// Named fields under the name of their type.
#[derive(Clone, Debug)]
pub struct Struct<'a> {
    pub name: Arc<str>,
    pub fields: BTreeMap<String, Value<'a>>,
}

#[derive(Clone, Debug)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

#[derive(Clone, Debug)]
pub enum List<'a> {
    Json(&'a [Json], Option<&'a Declaration>),
    Owned(Arc<Vec<Value<'a>>>),
}

#[derive(Clone, Debug)]
pub enum Map<'a> {
    Json(&'a JsonMap<String, Json>, Option<&'a Declaration>),
    Owned(Arc<BTreeMap<Key<'a>, Value<'a>>>),
    /// Whatever key is asked for and not there stands for an empty map.
    Total(Arc<BTreeMap<Key<'a>, Value<'a>>>),
}

/// What an entry of a map stands under.
#[derive(Clone, Debug)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Text<'a>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl<'a> Value<'a> {
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Value::String(Text::Shared(text.into()))
    }

    pub fn list(list: Vec<Value<'a>>) -> Self {
        Value::List(List::Owned(Arc::new(list)))
    }

    pub fn map(entries: impl IntoIterator<Item = (String, Value<'a>)>) -> Self {
        Value::Map(Map::Owned(Arc::new(by_name(entries))))
    }

    /// A map in which every other key stands for an empty map.
    pub fn total_map(entries: impl IntoIterator<Item = (String, Value<'a>)>) -> Self {
        Value::Map(Map::Total(Arc::new(by_name(entries))))
    }

    /// What `quantity(text)` is.
    pub fn quantity(text: &str) -> Result<Self, String> {
        quantity::parse(text).map(quantity::of)
    }

    /// What `semver(text)` is.
    pub fn semver(text: &str) -> Result<Self, String> {
        semver::parse(text).map(semver::of)
    }

    pub fn some(value: Value<'a>) -> Self {
        Value::Optional(Some(Arc::new(value)))
    }

    /// A value of an object whose schema is not known.
    pub fn json(json: &'a Json) -> Self {
        // Without a schema nothing can fail to be what it says.
        read(json, None).unwrap_or(Value::Null)
    }

    /// A value of an object whose schema is known; an error where a string is not of its format.
    pub fn declared(json: &'a Json, declaration: &'a Declaration) -> Result<Self, String> {
        read(json, Some(declaration))
    }

    /// What `size()` says, and one for what has no size.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Opaque(opaque) => opaque.size(),
            _ => 1,
        }
    }

    /// The name of the type, as `type()` gives it.
    pub(crate) fn type_of(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::Timestamp(_) => Type::Timestamp,
            Value::Duration(_) => Type::Duration,
            Value::List(_) => Type::list(Type::Dyn),
            Value::Map(_) | Value::Composed => Type::map(Type::Dyn, Type::Dyn),
            Value::Optional(_) => Type::optional(Type::Dyn),
            Value::Type(_) => Type::Type,
            Value::Struct(object) => ObjectType::open(&object.name),
            Value::Opaque(opaque) => Type::Opaque(opaque.name()),
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(value) = self { Some(*value) } else { None }
    }

    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }
}

fn by_name<'a>(entries: impl IntoIterator<Item = (String, Value<'a>)>) -> BTreeMap<Key<'a>, Value<'a>> {
    entries.into_iter().map(|(name, value)| (Key::String(Text::Shared(name.into())), value)).collect()
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Json(list, _) => list.len(),
            List::Owned(list) => list.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, String>> {
        match self {
            List::Json(list, declaration) => {
                list.get(index).map(|json| read(json, declaration.and_then(Declaration::element)))
            }
            List::Owned(list) => list.get(index).cloned().map(Ok),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, String>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub(crate) fn kind(&self) -> &'a ListKind {
        static ATOMIC: ListKind = ListKind::Atomic;
        match self {
            List::Json(_, Some(declaration)) => &declaration.list,
            _ => &ATOMIC,
        }
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Map::Json(map, _) => map.len(),
            Map::Owned(map) | Map::Total(map) => map.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// By the key as it is in the data.
    pub(crate) fn get(&self, key: &Key<'_>) -> Option<Result<Value<'a>, String>> {
        match (self, key) {
            (Map::Json(map, declaration), Key::String(name)) => {
                let child = declaration.and_then(|declaration| declaration.child(name));
                map.get(&**name).map(|json| read(json, child))
            }
            (Map::Json(..), _) => None,
            (Map::Owned(map), key) => map.get(key).cloned().map(Ok),
            (Map::Total(map), key) => Some(Ok(map.get(key).cloned().unwrap_or_else(|| Value::map([])))),
        }
    }

    pub(crate) fn contains(&self, key: &Key<'_>) -> bool {
        match self {
            Map::Total(map) => map.contains_key(key),
            map => map.get(key).is_some(),
        }
    }

    /// By the name an expression writes after a dot, which may be escaped.
    pub(crate) fn field(&self, name: &str) -> Option<Result<Value<'a>, String>> {
        let Map::Json(map, declaration) = self else { return self.get(&Key::String(Text::Borrowed(name))) };
        match declaration.filter(|declaration| !declaration.fields.is_empty()) {
            Some(declaration) => {
                let fields = &declaration.fields;
                let field = fields.get(name).or_else(|| fields.get(&format!("__{name}__")))?;
                map.get(&field.name).map(|json| read(json, Some(&field.declaration)))
            }
            None => map
                .get(name)
                .or_else(|| map.get(name.strip_prefix("__")?.strip_suffix("__")?))
                .map(|json| read(json, declaration.and_then(Declaration::element))),
        }
    }

    pub(crate) fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Map::Json(map, _) => map.keys().map(|key| Key::String(Text::Borrowed(key))).collect(),
            Map::Owned(map) | Map::Total(map) => map.keys().cloned().collect(),
        }
    }
}

impl<'a> Key<'a> {
    /// None for what can be no key. A double that is a whole number finds the entry of that number.
    pub(crate) fn of(value: &Value<'a>) -> Option<Key<'a>> {
        Some(match value {
            Value::Bool(value) => Key::Bool(*value),
            Value::Int(value) => Key::Int(*value),
            Value::Uint(value) => Key::Uint(*value),
            Value::String(text) => Key::String(text.clone()),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 9.2e18 => Key::Int(*value as i64),
            _ => return None,
        })
    }

    pub(crate) fn value(self) -> Value<'a> {
        match self {
            Key::Bool(value) => Value::Bool(value),
            Key::Int(value) => Value::Int(value),
            Key::Uint(value) => Value::Uint(value),
            Key::String(text) => Value::String(text),
        }
    }

    fn rank(&self) -> (u8, i128, &str) {
        match self {
            Key::Bool(value) => (0, i128::from(*value), ""),
            Key::Int(value) => (1, i128::from(*value), ""),
            Key::Uint(value) => (1, i128::from(*value), ""),
            Key::String(text) => (2, 0, text),
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Bool(value) => value.fmt(f),
            Key::Int(value) => value.fmt(f),
            Key::Uint(value) => value.fmt(f),
            Key::String(text) => f.write_str(text),
        }
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Key<'_> {}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}
