//! Turning a request into a connection that both sides write to: WebSocket by choice, SPDY for older clients.

use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
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

use crate::{Body, Refusal};

/// A client's message may be this long; `kubectl cp` sends 32 KiB at a time.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;

const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

pub type Socket = WebSocketStream<TokioIo<Upgraded>>;
pub type Raw = TokioIo<Upgraded>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    WebSocket,
    Spdy,
}

fn wants(headers: &HeaderMap, upgrade: &str) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(upgrade.as_bytes()))
}

pub fn is_websocket(headers: &HeaderMap) -> bool {
    wants(headers, "websocket")
}

/// What the client wants the connection to become.
pub fn kind(headers: &HeaderMap) -> Result<Kind, Refusal> {
    if is_websocket(headers) {
        return Ok(Kind::WebSocket);
    }
    if wants(headers, "spdy/3.1") {
        return Ok(Kind::Spdy);
    }
    Err(Refusal::bad_request("unable to upgrade: this path needs a WebSocket or SPDY/3.1 connection"))
}

fn offered<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).map(str::trim).filter(|protocol| !protocol.is_empty()).collect()
}

/// One of the protocols that an upgrade may be to, and what goes with it.
pub type Protocol<T> = (&'static str, T);

fn agree<T: Copy>(offered: &[&str], known: &[Protocol<T>]) -> Option<Protocol<T>> {
    offered.iter().find_map(|protocol| known.iter().find(|(known, _)| known == protocol).copied())
}

/// The first of a WebSocket client's protocols that is known; one that names none means the one without a name.
pub fn socket_protocol<T: Copy>(headers: &HeaderMap, known: &[Protocol<T>]) -> Result<Protocol<T>, Refusal> {
    let offered = offered(headers, header::SEC_WEBSOCKET_PROTOCOL.as_str());
    let asked: &[&str] = if offered.is_empty() { &[""] } else { &offered };
    agree(asked, known).ok_or_else(|| {
        let (offered, known) = (offered.join(" "), names(known).join(" "));
        let why = format!("requested protocol(s) are not supported: [{offered}]; supports [{known}]");
        Refusal::new(StatusCode::FORBIDDEN, why)
    })
}

/// The first of a SPDY client's protocols that is known; a refusal lists those that the client might have asked for.
pub fn spdy_protocol<T: Copy>(headers: &HeaderMap, known: &[Protocol<T>]) -> Result<Protocol<T>, Refusal> {
    let offered = offered(headers, STREAM_PROTOCOL);
    if offered.is_empty() {
        let count = headers.len();
        return Err(Refusal::bad_request(format!(
            "unable to upgrade: header X-Stream-Protocol-Version does not exist in request with {count} headers"
        )));
    }
    agree(&offered, known).ok_or_else(|| {
        let (offered, accepted) = (offered.join(" "), names(known).join(" "));
        let why = format!("unable to negotiate protocol: client supports [{offered}], server accepts [{accepted}]");
        let mut refusal = Refusal::new(StatusCode::FORBIDDEN, format!("unable to upgrade: {why}"));
        let accepted = HeaderName::from_static("x-accepted-stream-protocol-versions");
        let each = |name| (accepted.clone(), HeaderValue::from_static(name));
        refusal.headers = names(known).into_iter().map(each).collect();
        refusal
    })
}

fn names<T>(protocols: &[Protocol<T>]) -> Vec<&'static str> {
    protocols.iter().map(|(name, _)| *name).collect()
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
        if !protocol.is_empty() {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
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
    response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(protocol));
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
