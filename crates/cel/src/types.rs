//! Types of expressions, and how messages write them.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// The type of an expression or a variable (<https://github.com/google/cel-spec/blob/master/doc/langdef.md#values>).
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Not known before evaluation: anything is allowed, and fails there if it must.
    Dyn,
    /// What is wrong was told already; nothing more is said about what is made of it.
    Error,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Null,
    Timestamp,
    Duration,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Object(Arc<ObjectType>),
    Optional(Box<Type>),
    /// What only the functions of a library look into, under its full name.
    Opaque(&'static str),
    /// A type as a value.
    Type,
    /// A parameter of a function's signature, or what is not inferred yet.
    Param(u32),
}

/// Named fields. Two are the same type where their names are the same.
#[derive(Debug, Default)]
pub struct ObjectType {
    pub name: String,
    /// Under the names that expressions use: those that are no identifiers are escaped.
    pub fields: BTreeMap<String, Type>,
    /// It has every other field too, of a type that is not known.
    pub open: bool,
}

impl PartialEq for ObjectType {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl ObjectType {
    /// The type of objects with these fields.
    pub fn declare<N: Into<String>>(name: &str, fields: impl IntoIterator<Item = (N, Type)>) -> Type {
        let fields = fields.into_iter().map(|(name, ty)| (name.into(), ty)).collect();
        Type::Object(Arc::new(Self { name: name.to_owned(), fields, open: false }))
    }

    /// The type of objects that can have any field.
    pub fn open(name: &str) -> Type {
        Type::Object(Arc::new(Self { name: name.to_owned(), fields: BTreeMap::new(), open: true }))
    }

    /// A reserved word may be written as it is after a dot.
    pub fn field(&self, name: &str) -> Option<&Type> {
        self.fields
            .get(name)
            .or_else(|| self.fields.get(&format!("__{name}__")).filter(|_| crate::escape::is_reserved(name)))
            .or(self.open.then_some(&Type::Dyn))
    }
}

impl Type {
    pub fn list(element: Type) -> Type {
        Type::List(Box::new(element))
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Box::new(key), Box::new(value))
    }

    pub fn optional(inner: Type) -> Type {
        Type::Optional(Box::new(inner))
    }

    /// One operation of a JSON patch (RFC 6902).
    pub fn json_patch() -> Type {
        let text = ["op", "path", "from"].map(|name| (name, Type::String));
        ObjectType::declare("JSONPatch", text.into_iter().chain([("value", Type::Dyn)]))
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Type::Dyn | Type::Error)
    }

    /// Of one size whatever the value.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => true,
            Type::Optional(inner) => inner.is_scalar(),
            _ => false,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Type::Dyn => "dyn",
            Type::Error => "!error!",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Null => "null",
            Type::Timestamp => "timestamp",
            Type::Duration => "duration",
            Type::Type => "type",
            Type::Opaque(name) => name,
            Type::Object(object) => &object.name,
            Type::List(element) => return write!(f, "list({element})"),
            Type::Map(key, value) => return write!(f, "map({key}, {value})"),
            Type::Optional(inner) => return write!(f, "optional_type({inner})"),
            Type::Param(number) => return write!(f, "_var{number}"),
        };
        f.write_str(name)
    }
}

/// How a call's arguments are written in messages: `(int, string)`, `int.(string)`.
pub(crate) fn signature(args: &[Type], is_member: bool) -> String {
    let mut text = String::new();
    let (target, args) = if is_member { args.split_at(1.min(args.len())) } else { args.split_at(0) };
    for target in target {
        text.push_str(&format!("{target}."));
    }
    text.push('(');
    for (i, arg) in args.iter().enumerate() {
        text.push_str(if i == 0 { "" } else { ", " });
        text.push_str(&arg.to_string());
    }
    text.push(')');
    text
}
