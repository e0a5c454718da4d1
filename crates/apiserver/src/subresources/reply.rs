//! Reading what was sent to a handler, and answering it.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use crate::codec::{decode_object, read_body};
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

pub(super) fn json_response(status: StatusCode, value: &Value) -> Response {
    let bytes = Bytes::from(serde_json::to_vec(value).unwrap_or_default());
    let mut response = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

pub(super) fn created(value: &Value) -> Response {
    json_response(StatusCode::CREATED, value)
}

/// What an action that yields no object is answered with.
pub(super) fn success() -> Response {
    created(&json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201 }))
}
