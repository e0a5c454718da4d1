//! Dropping what a schema does not know. The rules are upstream's (`apiserver/schema/pruning` and
//! `apiserver/schema/objectmeta` of apiextensions-apiserver).

use std::fmt::Write;

use serde_json::Value;

use super::schema::Schema;
use crate::schema::{self as types, SchemaError, TypeRef};

/// Fields of every object, which schemas need not list.
pub(super) fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// The type of every object's `metadata`.
pub(super) fn object_meta() -> Option<TypeRef<'static>> {
    types::of("", "v1", "Pod")?.child("metadata")
}

/// What was dropped, in upstream's order: the object's metadata, what the schema does not know, and the metadata of the
/// objects in it. `keeps_all`: only metadata is pruned.
pub(super) fn prune(schema: &Schema, object: &mut Value, keeps_all: bool) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.own_metadata(object);
    let of_object = pruner.unknown.len();
    if !keeps_all {
        pruner.value(Some(schema), object, true);
        pruner.unknown[of_object..].sort();
    }
    let of_schema = pruner.unknown.len();
    pruner.metadata_below(schema, object);
    pruner.unknown[of_schema..].sort();
    pruner.unknown
}

/// What is known of a field: nothing at all (`None`), that it may be there, or its schema.
fn child<'a>(schema: &'a Schema, name: &str) -> Option<Option<&'a Schema>> {
    match (schema.properties.get(name), &schema.additional) {
        (Some(property), _) => Some(Some(property)),
        (None, Some(additional)) => Some(additional.schema()),
        (None, None) => None,
    }
}

/// As [`prune`], for a value inside an object; metadata is left as it is.
pub(super) fn prune_part(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut pruner = Pruner::default();
    pruner.value(Some(schema), value, false);
    pruner.unknown
}

#[derive(Default)]
struct Pruner {
    path: String,
    unknown: Vec<String>,
}

impl Pruner {
    fn value(&mut self, schema: Option<&Schema>, value: &mut Value, is_resource: bool) {
        let Some(schema) = schema else { return self.nothing_known(value) };
        if schema.keeps_unknown {
            return self.kept(schema, value, is_resource);
        }
        match value {
            Value::Object(map) => map.retain(|name, value| {
                if (is_resource || schema.is_resource) && is_meta(name) {
                    return true;
                }
                let Some(child) = child(schema, name) else { return self.drop(name) };
                self.below(name, |pruner| pruner.value(child, value, false));
                true
            }),
            Value::Array(list) => {
                for (index, value) in list.iter_mut().enumerate() {
                    self.at(index, |pruner| pruner.value(schema.items.as_deref(), value, false));
                }
            }
            _ => {}
        }
    }

    /// Below a schema that keeps unknown fields, what is said of some fields still prunes those.
    fn kept(&mut self, schema: &Schema, value: &mut Value, is_resource: bool) {
        match value {
            Value::Object(map) => map.iter_mut().for_each(|(name, value)| {
                if !((is_resource || schema.is_resource) && is_meta(name))
                    && let Some(child) = child(schema, name)
                {
                    self.below(name, |pruner| pruner.value(child, value, false));
                }
            }),
            Value::Array(list) => {
                let Some(items) = schema.items.as_deref() else { return };
                for (index, value) in list.iter_mut().enumerate() {
                    self.at(index, |pruner| pruner.kept(items, value, false));
                }
            }
            _ => {}
        }
    }

    fn nothing_known(&mut self, value: &mut Value) {
        match value {
            Value::Object(map) => map.retain(|name, _| self.drop(name)),
            Value::Array(list) => {
                for (index, value) in list.iter_mut().enumerate() {
                    self.at(index, |pruner| pruner.nothing_known(value));
                }
            }
            _ => {}
        }
    }

    /// Prunes the metadata of the objects in an object.
    fn metadata_below(&mut self, schema: &Schema, value: &mut Value) {
        if schema.is_resource {
            self.own_metadata(value);
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map.iter_mut() {
                    if let Some(child) = schema.child(name) {
                        self.below(name, |pruner| pruner.metadata_below(child, value));
                    }
                }
            }
            Value::Array(list) => {
                let Some(items) = schema.items.as_deref() else { return };
                for (index, value) in list.iter_mut().enumerate() {
                    self.at(index, |pruner| pruner.metadata_below(items, value));
                }
            }
            _ => {}
        }
    }

    /// Prunes an object's metadata by what metadata is everywhere.
    fn own_metadata(&mut self, object: &mut Value) {
        if let (Some(ty), Some(meta @ Value::Object(_))) = (object_meta(), object.get_mut("metadata")) {
            self.below("metadata", |pruner| pruner.object_meta(ty, meta));
        }
    }

    fn object_meta(&mut self, ty: TypeRef<'static>, meta: &mut Value) {
        for error in types::check(ty, meta) {
            if let SchemaError::UnknownField { path } = error {
                self.unknown.push(format!("{}.{path}", self.path));
            }
        }
        types::prune(ty, meta);
    }

    /// Always false: the field goes.
    fn drop(&mut self, name: &str) -> bool {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.unknown.push(format!("{}{dot}{name}", self.path));
        false
    }

    fn below(&mut self, name: &str, walk: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        walk(self);
        self.path.truncate(length);
    }

    fn at(&mut self, index: usize, walk: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        write!(self.path, "[{index}]").unwrap_or_default();
        walk(self);
        self.path.truncate(length);
    }
}
