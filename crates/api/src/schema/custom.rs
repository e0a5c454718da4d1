//! The type table of a custom resource, made from the structural schema in its definition.
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>)

use std::{borrow::Cow, collections::HashMap};

use serde_json::{Map, Value};

use super::{
    Kind, Relation, Table, TypeRef,
    table::{Field, Node, Text},
};

/// The table of one version of a custom resource; its root is node 0: `TypeRef::new(&table, 0)`.
///
/// `schema` is that version's `openAPIV3Schema`; `null` knows no fields and keeps them all. What makes a schema
/// structural is not checked here: validation of the definition does that.
pub fn from_structural(schema: &Value) -> Table {
    let mut builder = Builder::default();
    let root = builder.reserve();
    builder.object(root, schema, true);
    Table {
        nodes: Cow::Owned(builder.nodes),
        fields: Cow::Owned(builder.fields),
        keys: Cow::Owned(builder.keys),
        text: Cow::Owned(builder.text),
    }
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    fields: Vec<Field>,
    keys: Vec<Text>,
    text: String,
    /// Built-in types that were copied, by their number there.
    copied: HashMap<u32, u32>,
}

/// A field before it has its place among its neighbours.
struct NewField {
    name: String,
    node: u32,
    required: bool,
    nullable: bool,
    default: String,
}

impl Builder {
    fn reserve(&mut self) -> u32 {
        self.nodes.push(Node {
            kind: Kind::Any,
            relation: Relation::Granular,
            name: Text::default(),
            element: 0,
            first: 0,
            count: 0,
            open: false,
            doc: 0,
        });
        self.nodes.len() as u32 - 1
    }

    fn add(&mut self, kind: Kind) -> u32 {
        let node = self.reserve();
        self.nodes[node as usize].kind = kind;
        node
    }

    fn text(&mut self, text: &str) -> Text {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        Text(start, text.len() as u32)
    }

    fn value(&mut self, schema: &Value) -> u32 {
        let is = |flag: &str| schema[flag] == Value::Bool(true);
        if is("x-kubernetes-int-or-string") {
            return self.add(Kind::IntOrString);
        }
        match schema["type"].as_str() {
            Some("string") => self.add(Kind::String),
            Some("integer") => self.add(Kind::Int64),
            Some("number") => self.add(Kind::Double),
            Some("boolean") => self.add(Kind::Boolean),
            Some("array") => self.list(schema),
            Some("object") => {
                let node = self.reserve();
                self.object(node, schema, is("x-kubernetes-embedded-resource"));
                node
            }
            _ => self.reserve(),
        }
    }

    fn list(&mut self, schema: &Value) -> u32 {
        let node = self.add(Kind::List);
        let element = self.value(&schema["items"]);
        let first = self.keys.len() as u32;
        for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let key = self.text(key);
            self.keys.push(key);
        }
        let count = self.keys.len() as u32 - first;
        let row = &mut self.nodes[node as usize];
        (row.element, row.first, row.count) = (element, first, count);
        row.relation = match schema["x-kubernetes-list-type"].as_str() {
            Some("map") => Relation::Associative,
            Some("set") => Relation::Set,
            _ => Relation::Atomic,
        };
        node
    }

    /// `is_resource`: the object has `apiVersion`, `kind` and `metadata`, which its schema need not list.
    fn object(&mut self, node: u32, schema: &Value, is_resource: bool) {
        let open = schema.is_null() || schema["x-kubernetes-preserve-unknown-fields"] == Value::Bool(true);
        if schema["x-kubernetes-map-type"] == "atomic" {
            self.nodes[node as usize].relation = Relation::Atomic;
        }
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        if let (true, false, Some(values)) = (properties.is_empty(), is_resource, schema.get("additionalProperties")) {
            let element = if values.is_object() { self.value(values) } else { self.reserve() };
            let row = &mut self.nodes[node as usize];
            (row.kind, row.element) = (Kind::Map, element);
            return;
        }
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields: Vec<NewField> = Vec::new();
        for (name, schema) in properties {
            if is_resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            fields.push(NewField {
                name: name.clone(),
                node: self.value(schema),
                required: required.contains(&name.as_str()),
                nullable: schema["nullable"] == Value::Bool(true),
                default: schema.get("default").map(Value::to_string).unwrap_or_default(),
            });
        }
        if is_resource {
            let metadata = super::of("", "v1", "Pod").and_then(|pod| pod.child("metadata"));
            let metadata = metadata.map(|metadata| self.copy(metadata)).unwrap_or_default();
            let string = self.add(Kind::String);
            for (name, node) in [("apiVersion", string), ("kind", string), ("metadata", metadata)] {
                let (name, default) = (name.to_owned(), String::new());
                fields.push(NewField { name, node, required: false, nullable: false, default });
            }
        }
        self.put_fields(node, fields);
        self.nodes[node as usize].open = open;
    }

    fn put_fields(&mut self, node: u32, mut fields: Vec<NewField>) {
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let first = self.fields.len() as u32;
        let row = &mut self.nodes[node as usize];
        (row.kind, row.first, row.count) = (Kind::Struct, first, fields.len() as u32);
        for field in fields {
            let (name, default) = (self.text(&field.name), self.text(&field.default));
            self.fields.push(Field {
                name,
                node: field.node,
                required: field.required,
                nullable: field.nullable,
                merge: false,
                replace: false,
                retain_keys: false,
                merge_key: Text::default(),
                default,
                doc: 0,
            });
        }
    }

    /// Copies a built-in type and what it refers to.
    fn copy(&mut self, ty: TypeRef<'static>) -> u32 {
        if let Some(&node) = self.copied.get(&ty.id()) {
            return node;
        }
        let node = self.add(ty.kind());
        self.copied.insert(ty.id(), node);
        let name = self.text(ty.name());
        self.nodes[node as usize].name = name;
        self.nodes[node as usize].relation = ty.relation();
        match ty.kind() {
            Kind::Struct => {
                let fields = ty
                    .fields()
                    .map(|field| NewField {
                        name: field.name().to_owned(),
                        node: self.copy(field.ty()),
                        required: field.is_required(),
                        nullable: false,
                        default: String::new(),
                    })
                    .collect();
                self.put_fields(node, fields);
            }
            Kind::List | Kind::Map => {
                let element = self.copy(ty.element());
                let first = self.keys.len() as u32;
                for key in ty.keys() {
                    let key = self.text(key);
                    self.keys.push(key);
                }
                let count = self.keys.len() as u32 - first;
                let row = &mut self.nodes[node as usize];
                (row.element, row.first, row.count) = (element, first, count);
            }
            _ => {}
        }
        node
    }
}
