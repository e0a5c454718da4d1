//! The streams of an exec or attach, over whichever protocol the client speaks: in come stdin and terminal
//! sizes, out go stdout, stderr and, at the end, a Status.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use knarr_cri::TerminalSize;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use crate::spdy;

/// Channels as both protocols number them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Error = 3,
    Resize = 4,
}

/// Closes another channel, from `v5` on.
const CLOSE: u8 = 255;
const DEPTH: usize = 8;
/// After the last word, a client gets this long to hang up.
const FAREWELL: Duration = Duration::from_secs(5);
/// A connection without a word this long is kept alive by a ping.
const PING: Duration = Duration::from_secs(30);

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
pub enum Out {
    Socket(mpsc::Sender<Message>),
    Spdy(HashMap<&'static str, spdy::Sender>),
}

impl Out {
    /// False once the client is gone.
    pub async fn send(&self, channel: Channel, bytes: &[u8]) -> bool {
        match self {
            Self::Socket(messages) => {
                let mut message = Vec::with_capacity(bytes.len() + 1);
                message.push(channel as u8);
                message.extend_from_slice(bytes);
                messages.send(Message::binary(message)).await.is_ok()
            }
            Self::Spdy(streams) => match streams.get(channel.stream_type()) {
                Some(stream) => stream.send(Bytes::copy_from_slice(bytes)).await,
                // Not asked for.
                None => true,
            },
        }
    }

    /// Resolves once the client is gone.
    pub async fn closed(&self) {
        match self {
            Self::Socket(messages) => messages.closed().await,
            // Its loss shows at the next write, and when stdin ends.
            Self::Spdy(_) => std::future::pending().await,
        }
    }

    /// Says how it ended, and hangs up.
    pub async fn finish(self, status: &Value) {
        self.send(Channel::Error, status.to_string().as_bytes()).await;
        match self {
            Self::Socket(messages) => {
                let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                // The client may have hung up first.
                let _ = messages.send(Message::Close(Some(frame))).await;
            }
            Self::Spdy(streams) => {
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

/// A session over a WebSocket that speaks `v4.channel.k8s.io` or `v5.channel.k8s.io`. The future carries the
/// messages and has to be polled; it ends when the connection does.
pub fn over_socket<S>(socket: WebSocketStream<S>) -> (Remote, impl Future<Output = ()> + Send)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (stdin_in, stdin) = mpsc::channel(DEPTH);
    let (resize_in, resize) = mpsc::channel(DEPTH);
    let (messages, mut outgoing) = mpsc::channel::<Message>(DEPTH);
    let (mut sink, mut stream) = socket.split();
    let writing = async move {
        loop {
            let message = match tokio::time::timeout(PING, outgoing.recv()).await {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(_) => Message::Ping(Bytes::new()),
            };
            let last = matches!(message, Message::Close(_));
            if sink.send(message).await.is_err() || last {
                break;
            }
        }
        // Both sides have said all they had to say, so a failure to say goodbye matters to nobody.
        let _ = sink.close().await;
    };
    let reading = async move {
        let mut stdin_in = Some(stdin_in);
        while let Some(Ok(message)) = stream.next().await {
            let bytes = match message {
                Message::Binary(bytes) => bytes,
                Message::Text(text) => Bytes::from(text),
                Message::Close(_) => return,
                _ => continue,
            };
            let Some((channel, data)) = bytes.split_first() else { continue };
            match *channel {
                0 if !data.is_empty() => {
                    if let Some(stdin) = &stdin_in {
                        // The process may have closed its end.
                        let _ = stdin.send(bytes.slice(1..)).await;
                    }
                }
                4 => {
                    if let Ok(Size { width, height }) = serde_json::from_slice(data) {
                        let _ = resize_in.send(TerminalSize { width, height }).await;
                    }
                }
                CLOSE if data == [Channel::Stdin as u8] => stdin_in = None,
                _ => {}
            }
        }
    };
    let carry = async move {
        tokio::pin!(writing, reading);
        tokio::select! {
            () = &mut writing => {
                // What the client still sends is taken and dropped: closing on unread bytes would reset the
                // connection, and the client would lose the status with it.
                let _ = tokio::time::timeout(FAREWELL, reading).await;
            }
            // The client hung up; dropping the writer tells the session.
            () = &mut reading => {}
        }
    };
    (Remote { stdin, resize, out: Out::Socket(messages) }, carry)
}

/// A session over SPDY, once the client has opened as many streams as it asked for.
pub async fn over_spdy(mut streams: mpsc::Receiver<spdy::Incoming>, expected: usize) -> Option<Remote> {
    let (stdin_in, mut stdin) = mpsc::channel(1);
    let (resize_in, resize) = mpsc::channel(DEPTH);
    drop(stdin_in);
    let mut senders = HashMap::new();
    for _ in 0..expected {
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
    // Later streams are none of ours, but taking them keeps the connection going.
    tokio::spawn(async move { while streams.recv().await.is_some() {} });
    Some(Remote { stdin, resize, out: Out::Spdy(senders) })
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

pub fn failure(message: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "message": message, "reason": "InternalError", "code": 500})
}
