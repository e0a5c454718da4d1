//! Schemas of custom resources as documents show them (`apiextensions-apiserver/pkg/controller/openapi/builder`).

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde_json::{Map, Value, json};

use super::{Edition, schemas::Used};
use crate::{
    custom::Version,
    registry::Resource,
    schema::{self, Docs, FieldRef, TypeRef, generated},
    value::{is_empty, items, truth},
};

/// A custom resource in one version: its row, and what its definition says of it.
#[derive(Clone, Copy, Debug)]
pub struct Custom<'a> {
    pub resource: &'static Resource,
    pub version: &'a Version,
}

/// Good as an ETag of what is made of these: it changes whenever a document of them may.
pub fn custom_hash(customs: &[Custom<'_>]) -> String {
    // Not the keyed hash of maps: the same definitions have the same hash after a restart.
    let mut hasher = DefaultHasher::new();
    generated::HASH.hash(&mut hasher);
    for custom in customs {
        (custom.resource.gvk(), custom.resource.plural, custom.resource.list_kind()).hash(&mut hasher);
        (custom.version.has_status, custom.version.scale.is_some(), custom.resource.namespaced).hash(&mut hasher);
        custom.version.written().hash(&mut hasher);
    }
    format!("{:016X}", hasher.finish())
}

/// `com.example.v1.Widget`: the group's words in the opposite order.
pub(super) fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

/// The kind and its list, by the names of their definitions.
pub(super) fn definitions(
    customs: &[Custom<'_>],
    edition: Edition,
    docs: &Docs,
    used: &mut Used,
) -> BTreeMap<String, Value> {
    let mut definitions = BTreeMap::new();
    for custom in customs {
        let resource = custom.resource;
        let name = |kind: &str| definition_name(resource.group, resource.version, kind);
        let mut builder = Builder { edition, docs, used };
        definitions.insert(name(resource.kind), builder.kind(custom));
        definitions.insert(name(&resource.list_kind()), builder.list(custom, &name(resource.kind)));
    }
    definitions
}

struct Builder<'a> {
    edition: Edition,
    docs: &'a Docs,
    used: &'a mut Used,
}

impl Builder<'_> {
    fn kind(&mut self, custom: &Custom<'_>) -> Value {
        let version = custom.version;
        let mut schema: Value = serde_json::from_str(version.written()).unwrap_or_default();
        let keeps = truth(&schema["x-kubernetes-preserve-unknown-fields"]) || version.preserves_unknown();
        let mut shown = if schema.is_null() || (self.edition == Edition::V2 && keeps) {
            // kubectl would take any property as the sign that there are no others.
            json!({"type": "object"})
        } else {
            if self.edition == Edition::V2 {
                to_v2(&mut schema);
            }
            self.embedded(&mut schema);
            self.meta(&mut schema, "PodTemplate");
            schema
        };
        shown["x-kubernetes-group-version-kind"] = gvk(custom.resource, custom.resource.kind);
        shown
    }

    fn list(&mut self, custom: &Custom<'_>, item: &str) -> Value {
        let list_kind = custom.resource.list_kind();
        let more = "More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md";
        let mut list = json!({
            "description": format!("{list_kind} is a list of {}", custom.resource.kind),
            "type": "object",
            "required": ["items"],
            "properties": {"items": {
                "description": format!("List of {}. {more}", custom.resource.plural),
                "type": "array",
                "items": self.edition.reference(item),
            }},
            "x-kubernetes-group-version-kind": gvk(custom.resource, &list_kind),
        });
        self.meta(&mut list, "PodTemplateList");
        list
    }

    /// `apiVersion`, `kind` and `metadata`, as a built-in kind describes them.
    fn meta(&mut self, schema: &mut Value, like: &str) {
        let Some(ty) = schema::of("", "v1", like) else { return };
        let properties = ["apiVersion", "kind", "metadata"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), self.meta_field(ty.field(name)?))));
        let properties: Vec<(String, Value)> = properties.collect();
        if let Some(all) = object_at(schema, "properties") {
            all.extend(properties);
        }
    }

    fn meta_field(&mut self, field: FieldRef<'static>) -> Value {
        let mut schema = match field.name() {
            "metadata" => self.reference(field.ty()),
            _ => json!({"type": "string"}),
        };
        schema["description"] = self.docs.of_field(field).into();
        schema
    }

    /// In v3 nothing may stand beside a reference, so it is put into a list of one.
    fn reference(&mut self, ty: TypeRef<'static>) -> Value {
        let reference = self.used.reference(ty, self.edition);
        if self.edition == Edition::V3 { json!({"allOf": [reference]}) } else { reference }
    }

    /// Objects in objects say what they are, too.
    fn embedded(&mut self, schema: &mut Value) {
        if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            properties.values_mut().for_each(|property| self.embedded(property));
        }
        for key in ["items", "additionalProperties"] {
            if let Some(below) = schema.get_mut(key).filter(|below| below.is_object()) {
                self.embedded(below);
            }
        }
        let keeps = truth(&schema["x-kubernetes-preserve-unknown-fields"]);
        if !truth(&schema["x-kubernetes-embedded-resource"]) || (keeps && self.edition == Edition::V2) {
            return;
        }
        self.meta(schema, "PodTemplate");
        let mut required = items(&schema["required"]).to_vec();
        for name in ["kind", "apiVersion"] {
            if !required.iter().any(|one| one == name) {
                required.push(name.into());
            }
        }
        schema["required"] = required.into();
    }
}

fn gvk(resource: &Resource, kind: &str) -> Value {
    json!([{"group": resource.group, "version": resource.version, "kind": kind}])
}

fn object_at<'a>(schema: &'a mut Value, key: &str) -> Option<&'a mut Map<String, Value>> {
    crate::value::object_at(schema.as_object_mut()?, key)
}

/// Takes out what Swagger 2.0 does not know or old clients cannot cope with.
fn to_v2(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for key in ["allOf", "anyOf", "oneOf", "not"] {
        map.remove(key);
    }
    let is = |map: &Map<String, Value>, key: &str| map.get(key).is_some_and(truth);
    let nullable = is(map, "nullable");
    map.remove("nullable");
    if nullable {
        map.remove("type");
    }
    if nullable || is(map, "x-kubernetes-preserve-unknown-fields") {
        map.remove("items");
        map.remove("properties");
    }
    if map.get("type").is_some_and(|kind| kind == "array") && !map.contains_key("items") {
        map.remove("type");
    }
    let may_be_null = |schema: &Value| truth(&schema["nullable"]);
    let properties = map.get("properties").cloned().unwrap_or_default();
    let values_may_be_null = map.get("additionalProperties").is_some_and(may_be_null);
    if let Some(Value::Array(required)) = map.get_mut("required") {
        // A null could not be told from a field that is missing.
        required.retain(|name| !values_may_be_null && !may_be_null(&properties[name.as_str().unwrap_or_default()]));
        if is_empty(&Value::from(required.clone())) {
            map.remove("required");
        }
    }
    if let Some(properties) = map.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(to_v2);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = map.get_mut(key) {
            to_v2(below);
        }
    }
}
