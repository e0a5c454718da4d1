//! Lists and watches as they come over HTTP: paths, query, and frames of JSON.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Object, Scope,
    frame::{self, Frame},
};

/// An event larger than this is taken for a broken stream: the server refuses objects a fifth of that size.
const MAX_FRAME_BYTES: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the server refused: {message}")]
    Refused { code: u16, message: String },
    #[error("the request failed")]
    Request(#[source] kube::Error),
    #[error("the connection broke")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the server sent {what} that cannot be read")]
    Decode {
        what: &'static str,
        #[source]
        source: serde_json::Error,
    },
    #[error("a watch event is larger than {MAX_FRAME_BYTES} bytes")]
    TooLarge,
}

impl WireError {
    /// The version to watch from is no longer in the server's history.
    pub fn is_expired(&self) -> bool {
        matches!(self, WireError::Refused { code: 410, .. })
    }
}

#[derive(Deserialize)]
struct ListBody<'a> {
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    pub resource_version: String,
    r#continue: String,
}

pub(super) struct Page<K> {
    pub items: Vec<K>,
    pub resource_version: String,
    pub continue_token: String,
}

pub(super) async fn list<K: Object>(
    client: &kube::Client,
    path: &str,
    scope: &Scope,
    continue_token: &str,
    page_size: u32,
) -> Result<Page<K>, WireError> {
    let limit = page_size.to_string();
    let mut query = vec![("limit", limit.as_str())];
    if !continue_token.is_empty() {
        query.push(("continue", continue_token));
    }
    let body = send(client, path, scope, "PartialObjectMetadataList", query).await?;
    let bytes = body.collect().await.map_err(|error| WireError::Connection(error.into()))?.to_bytes();
    let list: ListBody<'_> =
        serde_json::from_slice(&bytes).map_err(|source| WireError::Decode { what: "a list", source })?;
    let decode = |raw: &&RawValue| frame::object_of(raw.get());
    let items = list.items.iter().flatten().map(decode).collect::<Result<_, _>>();
    Ok(Page {
        items: items.map_err(|source| WireError::Decode { what: "an object", source })?,
        resource_version: list.metadata.resource_version,
        continue_token: list.metadata.r#continue,
    })
}

pub(super) struct WatchBody {
    body: Body,
    lines: Lines,
}

/// Puts together what comes in pieces.
#[derive(Default)]
struct Lines {
    /// A line whose end is still to come.
    begun: BytesMut,
}

pub(super) async fn watch(
    client: &kube::Client,
    path: &str,
    scope: &Scope,
    resource_version: &str,
    timeout_seconds: u64,
) -> Result<WatchBody, WireError> {
    let timeout = timeout_seconds.to_string();
    let query = vec![
        ("watch", "true"),
        ("allowWatchBookmarks", "true"),
        ("resourceVersion", resource_version),
        ("timeoutSeconds", timeout.as_str()),
    ];
    let body = send(client, path, scope, "PartialObjectMetadata", query).await?;
    Ok(WatchBody { body, lines: Lines::default() })
}

impl WatchBody {
    /// All frames that have arrived, at least one; `None` when the server ended the watch.
    pub async fn next<K: Object>(&mut self) -> Result<Option<Vec<Frame<K>>>, WireError> {
        loop {
            let Some(chunk) = self.chunk().await? else { return Ok(None) };
            let frames = self.lines.take(&chunk)?;
            if !frames.is_empty() {
                return Ok(Some(frames));
            }
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, WireError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(WireError::Connection(error.into())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

impl Lines {
    /// The frames that end in a piece. They are read where they lie, but for one that began in an earlier piece.
    fn take<K: Object>(&mut self, chunk: &[u8]) -> Result<Vec<Frame<K>>, WireError> {
        let whole = memchr::memrchr(b'\n', chunk).map_or(0, |end| end + 1);
        let (whole, rest) = chunk.split_at(whole);
        let began = if whole.is_empty() { BytesMut::new() } else { self.begun.split() };
        self.begun.extend_from_slice(rest);
        if self.begun.len() > MAX_FRAME_BYTES {
            return Err(WireError::TooLarge);
        }
        let lines = if began.is_empty() { Cow::Borrowed(whole) } else { Cow::Owned([&began, whole].concat()) };
        lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(Frame::read).collect()
    }
}

async fn send(
    client: &kube::Client,
    path: &str,
    scope: &Scope,
    metadata_kind: &str,
    mut query: Vec<(&str, &str)>,
) -> Result<Body, WireError> {
    query.extend(scope.label_selector.as_deref().map(|selector| ("labelSelector", selector)));
    query.extend(scope.field_selector.as_deref().map(|selector| ("fieldSelector", selector)));
    let accept = if scope.metadata_only {
        format!("application/json;as={metadata_kind};g=meta.k8s.io;v=v1,application/json")
    } else {
        "application/json".to_owned()
    };
    let request = Request::get(format!("{path}?{}", encode(&query))).header(http::header::ACCEPT, accept);
    let request = request.body(Body::empty()).map_err(|error| WireError::Request(kube::Error::HttpError(error)))?;
    let response = client.send(request).await.map_err(WireError::Request)?;
    let status = response.status();
    let body = response.into_body();
    if status.is_success() {
        return Ok(body);
    }
    let bytes = body.collect().await.map_err(|error| WireError::Connection(error.into()))?.to_bytes();
    Err(refused(&bytes, status.as_u16()))
}

pub(super) fn refused(status: &[u8], http_code: u16) -> WireError {
    match serde_json::from_slice::<kube::core::Status>(status) {
        Ok(status) => {
            let code = if status.code == 0 { http_code } else { status.code };
            WireError::Refused { code, message: status.message }
        }
        Err(_) => WireError::Refused { code: http_code, message: String::from_utf8_lossy(status).into_owned() },
    }
}

/// `application/x-www-form-urlencoded`
fn encode(query: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (key, value) in query {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(key);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => text.push(byte as char),
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_reads_the_same_wherever_it_is_cut() {
        let names = ["a", "b", "c"];
        let line = |name| format!(r#"{{"type":"ADDED","object":{{"metadata":{{"name":"{name}"}}}}}}"#);
        let stream = format!("\n{}\n", names.map(line).join("\n"));
        for size in 1..=stream.len() {
            let mut lines = Lines::default();
            let mut read = Vec::new();
            for piece in stream.as_bytes().chunks(size) {
                for frame in lines.take::<crate::lean::Pod>(piece).unwrap() {
                    let Frame::Applied(pod) = frame else { panic!("nothing was deleted") };
                    read.push(pod.metadata.name.unwrap());
                }
            }
            assert_eq!(read, names, "pieces of {size} bytes");
            assert!(lines.begun.is_empty());
        }
        let endless = vec![b' '; MAX_FRAME_BYTES + 1];
        assert!(matches!(Lines::default().take::<crate::lean::Pod>(&endless), Err(WireError::TooLarge)));
    }

    #[test]
    fn query_is_escaped() {
        let check = |query: &[(&str, &str)], expected: &str| assert_eq!(encode(query), expected);
        check(&[], "");
        check(&[("limit", "500")], "limit=500");
        check(
            &[("fieldSelector", "spec.nodeName=a b"), ("x", "ü&")],
            "fieldSelector=spec.nodeName%3Da%20b&x=%C3%BC%26",
        );
    }
}
