//! OpenAPI documents, made when asked for: v3 by group-version, and v2. Those of the built-ins are made from the schema
//! table, those of custom resources from their definitions (`custom`).
//!
//! A document takes some tens of milliseconds to write and is up to some MB long, so a server keeps the bytes only
//! while clients ask for them. What kubectl needs of them: `paths` with `x-kubernetes-group-version-kind` (explain),
//! the `fieldValidation` parameter and content types of PATCH (apply), list types, merge keys and descriptions.

mod custom;
mod enums;
mod paths;
mod protobuf;
mod schemas;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use serde_json::{Value, json};

pub use custom::{Custom, custom_hash};

use crate::{
    registry::{self, Resource},
    schema::{Docs, generated},
};

/// Which edition of the specification a document is in; they differ in where types stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edition {
    V2,
    V3,
}

impl Edition {
    fn reference(self, definition: &str) -> Value {
        match self {
            Edition::V2 => json!({"$ref": format!("#/definitions/{definition}")}),
            Edition::V3 => json!({"$ref": format!("#/components/schemas/{definition}")}),
        }
    }
}

/// The body of `/openapi/v3`: where each group-version's document is, with a hash that changes with its content.
pub fn v3_index() -> Vec<u8> {
    v3_index_with(BTreeMap::new())
}

/// As [`v3_index`], with the documents of custom resources: their hashes by the names of their group-versions.
pub fn v3_index_with(customs: BTreeMap<String, String>) -> Vec<u8> {
    v3_index_of(&customs, &BTreeSet::new())
}

/// As [`v3_index`], with further documents, some in the place of built-in ones, and without some.
pub fn v3_index_of(further: &BTreeMap<String, String>, without: &BTreeSet<String>) -> Vec<u8> {
    let mut hashes = further.clone();
    for name in group_versions().into_iter().filter(|name| !without.contains(name)) {
        let hash = v3_hash(&name);
        hashes.entry(name).or_insert(hash);
    }
    let mut text = String::from("{\"paths\":{");
    for (at, (name, hash)) in hashes.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(text, "{comma}\"{name}\":{{\"serverRelativeURL\":\"/openapi/v3/{name}?hash={hash}\"}}")
            .unwrap_or_default();
    }
    text.push_str("}}");
    text.into_bytes()
}

/// The group-versions of the built-ins as the index names them: `api/v1`, `apis/apps/v1`, ...
pub fn group_versions() -> BTreeSet<String> {
    registry::builtins().iter().map(|r| document_name(r.group, r.version)).collect()
}

/// What the document of a group-version is known by; good as an ETag. It changes whenever any document may.
pub fn v3_hash(group_version: &str) -> String {
    let hash = group_version
        .bytes()
        .fold(generated::HASH, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016X}")
}

/// The document of a group-version as the index names it (`api/v1`, `apis/apps/v1`), as JSON.
pub fn v3_document(group_version: &str) -> Option<Vec<u8>> {
    let resources: Vec<_> =
        registry::builtins().iter().filter(|r| document_name(r.group, r.version) == group_version).collect();
    if resources.is_empty() {
        return None;
    }
    Some(v3(&resources, &[]))
}

