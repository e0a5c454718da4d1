//! The streams of an exec or attach, over whichever protocol the client speaks: in come stdin and terminal
//! sizes, out go stdout, stderr and, at the end, a Status.

use std::collections::HashMap;

use bytes::Bytes;
use futures::StreamExt;
use knarr_cri::{CriError, TerminalSize};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use tokio_util::sync::CancellationToken;

use crate::{
    dialect::{Dialect, Said},
    session::Streams,
    socket, spdy,
};

/// Channels as both protocols number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Error = 3,
    Resize = 4,
}

const DEPTH: usize = 8;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// The client's end of a session.
pub struct Remote {
    /// Ends when the client has nothing more to say.
    pub stdin: mpsc::Receiver<Bytes>,
    pub resize: mpsc::Receiver<TerminalSize>,
    pub out: Out,
}

/// Sends to the client. Cheap to clone.
#[derive(Clone)]
pub struct Out {
    dialect: Dialect,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Socket(mpsc::Sender<Message>),
    Spdy { streams: HashMap<&'static str, spdy::Sender>, gone: CancellationToken },
}

impl Out {
    /// False once the client is gone.
    pub async fn send(&self, channel: Channel, bytes: &[u8]) -> bool {
        match &self.way {
            Way::Socket(messages) => messages.send(self.dialect.write(channel as u8, bytes)).await.is_ok(),
            Way::Spdy { streams, .. } => match streams.get(channel.stream_type()) {
                Some(stream) => stream.send(Bytes::copy_from_slice(bytes)).await,
                // Not asked for.
                None => true,
            },
        }
    }

    /// Resolves once the client is gone.
    pub async fn closed(&self) {
        match &self.way {
            Way::Socket(messages) => messages.closed().await,
            Way::Spdy { gone, .. } => gone.cancelled().await,
        }
    }

    /// Says how it ended, as far as the dialect has words for it, and hangs up.
    pub async fn finish(self, status: &Value) {
        if self.dialect.has_status() {
            self.send(Channel::Error, status.to_string().as_bytes()).await;
        } else if status["status"] != "Success" {
            let message = status["message"].as_str().unwrap_or_default();
            self.send(Channel::Error, message.as_bytes()).await;
        }
        match self.way {
            // The client may have hung up first.
            Way::Socket(messages) => _ = messages.send(socket::goodbye()).await,
            Way::Spdy { streams, .. } => {
                for stream in streams.values() {
                    stream.finish().await;
                }
            }
        }
    }
}

impl Channel {
    pub fn stream_type(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Error => "error",
            Self::Resize => "resize",
        }
    }
}

/// A session over a WebSocket. The future carries the messages and has to be polled; it ends when the connection does.
pub fn over_socket<S>(
    socket: WebSocketStream<S>,
    dialect: Dialect,
    wanted: Streams,
) -> (Remote, impl Future<Output = ()> + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (stdin_in, stdin) = mpsc::channel(DEPTH);
    let (resize_in, resize) = mpsc::channel(DEPTH);
    let (messages, outgoing) = mpsc::channel::<Message>(DEPTH);
    // An empty message on the first channel there is says that the session has begun.
    let first = match wanted {
        Streams { stdout: true, .. } => Channel::Stdout,
        Streams { stderr: true, .. } => Channel::Stderr,
        _ => Channel::Error,
    };
    messages.try_send(dialect.write(first as u8, &[])).expect("a channel that was just made has room");
    let (sink, mut stream) = socket.split();
    let reading = async move {
        let mut stdin_in = wanted.stdin.then_some(stdin_in);
        while let Some(Ok(message)) = stream.next().await {
            if message.is_close() {
                return;
            }
            match dialect.read(message) {
                Some(Said::Bytes(0, data)) if !data.is_empty() => {
                    if let Some(stdin) = &stdin_in {
                        // The process may have closed its end.
                        let _ = stdin.send(data).await;
                    }
                }
                Some(Said::Bytes(4, data)) => {
                    if let Ok(Size { width, height }) = serde_json::from_slice(&data) {
                        let _ = resize_in.send(TerminalSize { width, height }).await;
                    }
                }
                Some(Said::Closed(0)) => stdin_in = None,
                _ => {}
            }
        }
    };
    let out = Out { dialect, way: Way::Socket(messages) };
    (Remote { stdin, resize, out }, socket::carry(sink, outgoing, reading))
}

