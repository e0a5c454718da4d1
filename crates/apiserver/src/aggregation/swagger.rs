//! Swagger 2.0 as OpenAPI 3.0, for servers that write only the older one. What is of no use to clients of a cluster
//! (forms, files, hosts) stays behind.

use serde_json::{Map, Value, json};

use crate::json::{items, text};

const OLD: &str = "#/definitions/";
const NEW: &str = "#/components/schemas/";
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];
/// What a parameter says of its value itself, where a schema says it now.
const SIMPLE: [&str; 15] = [
    "type",
    "format",
    "items",
    "default",
    "enum",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
];

/// The document in the newer form. References to parameters and responses must have been followed.
pub fn to_v3(document: &Value) -> Value {
    let all = |key: &str, convert: fn(&Value) -> Value| -> Map<String, Value> {
        let members = document[key].as_object().into_iter().flatten();
        members.map(|(name, value)| (name.clone(), convert(value))).collect()
    };
    let paths = document["paths"].as_object().into_iter().flatten();
    let paths: Map<String, Value> = paths.map(|(path, one)| (path.clone(), path_item(one, document))).collect();
    let mut components = json!({ "schemas": all("definitions", schema) });
    let schemes = all("securityDefinitions", security_scheme);
    if !schemes.is_empty() {
        components["securitySchemes"] = schemes.into();
    }
    let mut converted = json!({ "openapi": "3.0.0" });
    converted["info"] = match &document["info"] {
        Value::Null => json!({ "title": "", "version": "" }),
        info => info.clone(),
    };
    carry(document, &mut converted, &["externalDocs"]);
    converted["paths"] = paths.into();
    converted["components"] = components;
    converted
}

fn carry(from: &Value, to: &mut Value, keys: &[&str]) {
    for (key, value) in from.as_object().into_iter().flatten() {
        if keys.contains(&key.as_str()) || key.starts_with("x-") {
            to[key] = value.clone();
        }
    }
}

fn path_item(item: &Value, document: &Value) -> Value {
    let mut converted = json!({});
    carry(item, &mut converted, &[]);
    let shared = items(&item["parameters"]);
    for method in METHODS {
        if let Some(one) = item.get(method) {
            converted[method] = operation(one, shared, document);
        }
    }
    let parameters: Vec<Value> = shared.iter().filter(|one| one["in"] != "body").map(parameter).collect();
    if !parameters.is_empty() {
        converted["parameters"] = parameters.into();
    }
    converted
}

/// The media types of an operation: its own, or else those of the whole document.
fn media_types<'a>(operation: &'a Value, document: &'a Value, key: &str) -> Vec<&'a str> {
    let lists = [&operation[key], &document[key]].map(items);
    match lists.into_iter().find(|list| !list.is_empty()) {
        Some(list) => list.iter().map(text).collect(),
        None => vec!["application/json"],
    }
}

fn content(media_types: &[&str], of: &Value) -> Value {
    let of = json!({ "schema": schema(of) });
    media_types.iter().map(|media_type| ((*media_type).to_owned(), of.clone())).collect::<Map<_, _>>().into()
}

fn operation(old: &Value, shared: &[Value], document: &Value) -> Value {
    let mut converted = json!({});
    carry(
        old,
        &mut converted,
        &["tags", "summary", "description", "externalDocs", "operationId", "deprecated", "security"],
    );
    let own = items(&old["parameters"]);
    let parameters: Vec<Value> = own.iter().filter(|one| one["in"] != "body").map(parameter).collect();
    if !parameters.is_empty() {
        converted["parameters"] = parameters.into();
    }
    let body = own.iter().chain(shared).find(|one| one["in"] == "body");
    if let Some(body) = body {
        let mut request = json!({ "content": content(&media_types(old, document, "consumes"), &body["schema"]) });
        carry(body, &mut request, &["description", "required"]);
        converted["requestBody"] = request;
    }
    let produces = media_types(old, document, "produces");
    let responses = old["responses"].as_object().into_iter().flatten();
    let responses = responses.map(|(code, one)| match code.starts_with("x-") {
        true => (code.clone(), one.clone()),
        false => (code.clone(), response(one, &produces)),
    });
    converted["responses"] = responses.collect::<Map<_, _>>().into();
    converted
}

fn response(old: &Value, produces: &[&str]) -> Value {
    let mut converted = json!({ "description": text(&old["description"]) });
    carry(old, &mut converted, &[]);
    if old["schema"].is_object() {
        converted["content"] = content(produces, &old["schema"]);
    }
    let headers = old["headers"].as_object().into_iter().flatten();
    let headers: Map<String, Value> = headers.map(|(name, header)| (name.clone(), parameter(header))).collect();
    if !headers.is_empty() {
        converted["headers"] = headers.into();
    }
    converted
}

/// A parameter, or a header, whose value gets a schema.
fn parameter(old: &Value) -> Value {
    let mut converted = json!({});
    carry(old, &mut converted, &["name", "in", "description", "required", "allowEmptyValue"]);
    let members = old.as_object().into_iter().flatten();
    let simple = members.filter(|(key, _)| SIMPLE.contains(&key.as_str()));
    let simple: Map<String, Value> = simple.map(|(key, value)| (key.clone(), value.clone())).collect();
    converted["schema"] = match &old["schema"] {
        Value::Null => schema(&simple.into()),
        given => schema(given),
    };
    converted
}

