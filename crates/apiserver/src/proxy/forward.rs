use http::header::{self, HeaderMap, HeaderName};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use knarr_api::status::{ApiError, Reason};

use crate::contract::{Body, Response};

/// How much of an error text is read.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Carries the token of clients that cannot set headers; it is for us and not for whom we call.
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

/// How a request is carried on.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Path and query at the other side.
    pub target: String,
    /// The `Host` header.
    pub host: String,
    /// A node's error texts become a Status; a pod's answers are the pod's own.
    pub errors_as_status: bool,
}

/// Sends a request on and hands the answer back; where the answer switches protocols, both connections are
/// joined until either ends.
pub async fn forward(
    mut sender: SendRequest<Body>,
    mut request: Request<Body>,
    to: Forward,
) -> Result<Response, ApiError> {
    let is_upgrade = wants_upgrade(request.headers());
    let client = is_upgrade.then(|| hyper::upgrade::on(&mut request));
    let mut outgoing = Request::new(());
    *outgoing.method_mut() = request.method().clone();
    *outgoing.uri_mut() =
        to.target.parse::<Uri>().map_err(|e| ApiError::bad_request(format!("invalid path {:?}: {e}", to.target)))?;
    *outgoing.headers_mut() = outgoing_headers(request.headers(), is_upgrade);
    let host = to.host.parse().map_err(|_| ApiError::bad_request(format!("invalid host {:?}", to.host)))?;
    outgoing.headers_mut().insert(header::HOST, host);
    let outgoing = outgoing.map(|()| request.into_body());

    let mut answer = sender
        .send_request(outgoing)
        .await
        .map_err(|e| ApiError::service_unavailable(format!("error trying to reach {}: {e}", to.host)))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = client else {
            return Err(ApiError::internal(format!("{} switched protocols without being asked to", to.host)));
        };
        let server = hyper::upgrade::on(&mut answer);
        tokio::spawn(join(client, server));
        return Ok(answer.map(|_| empty()));
    }
    if to.errors_as_status && !answer.status().is_success() && !is_json(answer.headers()) {
        return Err(status_of(answer).await);
    }
    for name in HOP_BY_HOP {
        answer.headers_mut().remove(name);
    }
    Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync()))
}

fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
        && headers.get_all(header::CONNECTION).iter().any(|value| {
            value.to_str().is_ok_and(|text| text.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")))
        })
}

/// What the client proved itself with stays here; the rest goes on.
fn outgoing_headers(incoming: &HeaderMap, is_upgrade: bool) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(incoming.len());
    for (name, value) in incoming {
        let is_ours = *name == header::AUTHORIZATION || name.as_str().starts_with("impersonate-");
        if is_ours || HOP_BY_HOP.contains(name) || *name == header::UPGRADE || name.as_str() == "keep-alive" {
            continue;
        }
        if *name == header::SEC_WEBSOCKET_PROTOCOL {
            let offered = value.to_str().unwrap_or_default().split(',').map(str::trim);
            let offered: Vec<&str> = offered.filter(|protocol| !protocol.starts_with(TOKEN_PROTOCOL)).collect();
            if let Ok(value) = offered.join(", ").parse()
                && !offered.is_empty()
            {
                headers.append(name, value);
            }
            continue;
        }
        headers.append(name, value.clone());
    }
    if is_upgrade {
        headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        if let Some(protocol) = incoming.get(header::UPGRADE) {
            headers.insert(header::UPGRADE, protocol.clone());
        }
    }
    headers
}

async fn join(client: hyper::upgrade::OnUpgrade, server: hyper::upgrade::OnUpgrade) {
    match tokio::try_join!(client, server) {
        Ok((client, server)) => {
            let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
            // Either side may hang up at any time; that is how such sessions end.
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut server).await {
                tracing::debug!(%error, "an upgraded connection ended");
            }
        }
        Err(error) => tracing::debug!(%error, "a connection could not be upgraded"),
    }
}

/// A node answers errors with plain text, which becomes the message.
async fn status_of(answer: http::Response<hyper::body::Incoming>) -> ApiError {
    let code = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ERROR_BYTES).collect().await;
    let text = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
    let text = if text.is_empty() { format!("the node answered {code}") } else { text };
    match code.as_u16() {
        400 => ApiError::bad_request(text),
        404 => ApiError::new(Reason::NotFound, text),
        403 => ApiError::new(Reason::Forbidden, text),
        500 => ApiError::internal(text),
        503 => ApiError::service_unavailable(text),
        code => ApiError::new(Reason::Unknown, text).with_code(code),
    }
}
