//! What a schema in OpenAPI says about values: their types, and how big they can be at most
//! (`apiserver/pkg/cel/common/schemas.go` upstream, whose numbers decide which definitions are let in).

use std::collections::BTreeMap;

use serde_json::Value as Json;

use crate::{
    escape::escape,
    types::{ObjectType, Type},
};

/// The biggest request that is read, in bytes.
const MAX_REQUEST: u64 = 3 * 1024 * 1024;
/// A schema nested deeper is not looked into: what lies below is not exposed.
const MAX_DEPTH: usize = 200;

/// A schema as expressions see it.
#[derive(Debug)]
pub struct Declaration {
    pub ty: Type,
    /// How many elements, entries or characters there can be; zero where a value has no size.
    pub(crate) max_elements: u64,
    /// The fewest bytes such a value takes as JSON.
    pub(crate) min_bytes: u64,
    /// Under the names that expressions use.
    pub(crate) fields: BTreeMap<String, Field>,
    pub(crate) element: Option<Box<Declaration>>,
    pub(crate) list: ListKind,
}

#[derive(Debug)]
pub(crate) struct Field {
    pub name: String,
    pub declaration: Declaration,
}

/// `x-kubernetes-list-type`: whether the order of elements means something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListKind {
    #[default]
    Atomic,
    Set,
    Map(Vec<String>),
}

impl Declaration {
    /// None for a schema whose values expressions can't see. `name`: what messages call the type; `is_resource`: it has
    /// `apiVersion`, `kind` and `metadata`, whatever the schema says of them.
    pub fn of(schema: &Json, name: &str, is_resource: bool) -> Option<Declaration> {
        node(schema, name, is_resource, 0)
    }

    /// The most times that such a value can stand in one request.
    pub fn max_cardinality(&self) -> u64 {
        MAX_REQUEST / (self.min_bytes + 1)
    }

    /// The declaration of a property, by its name in the schema.
    pub fn property(&self, name: &str) -> Option<&Declaration> {
        self.fields.get(&escape(name)?).map(|field| &field.declaration)
    }

    /// The declaration of the elements of a list or the values of a map.
    pub fn element(&self) -> Option<&Declaration> {
        self.element.as_deref()
    }

    /// By the name in the object, which need not be an identifier.
    pub(crate) fn child(&self, name: &str) -> Option<&Declaration> {
        if self.fields.is_empty() { self.element() } else { self.property(name) }
    }

    fn simple(ty: Type, max_elements: u64, min_bytes: u64) -> Self {
        let (fields, element) = (BTreeMap::new(), None);
        Self { ty, max_elements, min_bytes, fields, element, list: ListKind::Atomic }
    }
}

fn node(schema: &Json, name: &str, is_resource: bool, depth: usize) -> Option<Declaration> {
    if depth > MAX_DEPTH {
        return None;
    }
    let bound = |key: &str| schema[key].as_i64().map(|bound| u64::try_from(bound).unwrap_or(0));
    if schema["x-kubernetes-int-or-string"] == true {
        let longest = bound("maxLength").map_or(MAX_REQUEST - 2, |max| max.saturating_mul(4));
        return Some(Declaration::simple(Type::Dyn, longest, 1));
    }
    let kind = if is_resource { "object" } else { schema["type"].as_str().unwrap_or_default() };
    match kind {
        "array" => {
            let items = schema.get("items").filter(|items| items.is_object())?;
            let element = node(items, &format!("{name}.@idx"), embeds(items), depth + 1)?;
            let max = bound("maxItems").unwrap_or((MAX_REQUEST - 2) / (element.min_bytes + 1));
            let mut list = Declaration::simple(Type::list(element.ty.clone()), max, 2);
            list.list = list_kind(schema);
            list.element = Some(Box::new(element));
            Some(list)
        }
        "object" if !is_resource && schema["additionalProperties"].is_object() => {
            let values = &schema["additionalProperties"];
            let element = node(values, &format!("{name}.@elem"), embeds(values), depth + 1)?;
            let max = bound("maxProperties").unwrap_or((MAX_REQUEST - 2) / (element.min_bytes + 6));
            let mut map = Declaration::simple(Type::map(Type::String, element.ty.clone()), max, 2);
            map.element = Some(Box::new(element));
            Some(map)
        }
        "object" => Some(object(schema, name, is_resource, depth)),
        "string" => Some(string(schema, bound("maxLength"))),
        "boolean" => Some(Declaration::simple(Type::Bool, 0, 4)),
        "number" => Some(Declaration::simple(Type::Double, 0, 1)),
        "integer" => Some(Declaration::simple(Type::Int, 0, 1)),
        _ => None,
    }
}

