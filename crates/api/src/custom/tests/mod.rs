mod generated;
mod laws;
mod rules;
mod validation;

use serde_json::{Value, json};

use super::*;

/// A definition of `widgets.example.com` with one version of this schema.
fn definition(schema: &Value) -> Value {
    json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    })
}

fn version(schema: &Value) -> Version {
    Definition::of(&definition(schema)).unwrap().versions.remove(0)
}

/// A schema whose `spec` is this.
fn with_spec(spec: &Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

#[test]
fn a_definition_is_read() {
    let mut crd = definition(&json!({"type": "object"}));
    crd["spec"]["versions"][0]["deprecated"] = json!(true);
    crd["spec"]["versions"][0]["subresources"] =
        json!({"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}});
    crd["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.n"}]);
    let read = Definition::of(&crd).unwrap();
    assert_eq!((read.names.singular.as_str(), read.names.list_kind.as_str()), ("widget", "WidgetList"));
    assert!(read.namespaced && read.conversion == Conversion::None);
    let version = read.storage_version();
    assert_eq!(version.deprecation.as_deref(), Some("example.com/v1 Widget is deprecated"));
    assert!(version.has_status);
    let mut object = json!({"spec": {"color": "red", "n": 3}, "status": {"n": 2}});
    assert_eq!(version.selectable(&object), ["red", "3"]);
    assert_eq!(version.selectable(&json!({})), ["", ""]);
    let scale = version.scale.as_ref().unwrap();
    assert_eq!((scale.wanted(&object), scale.observed(&object), scale.selector(&object)), (Some(3), 2, ""));
    assert!(scale.want(&mut object, 5));
    assert_eq!(object["spec"], json!({"color": "red", "n": 5}));
    crd["spec"]["versions"][0]["storage"] = json!(false);
    assert!(Definition::of(&crd).is_err());
}

#[test]
fn unknown_fields_are_dropped_and_named() {
    let known = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let mut keeps = known.clone();
    keeps["x-kubernetes-preserve-unknown-fields"] = json!(true);
    let mut embedded = known.clone();
    embedded["x-kubernetes-embedded-resource"] = json!(true);
    let rows = [
        (json!({"spec": &known}), json!({"spec": {"a": "", "b": 1}, "c": 2}), json!({"spec": {"a": ""}}), "c spec.b"),
        (
            json!({"spec": &keeps}),
            json!({"spec": {"a": {"x": 1}, "b": {}}}),
            json!({"spec": {"a": {}, "b": {}}}),
            "spec.a.x",
        ),
        (
            json!({"list": {"type": "array", "items": known}}),
            json!({"list": [{"a": ""}, {"b": ""}]}),
            json!({"list": [{"a": ""}, {}]}),
            "list[1].b",
        ),
        (
            json!({"map": {"type": "object", "additionalProperties": known}}),
            json!({"map": {"x": {"b": 1}}}),
            json!({"map": {"x": {}}}),
            "map.x.b",
        ),
        (
            json!({"map": {"type": "object", "additionalProperties": true}}),
            json!({"map": {"x": {"b": 1}, "y": 3}}),
            json!({"map": {"x": {}, "y": 3}}),
            "map.x.b",
        ),
        (
            json!({"spec": embedded}),
            json!({"spec": {"kind": "K", "metadata": {"name": "n", "oops": 1}, "b": 1}, "metadata": {"nope": null}}),
            json!({"spec": {"kind": "K", "metadata": {"name": "n"}}, "metadata": {}}),
            "metadata.nope spec.b spec.metadata.oops",
        ),
    ];
    for (properties, mut object, expected, unknown) in rows {
        let version = version(&json!({"type": "object", "properties": properties}));
        let found = version.prune(&mut object);
        assert_eq!((&object, found.join(" ").as_str()), (&expected, unknown), "{properties}");
        assert!(version.prune(&mut object).is_empty());
        assert_eq!(object, expected);
    }
}

#[test]
fn defaults_are_filled_in_where_there_is_an_object_to_hold_them() {
    let one = json!({"type": "integer", "default": 1});
    let maybe = json!({"type": "integer", "nullable": true, "default": 1});
    let plain = json!({"type": "integer"});
    let nested = json!({"type": "object", "properties": {"a": one}});
    let mut deep = nested.clone();
    deep["default"] = json!({});
    let rows = [
        (json!({"a": one}), json!({}), json!({"a": 1})),
        (json!({"a": one}), json!({"a": null}), json!({"a": 1})),
        (json!({"a": one}), json!({"a": 7}), json!({"a": 7})),
        (json!({"a": maybe}), json!({"a": null}), json!({"a": null})),
        (json!({"a": plain}), json!({"a": null}), json!({})),
        (json!({"n": nested}), json!({}), json!({})),
        (json!({"n": nested}), json!({"n": {}}), json!({"n": {"a": 1}})),
        (json!({"n": deep}), json!({}), json!({"n": {"a": 1}})),
        (json!({"l": {"type": "array", "items": nested}}), json!({"l": [{}]}), json!({"l": [{"a": 1}]})),
        (json!({"l": {"type": "array", "items": one}}), json!({"l": [null, 2]}), json!({"l": [1, 2]})),
        (json!({"l": {"type": "array", "items": plain}}), json!({"l": [null]}), json!({"l": [null]})),
        (
            json!({"m": {"type": "object", "additionalProperties": one}}),
            json!({"m": {"x": null}}),
            json!({"m": {"x": 1}}),
        ),
        (json!({"m": {"type": "object", "additionalProperties": plain}}), json!({"m": {"x": null}}), json!({"m": {}})),
    ];
    for (properties, spec, expected) in rows {
        let version = version(&with_spec(&json!({"type": "object", "properties": properties})));
        let mut object = json!({ "spec": spec });
        version.default(&mut object);
        assert_eq!(object["spec"], expected, "{properties}");
        version.default(&mut object);
        assert_eq!(object["spec"], expected, "{properties}, twice");
    }
}

#[test]
fn an_object_is_pruned_and_completed() {
    let (spec, mut object) = crate::schema::sample();
    let version = version(&with_spec(&spec));
    assert_eq!(version.prune(&mut object), ["metadata.oops", "spec.more"]);
    version.default(&mut object);
    let expected = json!({
        "apiVersion": "x.io/v1", "kind": "X", "metadata": {"name": "x", "labels": {"a": "b"}},
        "spec": {"note": null, "port": "http", "any": {"thing": [null]}, "labels": {"k": "v"},
                 "items": [{"name": "a", "on": true}], "size": 3},
    });
    assert_eq!(object, expected);
    assert_eq!(version.validate(&object, None), []);
}