/// The document of a group-version of custom resources: all that are served in it.
pub fn v3_custom_document(customs: &[Custom<'_>]) -> Vec<u8> {
    v3(&[], customs)
}

fn v3(resources: &[&'static Resource], customs: &[Custom<'_>]) -> Vec<u8> {
    let docs = Docs::inflate();
    let mut used = schemas::Used::default();
    let mut out = Writer::start(Edition::V3);
    out.section("\"paths\":{");
    for (path, item) in all_paths(resources, customs, Edition::V3, &mut used) {
        out.entry(&path, &item);
    }
    out.text.push_str("},\"components\":{\"schemas\":{");
    out.first = true;
    let own = custom::definitions(customs, Edition::V3, &docs, &mut used);
    for (name, schema) in own.iter().chain(&schemas::definitions(used, Edition::V3, &docs)) {
        out.entry(name, schema);
    }
    out.text.push_str("},\"securitySchemes\":");
    out.text.push_str(&json!({"BearerToken": security()}).to_string());
    out.text.push_str("}}");
    out.text.into_bytes()
}

fn all_paths(
    resources: &[&'static Resource],
    customs: &[Custom<'_>],
    edition: Edition,
    used: &mut schemas::Used,
) -> BTreeMap<String, Value> {
    let mut all = paths::of(resources, false, edition, used);
    let rows: Vec<_> = customs.iter().map(|custom| custom.resource).collect();
    all.extend(paths::of(&rows, true, edition, used));
    all
}

/// Swagger 2.0 of all built-ins, as JSON.
pub fn v2() -> Vec<u8> {
    v2_with(&[])
}

/// As [`v2`], with custom resources.
pub fn v2_with(customs: &[Custom<'_>]) -> Vec<u8> {
    let docs = Docs::inflate();
    let resources: Vec<_> = registry::builtins().iter().collect();
    let mut used = schemas::Used::default();
    let mut out = Writer::start(Edition::V2);
    out.section("\"paths\":{");
    for (path, item) in all_paths(&resources, customs, Edition::V2, &mut used) {
        out.entry(&path, &item);
    }
    out.text.push('}');
    out.section(",\"definitions\":{");
    let own = custom::definitions(customs, Edition::V2, &docs, &mut used);
    for (name, schema) in own.iter().chain(&schemas::definitions(used, Edition::V2, &docs)) {
        out.entry(name, schema);
    }
    out.text.push_str("},\"securityDefinitions\":");
    out.text.push_str(&json!({"BearerToken": security()}).to_string());
    out.text.push_str(",\"security\":[{\"BearerToken\":[]}]}");
    out.text.into_bytes()
}

/// As [`v2`], in protobuf. Go clients ask for it as `application/com.github.proto-openapi.spec.v2@v1.0+protobuf`; the
/// answer's content type must be `application/com.github.proto-openapi.spec.v2.v1.0+protobuf` (they parse it, and `@`
/// can't stand there).
pub fn v2_protobuf() -> Vec<u8> {
    v2_protobuf_with(&[])
}

/// As [`v2_protobuf`], with custom resources.
pub fn v2_protobuf_with(customs: &[Custom<'_>]) -> Vec<u8> {
    v2_protobuf_of(&serde_json::from_slice(&v2_with(customs)).unwrap_or_default())
}

/// A Swagger document in protobuf.
pub fn v2_protobuf_of(swagger: &Value) -> Vec<u8> {
    protobuf::v2::document(swagger)
}

/// An OpenAPI v3 document in protobuf. Go clients ask for it as
/// `application/com.github.proto-openapi.spec.v3@v1.0+protobuf`.
pub fn v3_protobuf_of(document: &Value) -> Vec<u8> {
    protobuf::v3::document(document)
}

/// How the index names the document of a group-version: `apis/example.com/v1`.
pub fn document_name(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn security() -> Value {
    json!({"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"})
}

/// Writes a document piece by piece, so that it is in memory once, as text.
struct Writer {
    text: String,
    first: bool,
}

impl Writer {
    fn start(edition: Edition) -> Writer {
        let info = json!({"title": "Kubernetes", "version": crate::version::KUBERNETES});
        let text = match edition {
            Edition::V2 => format!("{{\"swagger\":\"2.0\",\"info\":{info},"),
            Edition::V3 => format!("{{\"openapi\":\"3.0.0\",\"info\":{info},"),
        };
        Writer { text, first: true }
    }

    fn section(&mut self, head: &str) {
        self.text.push_str(head);
        self.first = true;
    }

    fn entry(&mut self, name: &str, value: &Value) {
        if !std::mem::replace(&mut self.first, false) {
            self.text.push(',');
        }
        write!(self.text, "{}:{value}", Value::from(name)).unwrap_or_default();
    }
}
