//! Exec over SPDY, as clients spoke before they had WebSockets.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use knarr_streaming::{
    channels,
    spdy::{Deflater, Frame, Inflater, decode, encode},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Host;
use crate::testing::eventually;

const PATH: &str = "/exec/d/p/a?command=";

async fn ask(host: &Host, path: &str, protocols: &[&str]) -> Response<Incoming> {
    let stream = TokioIo::new(host.connect(host.api_server()).await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::post(path).header("host", "localhost");
    request = request.header("connection", "Upgrade").header("upgrade", "SPDY/3.1");
    for protocol in protocols {
        request = request.header("x-stream-protocol-version", *protocol);
    }
    sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
}

/// Opens the streams of these types, and yields what comes on them until the error stream ends.
async fn converse(io: Upgraded, types: &[&'static str]) -> BTreeMap<&'static str, Vec<u8>> {
    let mut io = TokioIo::new(io);
    let (mut deflater, mut inflater) = (Deflater::new().unwrap(), Inflater::new());
    let mut wire = BytesMut::new();
    let ids = || (1..).step_by(2).zip(types);
    for (stream, kind) in ids() {
        let headers = vec![("streamtype".to_owned(), (*kind).to_owned())];
        encode(&Frame::SynStream { stream, headers, fin: false }, &mut deflater, &mut wire).unwrap();
    }
    io.write_all(&wire).await.unwrap();
    let (mut heard, mut buffer) = (BTreeMap::<_, Vec<u8>>::new(), BytesMut::new());
    loop {
        let read = tokio::time::timeout(Duration::from_secs(120), io.read_buf(&mut buffer)).await;
        assert_ne!(read.expect("an end in time").unwrap(), 0, "it ended before the error stream did");
        while let Some(frame) = decode(&mut buffer, &mut inflater).unwrap() {
            let Frame::Data { stream, bytes, fin } = frame else { continue };
            let (_, kind) = ids().find(|(id, _)| *id == stream).unwrap();
            heard.entry(*kind).or_default().extend_from_slice(&bytes);
            if fin && *kind == "error" {
                return heard;
            }
        }
    }
}

#[tokio::test]
async fn exec_speaks_every_version() {
    let host = Host::new().await;
    host.runtime.answer_command("ok", 0, "fine");
    host.runtime.answer_command("bad", 3, "oh");
    for (protocol, has_status, has_resize) in [
        ("channel.k8s.io", false, false),
        ("v2.channel.k8s.io", false, false),
        ("v3.channel.k8s.io", false, true),
        ("v4.channel.k8s.io", true, true),
        ("v5.channel.k8s.io", true, true),
    ] {
        for (command, output, code) in [("ok", "fine", 0), ("bad", "oh", 3)] {
            let path = format!("{PATH}{command}&output=1&tty=1");
            let mut response = ask(&host, &path, &[protocol]).await;
            assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
            assert_eq!(response.headers()["x-stream-protocol-version"], protocol);
            // A version without sizes would be waited for in vain if it were to open a stream for them.
            let types = if has_resize { &["error", "stdout", "resize"][..] } else { &["error", "stdout"] };
            let heard = converse(hyper::upgrade::on(&mut response).await.unwrap(), types).await;
            assert_eq!(String::from_utf8_lossy(&heard["stdout"]), output, "{protocol}");
            let status = channels::exit_status(code);
            let error = match (has_status, code) {
                (true, _) => status.to_string(),
                (false, 0) => String::new(),
                (false, _) => status["message"].as_str().unwrap().to_owned(),
            };
            assert_eq!(String::from_utf8_lossy(&heard["error"]), error, "{protocol}");
        }
    }
}

#[tokio::test]
async fn strangers_are_told_what_is_spoken_here() {
    let host = Host::new().await;
    let refused = ask(&host, &format!("{PATH}ok&output=1"), &["v9.channel.k8s.io"]).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let accepted: Vec<_> = refused.headers().get_all("x-accepted-stream-protocol-versions").iter().collect();
    assert_eq!(accepted.len(), 5);
    assert_eq!(accepted[0], "v5.channel.k8s.io");
    let why = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(why.starts_with(b"unable to upgrade: unable to negotiate protocol: client supports [v9.channel.k8s.io], "));
    let refused = ask(&host, &format!("{PATH}ok&output=1"), &[]).await;
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

/// Nothing else would tell: the process says nothing, and has no input that could end.
#[tokio::test]
async fn a_client_that_is_gone_is_noticed() {
    let host = Host::new().await;
    let mut response = ask(&host, &format!("{PATH}sleep&output=1"), &["v4.channel.k8s.io"]).await;
    let io = hyper::upgrade::on(&mut response).await.unwrap();
    let client = tokio::spawn(converse(io, &["error", "stdout"]));
    eventually("the session is there", || (host.runtime.sleepers() == 1).then_some(())).await;
    client.abort();
    eventually("the session is over", || (host.runtime.sleepers() == 0).then_some(())).await;
}
