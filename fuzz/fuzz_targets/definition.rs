//! A CustomResourceDefinition's schema, and an object that it is for.
#![no_main]

use knarr_api::{custom::Definition, strategy};
use knarr_fuzz::halves;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| {
    let (schema, object) = halves(data);
    let Ok(schema) = serde_json::from_slice::<Value>(schema) else { return };
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    let refused = strategy::of_kind("apiextensions.k8s.io", "CustomResourceDefinition").validate_create(&crd);
    let Ok(definition) = Definition::of(&crd) else { return };
    let Ok(mut object) = serde_json::from_slice::<Value>(object) else { return };
    if !refused.is_empty() || !object.is_object() {
        return;
    }
    let version = definition.storage_version();
    version.prune(&mut object);
    version.default(&mut object);
    version.validate(&object, None);
    version.validate(&object, Some(&object));
});
