//! Large answers, compressed for clients that can read them so. Go clients ask for it by themselves.

use std::{
    io::Write,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::contract::{Body, Response};

/// Below this compressing costs more than it saves (upstream's threshold).
const WORTH_BYTES: u64 = 128 << 10;

/// Compresses the answer to a read, where the client accepts that and the answer is large. A body whose length is not
/// known is one that was too large for one piece.
pub fn negotiated(request: &HeaderMap, response: Response) -> Response {
    let length = response.body().size_hint().exact();
    let is_small = length.is_some_and(|bytes| bytes < WORTH_BYTES);
    if is_small || response.headers().contains_key(header::CONTENT_ENCODING) || !accepts_gzip(request) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    head.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    Response::from_parts(head, Compressed { body, encoder: Some(encoder) }.boxed_unsync())
}

fn accepts_gzip(request: &HeaderMap) -> bool {
    let values = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let is_gzip = parts.next() == Some("gzip");
        let is_refused = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        is_gzip && !parts.any(is_refused)
    })
}

/// A body as its gzip form. Nothing is held back longer than the encoder's own window.
struct Compressed {
    body: Body,
    /// `None` once the trailer was sent.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl http_body::Body for Compressed {
    type Data = Bytes;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while self.encoder.is_some() {
            let written = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let Some(encoder) = &mut self.encoder else { break };
                    encoder.write_all(&data).map(|()| std::mem::take(encoder.get_mut()))
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => match self.encoder.take() {
                    Some(encoder) => encoder.finish(),
                    None => break,
                },
            };
            match written {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes.into())))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.encoder.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use http::StatusCode;

    use super::*;
    use crate::codec::respond;

    #[tokio::test]
    async fn large_answers_are_compressed_for_those_who_ask() {
        let large = "0123456789".repeat(20_000);
        for (accepts, body, expected) in [
            ("gzip", large.as_str(), true),
            ("deflate, gzip;q=0.5", large.as_str(), true),
            ("gzip", "small", false),
            ("", large.as_str(), false),
            ("br", large.as_str(), false),
            ("gzip;q=0", large.as_str(), false),
        ] {
            let mut request = HeaderMap::new();
            request.insert(header::ACCEPT_ENCODING, accepts.parse().unwrap());
            let response = negotiated(&request, respond::json(StatusCode::OK, body.to_owned()));
            let is_compressed = response.headers().contains_key(header::CONTENT_ENCODING);
            assert_eq!(is_compressed, expected, "{accepts:?}");
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let mut text = String::new();
            if is_compressed {
                assert!(bytes.len() < body.len() / 10);
                flate2::read::GzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
            } else {
                text = String::from_utf8(bytes.to_vec()).unwrap();
            }
            assert!(text == body, "{accepts:?}: the text is the same");
        }
    }
}
