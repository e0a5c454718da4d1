//! `data/protobuf-*.tsv`, read when the first protobuf body comes or is asked for.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Of 1.35 as a whole, then what 1.36 added to it.
const TEXTS: [&str; 2] = [include_str!("../../data/protobuf-1.35.tsv"), include_str!("../../data/protobuf-1.36.tsv")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    String,
    Bytes,
    Integer,
    Boolean,
    Double,
    /// The definition's name in lower case.
    Message(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    /// By string keys.
    Map,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub tag: u32,
    /// In snake case; [`same_name`] compares it with a JSON name.
    pub name: &'static str,
    pub ty: Type,
    pub shape: Shape,
}

static MESSAGES: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let mut messages: HashMap<&'static str, Vec<Field>> = HashMap::new();
    for line in TEXTS.into_iter().flat_map(str::lines).filter(|line| !line.starts_with('#')) {
        let mut columns = line.split('\t');
        let name = columns.next().unwrap_or_default();
        messages.entry(name).or_default().extend(columns.filter_map(field));
    }
    messages
});

fn field(text: &'static str) -> Option<Field> {
    let mut words = text.split(' ');
    let (tag, name, ty) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let (shape, ty) = match ty.split_at_checked(1)? {
        ("*", rest) => (Shape::List, rest),
        ("%", rest) => (Shape::Map, rest),
        _ => (Shape::One, ty),
    };
    let ty = match ty {
        "s" => Type::String,
        "b" => Type::Bytes,
        "i" => Type::Integer,
        "o" => Type::Boolean,
        "d" => Type::Double,
        other => Type::Message(other.strip_prefix('=')?),
    };
    Some(Field { tag, name, ty, shape })
}

/// The fields of a message, by its definition's name in any case.
pub(super) fn message(definition: &str) -> Option<&'static [Field]> {
    MESSAGES.get(definition.to_ascii_lowercase().as_str()).map(Vec::as_slice)
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    MESSAGES.keys().copied()
}

/// True where a field in snake case and a JSON property are the same but for case and punctuation: `pod_i_ps` and
/// `podIPs`, `x_kubernetes_embedded_resource` and `x-kubernetes-embedded-resource`.
pub(super) fn same_name(field: &str, property: &str) -> bool {
    letters(field).eq(letters(property))
}

fn letters(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase())
}
