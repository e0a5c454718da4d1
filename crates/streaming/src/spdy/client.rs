//! The client's side of a connection: it opens streams, and the server answers on them.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    sync::mpsc,
};

use super::{
    frame::{self, Frame},
    headers::{Headers, Inflater},
    session::{DEPTH, Sender, invalid, write_all},
};

/// Streams that were opened and have not ended, by number.
type Open = Arc<Mutex<HashMap<u32, mpsc::Sender<Bytes>>>>;

/// Opens streams. The connection ends when this and all senders are dropped.
pub struct Client {
    frames: mpsc::Sender<Frame>,
    open: Open,
    next: u32,
}

impl Client {
    /// Speaks SPDY on `io`; the future carries the frames and has to be polled.
    pub fn new<S>(io: S) -> (Self, impl Future<Output = io::Result<()>> + Send)
    where
        S: AsyncRead + AsyncWrite + Send,
    {
        let (reader, writer) = tokio::io::split(io);
        let (frames, outgoing) = mpsc::channel(DEPTH);
        let open = Open::default();
        let reading = read_all(reader, frames.downgrade(), open.clone());
        let carry = async move {
            let (read, written) = tokio::join!(reading, write_all(writer, outgoing));
            read.and(written)
        };
        (Self { frames, open, next: 1 }, carry)
    }

    /// A new stream: what comes on it, and what sends on it. `None` once the connection is gone.
    pub async fn open(&mut self, headers: Headers) -> Option<(mpsc::Receiver<Bytes>, Sender)> {
        let stream = self.next;
        // Those of a client are odd.
        self.next += 2;
        let (data, receiver) = mpsc::channel(DEPTH);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(stream, data);
        self.frames.send(Frame::SynStream { stream, headers, fin: false }).await.ok()?;
        Some((receiver, Sender { stream, frames: self.frames.clone() }))
    }
}

async fn read_all<R>(reader: R, frames: mpsc::WeakSender<Frame>, open: Open) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let read = read_frames(reader, frames, &open).await;
    // Whoever waits for more hears that there is none.
    open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    read
}

async fn read_frames<R>(mut reader: R, frames: mpsc::WeakSender<Frame>, open: &Open) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let mut inflater = Inflater::new();
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let end = |stream: u32| _ = open.lock().unwrap_or_else(PoisonError::into_inner).remove(&stream);
    loop {
        while let Some(frame) = frame::decode(&mut buffer, &mut inflater).map_err(invalid)? {
            match frame {
                Frame::Data { stream, bytes, fin } => {
                    let data = open.lock().unwrap_or_else(PoisonError::into_inner).get(&stream).cloned();
                    if let Some(data) = data.filter(|_| !bytes.is_empty()) {
                        // Nobody may listen to it any more.
                        let _ = data.send(bytes).await;
                    }
                    if fin {
                        end(stream);
                    }
                }
                Frame::RstStream { stream, .. } => end(stream),
                Frame::SynReply { stream, fin: true, .. } | Frame::Headers { stream, fin: true, .. } => end(stream),
                // Odd numbers are answers to a client's own, which sends none.
                Frame::Ping { id } if id % 2 == 0 => {
                    if let Some(frames) = frames.upgrade() {
                        let _ = frames.send(Frame::Ping { id }).await;
                    }
                }
                _ => {}
            }
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
