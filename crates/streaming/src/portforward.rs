//! `portForward`: SPDY streams, either carried in WebSocket messages (current clients) or on the upgraded
//! connection itself (older ones); and the plain WebSocket protocol with a channel for each port.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use hyper::body::Incoming;
use knarr_cri::StreamService;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    Body, Refusal,
    dialect::{self, Dialect, Said},
    query, socket, spdy, upgrade,
};

/// SPDY inside of WebSocket messages.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const SPDY: [upgrade::Protocol<()>; 1] = [("portforward.k8s.io", ())];
/// The second stream of a pair has to come within this time.
const PAIR_LIMIT: Duration = Duration::from_secs(30);
const MAX_PENDING: usize = 1024;
const BUFFER: usize = 64 * 1024;

/// Forwards the ports of a sandbox.
pub fn serve(
    streams: Arc<dyn StreamService>,
    sandbox: String,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let headers = request.headers();
    let forwarder = Forwarder { streams, sandbox };
    if upgrade::kind(headers)? == upgrade::Kind::Spdy {
        let (protocol, ()) = upgrade::spdy_protocol(headers, &SPDY)?;
        let (response, io) = upgrade::spdy(request, protocol);
        tokio::spawn(async move {
            match io.await {
                Ok(io) => forwarder.over_spdy(io).await,
                Err(error) => tracing::debug!(%error, "a client went away while its connection was upgraded"),
            }
        });
        return Ok(response);
    }
    let channels = dialect::PORTS.map(|(name, dialect)| (name, Some(dialect)));
    let known = [&channels[..], &[(TUNNEL, None)]].concat();
    let (protocol, dialect) = upgrade::socket_protocol(headers, &known)?;
    let ports = match dialect {
        Some(dialect) => ports(request.uri().query().unwrap_or_default(), dialect)?,
        None => Vec::new(),
    };
    let (response, socket) = upgrade::websocket(request, protocol)?;
    tokio::spawn(async move {
        let socket = match socket.await {
            Ok(socket) => socket,
            Err(error) => return tracing::debug!(%error, "a client went away while its connection was upgraded"),
        };
        match dialect {
            Some(dialect) => forwarder.over_channels(socket, dialect, &ports).await,
            None => {
                let (near, far) = tokio::io::duplex(BUFFER);
                tokio::join!(tunnel(socket, far), forwarder.over_spdy(near));
            }
        }
    });
    Ok(response)
}

/// The ports that a query names; each takes two of the 256 channels there are.
fn ports(query: &str, dialect: Dialect) -> Result<Vec<u16>, Refusal> {
    let most = (dialect.channels() - 1) / 2;
    let query = query::query(query);
    let values = query.iter().filter(|(key, _)| matches!(key.as_str(), "port" | "ports"));
    let mut found = Vec::new();
    for (_, value) in values {
        if value.is_empty() {
            return Err(Refusal::bad_request("query parameter \"port\" cannot be empty"));
        }
        for port in value.split(',') {
            let port: u16 = port
                .parse()
                .map_err(|error| Refusal::bad_request(format!("unable to parse {value:?} as a port: {error}")))?;
            if port == 0 {
                return Err(Refusal::bad_request(format!("port {value:?} must be > 0")));
            }
            found.push(port);
        }
    }
    match found.len() {
        0 => Err(Refusal::bad_request("query parameter \"port\" is required")),
        count if count <= most => Ok(found),
        _ => Err(Refusal::bad_request(format!("no more than {most} ports are forwarded over one connection"))),
    }
}

/// Carries a byte stream in WebSocket messages.
async fn tunnel(socket: upgrade::Socket, bytes: DuplexStream) {
    let (mut sink, mut stream) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(bytes);
    let inward = async {
        while let Some(Ok(message)) = stream.next().await {
            let done = match message {
                Message::Binary(bytes) => writer.write_all(&bytes).await.is_err(),
                Message::Close(_) => true,
                _ => false,
            };
            if done {
                break;
            }
        }
        // Tells the SPDY side that the client is gone.
        let _ = writer.shutdown().await;
    };
    let outward = async {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            if sink.send(Message::binary(Bytes::copy_from_slice(&buffer[..count]))).await.is_err() {
                break;
            }
        }
        let _ = sink.close().await;
    };
    tokio::join!(inward, outward);
}

#[derive(Clone)]
struct Forwarder {
    streams: Arc<dyn StreamService>,
    sandbox: String,
}

/// One forwarded connection: its bytes, and a stream for what goes wrong.
#[derive(Default)]
struct Pair {
    data: Option<spdy::Incoming>,
    error: Option<spdy::Incoming>,
}

