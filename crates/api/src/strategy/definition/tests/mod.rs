//! One row a message.

mod schemas;

use serde_json::{Value, json};

use super::super::{Part, of_kind};

fn version(name: &str, storage: bool) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object"}}})
}

fn definition() -> Value {
    json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [version("v1", true)],
        },
    })
}

fn errors(mut crd: Value) -> Vec<String> {
    let strategy = of_kind("apiextensions.k8s.io", "CustomResourceDefinition");
    strategy.default(&mut crd);
    strategy.prepare_create(&mut crd);
    strategy.validate_create(&crd).iter().map(ToString::to_string).collect()
}

/// What is wrong with a definition that has this at this place.
fn with(pointer: &str, value: Value) -> String {
    let mut crd = definition();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    crd.pointer_mut(parent).unwrap()[key] = value;
    errors(crd).join(" | ")
}

/// What is wrong with a definition whose schema has this `spec`.
fn with_spec(spec: Value) -> String {
    with("/spec/versions/0/schema/openAPIV3Schema", json!({"type": "object", "properties": {"spec": spec}}))
        .replace("spec.validation.openAPIV3Schema.properties[spec]", "S")
}

#[test]
fn names_scope_and_group() {
    let label = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
        alphabetic \
                 character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
                 validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let rows = [
        (
            "/spec/scope",
            json!("Everywhere"),
            "spec.scope: Unsupported value: \"Everywhere\": supported values: \
            \"Cluster\", \"Namespaced\""
                .to_owned(),
        ),
        (
            "/metadata/name",
            json!("other"),
            "metadata.name: Invalid value: \"other\": must be \
            spec.names.plural+\".\"+spec.group"
                .to_owned(),
        ),
        ("/spec/names/shortNames", json!(["W"]), format!("spec.names.shortNames[0]: Invalid value: \"W\": {label}")),
        (
            "/spec/names/categories",
            json!(["a", "1"]),
            format!(
                "spec.names.categories[1]: Invalid value: \"1\": \
            {label}"
            ),
        ),
        (
            "/spec/names/kind",
            json!("W_"),
            format!(
                "spec.names.singular: Invalid value: \"w_\": {label} | \
             spec.names.kind: Invalid value: \"W_\": may have mixed case, but should otherwise match: {label} | \
             spec.names.listKind: Invalid value: \"W_List\": may have mixed case, but should otherwise match: \
             {label}"
            ),
        ),
        (
            "/spec/names/listKind",
            json!("Widget"),
            "spec.names.listKind: Invalid value: \"Widget\": kind and \
            listKind may not be the same"
                .to_owned(),
        ),
        (
            "/spec/names/kind",
            json!(""),
            "spec.names.singular: Required value | spec.names.kind: Required value \
            | spec.names.listKind: Required value"
                .to_owned(),
        ),
        (
            "/spec/preserveUnknownFields",
            json!(true),
            "spec.preserveUnknownFields: Invalid value: true: cannot \
            set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema \
            instead"
                .to_owned(),
        ),
    ];
    for (pointer, value, expected) in rows {
        assert_eq!(with(pointer, value), expected, "{pointer}");
    }
    let mut crd = definition();
    crd["metadata"]["name"] = json!("widgets.plain");
    crd["spec"]["group"] = json!("plain");
    assert_eq!(errors(crd), ["spec.group: Invalid value: \"plain\": should be a domain with at least one dot"]);
    let mut crd = definition();
    crd["metadata"] = json!({"name": "widgets.a.k8s.io"});
    crd["spec"]["group"] = json!("a.k8s.io");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let annotation = "metadata.annotations[api-approved.kubernetes.io]";
    let must = "protected groups must have approval annotation \"api-approved.kubernetes.io\"";
    assert_eq!(errors(crd.clone()), [format!("{annotation}: Required value: {must}, {see}")]);
    let either = "with either a URL or a reason starting with \"unapproved\"";
    for (value, expected) in [
        ("https://github.com/x/pull/1", vec![]),
        ("unapproved, a test", vec![]),
        ("yes", vec![format!("{annotation}: Invalid value: \"yes\": {must} {either}, {see}")]),
    ] {
        crd["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": value});
        assert_eq!(errors(crd.clone()), expected);
    }
}

