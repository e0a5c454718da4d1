//! Swagger 2.0 in protobuf: the form in which Go clients ask for `/openapi/v2`.
//!
//! The messages are those of `openapi.v2.Document` (gnostic's `OpenAPIv2.proto`); the numbers below are its field
//! numbers. Only what [`crate::openapi::v2`] writes is known here.

use serde_json::Value;

use super::{Message, entries, extensions, items};

/// `swagger` as [`crate::openapi::v2`] writes it.
pub(in crate::openapi) fn document(swagger: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &swagger["swagger"]);
    out.message(2, |info| {
        info.text(1, &swagger["info"]["title"]);
        info.text(2, &swagger["info"]["version"]);
    });
    out.message(8, |paths| {
        for (path, item) in entries(&swagger["paths"]) {
            paths.named(2, path, |out| path_item(out, item));
        }
    });
    out.message(9, |definitions| {
        for (name, definition) in entries(&swagger["definitions"]) {
            definitions.named(1, name, |out| schema(out, definition));
        }
    });
    for requirement in items(&swagger["security"]) {
        out.message(12, |out| {
            for (name, _) in entries(requirement) {
                out.named(1, name, |_| {});
            }
        });
    }
    out.message(13, |definitions| {
        for (name, security) in entries(&swagger["securityDefinitions"]) {
            definitions.named(1, name, |out| {
                out.message(2, |key| {
                    key.text(1, &security["type"]);
                    key.text(2, &security["name"]);
                    key.text(3, &security["in"]);
                    key.text(4, &security["description"]);
                });
            });
        }
    });
    out.bytes
}

fn path_item(out: &mut Message, item: &Value) {
    for (number, method) in [(2, "get"), (3, "put"), (4, "post"), (5, "delete"), (8, "patch")] {
        if let Some(described) = item.get(method) {
            out.message(number, |out| operation(out, described));
        }
    }
}

fn operation(out: &mut Message, operation: &Value) {
    out.texts(1, &operation["tags"]);
    out.text(3, &operation["description"]);
    out.text(5, &operation["operationId"]);
    out.texts(6, &operation["produces"]);
    out.texts(7, &operation["consumes"]);
    for described in items(&operation["parameters"]) {
        out.message(8, |item| item.message(1, |out| parameter(out, described)));
    }
    out.message(9, |responses| {
        for (code, response) in entries(&operation["responses"]) {
            responses.named(1, code, |value| {
                value.message(1, |out| {
                    out.text(1, &response["description"]);
                    if let Some(described) = response.get("schema") {
                        out.message(2, |item| item.message(1, |out| schema(out, described)));
                    }
                });
            });
        }
    });
    out.texts(10, &operation["schemes"]);
    extensions(out, 13, operation);
}

fn parameter(out: &mut Message, parameter: &Value) {
    let place = parameter["in"].as_str().unwrap_or_default();
    if place == "body" {
        out.message(1, |body| {
            body.text(1, &parameter["description"]);
            body.text(2, &parameter["name"]);
            body.text(3, &parameter["in"]);
            body.truth(4, &parameter["required"]);
            body.message(5, |out| schema(out, &parameter["schema"]));
        });
        return;
    }
    // Parameters in a query may be empty and so have one field more, which moves all after it.
    let (number, moved) = if place == "query" { (3, 1) } else { (4, 0) };
    out.message(2, |other| {
        other.message(number, |out| {
            out.truth(1, &parameter["required"]);
            out.text(2, &parameter["in"]);
            out.text(3, &parameter["description"]);
            out.text(4, &parameter["name"]);
            out.text(5 + moved, &parameter["type"]);
            out.truth(19 + moved, &parameter["uniqueItems"]);
        });
    });
}

fn schema(out: &mut Message, schema: &Value) {
    out.text(1, &schema["$ref"]);
    out.text(2, &schema["format"]);
    out.text(4, &schema["description"]);
    if let Some(default) = schema.get("default") {
        out.message(5, |any| any.yaml(default));
    }
    checks(out, schema);
    match schema.get("additionalProperties") {
        Some(allowed @ Value::Bool(_)) => out.message(21, |item| item.chosen_truth(2, allowed)),
        Some(values) => out.message(21, |item| item.message(1, |out| self::schema(out, values))),
        None => {}
    }
    if schema["type"].is_string() {
        out.message(22, |types| types.text(1, &schema["type"]));
    }
    if let Some(element) = schema.get("items") {
        out.message(23, |items| items.message(1, |out| self::schema(out, element)));
    }
    if let Some(properties) = schema.get("properties") {
        out.message(25, |out| {
            for (name, property) in entries(properties) {
                out.named(1, name, |out| self::schema(out, property));
            }
        });
    }
    extensions(out, 31, schema);
}

/// What values must be like; the built-ins' schemas say only which fields must be there.
fn checks(out: &mut Message, schema: &Value) {
    out.text(3, &schema["title"]);
    for (number, key) in [(6, "multipleOf"), (7, "maximum"), (9, "minimum")] {
        out.double(number, &schema[key]);
    }
    out.truth(8, &schema["exclusiveMaximum"]);
    out.truth(10, &schema["exclusiveMinimum"]);
    for (number, key) in [(11, "maxLength"), (12, "minLength")] {
        out.count(number, &schema[key]);
    }
    out.text(13, &schema["pattern"]);
    for (number, key) in [(14, "maxItems"), (15, "minItems")] {
        out.count(number, &schema[key]);
    }
    for (number, key) in [(17, "maxProperties"), (18, "minProperties")] {
        out.count(number, &schema[key]);
    }
    out.texts(19, &schema["required"]);
    for value in items(&schema["enum"]) {
        out.message(20, |any| any.yaml(value));
    }
}
