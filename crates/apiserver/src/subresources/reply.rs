//! Reading what was sent to a handler, and answering it.

use bytes::Bytes;
use http::{Request, StatusCode};
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use crate::codec::{Accept, Form, decode_object, read_body, respond};
use crate::contract::{Body, Response};
use crate::route::Query;
use crate::write::Validation;

/// Reads an object and checks that it is of the kind that belongs here, as the generic path does.
pub(super) async fn read_object(request: Request<Body>, api_version: &str, kind: &str) -> Result<Value, ApiError> {
    let (parts, body) = request.into_parts();
    let bytes = read_body(body).await?;
    let validation = match Query::parse(parts.uri.query()).get("fieldValidation") {
        "Strict" => Validation::Strict,
        _ => Validation::Ignore,
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    decode_object((group, version, kind).into(), &parts.headers, &bytes, validation, &mut Vec::new())
}

/// An object that the request made, in the representation that was asked for.
pub(super) fn created(accept: Accept, value: &Value) -> Response {
    let bytes = Bytes::from(serde_json::to_vec(value).unwrap_or_default());
    respond::render(StatusCode::CREATED, bytes, Accept { form: Form::Whole, ..accept })
}

/// What an action that yields no object is answered with.
pub(super) fn success(accept: Accept) -> Response {
    let status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 });
    created(accept, &status)
}
