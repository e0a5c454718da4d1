//! The shape of the schema table: rows that refer to each other by number, so that the built-ins' table is plain
//! read-only data in the binary, and a custom resource's table is a few vectors.

use std::borrow::Cow;

/// A piece of [`Table::text`]: where it starts and how long it is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text(pub u32, pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Struct,
    Map,
    List,
    String,
    /// Base64 in JSON.
    Bytes,
    Int32,
    Int64,
    Double,
    Boolean,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Any JSON. Atomic for RawExtension and its like; granular where a custom resource preserves unknown fields.
    Any,
}

/// How two values of a list, map or struct are brought together by apply, and so how fine ownership goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// A map or struct whose entries have owners of their own.
    Granular,
    /// One value as a whole.
    Atomic,
    /// A list of distinct scalars.
    Set,
    /// A list whose elements are told apart by keys.
    Associative,
}

#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub kind: Kind,
    pub relation: Relation,
    pub name: Text,
    /// Of a list or map: the type of its elements.
    pub element: u32,
    /// Of a struct: its first field; of an associative list: its first key.
    pub first: u32,
    pub count: u32,
    /// Of a struct: fields that are not listed are kept (a custom resource's `x-kubernetes-preserve-unknown-fields`).
    pub open: bool,
    pub doc: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub name: Text,
    pub node: u32,
    pub required: bool,
    /// A null is a value and stays; built-in types have no such fields.
    pub nullable: bool,
    /// Strategic merge patch: merge lists by `merge_key` (or, without one, as sets of scalars).
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
    pub merge_key: Text,
    /// JSON; empty where there is none.
    pub default: Text,
    pub doc: u32,
}

/// Types that refer to each other. The built-ins' is a static; a custom resource's is made from its schema.
#[derive(Clone, Debug)]
pub struct Table {
    pub nodes: Cow<'static, [Node]>,
    /// A struct's fields are neighbours, in alphabetical order.
    pub fields: Cow<'static, [Field]>,
    pub keys: Cow<'static, [Text]>,
    pub text: Cow<'static, str>,
}

impl Table {
    pub fn text(&self, text: Text) -> &str {
        &self.text[text.0 as usize..(text.0 + text.1) as usize]
    }
}
