use serde_json::{Value, json};

use crate::openapi::{group_versions, v2, v2_protobuf, v3_document, v3_protobuf_of};

/// The fields of a protobuf message that hold bytes, by number.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let value = varint(&mut bytes);
        if tag & 7 == 2 {
            let (content, rest) = bytes.split_at(value as usize);
            found.push((tag >> 3, content));
            bytes = rest;
        }
    }
    found
}

#[test]
fn swagger_in_protobuf_says_the_same() {
    let swagger: Value = serde_json::from_slice(&v2()).unwrap();
    let bytes = v2_protobuf();
    let document = fields(&bytes);
    let part = |number| fields(document.iter().find(|(n, _)| *n == number).unwrap().1);
    assert_eq!(document[0], (1, &b"2.0"[..]));
    assert_eq!(part(8).len(), swagger["paths"].as_object().unwrap().len());
    let definitions = part(9);
    assert_eq!(definitions.len(), swagger["definitions"].as_object().unwrap().len());
    for (_, entry) in definitions {
        let entry = fields(entry);
        let definition = &swagger["definitions"][std::str::from_utf8(entry[0].1).unwrap()];
        let schema = fields(entry[1].1);
        let description = schema.iter().find(|(number, _)| *number == 4).map(|(_, text)| *text).unwrap_or_default();
        assert_eq!(description, definition["description"].as_str().unwrap_or_default().as_bytes());
        let properties = schema.iter().find(|(number, _)| *number == 25).map_or(0, |(_, map)| fields(map).len());
        assert_eq!(properties, definition["properties"].as_object().map_or(0, |map| map.len()));
    }
}

/// The bytes of the first field of a number, empty where there is none.
fn field(bytes: &[u8], number: u64) -> &[u8] {
    fields(bytes).into_iter().find(|(n, _)| *n == number).map_or(&[], |(_, content)| content)
}

fn count(bytes: &[u8], number: u64) -> usize {
    fields(bytes).iter().filter(|(n, _)| *n == number).count()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a [u8] {
    value[key].as_str().unwrap_or_default().as_bytes()
}

fn length(value: &Value) -> usize {
    value.as_object().map_or(0, |map| map.len()) + value.as_array().map_or(0, Vec::len)
}

/// A schema or a reference, and all that is below it.
fn same_schema(bytes: &[u8], expected: &Value) {
    if let Some(reference) = expected["$ref"].as_str() {
        assert_eq!(field(field(bytes, 2), 1), reference.as_bytes());
        return;
    }
    let schema = field(bytes, 1);
    for (number, key) in [(25, "type"), (34, "description"), (35, "format"), (9, "title"), (17, "pattern")] {
        assert_eq!(field(schema, number), text(expected, key), "{key} of {expected}");
    }
    for (number, key) in [(23, "required"), (24, "enum"), (26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        assert_eq!(count(schema, number), length(&expected[key]), "{key} of {expected}");
    }
    let extensions = expected.as_object().unwrap().keys().filter(|key| key.starts_with("x-")).count();
    assert_eq!(count(schema, 36), extensions, "{expected}");
    for (inner, all) in
        fields(schema).iter().filter(|(n, _)| *n == 26).zip(expected["allOf"].as_array().into_iter().flatten())
    {
        same_schema(inner.1, all);
    }
    same_schemas(field(schema, 31), &expected["properties"]);
    if expected["items"].is_object() {
        same_schema(field(field(schema, 30), 1), &expected["items"]);
    }
    if expected["additionalProperties"].is_object() {
        same_schema(field(field(schema, 32), 1), &expected["additionalProperties"]);
    }
}

fn same_schemas(bytes: &[u8], expected: &Value) {
    let found = fields(bytes);
    assert_eq!(found.len(), length(expected));
    for (_, entry) in found {
        let name = std::str::from_utf8(field(entry, 1)).unwrap();
        same_schema(field(entry, 2), &expected[name]);
    }
}

#[test]
fn each_group_version_in_protobuf_says_the_same() {
    for name in group_versions() {
        let expected: Value = serde_json::from_slice(&v3_document(&name).unwrap()).unwrap();
        let document = v3_protobuf_of(&expected);
        assert_eq!(field(&document, 1), b"3.0.0");
        assert_eq!(field(field(&document, 2), 1), b"Kubernetes");
        let components = field(&document, 5);
        same_schemas(field(components, 1), &expected["components"]["schemas"]);
        let scheme = field(field(field(field(components, 7), 1), 2), 1);
        assert_eq!((field(scheme, 1), field(scheme, 4)), (&b"apiKey"[..], &b"header"[..]));
        let paths = fields(field(&document, 4));
        assert_eq!(paths.len(), length(&expected["paths"]), "{name}");
        for (_, entry) in paths {
            let item = &expected["paths"][std::str::from_utf8(field(entry, 1)).unwrap()];
            let found = field(entry, 2);
            assert_eq!(count(found, 13), length(&item["parameters"]));
            for (number, method) in [(4, "get"), (5, "put"), (6, "post"), (7, "delete"), (10, "patch")] {
                let (found, operation) = (field(found, number), &item[method]);
                assert_eq!(field(found, 5), text(operation, "operationId"));
                assert_eq!(count(found, 6), length(&operation["parameters"]), "{operation}");
                let content = field(field(field(found, 7), 1), 2);
                assert_eq!(count(content, 1), length(&operation["requestBody"]["content"]));
                assert_eq!(count(field(found, 8), 2), length(&operation["responses"]));
            }
        }
    }
}

#[test]
fn what_only_custom_resources_say_is_said() {
    let schema = json!({
        "nullable": true, "minimum": 1.5, "maxItems": 3, "uniqueItems": true, "default": "x",
        "not": {"type": "string"}, "additionalProperties": false, "oneOf": [{"type": "string"}],
    });
    let document = json!({"components": {"schemas": {"a": schema}}});
    let bytes = v3_protobuf_of(&document);
    let entry = field(field(field(&bytes, 5), 1), 1);
    let found = field(field(entry, 2), 1);
    // Number and kind of a field, then its value.
    let contains = |bytes: &[u8]| found.windows(bytes.len()).any(|window| window == bytes);
    assert!(contains(&[1 << 3, 1]), "nullable");
    assert!(contains(&[&[13 << 3 | 1][..], &1.5f64.to_le_bytes()].concat()), "minimum");
    assert!(contains(&[0x90, 0x01, 3]), "maxItems is field 18");
    assert!(contains(&[0xa0, 0x01, 1]), "uniqueItems is field 20");
    assert_eq!(field(field(found, 33), 3), b"x");
    assert_eq!(field(field(found, 29), 25), b"string");
    assert_eq!(field(field(field(found, 27), 1), 25), b"string");
    assert_eq!(field(found, 32), [2 << 3, 0]);
}
