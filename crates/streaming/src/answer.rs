//! What a request is answered with, where its connection is not upgraded.

use std::io;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use knarr_cri::CriError;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// An answer that is a message and a code; the API server makes a Status of it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: StatusCode,
    pub message: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Refusal {
    pub fn new(code: StatusCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), headers: Vec::new() }
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub fn into_response(self) -> Response<Body> {
        let Self { code, message, headers } = self;
        let mut response = text(code, message);
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }
}

impl From<CriError> for Refusal {
    fn from(error: CriError) -> Self {
        let code = match &error {
            CriError::NotFound { .. } => StatusCode::NOT_FOUND,
            CriError::InvalidArgument { .. } | CriError::FailedPrecondition { .. } => StatusCode::BAD_REQUEST,
            CriError::PermissionDenied { .. } => StatusCode::FORBIDDEN,
            CriError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, error.to_string())
    }
}

pub fn text(code: StatusCode, message: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(message.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = code;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}
