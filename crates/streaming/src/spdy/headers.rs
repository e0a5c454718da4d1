//! Header blocks: name-value pairs, compressed by one zlib stream for each direction of a connection.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::{dictionary, frame::FrameError};

/// A header block may unpack to this much; Kubernetes' are a few hundred bytes.
const MAX_BYTES: usize = 64 * 1024;

pub type Headers = Vec<(String, String)>;

pub struct Deflater(Compress);

pub struct Inflater(Decompress);

impl Deflater {
    pub fn new() -> Result<Self, FrameError> {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(&dictionary::bytes()).map_err(|error| FrameError::Compression(error.to_string()))?;
        Ok(Self(zlib))
    }

    pub fn pack(&mut self, headers: &Headers) -> Result<Vec<u8>, FrameError> {
        let mut plain = Vec::new();
        put_length(&mut plain, headers.len());
        for (name, value) in headers {
            for text in [name, value] {
                put_length(&mut plain, text.len());
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut packed = Vec::with_capacity(plain.len() + 64);
        let mut given = 0;
        loop {
            packed.reserve(256);
            let before = self.0.total_in();
            let done = self.0.compress_vec(&plain[given..], &mut packed, FlushCompress::Sync);
            done.map_err(|error| FrameError::Compression(error.to_string()))?;
            given += usize::try_from(self.0.total_in() - before).unwrap_or(0);
            // Room that is left over says that the flush is complete.
            if given == plain.len() && packed.len() < packed.capacity() {
                return Ok(packed);
            }
        }
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    pub fn new() -> Self {
        Self(Decompress::new(true))
    }

    pub fn unpack(&mut self, packed: &[u8]) -> Result<Headers, FrameError> {
        let plain = self.inflate(packed)?;
        let mut rest = plain.as_slice();
        let count = take_length(&mut rest)?;
        let mut headers = Headers::new();
        for _ in 0..count {
            let name = take_text(&mut rest)?;
            let value = take_text(&mut rest)?;
            headers.push((name, value));
        }
        Ok(headers)
    }

    fn inflate(&mut self, packed: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut plain = Vec::with_capacity(packed.len() * 4 + 256);
        let mut given = 0;
        loop {
            let (before, written) = (self.0.total_in(), plain.len());
            let done = self.0.decompress_vec(&packed[given..], &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.0.total_in() - before).unwrap_or(0);
            given += taken;
            if let Err(error) = done {
                if error.needs_dictionary().is_none() {
                    return Err(FrameError::Compression(error.to_string()));
                }
                let set = self.0.set_dictionary(&dictionary::bytes());
                set.map_err(|error| FrameError::Compression(error.to_string()))?;
                continue;
            }
            if plain.len() > MAX_BYTES {
                return Err(FrameError::TooLong(plain.len()));
            }
            if given == packed.len() && plain.len() < plain.capacity() {
                return Ok(plain);
            }
            // Behind the end of a zlib stream nothing is taken any more, whatever comes.
            if taken == 0 && plain.len() == written && plain.len() < plain.capacity() {
                return Err(FrameError::Compression("something follows the end of the stream".to_owned()));
            }
            plain.reserve(1024);
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn take_length(rest: &mut &[u8]) -> Result<usize, FrameError> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(FrameError::Truncated)?;
    *rest = tail;
    usize::try_from(u32::from_be_bytes(*head)).map_err(|_| FrameError::Truncated)
}

fn take_text(rest: &mut &[u8]) -> Result<String, FrameError> {
    let length = take_length(rest)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(FrameError::Truncated)?;
    *rest = tail;
    Ok(String::from_utf8_lossy(text).into_owned())
}
