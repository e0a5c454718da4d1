//! The side that calls.

use std::{convert::Infallible, fmt};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{
    StreamExt,
    stream::{once, pending},
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::wire::{HEAD_BYTES, Metadata, code, frame, message_length, unescape};

/// No answer may be larger; etcd's own client takes as much.
const ANSWER_BYTES: usize = i32::MAX as usize;
/// How much one answer may have under way: the list of all containers, say.
const WINDOW_BYTES: u32 = 1 << 20;

pub type Body = UnsyncBoxBody<Bytes, Infallible>;
pub type Sender = SendRequest<Body>;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The request never left, so that it may be sent again, elsewhere.
    Unsent(String),
    /// It left, and what became of it is not known.
    Lost(String),
    /// The server refused it.
    Refused { code: u32, message: String },
}

impl Failure {
    pub fn code(&self) -> u32 {
        match self {
            Self::Unsent(_) | Self::Lost(_) => code::UNAVAILABLE,
            Self::Refused { code, .. } => *code,
        }
    }

    pub fn message(&self) -> &str {
        match self {
            Self::Unsent(why) | Self::Lost(why) => why,
            Self::Refused { message, .. } => message,
        }
    }
}

/// As kubelets print it, in events too.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {} desc = {}", code::name(self.code()), self.message())
    }
}

/// Who is called, and how.
#[derive(Clone, Copy, Debug)]
pub struct Service<'a> {
    /// As requests name it, `https://HOST:PORT`.
    pub origin: &'a str,
    /// The package of its services, such as `etcdserverpb`.
    pub package: &'a str,
    /// Sent with every call.
    pub metadata: Metadata<'a>,
}

/// Calls go over this stream. It ends with the last sender.
pub async fn over<S>(stream: S) -> hyper::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    // What goes wrong is heard by whoever waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// One request, one answer.
pub async fn call<A: Message + Default>(
    sender: &mut Sender,
    service: Service<'_>,
    method: &str,
    request: &impl Message,
) -> Result<A, Failure> {
    call_stranger(sender, service, method, request, ANSWER_BYTES).await
}

/// One request to somebody who may answer more than there is room for.
pub async fn call_stranger<A: Message + Default>(
    sender: &mut Sender,
    service: Service<'_>,
    method: &str,
    request: &impl Message,
    most_bytes: usize,
) -> Result<A, Failure> {
    let body = Full::new(frame(request)).boxed_unsync();
    let response = send(sender, service, method, body).await?;
    let (head, body) = response.into_parts();
    let answer = Limited::new(body, most_bytes).collect().await.map_err(|error| Failure::Lost(error.to_string()))?;
    check_status(answer.trailers().unwrap_or(&head.headers))?;
    let mut bytes = answer.aggregate();
    let length = message_length(bytes.chunk(), bytes.remaining());
    let Some(length) = length.filter(|length| bytes.remaining() == HEAD_BYTES + length) else {
        // The head may lie in two pieces, which is rare enough to copy for.
        let whole = bytes.copy_to_bytes(bytes.remaining());
        return decode_whole(whole);
    };
    bytes.advance(HEAD_BYTES);
    A::decode(bytes.take(length)).map_err(|error| Failure::Lost(format!("an answer cannot be read: {error}")))
}

fn decode_whole<A: Message + Default>(mut whole: Bytes) -> Result<A, Failure> {
    let unreadable = |what: &str| Failure::Lost(format!("an answer cannot be read: {what}"));
    let length = message_length(&whole, whole.len()).ok_or_else(|| unreadable("it is cut short or compressed"))?;
    if whole.len() != HEAD_BYTES + length {
        return Err(unreadable("it is not one message"));
    }
    whole.advance(HEAD_BYTES);
    A::decode(whole).map_err(|error| unreadable(&error.to_string()))
}

/// One request whose answers do not end, and that stays open itself: some servers take its end for that of the answers.
pub async fn open(
    sender: &mut Sender,
    service: Service<'_>,
    method: &str,
    request: &impl Message,
) -> Result<Answers, Failure> {
    let first = Frame::data(frame(request));
    let frames = once(async move { Ok::<_, Infallible>(first) }).chain(pending());
    answers(send(sender, service, method, BodyExt::boxed_unsync(StreamBody::new(frames))).await?)
}

