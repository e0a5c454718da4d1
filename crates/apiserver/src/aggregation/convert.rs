use serde_json::{Map, Value, json};

use crate::json::{copy, items, text};

/// What aggregated discovery says of a group version, made from an APIResourceList: for servers that know only that.
pub fn version_discovery(group: &str, version: &str, list: &Value) -> Value {
    let or = |value: &Value, default: &str| match text(value) {
        "" => default.to_owned(),
        said => said.to_owned(),
    };
    let kind = |entry: &Value| {
        json!({
            "group": or(&entry["group"], group), "version": or(&entry["version"], version), "kind": entry["kind"],
        })
    };
    let mut resources: Vec<Value> = Vec::new();
    let (parts, wholes): (Vec<_>, Vec<_>) =
        items(&list["resources"]).iter().partition(|entry| text(&entry["name"]).contains('/'));
    for entry in wholes {
        let mut resource = json!({
            "resource": entry["name"],
            "responseKind": kind(entry),
            "scope": if entry["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": or(&entry["singularName"], ""),
            "verbs": entry["verbs"],
        });
        copy(&mut resource, entry, "shortNames");
        copy(&mut resource, entry, "categories");
        resources.push(resource);
    }
    for entry in parts {
        let Some((parent, part)) = text(&entry["name"]).split_once('/') else { continue };
        let described = json!({ "subresource": part, "responseKind": kind(entry), "verbs": entry["verbs"] });
        match resources.iter_mut().find(|resource| resource["resource"] == parent) {
            Some(resource) => crate::json::list_mut(resource, "subresources").push(described),
            // A part of something that is not served as a whole is listed under its name alone.
            None => resources.push(json!({
                "resource": parent, "scope": if entry["namespaced"] == true { "Namespaced" } else { "Cluster" },
                "singularResource": "", "verbs": [], "responseKind": Map::new(), "subresources": [described],
            })),
        }
    }
    json!({ "version": version, "resources": resources })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subresources_find_their_resource() {
        let list = json!({ "resources": [
            { "name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder",
              "verbs": ["get"], "shortNames": ["fl"] },
            { "name": "flunders/scale", "namespaced": true, "group": "autoscaling", "version": "v1", "kind": "Scale",
              "verbs": ["get", "update"] },
        ] });
        let expected = json!({ "version": "v1", "resources": [{
            "resource": "flunders", "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get"],
            "responseKind": { "group": "wardle.example.com", "version": "v1", "kind": "Flunder" }, "shortNames": ["fl"],
            "subresources": [{
                "subresource": "scale", "verbs": ["get", "update"],
                "responseKind": { "group": "autoscaling", "version": "v1", "kind": "Scale" },
            }],
        }] });
        assert_eq!(version_discovery("wardle.example.com", "v1", &list), expected);
    }
}
