use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::{
    custom::Definition,
    registry::{Subresource, Verb},
};

fn document(name: &str) -> Value {
    serde_json::from_slice(&v3_document(name).unwrap()).unwrap()
}

#[test]
fn the_index_names_documents_that_are_there() {
    let index: Value = serde_json::from_slice(&v3_index()).unwrap();
    let paths = index["paths"].as_object().unwrap();
    assert!(paths["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().starts_with("/openapi/v3/apis/apps/v1?hash="));
    for name in paths.keys() {
        let document = document(name);
        assert_eq!(document["openapi"], "3.0.0");
        references_lead_somewhere(&document, &document, name);
    }
    assert!(v3_document("apis/apps").is_none());
    let hashes: BTreeSet<String> = paths.values().map(|path| path.to_string()).collect();
    assert_eq!(hashes.len(), paths.len());
}

fn references_lead_somewhere(document: &Value, value: &Value, name: &str) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let path = reference.strip_prefix('#').unwrap();
                assert!(document.pointer(path).is_some(), "{name}: {reference}");
            }
            map.values().for_each(|value| references_lead_somewhere(document, value, name));
        }
        Value::Array(items) => items.iter().for_each(|value| references_lead_somewhere(document, value, name)),
        _ => {}
    }
}

#[test]
fn what_kubectl_looks_for_is_there() {
    let apps = document("apis/apps/v1");
    let path = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    let gvk = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    for method in ["get", "put", "patch", "delete"] {
        assert_eq!(path[method]["x-kubernetes-group-version-kind"], gvk);
        assert_eq!(path[method]["x-kubernetes-action"], method);
    }
    let parameters = path["patch"]["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|p| p["name"] == "fieldValidation" && p["in"] == "query"));
    let content = path["patch"]["requestBody"]["content"].as_object().unwrap();
    assert!(content.contains_key("application/strategic-merge-patch+json"));
    assert!(content.contains_key("application/apply-patch+yaml"));
    assert_eq!(path["get"]["operationId"], "readAppsV1NamespacedDeployment");
    assert_eq!(
        apps["paths"]["/apis/apps/v1/deployments"]["get"]["operationId"],
        "listAppsV1DeploymentForAllNamespaces"
    );

    let schemas = &apps["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([gvk]));
    let spec = &deployment["properties"]["spec"];
    assert_eq!(spec["allOf"], json!([{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}]));
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(schemas["io.k8s.api.core.v1.PodSpec"]["required"], json!(["containers"]));
    assert_eq!(
        schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["replicas"],
        json!({
            "description": "Number of desired pods. This is a pointer to distinguish between explicit zero and not specified. Defaults to 1.",
            "type": "integer", "format": "int32",
        })
    );
    let list = &schemas["io.k8s.api.apps.v1.DeploymentList"];
    assert_eq!(list["x-kubernetes-group-version-kind"][0]["kind"], "DeploymentList");
}

#[test]
fn swagger_covers_every_resource() {
    let swagger: Value = serde_json::from_slice(&v2()).unwrap();
    assert_eq!(swagger["swagger"], "2.0");
    references_lead_somewhere(&swagger, &swagger, "v2");
    for resource in registry::builtins() {
        let base = if resource.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", resource.group) };
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("{base}/{}{scope}/{}", resource.version, resource.plural);
        assert!(swagger["paths"][&path].is_object(), "{path}");
    }
    let patch = &swagger["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert!(patch["consumes"].as_array().unwrap().contains(&json!("application/strategic-merge-patch+json")));
    assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
    assert_eq!(swagger["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["format"], "int-or-string");
}

static WIDGETS: Resource = Resource {
    group: "example.com",
    version: "v1",
    kind: "Widget",
    custom_list_kind: "WidgetList",
    plural: "widgets",
    singular: "widget",
    namespaced: true,
    verbs: &[Verb::Get, Verb::List, Verb::Create, Verb::Update, Verb::Patch, Verb::Delete],
    short_names: &[],
    categories: &[],
    subresources: &[
        Subresource {
            name: "status",
            group: "example.com",
            version: "v1",
            kind: "Widget",
            verbs: &[Verb::Get, Verb::Patch],
        },
        Subresource { name: "scale", group: "autoscaling", version: "v1", kind: "Scale", verbs: &[Verb::Get] },
    ],
    storage: "example.com/widgets",
};

fn widget(schema: &Value) -> Definition {
    Definition::of(&json!({"spec": {
        "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
    }}))
    .unwrap()
}

#[test]
fn custom_resources_are_in_documents() {
    let definition = widget(&json!({
        "type": "object", "description": "A widget.", "required": ["spec"],
        "properties": {"spec": {"type": "object", "required": ["a", "n"], "properties": {
            "a": {"type": "string", "pattern": "^a", "anyOf": [{"maxLength": 3}]},
            "n": {"type": "object", "nullable": true, "properties": {"x": {"type": "string"}}},
            "keep": {"type": "array", "items": {"type": "string"}, "x-kubernetes-preserve-unknown-fields": true},
            "other": {"type": "object", "x-kubernetes-embedded-resource": true,
                      "properties": {"data": {"type": "string"}}},
        }}},
    }));
    let customs = [Custom { resource: &WIDGETS, version: definition.storage_version() }];
    let v3: Value = serde_json::from_slice(&v3_custom_document(&customs)).unwrap();
    references_lead_somewhere(&v3, &v3, "widgets in v3");
    let schemas = &v3["components"]["schemas"];
    let shown = &schemas["com.example.v1.Widget"];
    assert_eq!(
        shown["x-kubernetes-group-version-kind"],
        json!([{"group": "example.com", "version": "v1", "kind": "Widget"}])
    );
    assert!(shown["properties"]["metadata"]["allOf"][0]["$ref"].as_str().unwrap().ends_with("v1.ObjectMeta"));
    assert!(shown["properties"]["kind"]["description"].as_str().unwrap().starts_with("Kind is a string"));
    assert_eq!(shown["properties"]["spec"]["properties"]["a"]["anyOf"], json!([{"maxLength": 3}]));
    assert_eq!(shown["properties"]["spec"]["properties"]["other"]["required"], json!(["kind", "apiVersion"]));
    assert_eq!(schemas["com.example.v1.WidgetList"]["required"], json!(["items"]));
    let path = &v3["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"];
    let content = path["patch"]["requestBody"]["content"].as_object().unwrap();
    assert!(content.contains_key("application/apply-patch+yaml"));
    assert!(!content.contains_key("application/strategic-merge-patch+json"));
    let scale = &v3["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}/scale"]["get"];
    let answer = &scale["responses"]["200"]["content"]["application/json"]["schema"]["$ref"];
    assert!(answer.as_str().unwrap().ends_with("autoscaling.v1.Scale"));

    let v2: Value = serde_json::from_slice(&v2_with(&customs)).unwrap();
    references_lead_somewhere(&v2, &v2, "widgets in v2");
    let spec = &v2["definitions"]["com.example.v1.Widget"]["properties"]["spec"];
    assert_eq!(spec["properties"]["a"], json!({"type": "string", "pattern": "^a"}));
    assert_eq!((&spec["properties"]["n"], &spec["required"]), (&json!({}), &json!(["a"])));
    assert_eq!(spec["properties"]["keep"], json!({"x-kubernetes-preserve-unknown-fields": true}));
    assert!(v2["paths"]["/apis/example.com/v1/widgets"]["get"].is_object());
    assert!(v2_protobuf_with(&customs).len() > v2_protobuf().len());
}

#[test]
fn custom_documents_have_hashes_and_places_in_the_index() {
    let (one, other) = (widget(&json!({"type": "object"})), widget(&json!({"type": "object", "description": "x"})));
    let hash =
        |definition: &Definition| custom_hash(&[Custom { resource: &WIDGETS, version: definition.storage_version() }]);
    assert_eq!(hash(&one), hash(&one));
    assert_ne!(hash(&one), hash(&other));
    let index = v3_index_with([("apis/example.com/v1".to_owned(), "AB".to_owned())].into());
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["paths"]["apis/example.com/v1"]["serverRelativeURL"], "/openapi/v3/apis/example.com/v1?hash=AB");
    assert!(index["paths"]["api/v1"].is_object());
    let open = widget(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
    let v2: Value =
        serde_json::from_slice(&v2_with(&[Custom { resource: &WIDGETS, version: open.storage_version() }])).unwrap();
    assert!(v2["definitions"]["com.example.v1.Widget"]["properties"].is_null());
}
