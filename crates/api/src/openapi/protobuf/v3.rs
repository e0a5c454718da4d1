//! OpenAPI 3.0 in protobuf: another form of `/openapi/v3/...`.
//!
//! The messages are those of `openapi.v3.Document` (gnostic's `OpenAPIv3.proto`); the numbers below are its field
//! numbers. What stands in the place of a reference is one member of a pair: 1 where it is written out, 2 where it is a
//! reference.

use serde_json::Value;

use super::{Message, entries, extensions, items};

/// Any document that describes an API server.
pub(in crate::openapi) fn document(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["openapi"]);
    out.message(2, |info| {
        info.text(1, &document["info"]["title"]);
        info.text(2, &document["info"]["description"]);
        info.text(6, &document["info"]["version"]);
    });
    out.message(4, |paths| {
        for (path, item) in entries(&document["paths"]) {
            paths.named(1, path, |out| path_item(out, item));
        }
    });
    out.message(5, |out| components(out, &document["components"]));
    for requirement in items(&document["security"]) {
        out.message(6, |out| {
            for (name, scopes) in entries(requirement) {
                out.named(1, name, |out| out.texts(1, scopes));
            }
        });
    }
    out.bytes
}

fn components(out: &mut Message, components: &Value) {
    if let Some(schemas) = components.get("schemas") {
        named_schemas(out, 1, schemas);
    }
    let Some(schemes) = components.get("securitySchemes") else { return };
    out.message(7, |out| {
        for (name, scheme) in entries(schemes) {
            out.named(1, name, |out| {
                out.message(1, |out| {
                    for (number, key) in
                        [(1, "type"), (2, "description"), (3, "name"), (4, "in"), (5, "scheme"), (6, "bearerFormat")]
                    {
                        out.text(number, &scheme[key]);
                    }
                });
            });
        }
    });
}

fn path_item(out: &mut Message, item: &Value) {
    out.text(2, &item["summary"]);
    out.text(3, &item["description"]);
    for (number, method) in
        [(4, "get"), (5, "put"), (6, "post"), (7, "delete"), (8, "options"), (9, "head"), (10, "patch")]
    {
        if let Some(described) = item.get(method) {
            out.message(number, |out| operation(out, described));
        }
    }
    for described in items(&item["parameters"]) {
        out.message(13, |out| out.message(1, |out| parameter(out, described)));
    }
}

fn operation(out: &mut Message, operation: &Value) {
    out.texts(1, &operation["tags"]);
    out.text(2, &operation["summary"]);
    out.text(3, &operation["description"]);
    out.text(5, &operation["operationId"]);
    for described in items(&operation["parameters"]) {
        out.message(6, |out| out.message(1, |out| parameter(out, described)));
    }
    if let Some(body) = operation.get("requestBody") {
        out.message(7, |out| {
            out.message(1, |out| {
                out.text(1, &body["description"]);
                content(out, 2, body);
                out.truth(3, &body["required"]);
            });
        });
    }
    out.message(8, |out| {
        for (code, response) in entries(&operation["responses"]) {
            let write = |out: &mut Message| {
                out.message(1, |out| {
                    out.text(1, &response["description"]);
                    content(out, 3, response);
                });
            };
            if code == "default" { out.message(1, write) } else { out.named(2, code, write) }
        }
    });
    out.truth(10, &operation["deprecated"]);
    extensions(out, 13, operation);
}

fn parameter(out: &mut Message, parameter: &Value) {
    out.text(1, &parameter["name"]);
    out.text(2, &parameter["in"]);
    out.text(3, &parameter["description"]);
    out.truth(4, &parameter["required"]);
    if let Some(described) = parameter.get("schema") {
        out.message(10, |out| schema_or_reference(out, described));
    }
}

/// What a body may be, by media type.
fn content(out: &mut Message, number: u32, holder: &Value) {
    let Some(content) = holder.get("content") else { return };
    out.message(number, |out| {
        for (media_type, described) in entries(content) {
            out.named(1, media_type, |out| {
                if let Some(described) = described.get("schema") {
                    out.message(1, |out| schema_or_reference(out, described));
                }
            });
        }
    });
}

fn named_schemas(out: &mut Message, number: u32, schemas: &Value) {
    out.message(number, |out| {
        for (name, described) in entries(schemas) {
            out.named(1, name, |out| schema_or_reference(out, described));
        }
    });
}

fn schema_or_reference(out: &mut Message, described: &Value) {
    match described.get("$ref") {
        Some(reference) => out.message(2, |out| out.text(1, reference)),
        None => out.message(1, |out| schema(out, described)),
    }
}

fn schema(out: &mut Message, schema: &Value) {
    out.truth(1, &schema["nullable"]);
    out.truth(3, &schema["readOnly"]);
    if let Some(example) = schema.get("example") {
        out.message(7, |any| any.yaml(example));
    }
    out.truth(8, &schema["deprecated"]);
    checks(out, schema);
    out.text(25, &schema["type"]);
    for (number, key) in [(26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        for described in items(&schema[key]) {
            out.message(number, |out| schema_or_reference(out, described));
        }
    }
    if let Some(not) = schema.get("not") {
        out.message(29, |out| self::schema(out, not));
    }
    if let Some(element) = schema.get("items") {
        out.message(30, |out| out.message(1, |out| schema_or_reference(out, element)));
    }
    if let Some(properties) = schema.get("properties") {
        named_schemas(out, 31, properties);
    }
    match schema.get("additionalProperties") {
        Some(allowed @ Value::Bool(_)) => out.message(32, |out| out.chosen_truth(2, allowed)),
        Some(values) => out.message(32, |out| out.message(1, |out| schema_or_reference(out, values))),
        None => {}
    }
    if let Some(default) = schema.get("default") {
        // Of objects and lists the message can say only that there is a default, as upstream's says.
        out.message(33, |out| {
            out.double(1, default);
            out.chosen_truth(2, default);
            out.text(3, default);
        });
    }
    out.text(34, &schema["description"]);
    out.text(35, &schema["format"]);
    extensions(out, 36, schema);
}

/// What values must be like.
fn checks(out: &mut Message, schema: &Value) {
    out.text(9, &schema["title"]);
    for (number, key) in [(10, "multipleOf"), (11, "maximum"), (13, "minimum")] {
        out.double(number, &schema[key]);
    }
    for (number, key) in [(12, "exclusiveMaximum"), (14, "exclusiveMinimum"), (20, "uniqueItems")] {
        out.truth(number, &schema[key]);
    }
    for (number, key) in [
        (15, "maxLength"),
        (16, "minLength"),
        (18, "maxItems"),
        (19, "minItems"),
        (21, "maxProperties"),
        (22, "minProperties"),
    ] {
        out.count(number, &schema[key]);
    }
    out.text(17, &schema["pattern"]);
    out.texts(23, &schema["required"]);
    for value in items(&schema["enum"]) {
        out.message(24, |any| any.yaml(value));
    }
}