/// A session over SPDY, once the client has opened as many streams as it asked for.
pub async fn over_spdy(
    mut streams: mpsc::Receiver<spdy::Incoming>,
    dialect: Dialect,
    wanted: Streams,
) -> Option<Remote> {
    let (stdin_in, mut stdin) = mpsc::channel(1);
    let (resize_in, resize) = mpsc::channel(DEPTH);
    drop(stdin_in);
    let mut senders = HashMap::new();
    for _ in 0..wanted.count(dialect) {
        let incoming = streams.recv().await?;
        let kinds = [Channel::Stdin, Channel::Stdout, Channel::Stderr, Channel::Error, Channel::Resize];
        let kind = kinds.into_iter().find(|kind| incoming.header("streamtype") == Some(kind.stream_type()))?;
        senders.insert(kind.stream_type(), incoming.sender);
        match kind {
            Channel::Stdin => stdin = incoming.data,
            Channel::Resize => _ = tokio::spawn(sizes(incoming.data, resize_in.clone())),
            _ => {}
        }
    }
    let gone = CancellationToken::new();
    let out = Out { dialect, way: Way::Spdy { streams: senders, gone: gone.clone() } };
    tokio::spawn(async move {
        // Later streams are none of ours, but taking them keeps the connection going, and they end with it.
        while streams.recv().await.is_some() {}
        gone.cancel();
    });
    Some(Remote { stdin, resize, out })
}

/// What is longer than this is no terminal's size.
const MAX_SIZE_BYTES: usize = 4 << 10;

/// Sizes come as JSON objects, one after the other, in chunks of any length.
async fn sizes(mut data: mpsc::Receiver<Bytes>, out: mpsc::Sender<TerminalSize>) {
    let mut buffer = Vec::new();
    while let Some(bytes) = data.recv().await {
        buffer.extend_from_slice(&bytes);
        let mut parser = serde_json::Deserializer::from_slice(&buffer).into_iter::<Size>();
        let mut found = Vec::new();
        while let Some(Ok(size)) = parser.next() {
            found.push(size);
        }
        let used = parser.byte_offset();
        buffer.drain(..used);
        if buffer.len() > MAX_SIZE_BYTES {
            return;
        }
        for Size { width, height } in found {
            if out.send(TerminalSize { width, height }).await.is_err() {
                return;
            }
        }
    }
}

/// How a process ended, as clients expect to hear it.
pub fn exit_status(code: i32) -> Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: error executing command, exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

/// What [`exit_status`] said, read again.
pub fn exit_code(status: &[u8]) -> knarr_cri::Result<i32> {
    let Ok(status) = serde_json::from_slice::<Value>(status) else {
        let message = match status {
            [] => "the runtime's stream ended without a word".to_owned(),
            said => format!("the runtime said {:?}", String::from_utf8_lossy(said)),
        };
        return Err(CriError::Unavailable { message });
    };
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array().map_or(&[][..], Vec::as_slice);
    let code = causes.iter().find(|cause| cause["reason"] == "ExitCode").and_then(|cause| cause["message"].as_str());
    match code.filter(|_| status["reason"] == "NonZeroExitCode").and_then(|code| code.parse().ok()) {
        Some(code) => Ok(code),
        None => {
            let message = status["message"].as_str().unwrap_or("the runtime gave no reason").to_owned();
            Err(CriError::Internal { message, source: None })
        }
    }
}

/// That something else went wrong than the process itself.
pub fn failure(cause: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {cause}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": cause}]},
        "code": 500,
    })
}
