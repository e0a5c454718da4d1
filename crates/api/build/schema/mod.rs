//! The types of the built-ins, as one table of small rows that refer to each other by number.
//!
//! Types, formats and descriptions come from `k8s-openapi`; how lists and maps merge, what is required, the
//! defaults and the values to choose from come from `data/schema-*.tsv`. Rows of equal content are one row. Descriptions are kept apart, compressed.

mod emit;
mod enums;
mod facts;
mod metrics;
mod roots;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use facts::Facts;

pub use emit::Output;

/// A type. The order of the fields is that of `schema::table::Node`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    kind: &'static str,
    relation: &'static str,
    /// The definition's name; empty for what has none.
    name: String,
    /// Of a list or map: the type of its elements.
    element: usize,
    keys: Vec<String>,
    /// Of a struct, in alphabetical order.
    fields: Vec<Field>,
    description: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Field {
    name: String,
    node: usize,
    required: bool,
    patch: Vec<String>,
    merge_key: String,
    default: String,
    description: String,
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    /// Definitions by name, and whether the map type differs from the definition's own.
    named: BTreeMap<(String, &'static str), usize>,
    unnamed: HashMap<Node, usize>,
    definitions: Map<String, Value>,
    facts: Facts,
}

/// `writers` is the source of what writes documents from the table; it takes part in the table's hash.
pub fn generate([facts, defaults, enums]: &[String; 3], writers: &str) -> Output {
    let mut definitions = roots::definitions();
    definitions.extend(metrics::definitions());
    let mut builder = Builder { definitions, facts: Facts::parse(facts, defaults), ..Builder::default() };
    let mut kinds = Vec::new();
    for (group, version, kind, definition) in roots::kinds().into_iter().chain(metrics::kinds()) {
        let node = builder.definition(&definition, None);
        kinds.push((group.to_owned(), version.to_owned(), kind.to_owned(), node));
        if builder.definitions[definition.as_str()].pointer("/properties/metadata/$ref").and_then(Value::as_str)
            == Some("#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")
        {
            let list = builder.list_definition(&definition, &kind, node);
            kinds.push((group, version, format!("{kind}List"), list));
        }
    }
    for (definition, property) in builder.facts.with_defaults() {
        let known = builder.definitions.get(definition).and_then(|d| d.pointer(&format!("/properties/{property}")));
        assert!(known.is_some(), "data/schema-defaults-1.36.tsv: {definition} has no property {property}");
    }
    kinds.sort();
    emit::emit(&builder.nodes, &kinds, &enums::emit(enums, &builder.definitions), writers)
}

impl Builder {
    fn definition(&mut self, name: &str, relation: Option<&'static str>) -> usize {
        let relation = relation.or_else(|| self.facts.map_type(name, "-")).unwrap_or("Granular");
        if let Some(&node) = self.named.get(&(name.to_owned(), relation)) {
            return node;
        }
        let schema = self.definitions.get(name).unwrap_or_else(|| panic!("no definition of {name}")).clone();
        let id = self.nodes.len();
        self.named.insert((name.to_owned(), relation), id);
        self.nodes.push(Node {
            kind: "Any",
            relation,
            name: name.to_owned(),
            element: 0,
            keys: Vec::new(),
            fields: Vec::new(),
            description: text(&schema, "description"),
        });
        let kind = match name.rsplit('.').next().unwrap_or(name) {
            "Time" => "Time",
            "MicroTime" => "MicroTime",
            "Quantity" => "Quantity",
            "IntOrString" => "IntOrString",
            "RawExtension" | "FieldsV1" | "JSON" | "Patch" => "Any",
            last if last.starts_with("JSONSchemaPropsOr") => "Any",
            _ => "Struct",
        };
        self.nodes[id].kind = kind;
        if kind == "Any" {
            self.nodes[id].relation = "Atomic";
        }
        if kind == "Struct" {
            self.nodes[id].fields = self.fields(name, &schema);
        }
        id
    }

    fn fields(&mut self, definition: &str, schema: &Value) -> Vec<Field> {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
        let mut fields: Vec<Field> = properties
            .iter()
            .map(|(property, schema)| Field {
                name: property.clone(),
                node: self.property(definition, property, schema),
                required: self.facts.is_required(definition, property),
                patch: self.facts.list(definition, property, "patch"),
                merge_key: self.facts.get(definition, property, "mergekey"),
                default: self.facts.default(definition, property),
                description: text(schema, "description"),
            })
            .collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        fields
    }

    fn property(&mut self, definition: &str, property: &str, schema: &Value) -> usize {
        let map_type = self.facts.map_type(definition, property);
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            return self.definition(name.trim_start_matches("#/$defs/"), map_type);
        }
        let relation = match self.facts.get(definition, property, "list").as_str() {
            "map" => "Associative",
            "set" => "Set",
            "atomic" => "Atomic",
            _ if schema.get("type").and_then(Value::as_str) == Some("array") => "Atomic",
            _ => map_type.unwrap_or("Granular"),
        };
        let keys = self.facts.list(definition, property, "keys");
        self.inline(schema, relation, keys)
    }

    /// A type that has no name of its own.
    fn inline(&mut self, schema: &Value, relation: &'static str, keys: Vec<String>) -> usize {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            return self.definition(name.trim_start_matches("#/$defs/"), None);
        }
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        let mut element = 0;
        let kind = match (schema.get("type").and_then(Value::as_str).unwrap_or_default(), format) {
            ("array", _) => {
                let items = &schema["items"];
                let inner = if items["type"] == "array" { "Atomic" } else { "Granular" };
                element = self.inline(items, inner, Vec::new());
                "List"
            }
            ("object", _) => match schema.get("additionalProperties") {
                Some(values) => {
                    let inner = if values["type"] == "array" { "Atomic" } else { "Granular" };
                    element = self.inline(values, inner, Vec::new());
                    "Map"
                }
                None => "Any",
            },
            ("string", "byte") => "Bytes",
            ("string", _) => "String",
            ("integer", "int64") => "Int64",
            ("integer", _) => "Int32",
            ("number", _) => "Double",
            ("boolean", _) => "Boolean",
            (other, _) => panic!("a property of type {other:?}: {schema}"),
        };
        let relation = match kind {
            "List" | "Map" => relation,
            "Any" => "Atomic",
            _ => "Granular",
        };
        let node =
            Node { kind, relation, name: String::new(), element, keys, fields: Vec::new(), description: String::new() };
        if let Some(&known) = self.unnamed.get(&node) {
            return known;
        }
        self.nodes.push(node.clone());
        self.unnamed.insert(node, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    /// What a list request answers with; upstream documents these kinds like any other.
    fn list_definition(&mut self, item: &str, kind: &str, node: usize) -> usize {
        let string = self.inline(&serde_json::json!({"type": "string"}), "Granular", Vec::new());
        let items = Node {
            kind: "List",
            relation: "Atomic",
            name: String::new(),
            element: node,
            keys: Vec::new(),
            fields: Vec::new(),
            description: String::new(),
        };
        self.nodes.push(items);
        let items = self.nodes.len() - 1;
        let list_meta = self.definition("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta", None);
        let of_item = |name: &str| {
            let path = format!("/properties/{name}/description");
            self.definitions[item].pointer(&path).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let field = |name: &str, node, required, description: String| Field {
            name: name.to_owned(),
            node,
            required,
            patch: Vec::new(),
            merge_key: String::new(),
            default: String::new(),
            description,
        };
        let fields = vec![
            field("apiVersion", string, false, of_item("apiVersion")),
            field("items", items, true, format!("items is the list of {kind} objects.")),
            field("kind", string, false, of_item("kind")),
            field("metadata", list_meta, false, "Standard list metadata.".to_owned()),
        ];
        self.nodes.push(Node {
            kind: "Struct",
            relation: "Granular",
            name: format!("{item}List"),
            element: 0,
            keys: Vec::new(),
            fields,
            description: format!("{kind}List is a list of {kind} objects."),
        });
        self.nodes.len() - 1
    }
}

fn text(schema: &Value, key: &str) -> String {
    schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}
