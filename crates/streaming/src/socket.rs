//! Carrying the messages of a WebSocket until both sides have said all they had to say.

use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream::SplitSink, stream::SplitStream};
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

/// After the last word, a client gets this long to hang up.
const FAREWELL: Duration = Duration::from_secs(5);
/// A connection without a word this long is kept alive by a ping.
const PING: Duration = Duration::from_secs(30);

/// The message that ends a connection in peace.
pub fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// Sends what comes out of `outgoing`, up to its end or a goodbye, while `reading` takes what the client sends; ends
/// when either side hangs up.
pub async fn carry<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut outgoing: mpsc::Receiver<Message>,
    reading: impl Future<Output = ()>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
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
    tokio::pin!(writing, reading);
    tokio::select! {
        () = &mut writing => {
            // What the client still sends is taken and dropped: closing on unread bytes would reset the connection,
            // and the client would lose the last words with it.
            let _ = tokio::time::timeout(FAREWELL, reading).await;
        }
        // The client hung up; dropping the writer tells whoever has more to say.
        () = &mut reading => {}
    }
}

/// Takes what a client sends that has nothing to say, until it hangs up.
pub async fn ignore<S>(mut stream: SplitStream<WebSocketStream<S>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = stream.next().await {
        if message.is_close() {
            return;
        }
    }
}
