//! gRPC and protobuf from their bytes up, for the drivers and plugins that tests play: by the node's own they would be
//! tested by themselves.

use anyhow::Result;
use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    server::{self, SendResponse},
};
use http::{HeaderMap, Request, Response};
use tokio::net::UnixListener;

/// Has each call of each connection answered by a task of its own, without end.
pub async fn serve<F, Fut>(listener: UnixListener, answer: F)
where
    F: Fn(Request<RecvStream>, SendResponse<Bytes>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    while let Ok((stream, _)) = listener.accept().await {
        let answer = answer.clone();
        tokio::spawn(async move {
            let Ok(mut connection) = server::handshake(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                let answered = answer(request, respond);
                // A node that went away has no use for the answer.
                tokio::spawn(async move { drop(answered.await) });
            }
        });
    }
}

/// The method's name and the message.
pub async fn read(request: Request<RecvStream>) -> Result<(String, Vec<u8>)> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let mut body = request.into_body();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    Ok((method, message.split_off(message.len().min(HEAD_BYTES))))
}

/// What precedes a message.
const HEAD_BYTES: usize = 5;

pub fn begin(respond: &mut SendResponse<Bytes>) -> Result<SendStream<Bytes>> {
    let head = Response::builder().header("content-type", "application/grpc").body(())?;
    Ok(respond.send_response(head, false)?)
}

/// `message` is for people, and empty where all went well.
pub fn end(mut answer: SendStream<Bytes>, status: &str, message: &str) -> Result<()> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse()?);
    if !message.is_empty() {
        trailers.insert("grpc-message", message.replace('\n', " ").parse()?);
    }
    Ok(answer.send_trailers(trailers)?)
}

/// A message with gRPC's head before it.
pub fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0][..], &length, message].concat().into()
}

/// A field that has a length: a text or a message. None here is longer than two bytes can say.
pub fn nested(number: u8, bytes: &[u8]) -> Vec<u8> {
    let (low, high) = ((bytes.len() & 0x7f) as u8, (bytes.len() >> 7) as u8);
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [&[number << 3 | 2][..], &length, bytes].concat()
}

pub fn text(number: u8, text: &str) -> Vec<u8> {
    nested(number, text.as_bytes())
}

/// The fields of a message that has nothing but texts and messages, by their numbers.
pub fn fields(mut message: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [key, length, rest @ ..] = message {
        let (length, rest) = match (length, rest) {
            (low, [high, rest @ ..]) if low & 0x80 != 0 => (usize::from(low & 0x7f) | usize::from(*high) << 7, rest),
            (low, rest) => (usize::from(*low), rest),
        };
        let (field, next) = rest.split_at(length.min(rest.len()));
        found.push((key >> 3, field.to_vec()));
        message = next;
    }
    found
}

/// The texts of a message that has nothing else.
pub fn texts(message: &[u8]) -> Vec<String> {
    fields(message).into_iter().map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned()).collect()
}
