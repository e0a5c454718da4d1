//! One request: whom it is for, how it is passed on, and what becomes of failures.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body as _, Incoming};
use hyper_util::rt::TokioIo;

use crate::{
    pool::{Pool, SendError},
    table::{Backend, Protocol, Table},
};

pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// How long a backend may take until its answer begins.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// How many endpoints are asked for one request.
const MAX_ATTEMPTS: usize = 5;

/// Headers that are about one connection and not about the request.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

pub struct Proxy {
    pub table: ArcSwap<Table>,
    pub pool: Arc<Pool>,
    turn: AtomicUsize,
}

/// How a request came in.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub client: IpAddr,
    pub is_tls: bool,
    pub port: u16,
}

impl Proxy {
    pub fn new() -> Self {
        Self { table: ArcSwap::default(), pool: Arc::default(), turn: AtomicUsize::new(0) }
    }

    pub async fn answer(&self, request: Request<Incoming>, arrival: Arrival) -> Response<Body> {
        let authority = authority(&request);
        let host = host_of(&authority);
        let found = self.table.load().find(&host, request.uri().path()).cloned();
        match found {
            Some(backend) => self.pass_on(&backend, request, &authority, arrival).await,
            None => plain(StatusCode::NOT_FOUND),
        }
    }

    async fn pass_on(
        &self,
        backend: &Backend,
        mut request: Request<Incoming>,
        authority: &str,
        arrival: Arrival,
    ) -> Response<Body> {
        let upgrade = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let Some(outgoing) = outgoing(backend.protocol, &request, authority, arrival, upgrade.is_some()) else {
            return plain(StatusCode::BAD_REQUEST);
        };
        // What can be said again without harm is, where a connection broke before it was answered.
        let idempotent = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let spare = (idempotent && upgrade.is_none() && request.body().is_end_stream()).then(|| outgoing.clone());
        let answer = tokio::time::timeout(
            ANSWER_DEADLINE,
            self.attempt(backend, outgoing.map(|()| request.into_body().boxed_unsync()), spare),
        );
        match answer.await {
            Ok(Ok(response)) => incoming(response, upgrade),
            Ok(Err(status)) => plain(status),
            Err(_) => plain(StatusCode::GATEWAY_TIMEOUT),
        }
    }

    /// Asks one endpoint after the other until one answers.
    async fn attempt(
        &self,
        backend: &Backend,
        mut request: Request<Body>,
        spare: Option<Request<()>>,
    ) -> Result<Response<Incoming>, StatusCode> {
        let mut status = StatusCode::SERVICE_UNAVAILABLE;
        for endpoint in self.order(backend) {
            match self.pool.send(endpoint, backend.protocol, request).await {
                Ok(response) => return Ok(response),
                Err(SendError::Connect(error, unsent)) => {
                    tracing::debug!(%endpoint, service = backend.service, %error, "asking the next endpoint");
                    request = *unsent;
                    status = StatusCode::BAD_GATEWAY;
                }
                Err(SendError::Broken(error)) => {
                    tracing::debug!(%endpoint, service = backend.service, %error, "a backend hung up");
                    let Some(again) = &spare else { return Err(StatusCode::BAD_GATEWAY) };
                    request = again.clone().map(|()| empty());
                    status = StatusCode::BAD_GATEWAY;
                }
            }
        }
        Err(status)
    }

    /// The endpoints in the order in which they are asked: those that are ready in turn, then those on their way out.
    fn order(&self, backend: &Backend) -> impl Iterator<Item = SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut ready = backend.ready.clone();
        if !ready.is_empty() {
            let first = turn % ready.len();
            ready.rotate_left(first);
            // A backend of one endpoint gets a second chance: it may just have been too busy to accept.
            if ready.len() == 1 {
                ready.extend_from_within(..);
            }
        }
        ready.into_iter().chain(backend.leaving.clone()).take(MAX_ATTEMPTS)
    }
}

/// The host with its port as the client wrote it.
fn authority<B>(request: &Request<B>) -> String {
    let in_uri = request.uri().authority().map(|authority| authority.as_str());
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    in_uri.or(named).unwrap_or_default().to_owned()
}

fn host_of(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.trim_end_matches('.').to_lowercase()
}

