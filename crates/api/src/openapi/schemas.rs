//! Types as JSON schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Edition, enums};
use crate::schema::{self, Docs, FieldRef, Kind, Relation, TypeRef};

pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// The types that a document refers to so far.
#[derive(Default)]
pub(super) struct Used {
    types: Vec<TypeRef<'static>>,
}

/// What a path's answer or body is.
#[derive(Clone, PartialEq)]
pub(super) enum Shown {
    Type(TypeRef<'static>),
    /// A custom resource, or a list of them, by the name of its definition.
    Custom(String),
}

impl Used {
    pub fn refer(&mut self, shown: &Shown, edition: Edition) -> Value {
        match shown {
            Shown::Type(ty) => self.reference(*ty, edition),
            Shown::Custom(name) => edition.reference(name),
        }
    }

    pub fn reference(&mut self, ty: TypeRef<'static>, edition: Edition) -> Value {
        if !self.types.contains(&ty) {
            self.types.push(ty);
        }
        edition.reference(ty.name())
    }
}

/// The definitions of all types in use and of those that they refer to, in order of their names.
pub(super) fn definitions(used: Used, edition: Edition, docs: &Docs) -> BTreeMap<String, Value> {
    let kinds = kinds_by_type();
    let mut definitions = BTreeMap::new();
    let mut pending = used.types;
    let mut seen = BTreeSet::new();
    while let Some(ty) = pending.pop() {
        if !seen.insert(ty.id()) {
            continue;
        }
        match ty.kind() {
            Kind::List | Kind::Map => pending.push(ty.element()),
            _ => pending.extend(ty.fields().map(|field| field.ty())),
        }
        if !ty.name().is_empty() {
            definitions.entry(ty.name().to_owned()).or_insert_with(|| definition(ty, edition, docs, &kinds));
        }
    }
    let patch = "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.";
    definitions.insert(PATCH.to_owned(), json!({"description": patch, "type": "object"}));
    definitions
}

type Kinds = BTreeMap<u32, Vec<Value>>;

fn kinds_by_type() -> Kinds {
    let mut kinds = Kinds::new();
    for (group, version, kind) in schema::kinds() {
        if let Some(ty) = schema::of(group, version, kind) {
            kinds.entry(ty.id()).or_default().push(json!({"group": group, "version": version, "kind": kind}));
        }
    }
    kinds
}

fn definition(ty: TypeRef<'static>, edition: Edition, docs: &Docs, kinds: &Kinds) -> Value {
    let mut schema = Map::new();
    put_text(&mut schema, "description", docs.of_type(ty));
    type_facts(&mut schema, ty, edition);
    if ty.kind() == Kind::Struct {
        let properties: Map<String, Value> =
            ty.fields().map(|field| (field.name().to_owned(), property(ty, field, edition, docs))).collect();
        if !properties.is_empty() {
            schema.insert("properties".to_owned(), Value::Object(properties));
        }
        let required: Vec<&str> = ty.fields().filter(|field| field.is_required()).map(|field| field.name()).collect();
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        if ty.relation() == Relation::Atomic {
            put_text(&mut schema, "x-kubernetes-map-type", "atomic");
        }
    }
    if let Some(kinds) = kinds.get(&ty.id()) {
        schema.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds.clone()));
    }
    Value::Object(schema)
}

fn property(of: TypeRef<'static>, field: FieldRef<'static>, edition: Edition, docs: &Docs) -> Value {
    let mut schema = reference_or_inline(field.ty(), edition);
    put_text(&mut schema, "description", docs.of_field(field));
    enums::put(&mut schema, enums::of(of.name(), field.name()));
    if let Some(default) = field.default() {
        schema.insert("default".to_owned(), default);
    }
    let strategies: Vec<&str> =
        [(field.merges(), "merge"), (field.replaces(), "replace"), (field.retains_keys(), "retainKeys")]
            .into_iter()
            .filter_map(|(is, name)| is.then_some(name))
            .collect();
    put_text(&mut schema, "x-kubernetes-patch-strategy", &strategies.join(","));
    put_text(&mut schema, "x-kubernetes-patch-merge-key", field.merge_key().unwrap_or_default());
    Value::Object(schema)
}

fn reference_or_inline(ty: TypeRef<'static>, edition: Edition) -> Map<String, Value> {
    let mut schema = Map::new();
    if !ty.name().is_empty() {
        let reference = edition.reference(ty.name());
        match (edition, reference) {
            // In v3 nothing may stand beside a reference, so it is put into a list of one.
            (Edition::V3, reference) => drop(schema.insert("allOf".to_owned(), json!([reference]))),
            (Edition::V2, Value::Object(reference)) => schema = reference,
            (Edition::V2, _) => {}
        }
        return schema;
    }
    type_facts(&mut schema, ty, edition);
    schema
}

/// `type`, `format` and what else a type says of itself.
fn type_facts(schema: &mut Map<String, Value>, ty: TypeRef<'static>, edition: Edition) {
    let any = ["JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray"];
    let (kind, format) = match ty.kind() {
        Kind::Struct => ("object", ""),
        Kind::Any if any.contains(&ty.name().rsplit('.').next().unwrap_or_default()) => ("", ""),
        Kind::Any => ("object", ""),
        Kind::Map => {
            schema.insert("additionalProperties".to_owned(), element(ty, edition));
            if ty.relation() == Relation::Atomic {
                put_text(schema, "x-kubernetes-map-type", "atomic");
            }
            ("object", "")
        }
        Kind::List => {
            list_facts(schema, ty, edition);
            ("array", "")
        }
        Kind::String => ("string", ""),
        Kind::Bytes => ("string", "byte"),
        Kind::Int32 => ("integer", "int32"),
        Kind::Int64 => ("integer", "int64"),
        Kind::Double => ("number", "double"),
        Kind::Boolean => ("boolean", ""),
        Kind::Time | Kind::MicroTime => ("string", "date-time"),
        Kind::Quantity if edition == Edition::V3 => {
            schema.insert("oneOf".to_owned(), json!([{"type": "string"}, {"type": "number"}]));
            ("", "")
        }
        Kind::Quantity => ("string", ""),
        Kind::IntOrString if edition == Edition::V3 => {
            schema.insert("oneOf".to_owned(), json!([{"type": "integer"}, {"type": "string"}]));
            ("", "int-or-string")
        }
        Kind::IntOrString => ("string", "int-or-string"),
    };
    put_text(schema, "type", kind);
    put_text(schema, "format", format);
}

fn list_facts(schema: &mut Map<String, Value>, ty: TypeRef<'static>, edition: Edition) {
    schema.insert("items".to_owned(), element(ty, edition));
    let list_type = match ty.relation() {
        Relation::Associative => "map",
        Relation::Set => "set",
        Relation::Atomic | Relation::Granular => "atomic",
    };
    put_text(schema, "x-kubernetes-list-type", list_type);
    let keys: Vec<&str> = ty.keys().collect();
    if !keys.is_empty() {
        schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(keys));
    }
}

fn element(ty: TypeRef<'static>, edition: Edition) -> Value {
    Value::Object(reference_or_inline(ty.element(), edition))
}

fn put_text(schema: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        schema.insert(key.to_owned(), Value::from(text));
    }
}
