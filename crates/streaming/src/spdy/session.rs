//! The server's side of a connection: streams that the client opens, each with bytes both ways.

use std::{collections::HashMap, io};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};

use super::{
    frame::{self, Frame, FrameError},
    headers::{Deflater, Headers, Inflater},
};

/// Chunks that wait in each direction of a stream; beyond that the other side is made to wait.
pub(super) const DEPTH: usize = 32;
const MAX_STREAMS: usize = 4096;
const CANCEL: u32 = 5;
const REFUSED_STREAM: u32 = 3;
/// Frames stay well below what clients take.
const CHUNK: usize = 32 * 1024;

/// A stream that the client opened. `data` ends when the client has no more to say.
pub struct Incoming {
    pub headers: Headers,
    pub data: mpsc::Receiver<Bytes>,
    pub sender: Sender,
}

impl Incoming {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Sends on one stream. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    pub(super) stream: u32,
    pub(super) frames: mpsc::Sender<Frame>,
}

impl Sender {
    /// False once the connection is gone.
    pub async fn send(&self, bytes: Bytes) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK));
            let frame = Frame::Data { stream: self.stream, bytes: chunk, fin: false };
            if self.frames.send(frame).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Says that nothing more comes.
    pub async fn finish(&self) {
        let frame = Frame::Data { stream: self.stream, bytes: Bytes::new(), fin: true };
        // The connection may be gone, and then nobody needs to be told.
        let _ = self.frames.send(frame).await;
    }

    pub async fn reset(&self) {
        let _ = self.frames.send(Frame::RstStream { stream: self.stream, status: CANCEL }).await;
    }
}

/// Speaks SPDY on `io` until the client hangs up; each stream that it opens is sent to `streams`.
pub async fn serve<S>(io: S, streams: mpsc::Sender<Incoming>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send,
{
    let (reader, writer) = tokio::io::split(io);
    let (frames, outgoing) = mpsc::channel(DEPTH);
    let reading = read_all(reader, frames, streams);
    let writing = write_all(writer, outgoing);
    // Reading ends first; then all senders are dropped sooner or later, and writing ends with them.
    let (read, written) = tokio::join!(reading, writing);
    read.and(written)
}

async fn read_all<R>(mut reader: R, frames: mpsc::Sender<Frame>, streams: mpsc::Sender<Incoming>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
{
    let mut inflater = Inflater::new();
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    let mut open: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    loop {
        while let Some(frame) = frame::decode(&mut buffer, &mut inflater).map_err(invalid)? {
            match frame {
                Frame::SynStream { stream, headers, fin } => {
                    open.retain(|_, data| !data.is_closed());
                    if open.len() >= MAX_STREAMS {
                        let _ = frames.send(Frame::RstStream { stream, status: REFUSED_STREAM }).await;
                        continue;
                    }
                    let (data, receiver) = mpsc::channel(DEPTH);
                    if !fin {
                        open.insert(stream, data);
                    }
                    let reply = Frame::SynReply { stream, headers: Vec::new(), fin: false };
                    let sender = Sender { stream, frames: frames.clone() };
                    let known = frames.send(reply).await.is_ok()
                        && streams.send(Incoming { headers, data: receiver, sender }).await.is_ok();
                    if !known {
                        return Ok(());
                    }
                }
                Frame::Data { stream, bytes, fin } => {
                    if let Some(data) = open.get(&stream)
                        && !bytes.is_empty()
                    {
                        // Nobody may listen to it any more.
                        let _ = data.send(bytes).await;
                    }
                    if fin {
                        open.remove(&stream);
                    }
                }
                Frame::RstStream { stream, .. } => _ = open.remove(&stream),
                Frame::Headers { stream, fin: true, .. } => _ = open.remove(&stream),
                // Even numbers are the server's own, which sends none.
                Frame::Ping { id } if id % 2 == 1 => _ = frames.send(Frame::Ping { id }).await,
                Frame::GoAway { .. } => {}
                Frame::SynReply { .. } | Frame::Headers { .. } | Frame::Ping { .. } | Frame::Other { .. } => {}
            }
        }
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

pub(super) async fn write_all<W>(mut writer: W, mut frames: mpsc::Receiver<Frame>) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut deflater = Deflater::new().map_err(invalid)?;
    let mut out = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        frame::encode(&frame, &mut deflater, &mut out).map_err(invalid)?;
        while let Ok(frame) = frames.try_recv() {
            frame::encode(&frame, &mut deflater, &mut out).map_err(invalid)?;
            if out.len() > 2 * CHUNK {
                break;
            }
        }
        writer.write_all(&out).await?;
        writer.flush().await?;
        out.clear();
    }
    writer.shutdown().await
}

pub(super) fn invalid(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