impl Forwarder {
    /// Each connection is a pair of streams with the same request ID.
    async fn over_spdy<S>(self, io: S)
    where
        S: tokio::io::AsyncRead + AsyncWrite + Send,
    {
        let (opened, mut incoming) = mpsc::channel::<spdy::Incoming>(8);
        let pairing = async {
            let mut pending: HashMap<String, (Pair, tokio::time::Instant)> = HashMap::new();
            while let Some(stream) = incoming.recv().await {
                let now = tokio::time::Instant::now();
                pending.retain(|_, (_, since)| now.duration_since(*since) < PAIR_LIMIT);
                if pending.len() >= MAX_PENDING {
                    stream.sender.reset().await;
                    continue;
                }
                let id = stream.header("requestid").unwrap_or_default().to_owned();
                let (mut pair, since) = pending.remove(&id).unwrap_or((Pair::default(), now));
                match stream.header("streamtype") {
                    Some("data") => pair.data = Some(stream),
                    Some("error") => pair.error = Some(stream),
                    _ => {
                        stream.sender.reset().await;
                        continue;
                    }
                }
                match pair {
                    Pair { data: Some(data), error: Some(error) } => {
                        let forwarder = self.clone();
                        tokio::spawn(async move { forwarder.forward(data, error).await });
                    }
                    pair => _ = pending.insert(id, (pair, since)),
                }
            }
        };
        let (served, ()) = tokio::join!(spdy::serve(io, opened), pairing);
        if let Err(error) = served {
            tracing::debug!(%error, "a port-forward's connection broke");
        }
    }

    async fn forward(&self, data: spdy::Incoming, error: spdy::Incoming) {
        let port = data.header("port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
        let result = match port {
            Some(port) => self.carry(port, data).await.map_err(|cause| (port, cause)),
            None => {
                data.sender.reset().await;
                Err((0, "the \"port\" header must be a port number".to_owned()))
            }
        };
        if let Err((port, cause)) = result {
            let message = format!("error forwarding port {port} to pod {}: {cause}", self.sandbox);
            error.sender.send(Bytes::from(message)).await;
        }
        error.sender.finish().await;
    }

    async fn carry(&self, port: u16, stream: spdy::Incoming) -> Result<(), String> {
        let spdy::Incoming { mut data, sender, .. } = stream;
        let tunnel = match self.streams.port_forward(&self.sandbox, port).await {
            Ok(tunnel) => tunnel,
            Err(error) => {
                sender.finish().await;
                return Err(error.to_string());
            }
        };
        let (mut reader, mut writer) = tokio::io::split(tunnel);
        let inward = async {
            while let Some(bytes) = data.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            // The client has said all it had to say.
            let _ = writer.shutdown().await;
        };
        let outward = async {
            let mut buffer = vec![0; 32 * 1024];
            let ended = loop {
                match reader.read(&mut buffer).await {
                    Ok(0) => break Ok(()),
                    Ok(count) if sender.send(Bytes::copy_from_slice(&buffer[..count])).await => {}
                    Ok(_) => break Ok(()),
                    // A port of another's runtime may turn out to be closed only now.
                    Err(error) => break Err(error.to_string()),
                }
            };
            sender.finish().await;
            ended
        };
        // The pod's end decides: when it closes, what the client may still send goes nowhere.
        tokio::pin!(inward);
        tokio::pin!(outward);
        tokio::select! {
            ended = &mut outward => ended,
            () = &mut inward => outward.await,
        }
    }

    /// Two channels for each port, data and error; the first message on each says which port it is for.
    async fn over_channels(&self, socket: upgrade::Socket, dialect: Dialect, ports: &[u16]) {
        let (sink, mut stream) = socket.split();
        let (messages, outgoing) = mpsc::channel::<Message>(8);
        let mut inputs = Vec::new();
        for (channel, port) in (0..).step_by(2).zip(ports) {
            let (input, received) = mpsc::channel::<Bytes>(8);
            inputs.push(input);
            tokio::spawn(self.clone().channel(dialect, channel, *port, received, messages.clone()));
        }
        drop(messages);
        let reading = async {
            while let Some(Ok(message)) = stream.next().await {
                if message.is_close() {
                    return;
                }
                let Some(Said::Bytes(channel, bytes)) = dialect.read(message) else { continue };
                if channel % 2 == 0
                    && let Some(input) = inputs.get(usize::from(channel / 2))
                {
                    // The pod may have closed its end.
                    let _ = input.send(bytes).await;
                }
            }
        };
        socket::carry(sink, outgoing, reading).await;
    }

    async fn channel(
        self,
        dialect: Dialect,
        channel: u8,
        port: u16,
        mut input: mpsc::Receiver<Bytes>,
        out: mpsc::Sender<Message>,
    ) {
        for which in [channel, channel + 1] {
            if out.send(dialect.write(which, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        let tunnel = match self.streams.port_forward(&self.sandbox, port).await {
            Ok(tunnel) => tunnel,
            Err(error) => {
                let why = format!("error forwarding port {port} to pod {}: {error}", self.sandbox);
                // The client may have hung up already.
                let _ = out.send(dialect.write(channel + 1, why.as_bytes())).await;
                return;
            }
        };
        let (mut reader, mut writer) = tokio::io::split(tunnel);
        let inward = async {
            while let Some(bytes) = input.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        };
        let outward = async {
            let mut buffer = vec![0; 32 * 1024];
            while let Ok(count @ 1..) = reader.read(&mut buffer).await {
                if out.send(dialect.write(channel, &buffer[..count])).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = outward => {}
            () = async { inward.await; std::future::pending().await } => {}
        }
    }
}
