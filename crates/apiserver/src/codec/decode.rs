//! Request bodies to objects: media types, size, strictness, and the words for what is wrong.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use knarr_api::{field::quote, protobuf, status::ApiError};
use serde_json::{Map, Value};

use super::{
    json, order,
    strict::{Repeated, strictness, unknown_fields, unknown_fields_told},
    yaml,
};
use crate::{contract::Body, custom::Custom, write::Validation};

/// Upstream's limit of a request body.
pub const MAX_BODY_BYTES: usize = 3 << 20;

const OFFERED: [&str; 3] = ["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// What the fields of a body are checked against.
#[derive(Clone, Copy)]
pub struct Shape<'a> {
    /// Group, version and kind.
    pub gvk: (&'a str, &'a str, &'a str),
    /// A custom resource's schema is its definition's.
    pub custom: Option<&'a Custom>,
}

impl<'a> From<(&'a str, &'a str, &'a str)> for Shape<'a> {
    fn from(gvk: (&'a str, &'a str, &'a str)) -> Self {
        Self { gvk, custom: None }
    }
}

/// The whole body, or 413.
pub async fn read_body(mut body: Body) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|cause| ApiError::bad_request(format!("reading the request body failed: {cause}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > MAX_BODY_BYTES {
            return Err(ApiError::too_large(format_args!("limit is {MAX_BODY_BYTES}")));
        }
        // Most bodies come in one piece, which need not be copied.
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        all.extend_from_slice(&std::mem::take(&mut first));
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

pub fn media_type(headers: &HeaderMap) -> &str {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_readable(headers: &HeaderMap) -> bool {
    matches!(media_type(headers), "" | "application/json" | "application/yaml" | "text/json" | protobuf::MEDIA_TYPE)
}

/// A document, and the keys that occur twice in it.
pub fn parse_document(headers: &HeaderMap, body: &[u8]) -> Result<(Value, Repeated), String> {
    match media_type(headers) {
        "application/yaml" | "application/apply-patch+yaml" => parse_yaml(body),
        protobuf::MEDIA_TYPE => {
            protobuf::decode(body).map(|object| (object, Repeated::default())).map_err(|cause| cause.to_string())
        }
        _ => {
            let (value, paths) = json::parse(body).map_err(|cause| go_json_error(body, &cause))?;
            Ok((value, Repeated { lines: None, paths }))
        }
    }
}

/// JSON is YAML, and most apply patches are JSON, which is faster to read as such.
fn parse_yaml(body: &[u8]) -> Result<(Value, Repeated), String> {
    if body.first() == Some(&b'{')
        && let Ok((value, paths)) = json::parse(body)
        && paths.is_empty()
    {
        return Ok((value, Repeated::default()));
    }
    let (value, lines) = yaml::parse(body).map_err(|cause| format!("error converting YAML to JSON: yaml: {cause}"))?;
    Ok((value, Repeated { lines, paths: Vec::new() }))
}

/// The object of a create or update request, with the type of the resource it was sent to.
pub fn decode_object(
    shape: Shape<'_>,
    headers: &HeaderMap,
    body: &[u8],
    validation: Validation,
    warnings: &mut Vec<String>,
) -> Result<Value, ApiError> {
    let (group, version, kind) = shape.gvk;
    // Nobody but its author knows how a custom resource would be written in protobuf.
    let offered = if shape.custom.is_some() { &OFFERED[..2] } else { &OFFERED[..] };
    if !is_readable(headers) || (shape.custom.is_some() && media_type(headers) == protobuf::MEDIA_TYPE) {
        return Err(ApiError::unsupported_media_type(offered));
    }
    let unrecognised = |why: String| {
        let summary = summarize(body);
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
        ))
    };
    if body.is_empty() {
        return Err(unrecognised("couldn't get version/kind; json parse error: unexpected end of JSON input".into()));
    }
    let (mut object, repeated) = parse_document(headers, body)
        .map_err(|why| unrecognised(format!("couldn't get version/kind; json parse error: {why}")))?;
    if !object.is_object() {
        let go = go_type(&object);
        return Err(unrecognised(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {go} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        )));
    }
    set_type(&mut object, group, version, kind)?;
    let refused = |why: String| cannot_be_handled((version, kind), &why);
    let unknown = unknown_fields(shape, &mut object).map_err(refused)?;
    let is_clean = unknown.is_empty() && repeated.is_empty();
    let problems = if is_clean || validation == Validation::Ignore {
        Vec::new()
    } else if shape.custom.is_none() && matches!(media_type(headers), "" | "application/json" | "text/json") {
        // Of built-in kinds upstream's decoder knows the type as it reads; the others come as maps, and YAML as sorted ones.
        order::in_document(body, &unknown)
    } else {
        repeated.problems().chain(unknown_fields_told(&unknown)).collect()
    };
    strictness(problems, validation, warnings).map_err(refused)?;
    Ok(object)
}