fn schema(old: &Value) -> Value {
    let Some(members) = old.as_object() else { return old.clone() };
    let list = |value: &Value| Value::from(items(value).iter().map(schema).collect::<Vec<_>>());
    let mut converted = Map::new();
    for (key, value) in members {
        let value = match (key.as_str(), value) {
            ("$ref", Value::String(at)) => at.replacen(OLD, NEW, 1).into(),
            ("properties", Value::Object(all)) => {
                all.iter().map(|(name, value)| (name.clone(), schema(value))).collect::<Map<_, _>>().into()
            }
            ("items" | "additionalProperties" | "additionalItems" | "not", Value::Object(_)) => schema(value),
            ("items" | "allOf" | "anyOf" | "oneOf", Value::Array(_)) => list(value),
            _ => value.clone(),
        };
        converted.insert(key.clone(), value);
    }
    // Nothing may stand beside a reference: what does is said of all that the reference is one part of.
    if converted.len() > 1
        && let Some(at) = converted.remove("$ref")
    {
        let parts = converted.entry("allOf").or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(parts) = parts {
            parts.push(json!({ "$ref": at }));
        }
    }
    converted.into()
}

fn security_scheme(old: &Value) -> Value {
    let mut converted = json!({});
    match text(&old["type"]) {
        "basic" => {
            converted = json!({ "type": "http", "scheme": "basic" });
            carry(old, &mut converted, &["description"]);
        }
        "oauth2" => {
            let flow = match text(&old["flow"]) {
                "application" => "clientCredentials",
                "accessCode" => "authorizationCode",
                same => same,
            };
            carry(old, &mut converted, &["type", "description"]);
            let mut said = json!({ "scopes": old.get("scopes").cloned().unwrap_or_else(|| json!({})) });
            carry(old, &mut said, &["authorizationUrl", "tokenUrl"]);
            converted["flows"] = json!({ flow: said });
        }
        _ => carry(old, &mut converted, &["type", "description", "name", "in"]),
    }
    converted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_written_anew() {
        let old = json!({
            "swagger": "2.0", "info": { "title": "Wardle", "version": "1" }, "produces": ["application/yaml"],
            "paths": { "/apis/wardle/v1/flunders": {
                "parameters": [{ "name": "pretty", "in": "query", "type": "string", "uniqueItems": true }],
                "post": {
                    "operationId": "create", "consumes": ["application/json", "application/yaml"], "schemes": ["https"],
                    "x-kubernetes-action": "post",
                    "parameters": [
                        { "name": "body", "in": "body", "required": true, "schema": { "$ref": "#/definitions/Flunder" } },
                        { "name": "limit", "in": "query", "type": "integer", "description": "so many" },
                    ],
                    "responses": {
                        "200": { "description": "OK", "schema": { "$ref": "#/definitions/Flunder" } },
                        "401": { "description": "Unauthorized" },
                    },
                },
            } },
            "definitions": { "Flunder": {
                "type": "object", "x-kubernetes-group-version-kind": [],
                "properties": {
                    "metadata": { "description": "whose", "$ref": "#/definitions/Meta" },
                    "plain": { "$ref": "#/definitions/Meta" },
                    "many": { "type": "array", "items": { "$ref": "#/definitions/Meta" } },
                    "by": { "type": "object", "additionalProperties": { "$ref": "#/definitions/Meta" } },
                },
            } },
            "securityDefinitions": {
                "token": { "type": "apiKey", "name": "authorization", "in": "header" }, "plain": { "type": "basic" },
            },
        });
        let flunder = json!({ "schema": { "$ref": "#/components/schemas/Flunder" } });
        let meta = json!({ "$ref": "#/components/schemas/Meta" });
        let expected = json!({
            "openapi": "3.0.0", "info": { "title": "Wardle", "version": "1" },
            "paths": { "/apis/wardle/v1/flunders": {
                "parameters": [{ "name": "pretty", "in": "query", "schema": { "type": "string", "uniqueItems": true } }],
                "post": {
                    "operationId": "create", "x-kubernetes-action": "post",
                    "requestBody": {
                        "required": true, "content": { "application/json": flunder, "application/yaml": flunder },
                    },
                    "parameters": [
                        { "name": "limit", "in": "query", "description": "so many", "schema": { "type": "integer" } },
                    ],
                    "responses": {
                        "200": { "description": "OK", "content": { "application/yaml": flunder } },
                        "401": { "description": "Unauthorized" },
                    },
                },
            } },
            "components": {
                "schemas": { "Flunder": {
                    "type": "object", "x-kubernetes-group-version-kind": [],
                    "properties": {
                        "metadata": { "description": "whose", "allOf": [meta] }, "plain": meta,
                        "many": { "type": "array", "items": meta },
                        "by": { "type": "object", "additionalProperties": meta },
                    },
                } },
                "securitySchemes": {
                    "token": { "type": "apiKey", "name": "authorization", "in": "header" },
                    "plain": { "type": "http", "scheme": "basic" },
                },
            },
        });
        assert_eq!(to_v3(&old), expected);
    }
}
