//! Frames on the wire.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::headers::{Deflater, Headers, Inflater};

/// The longest frame that is taken; clients write at most 32 KiB at a time.
const MAX_FRAME: usize = 1 << 20;
const VERSION: u16 = 3;
const HEAD: usize = 8;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the frame ends too early")]
    Truncated,
    #[error("{0} bytes are more than a frame may have")]
    TooLong(usize),
    #[error("SPDY version {0} is not 3")]
    Version(u16),
    #[error("the header block cannot be read: {0}")]
    Compression(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    SynReply {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    RstStream {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last_stream: u32,
    },
    Headers {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        fin: bool,
    },
    /// Of a type that means nothing to us: SETTINGS, WINDOW_UPDATE, whatever comes later.
    Other {
        kind: u16,
    },
}

/// Takes one frame off the front of `buffer`; `None` until it is complete.
pub fn decode(buffer: &mut BytesMut, inflater: &mut Inflater) -> Result<Option<Frame>, FrameError> {
    let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
    let (first, flags) = (u32::from_be_bytes([head[0], head[1], head[2], head[3]]), head[4]);
    let length = usize::from(head[5]) << 16 | usize::from(head[6]) << 8 | usize::from(head[7]);
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    let mut body = buffer.split_to(length).freeze();
    let fin = flags & FIN != 0;
    if first & 0x8000_0000 == 0 {
        return Ok(Some(Frame::Data { stream: first, bytes: body, fin }));
    }
    let (version, kind) = ((first >> 16) as u16 & 0x7fff, (first & 0xffff) as u16);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let mut word = || body.try_get_u32().map_err(|_| FrameError::Truncated);
    Ok(Some(match kind {
        SYN_STREAM => {
            let stream = word()? & 0x7fff_ffff;
            word()?;
            if body.len() < 2 {
                return Err(FrameError::Truncated);
            }
            Frame::SynStream { stream, headers: inflater.unpack(&body[2..])?, fin }
        }
        SYN_REPLY => {
            let stream = word()? & 0x7fff_ffff;
            Frame::SynReply { stream, headers: inflater.unpack(&body)?, fin }
        }
        RST_STREAM => Frame::RstStream { stream: word()? & 0x7fff_ffff, status: word()? },
        PING => Frame::Ping { id: word()? },
        GOAWAY => Frame::GoAway { last_stream: word()? & 0x7fff_ffff },
        HEADERS => {
            let stream = word()? & 0x7fff_ffff;
            Frame::Headers { stream, headers: inflater.unpack(&body)?, fin }
        }
        kind => Frame::Other { kind },
    }))
}

/// Appends a frame to `out`.
pub fn encode(frame: &Frame, deflater: &mut Deflater, out: &mut BytesMut) -> Result<(), FrameError> {
    match frame {
        Frame::Data { stream, bytes, fin } => {
            head(out, *stream, *fin, bytes.len())?;
            out.extend_from_slice(bytes);
        }
        Frame::SynStream { stream, headers, fin } => {
            let block = deflater.pack(headers)?;
            control(out, SYN_STREAM, *fin, 10 + block.len())?;
            out.put_u32(*stream);
            out.put_u32(0);
            out.put_u16(0);
            out.extend_from_slice(&block);
        }
        Frame::SynReply { stream, headers, fin } => {
            with_headers(out, SYN_REPLY, *stream, &deflater.pack(headers)?, *fin)?
        }
        Frame::Headers { stream, headers, fin } => with_headers(out, HEADERS, *stream, &deflater.pack(headers)?, *fin)?,
        Frame::RstStream { stream, status } => {
            control(out, RST_STREAM, false, 8)?;
            out.put_u32(*stream);
            out.put_u32(*status);
        }
        Frame::Ping { id } => {
            control(out, PING, false, 4)?;
            out.put_u32(*id);
        }
        Frame::GoAway { last_stream } => {
            control(out, GOAWAY, false, 8)?;
            out.put_u32(*last_stream);
            out.put_u32(0);
        }
        Frame::Other { .. } => {}
    }
    Ok(())
}

fn with_headers(out: &mut BytesMut, kind: u16, stream: u32, block: &[u8], fin: bool) -> Result<(), FrameError> {
    control(out, kind, fin, 4 + block.len())?;
    out.put_u32(stream);
    out.extend_from_slice(block);
    Ok(())
}

fn control(out: &mut BytesMut, kind: u16, fin: bool, length: usize) -> Result<(), FrameError> {
    head(out, 0x8000_0000 | u32::from(VERSION) << 16 | u32::from(kind), fin, length)
}

fn head(out: &mut BytesMut, first: u32, fin: bool, length: usize) -> Result<(), FrameError> {
    let length = u32::try_from(length).ok().filter(|length| *length < 1 << 24).ok_or(FrameError::TooLong(length))?;
    out.put_u32(first);
    out.put_u32(u32::from(if fin { FIN } else { 0 }) << 24 | length);
    Ok(())
}