/// In the words of upstream's decoder.
pub fn cannot_be_handled((version, kind): (&str, &str), why: &str) -> ApiError {
    ApiError::bad_request(format!("{kind} in version {} cannot be handled as a {kind}: {why}", quote(version)))
}

/// Fills in a missing apiVersion and kind, and refuses foreign ones.
pub fn set_type(object: &mut Value, group: &str, version: &str, kind: &str) -> Result<(), ApiError> {
    let expected = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let Some(members) = object.as_object_mut() else {
        return Err(ApiError::bad_request("the object provided is not a JSON object"));
    };
    let text = |members: &Map<String, Value>, key: &str| {
        members.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let (sent_version, sent_kind) = (text(members, "apiVersion"), text(members, "kind"));
    if !sent_version.is_empty() && sent_version != expected {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({sent_version}) does not match the expected API version ({expected})"
        )));
    }
    if !sent_kind.is_empty() && sent_kind != kind {
        return Err(ApiError::bad_request(format!(
            "{sent_kind} in version {} cannot be handled as a {kind}: converting ({expected}.{sent_kind}) to \
             ({expected}.{kind}): unknown conversion",
            quote(version)
        )));
    }
    members.insert("apiVersion".into(), expected.into());
    members.insert("kind".into(), kind.into());
    if members.get("metadata").is_none_or(Value::is_null) {
        members.insert("metadata".into(), Value::Object(Map::new()));
    }
    Ok(())
}

/// DeleteOptions; nothing sent is an empty object.
pub fn decode_options(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    if body.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    if !is_readable(headers) {
        return Err(ApiError::unsupported_media_type(&OFFERED));
    }
    let (options, _) = parse_document(headers, body).map_err(ApiError::bad_request)?;
    match options {
        Value::Object(_) => Ok(options),
        Value::Null => Ok(Value::Object(Map::new())),
        _ => Err(ApiError::bad_request("the request body must be a DeleteOptions object")),
    }
}

/// The beginning of a body that could not be read, as upstream shows it.
fn summarize(body: &[u8]) -> String {
    const SHOWN: usize = 30;
    let cut = &body[..body.len().min(SHOWN)];
    let more = if body.len() > SHOWN { " ..." } else { "" };
    match body.first() {
        None => "<empty>".into(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(cut)),
        Some(_) => cut.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + more,
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The commonest syntax errors in the words of Go's `encoding/json`, which clients and people know.
fn go_json_error(body: &[u8], cause: &serde_json::Error) -> String {
    if cause.is_eof() {
        return "unexpected end of JSON input".into();
    }
    // Lines and columns count from one.
    let start: usize =
        body.split_inclusive(|byte| *byte == b'\n').take(cause.line().saturating_sub(1)).map(<[u8]>::len).sum();
    let at = start + cause.column().saturating_sub(1);
    let text = cause.to_string();
    match body.get(at) {
        Some(byte) if text.starts_with("expected value") => {
            format!("invalid character {:?} looking for beginning of value", char::from(*byte))
        }
        Some(byte) if text.starts_with("key must be a string") => {
            format!("invalid character {:?} looking for beginning of object key string", char::from(*byte))
        }
        Some(byte) if text.starts_with("expected `,` or `}`") => {
            format!("invalid character {:?} after object key:value pair", char::from(*byte))
        }
        Some(byte) if text.starts_with("expected `,` or `]`") => {
            format!("invalid character {:?} after array element", char::from(*byte))
        }
        Some(byte) if text.starts_with("trailing characters") => {
            format!("invalid character {:?} after top-level value", char::from(*byte))
        }
        _ => text,
    }
}
