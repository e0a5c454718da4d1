//! The asking end: exec, attach and port-forward at a URL that a runtime answered with.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use knarr_cri::{CriError, ExecSession, InputStream, OutputStream, Result, TerminalSize, Tunnel};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream, sync::mpsc, time::timeout};
use tokio_util::io::StreamReader;

use crate::{channels, session::Streams, spdy};

/// The runtime's streaming server is on this machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// What is longer than this is no status.
const MAX_STATUS: usize = 64 << 10;
const MAX_REFUSAL: usize = 64 << 10;
const BUFFER: usize = 64 << 10;
const PROTOCOL: &str = "x-stream-protocol-version";

fn lost(why: impl std::fmt::Display) -> CriError {
    CriError::Unavailable { message: format!("the runtime's stream cannot be used: {why}") }
}

/// A process's streams, at the URL of an exec or attach.
pub async fn exec(url: &str, wanted: Streams) -> Result<ExecSession> {
    let Streams { stdin, stdout, stderr, tty } = wanted;
    let mut client = connect(url, "v4.channel.k8s.io").await?;
    // In the order of upstream's client.
    let (errors, error_sender) = open(&mut client, "error").await?;
    let input = if stdin { Some(open(&mut client, "stdin").await?.1) } else { None };
    let output = if stdout { Some(open(&mut client, "stdout").await?.0) } else { None };
    let error_output = if stderr { Some(open(&mut client, "stderr").await?.0) } else { None };
    let sizes = if tty { Some(open(&mut client, "resize").await?.1) } else { None };
    Ok(ExecSession {
        stdin: input.map(writer),
        stdout: output.map(reader),
        stderr: error_output.map(reader),
        resize: sizes.map(resize),
        exit: Box::pin(async move {
            let status = collect(errors).await;
            // Until here it kept the connection.
            drop((error_sender, client));
            channels::exit_code(&status)
        }),
    })
}

/// Bytes to and from a port, at the URL of a port-forward. That nobody listens there is heard when they are read.
pub async fn port_forward(url: &str, port: u16) -> Result<Tunnel> {
    let mut client = connect(url, "portforward.k8s.io").await?;
    let headers = |kind: &str| {
        [("streamtype", kind), ("port", &port.to_string()), ("requestid", "0")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    };
    let gone = || lost("the connection broke");
    let (errors, error_sender) = client.open(headers("error")).await.ok_or_else(gone)?;
    error_sender.finish().await;
    let (data, sender) = client.open(headers("data")).await.ok_or_else(gone)?;
    let bytes = stream::unfold((data, Some(errors), client), |(mut data, errors, client)| async move {
        match (data.recv().await, errors) {
            (Some(bytes), errors) => Some((Ok(bytes), (data, errors, client))),
            (None, Some(errors)) => {
                let why = collect(errors).await;
                let failed = (!why.is_empty()).then(|| io::Error::other(String::from_utf8_lossy(&why).into_owned()))?;
                Some((Err(failed), (data, None, client)))
            }
            (None, None) => None,
        }
    });
    let reader = StreamReader::new(Box::pin(bytes));
    Ok(Box::new(tokio::io::join(reader, writer(sender))))
}

async fn open(client: &mut spdy::Client, kind: &str) -> Result<(mpsc::Receiver<Bytes>, spdy::Sender)> {
    let headers = vec![("streamtype".to_owned(), kind.to_owned())];
    client.open(headers).await.ok_or_else(|| lost("the connection broke"))
}

/// A connection that both ends agree to speak SPDY on.
async fn connect(url: &str, protocol: &str) -> Result<spdy::Client> {
    match timeout(CONNECT_LIMIT, upgrade(url, protocol)).await {
        Ok(connected) => connected,
        Err(_) => {
            Err(CriError::DeadlineExceeded { what: format!("connecting to {url}"), seconds: CONNECT_LIMIT.as_secs() })
        }
    }
}

async fn upgrade(url: &str, protocol: &str) -> Result<spdy::Client> {
    let uri: Uri = url.parse().map_err(|_| lost(format!("{url:?} is no URL")))?;
    if uri.scheme_str() != Some("http") {
        return Err(lost(format!("{url} is not reached by plain HTTP; turn TLS off for the runtime's streams")));
    }
    let authority = uri.authority().ok_or_else(|| lost(format!("{url:?} names no host")))?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await.map_err(lost)?;
    // A slow line to this machine is not waited for.
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    tokio::spawn(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header(PROTOCOL, protocol)
        .body(Empty::<Bytes>::new())
        .map_err(lost)?;
    let response = sender.send_request(request).await.map_err(lost)?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_REFUSAL).collect().await;
        let why = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
        return Err(lost(format!("it answers {status}: {why}")));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(lost)?;
    let (client, carry) = spdy::Client::new(TokioIo::new(upgraded));
    tokio::spawn(async move {
        if let Err(error) = carry.await {
            tracing::debug!(%error, "a stream of the runtime broke");
        }
    });
    Ok(client)
}

async fn collect(mut data: mpsc::Receiver<Bytes>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(more) = data.recv().await {
        bytes.extend_from_slice(&more[..more.len().min(MAX_STATUS - bytes.len())]);
    }
    bytes
}

fn reader(data: mpsc::Receiver<Bytes>) -> OutputStream {
    let bytes =
        stream::unfold(
            data,
            |mut data| async move { data.recv().await.map(|bytes| (Ok::<_, io::Error>(bytes), data)) },
        );
    Box::new(StreamReader::new(Box::pin(bytes)))
}

/// What is written goes out; its end too.
fn writer(sender: spdy::Sender) -> InputStream {
    let (near, mut far) = tokio::io::duplex(BUFFER);
    tokio::spawn(async move {
        let mut buffer = vec![0; BUFFER / 2];
        while let Ok(count @ 1..) = far.read(&mut buffer).await {
            if !sender.send(Bytes::copy_from_slice(&buffer[..count])).await {
                return;
            }
        }
        sender.finish().await;
    });
    Box::new(near)
}

fn resize(sender: spdy::Sender) -> mpsc::Sender<TerminalSize> {
    let (sizes, mut wanted) = mpsc::channel::<TerminalSize>(4);
    tokio::spawn(async move {
        while let Some(TerminalSize { width, height }) = wanted.recv().await {
            let size: Value = json!({"Width": width, "Height": height});
            if !sender.send(Bytes::from(size.to_string())).await {
                return;
            }
        }
    });
    sizes
}
