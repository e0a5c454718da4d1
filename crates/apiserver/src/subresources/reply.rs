//! Reading what was sent to a handler, and answering it.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use knarr_api::status::ApiError;
use serde_json::{Value, json};

use crate::contract::{Body, Response};

const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
const ACCEPTED: [&str; 2] = ["application/json", "application/yaml"];

/// Reads an object and checks that it is of the kind that belongs here.
pub(super) async fn read_object(request: Request<Body>, api_version: &str, kind: &str) -> Result<Value, ApiError> {
    let (parts, body) = request.into_parts();
    let content_type =
        parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let bytes = read_bytes(body).await?;
    let object: Value = match media_type {
        "" | "application/json" => serde_json::from_slice(&bytes).map_err(|e| malformed(kind, e))?,
        "application/yaml" => serde_yaml::from_slice(&bytes).map_err(|e| malformed(kind, e))?,
        _ => return Err(ApiError::unsupported_media_type(&ACCEPTED)),
    };
    if !object.is_object() {
        return Err(malformed(kind, "not an object"));
    }
    for (field, expected) in [("apiVersion", api_version), ("kind", kind)] {
        if let Some(found) = object[field].as_str().filter(|found| !found.is_empty() && *found != expected) {
            return Err(ApiError::bad_request(format!(
                "the {field} in the data ({found}) does not match the expected {field} ({expected})"
            )));
        }
    }
    Ok(object)
}

async fn read_bytes(mut body: Body) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ApiError::bad_request(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY_BYTES {
            return Err(ApiError::too_large(format!("limit is {MAX_BODY_BYTES}")));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn malformed(kind: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("{kind} in the request body cannot be handled: {why}"))
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
