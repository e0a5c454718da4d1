use super::*;
use crate::field::{FieldError, FieldPath};

#[test]
fn messages_and_codes_are_upstreams() {
    let rows = [
        (ApiError::not_found("pods", "a"), 404, "NotFound", r#"pods "a" not found"#),
        (
            ApiError::already_exists("deployments.apps", "a"),
            409,
            "AlreadyExists",
            r#"deployments.apps "a" already exists"#,
        ),
        (
            ApiError::stale("pods", "a"),
            409,
            "Conflict",
            "Operation cannot be fulfilled on pods \"a\": the object has been modified; please apply your changes \
             to the latest version and try again",
        ),
        (ApiError::forbidden("pods", "", "no"), 403, "Forbidden", "pods is forbidden: no"),
        (ApiError::forbidden("", "", "no"), 403, "Forbidden", "forbidden: no"),
        (ApiError::unauthorized(), 401, "Unauthorized", "Unauthorized"),
        (
            ApiError::method_not_supported("bindings", "get"),
            405,
            "MethodNotAllowed",
            r#"get is not supported on resources of kind "bindings""#,
        ),
        (ApiError::internal("x"), 500, "InternalError", "Internal error occurred: x"),
    ];
    for (error, code, reason, message) in rows {
        let value = error.to_value();
        assert_eq!((&value["code"], &value["reason"]), (&json!(code), &json!(reason)));
        assert_eq!(value["message"], json!(message));
    }
}

#[test]
fn an_invalid_object_lists_each_error_once_and_every_cause() {
    let spec = FieldPath::new("spec");
    let one = FieldError::required(&spec.child("a"), "");
    let two = FieldError::invalid(&spec.child("b"), "x", "bad");
    let error = ApiError::invalid("Deployment.apps", "d", vec![one.clone(), one, two]);
    assert_eq!(
        error.to_value(),
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 422,
            "reason": "Invalid",
            "message": "Deployment.apps \"d\" is invalid: [spec.a: Required value, spec.b: Invalid value: \"x\": bad]",
            "details": {"name": "d", "group": "apps", "kind": "Deployment", "causes": [
                {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"},
                {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"},
                {"reason": "FieldValueInvalid", "message": "Invalid value: \"x\": bad", "field": "spec.b"},
            ]},
        })
    );
}
