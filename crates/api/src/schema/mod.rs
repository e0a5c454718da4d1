//! What fields the API's types have, and how they merge.
//!
//! The built-ins' types are a table of plain data in the binary (made by the build, see `build/schema`), so looking a
//! type up costs nothing at start and no memory of its own. Strict field validation, pruning, strategic merge patch,
//! server-side apply and the OpenAPI documents all read it.

mod check;
mod custom;
mod docs;
pub mod table;
#[cfg(test)]
mod tests;

#[allow(clippy::unreadable_literal)]
pub(crate) mod generated {
    include!(concat!(env!("OUT_DIR"), "/schema.rs"));
}

use std::fmt;

pub use check::{SchemaError, check, prune, strict_message};
pub use custom::from_structural;
pub use docs::Docs;
pub use table::{Kind, Relation, Table};
#[cfg(test)]
pub(crate) use tests::sample;

/// One type in a [`Table`]; a cheap handle.
#[derive(Clone, Copy)]
pub struct TypeRef<'a> {
    table: &'a Table,
    node: u32,
}

/// One field of a struct type; a cheap handle.
#[derive(Clone, Copy)]
pub struct FieldRef<'a> {
    table: &'a Table,
    row: &'a table::Field,
}

/// The type of a built-in kind (lists, Scale, Status and the like included).
pub fn of(group: &str, version: &str, kind: &str) -> Option<TypeRef<'static>> {
    let rows = generated::KINDS;
    let found = rows.binary_search_by(|row| (row.0, row.1, row.2).cmp(&(group, version, kind))).ok()?;
    Some(TypeRef { table: &generated::BUILTIN, node: rows[found].3 })
}

/// Group, version and kind of every type that [`of`] knows, in order.
pub fn kinds() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    generated::KINDS.iter().map(|row| (row.0, row.1, row.2))
}

impl<'a> TypeRef<'a> {
    pub fn new(table: &'a Table, node: u32) -> TypeRef<'a> {
        TypeRef { table, node }
    }

    fn row(&self) -> &'a table::Node {
        &self.table.nodes[self.node as usize]
    }

    pub fn id(&self) -> u32 {
        self.node
    }

    pub fn kind(&self) -> Kind {
        self.row().kind
    }

    pub fn relation(&self) -> Relation {
        self.row().relation
    }

    /// The definition's full name, as `io.k8s.api.core.v1.PodSpec`; empty where the type has none.
    pub fn name(&self) -> &'a str {
        self.table.text(self.row().name)
    }

    pub(crate) fn doc(&self) -> u32 {
        self.row().doc
    }

    /// The type of a list's or map's elements.
    pub fn element(&self) -> TypeRef<'a> {
        TypeRef { table: self.table, node: self.row().element }
    }

    /// The names of the fields that tell an associative list's elements apart.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let (row, table) = (self.row(), self.table);
        let range = if row.kind == Kind::List { row.first as usize..(row.first + row.count) as usize } else { 0..0 };
        table.keys[range].iter().map(|&key| table.text(key))
    }

    /// A struct's fields in alphabetical order.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = FieldRef<'a>> + use<'a> {
        let table = self.table;
        self.field_rows().iter().map(move |row| FieldRef { table, row })
    }

    fn field_rows(&self) -> &'a [table::Field] {
        let row = self.row();
        match row.kind {
            Kind::Struct => &self.table.fields[row.first as usize..(row.first + row.count) as usize],
            _ => &[],
        }
    }

    pub fn field(&self, name: &str) -> Option<FieldRef<'a>> {
        let rows = self.field_rows();
        let name = name.as_bytes();
        // Every field of every body passes here, and the first letter tells most names apart.
        let found = rows.binary_search_by(|row| {
            let own = self.table.text(row.name).as_bytes();
            own.first().cmp(&name.first()).then_with(|| own.cmp(name))
        });
        let found = found.ok()?;
        Some(FieldRef { table: self.table, row: &rows[found] })
    }

    /// The type of what a struct or map holds under `name`.
    pub fn child(&self, name: &str) -> Option<TypeRef<'a>> {
        match self.kind() {
            Kind::Map => Some(self.element()),
            _ => self.field(name).map(|field| field.ty()),
        }
    }

    /// True for the types of the API itself; false for those of custom resources, whose authors' wishes are kept as they
    /// were written.
    pub fn is_builtin(&self) -> bool {
        std::ptr::eq(self.table, &raw const generated::BUILTIN)
    }

    /// True for a struct that keeps fields which its type does not list.
    pub fn is_open(&self) -> bool {
        self.row().open
    }

    /// True where apply sees one value and no parts: scalars, atomic lists, maps and structs, and untyped JSON.
    pub fn is_leaf(&self) -> bool {
        !matches!(self.kind(), Kind::Struct | Kind::Map | Kind::List) || self.relation() == Relation::Atomic
    }
}

impl<'a> FieldRef<'a> {
    pub fn name(&self) -> &'a str {
        self.table.text(self.row.name)
    }

    pub fn ty(&self) -> TypeRef<'a> {
        TypeRef { table: self.table, node: self.row.node }
    }

    pub fn is_required(&self) -> bool {
        self.row.required
    }

    /// A null is a value and stays.
    pub fn is_nullable(&self) -> bool {
        self.row.nullable
    }

    /// Strategic merge patch merges this list by [`FieldRef::merge_key`] or, without one, as a set.
    pub fn merges(&self) -> bool {
        self.row.merge
    }

    pub fn replaces(&self) -> bool {
        self.row.replace
    }

    pub fn retains_keys(&self) -> bool {
        self.row.retain_keys
    }

    pub fn merge_key(&self) -> Option<&'a str> {
        Some(self.table.text(self.row.merge_key)).filter(|key| !key.is_empty())
    }

    /// The declared default.
    pub fn default(&self) -> Option<serde_json::Value> {
        let text = self.table.text(self.row.default);
        if text.is_empty() { None } else { serde_json::from_str(text).ok() }
    }

    pub(crate) fn doc(&self) -> u32 {
        self.row.doc
    }
}

impl fmt::Debug for TypeRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind(), self.name())
    }
}

impl PartialEq for TypeRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.table, other.table) && self.node == other.node
    }
}
