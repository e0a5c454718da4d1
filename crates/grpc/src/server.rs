//! The side that answers.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream::BoxStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::wire::{HEAD_BYTES, code, escape, frame, message_length};

/// Kubernetes' own clients send no more.
const REQUEST_BYTES: usize = 16 << 20;
/// Calls that one connection may have under way.
const MAX_CALLS: u32 = 256;
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Why a call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub code: u32,
    pub message: String,
}

/// What a call is answered with.
pub enum Reply {
    One(Bytes),
    Many(BoxStream<'static, Result<Bytes, Status>>),
}

impl Reply {
    pub fn one(message: &impl Message) -> Self {
        Self::One(frame(message))
    }

    pub fn many<M: Message>(messages: impl Stream<Item = Result<M, Status>> + Send + 'static) -> Self {
        Self::Many(messages.map(|message| message.map(|message| frame(&message))).boxed())
    }
}

/// Serves one connection until its client hangs up. `answer` is called with the method (`PACKAGE.SERVICE/METHOD`) and
/// the request's bytes.
pub async fn serve<S, F, Fut>(io: S, answer: F)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(String, Bytes) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Reply, Status>> + Send,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer.clone();
        async move {
            let method = request.uri().path().trim_start_matches('/').to_owned();
            let answered = match message(request).await {
                Ok(bytes) => answer(method, bytes).await,
                Err(status) => Err(status),
            };
            Ok::<_, Infallible>(respond(answered))
        }
    });
    let mut http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new()).max_concurrent_streams(MAX_CALLS);
    if let Err(error) = http.serve_connection(TokioIo::new(io), service).await {
        tracing::debug!(%error, "a connection of a gRPC client broke");
    }
}

/// The one message of a request.
async fn message(request: Request<Incoming>) -> Result<Bytes, Status> {
    let invalid = |message: String| Status { code: code::INTERNAL, message };
    let body = Limited::new(request.into_body(), REQUEST_BYTES).collect();
    let body = tokio::time::timeout(REQUEST_LIMIT, body).await;
    let body = body.map_err(|_| invalid(format!("the request took longer than {REQUEST_LIMIT:?}")))?;
    let bytes = body.map_err(|error| invalid(error.to_string()))?.to_bytes();
    match message_length(&bytes, bytes.len()) {
        Some(length) if bytes.len() == HEAD_BYTES + length => Ok(bytes.slice(HEAD_BYTES..)),
        _ => Err(invalid("the request is not one message without compression".to_owned())),
    }
}

/// The end of an answer comes behind it; that of an answer without a message is all there is.
fn respond(answered: Result<Reply, Status>) -> Response<Body> {
    let messages = match answered {
        Ok(Reply::One(bytes)) => futures::stream::once(async move { Ok(bytes) }).boxed(),
        Ok(Reply::Many(messages)) => messages,
        Err(status) => {
            let mut response = Response::new(http_body_util::Empty::new().boxed_unsync());
            *response.headers_mut() = trailers(Some(&status));
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            return response;
        }
    };
    let frames = futures::stream::unfold(Some(messages), |messages| async move {
        let mut messages = messages?;
        let (frame, rest) = match messages.next().await {
            Some(Ok(bytes)) => (Frame::data(bytes), Some(messages)),
            Some(Err(status)) => (Frame::trailers(trailers(Some(&status))), None),
            None => (Frame::trailers(trailers(None)), None),
        };
        Some((Ok::<_, Infallible>(frame), rest))
    });
    let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn trailers(status: Option<&Status>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(status.map_or(0, |status| status.code)));
    if let Some(status) = status
        && let Ok(message) = HeaderValue::from_str(&escape(&status.message))
    {
        trailers.insert("grpc-message", message);
    }
    trailers
}