fn wants_upgrade(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asked = connection.flat_map(|value| value.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    asked && headers.contains_key(header::UPGRADE)
}

/// The request as the backend gets it. Whom it came from is said in `X-Forwarded-*`; what a client says there itself
/// is not believed, and replaced.
fn outgoing<B>(
    protocol: Protocol,
    request: &Request<B>,
    authority: &str,
    arrival: Arrival,
    upgrade: bool,
) -> Option<Request<()>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let (uri, version) = match protocol {
        Protocol::Http1 => (path.parse::<Uri>().ok()?, Version::HTTP_11),
        Protocol::H2c => (format!("http://{authority}{path}").parse().ok()?, Version::HTTP_2),
    };
    let mut headers = HeaderMap::with_capacity(request.headers().len() + 6);
    let named = request.headers().get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<String> = named.flat_map(|value| value.split(',')).map(|word| word.trim().to_lowercase()).collect();
    for (name, value) in request.headers() {
        let trailers = *name == header::TE && value != "trailers";
        if HOP_BY_HOP.contains(name) || trailers || named.iter().any(|word| word == name.as_str()) {
            continue;
        }
        headers.append(name, value.clone());
    }
    if protocol == Protocol::Http1 {
        headers.insert(header::HOST, HeaderValue::from_str(authority).ok()?);
        // Browsers split cookies over HTTP/2; HTTP/1 knows one header.
        let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if cookies.len() > 1 {
            let joined = HeaderValue::from_bytes(&cookies.join(&b"; "[..])).ok()?;
            headers.insert(header::COOKIE, joined);
        }
    } else {
        headers.remove(header::HOST);
    }
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, request.headers().get(header::UPGRADE)?.clone());
    }
    let Arrival { client, is_tls, port } = arrival;
    let scheme = if is_tls { "https" } else { "http" };
    for (name, value) in [
        ("x-forwarded-for", client.to_string()),
        ("x-forwarded-host", authority.to_owned()),
        ("x-forwarded-port", port.to_string()),
        ("x-forwarded-proto", scheme.to_owned()),
        ("x-real-ip", client.to_string()),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?);
    }
    let mut out = Request::new(());
    *out.method_mut() = request.method().clone();
    *out.uri_mut() = uri;
    *out.version_mut() = version;
    *out.headers_mut() = headers;
    Some(out)
}

/// The answer as the client gets it; where protocols are switched, both connections are joined until either ends.
fn incoming(mut response: Response<Incoming>, upgrade: Option<hyper::upgrade::OnUpgrade>) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = upgrade else { return plain(StatusCode::BAD_GATEWAY) };
        let server = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let Ok((client, server)) = tokio::try_join!(client, server) {
                // Either side may hang up at any time; that is how such sessions end.
                let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
            }
        });
        return response.map(|_| empty());
    }
    for name in HOP_BY_HOP {
        response.headers_mut().remove(name);
    }
    *response.version_mut() = Version::default();
    response.map(|body| body.boxed_unsync())
}

fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A page of our own: a status and its name.
fn plain(status: StatusCode) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{status}\n"))).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_port_and_case() {
        for (authority, host) in
            [("Shop.Example:8080", "shop.example"), ("a.b.", "a.b"), ("[::1]:80", "[::1]"), ("", "")]
        {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn requests_are_rewritten() {
        let request = Request::get("/a%20b?x=1")
            .header("host", "shop.example")
            .header("connection", "keep-alive, X-Own")
            .header("keep-alive", "5")
            .header("x-own", "1")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-forwarded-for", "6.6.6.6")
            .header("accept", "text/html")
            .body(())
            .unwrap();
        let arrival = Arrival { client: [10, 0, 0, 7].into(), is_tls: true, port: 443 };
        let out = outgoing(Protocol::Http1, &request, "shop.example", arrival, false).unwrap();
        assert_eq!(out.uri(), "/a%20b?x=1");
        let mut headers: Vec<String> =
            out.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        headers.sort();
        assert_eq!(
            headers,
            [
                "accept: text/html",
                "cookie: a=1; b=2",
                "host: shop.example",
                "x-forwarded-for: 10.0.0.7",
                "x-forwarded-host: shop.example",
                "x-forwarded-port: 443",
                "x-forwarded-proto: https",
                "x-real-ip: 10.0.0.7",
            ]
        );
        let out = outgoing(Protocol::H2c, &request, "shop.example", arrival, false).unwrap();
        assert_eq!((out.uri().to_string().as_str(), out.version()), ("http://shop.example/a%20b?x=1", Version::HTTP_2));
        assert!(!out.headers().contains_key("host"));
    }
}