fn embeds(schema: &Json) -> bool {
    schema["x-kubernetes-embedded-resource"] == true
}

fn list_kind(schema: &Json) -> ListKind {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().map(Vec::as_slice).unwrap_or_default();
            ListKind::Map(keys.iter().filter_map(Json::as_str).map(str::to_owned).collect())
        }
        _ => ListKind::Atomic,
    }
}

fn object(schema: &Json, name: &str, is_resource: bool, depth: usize) -> Declaration {
    let mut properties: Vec<(&str, &Json)> = Vec::new();
    if let Some(map) = schema["properties"].as_object() {
        properties.extend(map.iter().map(|(name, property)| (name.as_str(), property)));
    }
    let text = serde_json::json!({"type": "string"});
    let metadata = serde_json::json!({"type": "object", "properties": {"name": text, "generateName": text}});
    if is_resource && !says_metadata(schema) {
        properties.retain(|(name, _)| !matches!(*name, "kind" | "apiVersion" | "metadata"));
        properties.extend([("kind", &text), ("apiVersion", &text), ("metadata", &metadata)]);
    }
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    // An object is `{}` at least, and each required property adds its name, quotes, a colon, a comma and a value.
    let mut min_bytes = 2;
    let mut fields = BTreeMap::new();
    for (property, below) in properties {
        let escaped = escape(property);
        let path = format!("{name}.{}", escaped.as_deref().unwrap_or_default());
        let Some(declaration) = node(below, &path, embeds(below), depth + 1) else { continue };
        if required.iter().any(|one| one == property) && below["default"].is_null() {
            min_bytes += property.len() as u64 + declaration.min_bytes + 4;
        }
        if let Some(escaped) = escaped {
            fields.insert(escaped, Field { name: property.to_owned(), declaration });
        }
    }
    let ty = ObjectType::declare(name, fields.iter().map(|(name, field)| (name, field.declaration.ty.clone())));
    Declaration { fields, ..Declaration::simple(ty, 0, min_bytes) }
}

fn says_metadata(schema: &Json) -> bool {
    let properties = &schema["properties"];
    let metadata = &properties["metadata"];
    [&properties["kind"], &properties["apiVersion"]].iter().all(|one| one["type"] == "string")
        && metadata["type"] == "object"
        && ["name", "generateName"].iter().all(|name| metadata["properties"][*name]["type"] == "string")
}

/// Formats with a type of their own take no more than their longest form.
fn string(schema: &Json, max_length: Option<u64>) -> Declaration {
    match schema["format"].as_str().unwrap_or_default() {
        "byte" => Declaration::simple(Type::Bytes, max_length.unwrap_or(MAX_REQUEST - 2), 2),
        "duration" => Declaration::simple(Type::Duration, 32, 3),
        "date" => Declaration::simple(Type::Timestamp, 12, 12),
        "date-time" => Declaration::simple(Type::Timestamp, 32, 21),
        _ => {
            let allowed = schema["enum"].as_array().map(Vec::as_slice).unwrap_or_default();
            let longest = allowed.iter().filter_map(Json::as_str).map(|one| one.len() as u64).max();
            let max = match max_length {
                Some(characters) => characters.saturating_mul(4),
                None if allowed.is_empty() => MAX_REQUEST - 2,
                None => longest.unwrap_or(0),
            };
            Declaration::simple(Type::String, max, 2)
        }
    }
}
