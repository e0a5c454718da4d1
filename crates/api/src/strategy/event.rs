//! Events of both groups; they are stored in the core form (see [`super::convert`]).

use super::{
    Dependents,
    rules::{Rules, by_path},
};
use crate::{
    field::{FieldError, FieldPath},
    meta::NameRule,
    value::{is_set, text},
};

pub(super) static EVENT: Rules = Rules {
    name_rule: NameRule::PathSegment,
    create_on_update: true,
    validate: |event, errors| {
        let (own, involved) = (text(&event["metadata"]["namespace"]), text(&event["involvedObject"]["namespace"]));
        let path = FieldPath::new("involvedObject");
        let path = path.child("namespace");
        // An event about a cluster-scoped object lives in `default`.
        let expected = if involved.is_empty() { "default" } else { involved };
        if own != expected && !(involved.is_empty() && own.is_empty()) && !(involved.is_empty() && own == "kube-system")
        {
            errors.push(FieldError::invalid(&path, involved, "does not match event.namespace"));
        }
        let kind = text(&event["type"]);
        if is_set(&event["eventTime"]) && !matches!(kind, "" | "Normal" | "Warning") {
            errors.push(FieldError::invalid(&FieldPath::new("type"), kind, "has invalid value: ".to_owned() + kind));
        }
    },
    fields: &[
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    field: |event, field| match field {
        "source" if text(&event["source"]["component"]).is_empty() => text(&event["reportingComponent"]).into(),
        "source" => text(&event["source"]["component"]).into(),
        _ => by_path(event, field),
    },
    dependents: Dependents::Never,
    ..Rules::DATA
};

/// What a field selector of `events.k8s.io` calls a field of the stored form.
pub(super) fn core_field(field: &str) -> Option<&'static str> {
    Some(match field {
        "regarding.kind" => "involvedObject.kind",
        "regarding.namespace" => "involvedObject.namespace",
        "regarding.name" => "involvedObject.name",
        "regarding.uid" => "involvedObject.uid",
        "regarding.apiVersion" => "involvedObject.apiVersion",
        "regarding.resourceVersion" => "involvedObject.resourceVersion",
        "regarding.fieldPath" => "involvedObject.fieldPath",
        "reportingController" => "reportingComponent",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::Strategy, *};

    #[test]
    fn sources_fall_back_to_the_reporting_component() {
        let old: Value = json!({"source": {"component": "kubelet"}, "involvedObject": {"name": "p"}});
        let new: Value = json!({"reportingComponent": "scheduler"});
        assert_eq!(EVENT.field(&old, "source"), "kubelet");
        assert_eq!(EVENT.field(&new, "source"), "scheduler");
        assert_eq!(EVENT.field(&old, "involvedObject.name"), "p");
        assert_eq!(core_field("regarding.name"), Some("involvedObject.name"));
    }

    #[test]
    fn an_event_lives_where_its_object_lives() {
        let rows = [("a", "a", true), ("a", "b", false), ("default", "", true), ("a", "", false)];
        for (own, involved, good) in rows {
            let event = json!({"metadata": {"namespace": own}, "involvedObject": {"namespace": involved}});
            assert_eq!(EVENT.validate_create(&event).is_empty(), good, "{own} {involved}");
        }
    }
}