#[test]
fn versions() {
    let ends = |versions: Value, expected: &str| {
        let found = with("/spec/versions", versions);
        assert!(found.ends_with(expected), "{found}");
    };
    ends(json!([version("v1", false)]), "must have exactly one version marked as storage version");
    ends(
        json!([version("v1", true), version("v2", true)]),
        "must have exactly one version marked as storage \
        version",
    );
    ends(json!([version("v1", true), version("v1", false)]), "must contain unique version names");
    ends(
        json!([{"name": "v1", "served": true, "storage": true}]),
        "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
    );
    let rows = [
        (
            "deprecationWarning",
            json!("x"),
            "spec.versions[0].deprecationWarning: Invalid value: \"x\": can only be set for deprecated versions",
        ),
        (
            "additionalPrinterColumns",
            json!([{"name": "A", "type": "text", "jsonPath": "spec"}]),
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of \
                boolean,date,integer,number,string | \
          spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec\": must be a simple json path \
          starting with .",
        ),
        (
            "additionalPrinterColumns",
            json!([{}]),
            "spec.additionalPrinterColumns[0].name: Required value | \
          spec.additionalPrinterColumns[0].type: Required value: must be one of boolean,date,integer,number,string | \
          spec.additionalPrinterColumns[0].JSONPath: Required value",
        ),
        (
            "subresources",
            json!({"scale": {"specReplicasPath": ".status.n", "labelSelectorPath": ".metadata.x"}}),
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.n\": should be a json path \
                under .spec | \
          spec.subresources.scale.statusReplicasPath: Required value | \
          spec.subresources.scale.labelSelectorPath: Invalid value: \".metadata.x\": should be a json path \
          under either .spec or .status",
        ),
        (
            "selectableFields",
            json!([{"jsonPath": ".spec.color"}]),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.color\": is an invalid path: does not \
                refer to a valid field",
        ),
        ("selectableFields", json!([{}]), "spec.selectableFields[0].jsonPath: Required value"),
    ];
    for (key, value, expected) in rows {
        assert_eq!(with(&format!("/spec/versions/0/{key}"), value), expected, "{key}");
    }
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"color": {"type": "string"}, "deep": {"type": "object"}}},
        "metadata": {"type": "object", "properties": {"name": {"type": "string"}}}}});
    let selectable = |fields: Value| {
        let mut crd = definition();
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema.clone();
        crd["spec"]["versions"][0]["selectableFields"] = fields;
        errors(crd).join(" | ")
    };
    assert_eq!(selectable(json!([{"jsonPath": ".spec.color"}])), "");
    let path = "spec.selectableFields";
    assert_eq!(
        selectable(json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.color"}])),
        format!("{path}[1].jsonPath: Duplicate value: \".spec.color\"")
    );
    assert!(selectable(json!([{"jsonPath": ".spec.deep"}])).contains("must point to a field of type string"));
    assert!(selectable(json!([{"jsonPath": ".metadata.name"}])).ends_with("must not point to fields in metadata"));
}

fn webhook(client: Value, versions: Value) -> Value {
    json!({"strategy": "Webhook", "webhook": {"clientConfig": client, "conversionReviewVersions": versions}})
}

#[test]
fn conversion() {
    let service = json!({"service": {"name": "s", "namespace": "n", "path": "/convert"}});
    let rows = [
        (webhook(service.clone(), json!(["v1"])), ""),
        (
            json!({"strategy": "Magic"}),
            "spec.conversion.strategy: Unsupported value: \"Magic\": supported values: \"None\", \"Webhook\"",
        ),
        (
            json!({"strategy": "Webhook"}),
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook | \
                spec.conversion.conversionReviewVersions: Required value",
        ),
        (
            webhook(json!({}), json!(["v1"])),
            "spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required",
        ),
        (
            webhook(json!({"url": "http://a"}), json!(["v1"])),
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL \
                scheme; desired format: https://host[/path]",
        ),
        (
            webhook(service.clone(), json!(["v2"])),
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v2\"]: must include at least one of \
                v1, v1beta1",
        ),
        (
            webhook(service.clone(), json!(["v1", "v1"])),
            "spec.conversion.conversionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
        ),
        (
            json!({"strategy": "None", "webhook": {"clientConfig": service}}),
            "spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy is not set to Webhook",
        ),
    ];
    for (value, expected) in rows {
        assert_eq!(with("/spec/conversion", value), expected);
    }
}

#[test]
fn updates() {
    let strategy = of_kind("apiextensions.k8s.io", "CustomResourceDefinition");
    let mut old = definition();
    strategy.default(&mut old);
    strategy.prepare_create(&mut old);
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    let change = |edit: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        edit(&mut new);
        strategy.default(&mut new);
        strategy.prepare_update(&mut new, &old, Part::Main);
        let errors: Vec<String> =
            strategy.validate_update(&new, &old, Part::Main).iter().map(ToString::to_string).collect();
        (new, errors.join(" | "))
    };
    let (_, errors) = change(&|new| new["spec"]["scope"] = json!("Cluster"));
    assert_eq!(errors, "spec.scope: Invalid value: \"Cluster\": field is immutable");
    let (_, errors) = change(&|new| new["spec"]["names"]["kind"] = json!("Other"));
    assert!(errors.contains("spec.names.kind: Invalid value: \"Other\": field is immutable"), "{errors}");
    let second = version("v2", true);
    let (new, errors) = change(&|new| {
        new["spec"]["versions"][0]["storage"] = json!(false);
        new["spec"]["versions"].as_array_mut().unwrap().push(second.clone());
    });
    assert_eq!((errors.as_str(), &new["status"]["storedVersions"]), ("", &json!(["v1", "v2"])));
    let (_, errors) = change(&|new| new["spec"]["versions"] = json!([second]));
    assert_eq!(
        errors,
        "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage \
         version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 \
         and removes v1 from status.storedVersions"
    );
}
