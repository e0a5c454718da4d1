//! Turning a request into a connection that both sides write to: WebSocket by choice, SPDY for older clients.

use base64::Engine as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{Body, Refusal};

/// A client's message may be this long; `kubectl cp` sends 32 KiB at a time.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;
pub type Raw = TokioIo<Upgraded>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    WebSocket,
    Spdy,
}

/// What the client wants the connection to become.
pub fn kind(headers: &HeaderMap) -> Result<Kind, Refusal> {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match upgrade.to_ascii_lowercase().as_str() {
        "websocket" => Ok(Kind::WebSocket),
        "spdy/3.1" => Ok(Kind::Spdy),
        _ => Err(Refusal::bad_request("unable to upgrade: this path needs a WebSocket or SPDY/3.1 connection")),
    }
}

/// The first of the client's protocols that is known.
pub fn negotiate(headers: &HeaderMap, name: &str, known: &[&'static str]) -> Option<&'static str> {
    let offered = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut offered = offered.flat_map(|list| list.split(',')).map(str::trim);
    offered.find_map(|protocol| known.iter().find(|known| **known == protocol).copied())
}

/// Accepts a WebSocket; the future yields it once the answer is sent.
pub fn websocket(
    request: Request<Incoming>,
    protocol: &'static str,
) -> Result<(Response<Body>, impl Future<Output = Result<Socket, hyper::Error>> + Send), Refusal> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Refusal::bad_request("Sec-WebSocket-Key is missing"))?;
    if base64::engine::general_purpose::STANDARD.decode(key).is_ok_and(|key| key.len() == 16) {
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
        let mut response = switching("websocket");
        let headers = response.headers_mut();
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.map_err(|error| Refusal::bad_request(error.to_string()))?);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let upgraded = async move {
            let io = TokioIo::new(hyper::upgrade::on(request).await?);
            Ok(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await)
        };
        return Ok((response, upgraded));
    }
    Err(Refusal::bad_request("Sec-WebSocket-Key must be 16 bytes in base64"))
}

/// Accepts SPDY.
pub fn spdy(
    request: Request<Incoming>,
    protocol: &'static str,
) -> (Response<Body>, impl Future<Output = Result<Raw, hyper::Error>> + Send) {
    let mut response = switching("SPDY/3.1");
    response.headers_mut().insert("x-stream-protocol-version", HeaderValue::from_static(protocol));
    (response, async move { Ok(TokioIo::new(hyper::upgrade::on(request).await?)) })
}

fn switching(to: &'static str) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(to));
    response
}