/// One request and all its answers.
pub async fn stream(
    sender: &mut Sender,
    service: Service<'_>,
    method: &str,
    request: &impl Message,
) -> Result<Answers, Failure> {
    answers(send(sender, service, method, Full::new(frame(request)).boxed_unsync()).await?)
}

fn answers(response: Response<Incoming>) -> Result<Answers, Failure> {
    check_status(response.headers())?;
    Ok(Answers { body: response.into_body(), unread: BytesMut::new() })
}

/// The answers of [`open`] and [`stream`].
#[derive(Debug)]
pub struct Answers {
    body: Incoming,
    unread: BytesMut,
}

impl Answers {
    /// The next answer. No message that was begun is lost where this is dropped before it is done.
    pub async fn next<A: Message + Default>(&mut self) -> Result<A, Failure> {
        loop {
            if let Some(length) = message_length(&self.unread, self.unread.len())
                && self.unread.len() >= HEAD_BYTES + length
            {
                self.unread.advance(HEAD_BYTES);
                let message = self.unread.split_to(length).freeze();
                return A::decode(message).map_err(|error| Failure::Lost(error.to_string()));
            }
            let frame = match self.body.frame().await {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Err(Failure::Lost(error.to_string())),
                None => return Err(Failure::Lost("the connection was closed".into())),
            };
            match frame.into_data() {
                Ok(data) => self.unread.put(data),
                Err(trailers) => {
                    check_status(&trailers.into_trailers().unwrap_or_default())?;
                    return Err(Failure::Lost("the server ended the stream".into()));
                }
            }
        }
    }
}

async fn send(
    sender: &mut Sender,
    service: Service<'_>,
    method: &str,
    body: Body,
) -> Result<Response<Incoming>, Failure> {
    let mut request = Request::post(format!("{}/{}.{method}", service.origin, service.package))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in service.metadata {
        request = request.header(*name, *value);
    }
    let request = request.body(body).map_err(|error| Failure::Unsent(error.to_string()))?;
    sender.ready().await.map_err(|error| Failure::Unsent(error.to_string()))?;
    let response = sender.try_send_request(request).await.map_err(|mut error| {
        let unsent = error.take_message().is_some();
        let text = error.into_error().to_string();
        if unsent { Failure::Unsent(text) } else { Failure::Lost(text) }
    })?;
    if response.status() != http::StatusCode::OK {
        return Err(Failure::Lost(format!("it answers HTTP {}, and speaks no gRPC", response.status())));
    }
    Ok(response)
}

/// No status at all is that of an answer that goes on.
fn check_status(headers: &HeaderMap) -> Result<(), Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "" | "0" => Ok(()),
        status => Err(Failure::Refused {
            // A code that is no number stands for an unknown error.
            code: status.parse().unwrap_or(code::UNKNOWN),
            message: unescape(text("grpc-message")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct StatusResponse {
        #[prost(int64, tag = "3")]
        db_size: i64,
    }

    #[test]
    fn a_message_is_read_as_it_was_framed() {
        let sent = StatusResponse { db_size: 42 };
        assert_eq!(decode_whole::<StatusResponse>(frame(&sent)).unwrap(), sent);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [&b""[..], b"\0\0\0", b"\0\0\0\0\x09ab", b"\x01\0\0\0\x01a", b"\0\0\0\0\0more"] {
            let read = decode_whole::<StatusResponse>(Bytes::copy_from_slice(bytes));
            assert!(matches!(read, Err(Failure::Lost(_))), "{bytes:?}: {read:?}");
        }
    }

    #[test]
    fn a_status_is_read_from_its_headers() {
        let mut headers = HeaderMap::new();
        assert_eq!(check_status(&headers), Ok(()));
        headers.insert("grpc-status", "14".parse().unwrap());
        headers.insert("grpc-message", "etcdserver: 100%25 %e2%82%ac%".parse().unwrap());
        let refused = Failure::Refused { code: code::UNAVAILABLE, message: "etcdserver: 100% €%".into() };
        assert_eq!(check_status(&headers), Err(refused));
    }

    #[test]
    fn a_message_of_a_status_is_read_as_it_was_sent() {
        for text in ["", "plain", "100% \u{20ac}\n", "%41"] {
            let sent = crate::wire::escape(text);
            assert!(sent.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{sent:?}");
            assert_eq!(unescape(&sent), text);
        }
    }
}
