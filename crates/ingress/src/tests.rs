//! The proxy between real sockets.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::{
    listen,
    proxy::Proxy,
    table::{Backend, Protocol, Table},
};

async fn local() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Nobody listens there, and nobody else gets to while the socket is kept.
struct Dead {
    address: SocketAddr,
    _socket: TcpSocket,
}

fn dead() -> Dead {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    Dead { address: socket.local_addr().unwrap(), _socket: socket }
}

/// Says the method and the body back, over HTTP/1 and HTTP/2.
async fn echo() -> SocketAddr {
    let (listener, address) = local().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = |request: Request<Incoming>| async move {
                let method = request.method().to_string();
                let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                let text = format!("{method} {}", String::from_utf8_lossy(&body));
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
            };
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                drop(builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await);
            });
        }
    });
    address
}

/// Answers once on each connection, and hangs up without having said so.
async fn curt() -> SocketAddr {
    let (listener, address) = local().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 1024];
                if stream.read(&mut head).await.is_ok_and(|count| count > 0) {
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ncurt").await);
                }
            });
        }
    });
    address
}

/// A proxy in front of a backend.
async fn proxy(protocol: Protocol, ready: Vec<SocketAddr>, leaving: Vec<SocketAddr>) -> SocketAddr {
    let proxy = Arc::new(Proxy::new());
    proxy.table.store(Arc::new(Table::of(Backend { service: "test".into(), protocol, ready, leaving })));
    let (listener, address) = local().await;
    tokio::spawn(listen::accept_all(listener, proxy, address.port(), None, CancellationToken::new()));
    address
}

async fn ask(proxy: SocketAddr, request: &str, body: &'static str) -> (StatusCode, String) {
    let stream = TcpStream::connect(proxy).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(request).uri("/").header("host", "any").body(Full::new(Bytes::from(body)));
    let answer = sender.send_request(request.unwrap()).await.unwrap();
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn endpoints_that_do_not_answer_are_passed_over() {
    let (good, dead) = (echo().await, dead());
    let gone = dead.address;
    for (ready, leaving) in [(vec![good, gone], vec![]), (vec![gone], vec![good]), (vec![], vec![good])] {
        let proxy = proxy(Protocol::Http1, ready, leaving).await;
        for _ in 0..4 {
            assert_eq!(ask(proxy, "GET", "").await, (StatusCode::OK, "GET ".into()));
            assert_eq!(ask(proxy, "POST", "all of it").await, (StatusCode::OK, "POST all of it".into()));
        }
    }
}

#[tokio::test]
async fn connections_that_were_closed_meanwhile_cost_nothing() {
    let proxy = proxy(Protocol::Http1, vec![curt().await], vec![]).await;
    for _ in 0..20 {
        assert_eq!(ask(proxy, "GET", "").await, (StatusCode::OK, "curt".into()));
    }
}

#[tokio::test]
async fn backends_may_want_http2() {
    let proxy = proxy(Protocol::H2c, vec![echo().await], vec![]).await;
    for _ in 0..3 {
        assert_eq!(ask(proxy, "PUT", "x").await, (StatusCode::OK, "PUT x".into()));
    }
}

#[tokio::test]
async fn failures_have_pages() {
    let nobody = proxy(Protocol::Http1, vec![], vec![]).await;
    assert_eq!(ask(nobody, "GET", "").await, (StatusCode::SERVICE_UNAVAILABLE, "503 Service Unavailable\n".into()));
    let dead = dead();
    let unreachable = proxy(Protocol::Http1, vec![dead.address], vec![]).await;
    assert_eq!(ask(unreachable, "GET", "").await, (StatusCode::BAD_GATEWAY, "502 Bad Gateway\n".into()));
}
