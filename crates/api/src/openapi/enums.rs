//! The values that a string field is documented with. They are for readers and for clients that complete and check
//! what people type: what the server refuses is up to each kind's own validation, which says so in its own words and
//! does not look here.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::schema::generated::ENUMS;

/// The values of a definition's property, in order; none where any text may stand.
pub(super) fn of(definition: &str, property: &str) -> &'static [&'static str] {
    let found = ENUMS.binary_search_by(|row| (row.0, row.1).cmp(&(definition, property)));
    found.map_or(&[], |at| ENUMS[at].2)
}

/// Puts values into a property's schema, beside what is there. As upstream writes it, those of a list or map are its
/// elements', and those of a single text are told in its description as well.
pub(super) fn put(schema: &mut Map<String, Value>, values: &[&str]) {
    if values.is_empty() {
        return;
    }
    for key in ["items", "additionalProperties"] {
        if let Some(element) = schema.get_mut(key) {
            element["enum"] = json!(values);
            return;
        }
    }
    schema.insert("enum".to_owned(), json!(values));
    if let Some(Value::String(description)) = schema.get_mut("description") {
        description.push_str("\n\nPossible enum values:");
        for value in values {
            write!(description, "\n - `\"{value}\"`").unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{openapi, schema};

    use super::*;

    fn parsed(document: &[u8]) -> Value {
        serde_json::from_slice(document).unwrap()
    }

    /// Where the values of a property stand.
    fn place(property: &Value) -> &Value {
        let element = ["items", "additionalProperties"].into_iter().find_map(|key| property.get(key));
        &element.unwrap_or(property)["enum"]
    }

    /// How many schemas below `value` list values.
    fn count(value: &Value) -> usize {
        match value {
            Value::Object(map) => {
                usize::from(map.get("enum").is_some_and(Value::is_array)) + map.values().map(count).sum::<usize>()
            }
            Value::Array(items) => items.iter().map(count).sum(),
            _ => 0,
        }
    }

    #[test]
    fn every_row_of_the_table_is_in_the_documents() {
        let swagger = parsed(&openapi::v2());
        let definitions = &swagger["definitions"];
        for (definition, property, values) in ENUMS {
            let shown = &definitions[definition]["properties"][property];
            assert_eq!(place(shown), &json!(values), "{definition} {property}");
            assert!(!shown["description"].as_str().unwrap().is_empty(), "{definition} {property}");
        }
        assert_eq!(count(definitions), ENUMS.len());
        for name in openapi::group_versions() {
            let document = parsed(&openapi::v3_document(&name).unwrap());
            let schemas = &document["components"]["schemas"];
            for (definition, property, values) in ENUMS.iter().filter(|row| !schemas[row.0].is_null()) {
                assert_eq!(place(&schemas[definition]["properties"][property]), &json!(values), "{name}: {definition}");
            }
        }
    }

    #[test]
    fn both_editions_show_the_values() {
        let (swagger, core) = (parsed(&openapi::v2()), parsed(&openapi::v3_document("api/v1").unwrap()));
        for schemas in [&swagger["definitions"], &core["components"]["schemas"]] {
            let property = |kind: &str, name: &str| &schemas[format!("io.k8s.api.core.v1.{kind}")]["properties"][name];
            let restart = property("PodSpec", "restartPolicy");
            assert_eq!(restart["enum"], json!(["Always", "Never", "OnFailure"]));
            let description = restart["description"].as_str().unwrap();
            let list = "\n\nPossible enum values:\n - `\"Always\"`\n - `\"Never\"`\n - `\"OnFailure\"`";
            assert!(description.starts_with("Restart policy for all containers") && description.ends_with(list));
            let pull = property("Container", "imagePullPolicy");
            assert_eq!(pull["enum"], json!(["Always", "IfNotPresent", "Never"]));
            let service = property("ServiceSpec", "type");
            assert_eq!(service["enum"], json!(["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]));
            let host_path = property("HostPathVolumeSource", "type");
            assert_eq!(host_path["enum"][0], "");

            // A list's values are its elements', and its description stays as it is; so it is with a map's.
            let modes = property("PersistentVolumeSpec", "accessModes");
            let values = json!(["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]);
            assert_eq!(modes["items"], json!({"type": "string", "enum": values}));
            assert!(modes["enum"].is_null() && !modes["description"].as_str().unwrap().contains("enum"));
            let statuses = property("PersistentVolumeClaimStatus", "allocatedResourceStatuses");
            assert_eq!(statuses["additionalProperties"]["enum"][0], "ControllerResizeInProgress");

            // Types that upstream does not mark.
            for (kind, name) in
                [("ContainerResizePolicy", "restartPolicy"), ("PodCondition", "status"), ("PodOS", "name")]
            {
                assert!(property(kind, name)["type"] == "string" && property(kind, name)["enum"].is_null(), "{kind}");
            }
        }
    }

    #[test]
    fn swagger_in_protobuf_carries_the_values() {
        // Each is an `Any` (a schema's field 20) that holds YAML (its field 2); a tag is a field's number and a 2.
        let any = |value: &str| {
            let yaml = format!("\"{value}\"\n");
            let length = u8::try_from(yaml.len()).unwrap();
            [&[0xa2, 0x01, length + 2, 0x12, length], yaml.as_bytes()].concat()
        };
        let wanted = ["Always", "Never", "OnFailure"].map(any).concat();
        assert!(openapi::v2_protobuf().windows(wanted.len()).any(|window| window == wanted));
    }

    #[test]
    fn what_is_shown_is_not_demanded() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"restartPolicy": "Sometimes", "containers": []}});
        let pods = schema::of("", "v1", "Pod").unwrap();
        assert!(schema::check(pods, &pod).is_empty());
    }
}
