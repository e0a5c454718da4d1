//! Answers: objects in the form that was asked for, lists from slices, errors as a Status.

use std::{convert::Infallible, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use jiff::Timestamp;
use knarr_api::{protobuf::MEDIA_TYPE, status::ApiError};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    accept::{Accept, Encoding, Form},
    message,
    table::{self, Shown},
};
use crate::contract::{Body, Response, Stored};

/// Lists are sent in pieces of about this size.
const CHUNK_BYTES: usize = 128 << 10;

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

pub fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A document, or 304 where the client has it. A 304 names the type too: clients that keep documents (kubectl's
/// discovery cache does) take over the headers of the 304, and choose a decoder by them.
pub fn conditional(known: bool, content_type: &'static str, body: Bytes) -> Response {
    if known {
        return with_type(StatusCode::NOT_MODIFIED, content_type, Bytes::new());
    }
    with_type(StatusCode::OK, content_type, body)
}

pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// JSON that is made already.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response {
    uncached(with_type(status, "application/json", body))
}

/// A message in its envelope, or why there is none.
fn protobuf(status: StatusCode, made: Result<Bytes, ApiError>) -> Response {
    match made {
        Ok(body) => uncached(with_type(status, MEDIA_TYPE, body)),
        Err(cause) => error(&cause, Accept::JSON),
    }
}

fn uncached(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

pub fn error(error: &ApiError, accept: Accept) -> Response {
    let status = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(&error.to_value()).unwrap_or_default();
    let mut response = render(status, Bytes::from(body), Accept { form: Form::Whole, ..accept });
    add_warnings(&mut response, error.warnings());
    let retry = error.retry_after_seconds();
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

/// Warnings as RFC 7234 has them, quoted, with what would break a header left out.
pub fn add_warnings(response: &mut Response, warnings: &[String]) {
    for warning in warnings {
        let mut text = String::with_capacity(warning.len() + 10);
        text.push_str("299 - \"");
        for c in warning.chars().filter(|c| !c.is_control()) {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
        if let Ok(value) = http::HeaderValue::from_bytes(text.as_bytes()) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
}

/// JSON bytes of an object that says what it is, in the encoding that was asked for; indented where a person reads.
pub fn render(status: StatusCode, bytes: Bytes, accept: Accept) -> Response {
    match accept.encoding {
        Encoding::Json => {}
        Encoding::Protobuf => return protobuf(status, message::any(&bytes)),
        Encoding::Yaml => {
            let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            return with_type(status, "application/yaml", serde_yaml::to_string(&value).unwrap_or_default());
        }
    }
    if accept.pretty
        && let Ok(value) = serde_json::from_slice::<Value>(&bytes)
        && let Ok(mut pretty) = serde_json::to_vec_pretty(&value)
    {
        pretty.push(b'\n');
        return json(status, pretty);
    }
    json(status, bytes)
}

/// One object in the form that was asked for.
pub fn object(shown: Shown<'_>, stored: &Stored, status: StatusCode, accept: Accept, now: Timestamp) -> Response {
    if accept.encoding == Encoding::Protobuf {
        return protobuf(status, message::object(shown.resource, accept.form, stored));
    }
    let bytes = match accept.form {
        Form::Whole => stored.json.clone(),
        Form::Metadata { version } => partial(&stored.json, version),
        Form::Table { version, include } => table::of(shown, std::slice::from_ref(stored), "{}", version, include, now),
    };
    render(status, bytes, accept)
}

/// What a list says beside its items.
#[derive(Clone, Debug, Default)]
pub struct ListMeta {
    pub revision: u64,
    pub continue_token: String,
    pub remaining: Option<usize>,
}

impl ListMeta {
    fn json(&self) -> String {
        let mut meta = serde_json::json!({});
        // What is in no store has no revision either.
        if self.revision > 0 {
            meta["resourceVersion"] = self.revision.to_string().into();
        }
        if !self.continue_token.is_empty() {
            meta["continue"] = self.continue_token.as_str().into();
        }
        if let Some(remaining) = self.remaining.filter(|remaining| *remaining > 0) {
            meta["remainingItemCount"] = remaining.into();
        }
        meta.to_string()
    }
}

/// A list in the form that was asked for; a long one is streamed.
pub async fn list(
    shown: Shown<'_>,
    items: Vec<Arc<Stored>>,
    meta: &ListMeta,
    accept: Accept,
    now: Timestamp,
) -> Response {
    if accept.encoding == Encoding::Protobuf {
        return match message::list(shown.resource, accept.form, items, meta, CHUNK_BYTES).await {
            Ok(pieces) => in_pieces(protobuf(StatusCode::OK, Ok(Bytes::new())), pieces),
            Err(cause) => error(&cause, Accept::JSON),
        };
    }
    let meta = meta.json();
    let (kind, api_version) = match accept.form {
        Form::Whole => (shown.resource.list_kind(), shown.resource.api_version()),
        Form::Metadata { version } => ("PartialObjectMetadataList".to_owned(), format!("meta.k8s.io/{version}")),
        Form::Table { version, include } => {
            let body = table::of(shown, &items, &meta, version, include, now);
            return render(StatusCode::OK, body, accept);
        }
    };
    let head = format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{meta},"items":["#);
    let pieces = ListPieces { head: Some(head), items: items.into_iter(), form: accept.form, first: true, done: false };
    if accept.encoding == Encoding::Yaml || accept.pretty {
        let bytes: Vec<u8> = pieces.flatten().collect();
        return render(StatusCode::OK, bytes.into(), accept);
    }
    in_pieces(json(StatusCode::OK, Bytes::new()), pieces)
}

/// The answer with a body; one of a single piece has a length.
fn in_pieces(mut response: Response, pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Response {
    let mut pieces = pieces.peekable();
    let first = pieces.next().unwrap_or_default();
    *response.body_mut() = if pieces.peek().is_none() {
        full(first)
    } else {
        let frames = std::iter::once(first).chain(pieces).map(|piece| Ok(Frame::data(piece)));
        StreamBody::new(stream::iter(frames)).boxed_unsync()
    };
    response
}

/// Assembles a list from the objects' bytes, a chunk at a time.
struct ListPieces {
    head: Option<String>,
    items: std::vec::IntoIter<Arc<Stored>>,
    form: Form,
    first: bool,
    done: bool,
}

impl Iterator for ListPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let pending: usize = self.items.as_slice().iter().take(64).map(|item| item.json.len() + 1).sum();
        let mut out = BytesMut::with_capacity((pending + 256).min(CHUNK_BYTES * 2));
        if let Some(head) = self.head.take() {
            out.put_slice(head.as_bytes());
        }
        while out.len() < CHUNK_BYTES {
            let Some(item) = self.items.next() else {
                out.put_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                out.put_u8(b',');
            }
            match self.form {
                Form::Metadata { version } => out.put_slice(&partial(&item.json, version)),
                _ => out.put_slice(&item.json),
            }
        }
        Some(out.freeze())
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// The raw metadata of an object.
pub fn metadata(json: &[u8]) -> &str {
    serde_json::from_slice::<Head<'_>>(json).map_or("{}", |head| head.metadata.get())
}

/// A PartialObjectMetadata of the object.
pub fn partial(json: &[u8], version: &str) -> Bytes {
    let metadata = metadata(json);
    format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}","metadata":{metadata}}}"#).into()
}
