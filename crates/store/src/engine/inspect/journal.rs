//! The engine's journal (fjall 3): batches one after another, then zeros.
//!
//! Layout (integers little-endian): a batch begins with 1, its number of items `u32` and its sequence number `u64`. An item is 2,
//! its kind (0: a value), its compression (0: none), its keyspace `u64`, the lengths of its key `u16` and of its value
//! `u32`, twice, the key and the value; or 4 and a keyspace. The batch ends with 3, the XXH3 of all items, and [`TRAILER`].

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::Path,
};

use xxhash_rust::xxh3::Xxh3Default;

use crate::engine::RowId;

const BUFFER_BYTES: usize = 128 << 10;
const TRAILER: &[u8; 4] = b"FJL\x03";
/// The end of a batch: its tag, its checksum and [`TRAILER`].
const END_BYTES: usize = 1 + 8 + TRAILER.len();
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;

#[derive(Debug)]
pub struct Journal {
    /// How much of it, from its beginning, is whole batches.
    pub whole_bytes: u64,
    /// The newest revision that they put a row of.
    pub newest: Option<u64>,
    pub rest: Rest,
}

/// What follows the last of the whole batches.
#[derive(Debug, PartialEq, Eq)]
pub enum Rest {
    Nothing,
    /// One batch that is not whole. A batch is begun when the one before it is on the disk, so a crash leaves one at most.
    Unfinished,
    /// Another whole batch follows, at this byte.
    Damaged {
        next: u64,
    },
}

enum Stop {
    Broken,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::UnexpectedEof { Self::Broken } else { Self::Io(error) }
    }
}

struct Batch {
    size_bytes: u64,
    newest: Option<u64>,
}

impl Journal {
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
        let (mut whole_bytes, mut newest) = (0, None);
        loop {
            match batch(&mut file) {
                Ok(batch) => {
                    whole_bytes += batch.size_bytes;
                    newest = newest.max(batch.newest);
                }
                Err(Stop::Broken) => break,
                Err(Stop::Io(error)) => return Err(error),
            }
        }
        let rest = rest(&mut file, whole_bytes)?;
        Ok(Self { whole_bytes, newest, rest })
    }
}

fn bytes<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn batch(from: &mut impl Read) -> Result<Batch, Stop> {
    let [START] = bytes(from)? else { return Err(Stop::Broken) };
    let (items, _sequence) = (u32::from_le_bytes(bytes(from)?), bytes::<8>(from)?);
    let mut batch = Batch { size_bytes: 13, newest: None };
    let mut digest = Xxh3Default::new();
    for _ in 0..items {
        item(from, &mut batch, &mut digest)?;
    }
    let ([tag], checksum, trailer) = (bytes(from)?, bytes(from)?, bytes(from)?);
    if tag != END || u64::from_le_bytes(checksum) != digest.digest() || trailer != *TRAILER {
        return Err(Stop::Broken);
    }
    batch.size_bytes += END_BYTES as u64;
    Ok(batch)
}

fn item(from: &mut impl Read, batch: &mut Batch, digest: &mut Xxh3Default) -> Result<(), Stop> {
    let tag: [u8; 1] = bytes(from)?;
    digest.update(&tag);
    if tag == [CLEAR] {
        digest.update(&bytes::<8>(from)?);
        batch.size_bytes += 9;
        return Ok(());
    }
    let head: [u8; 20] = bytes(from)?;
    digest.update(&head);
    let [kind, compression, _, _, _, _, _, _, _, _, key_a, key_b, a, b, c, d, on_disk @ ..] = head;
    if tag != [ITEM] || compression != 0 || on_disk != [a, b, c, d] {
        return Err(Stop::Broken);
    }
    let (key_bytes, value_bytes) = (u16::from_le_bytes([key_a, key_b]), u32::from_le_bytes([a, b, c, d]));
    let mut key = vec![0; usize::from(key_bytes)];
    from.read_exact(&mut key)?;
    digest.update(&key);
    let mut chunk = [0; 4096];
    let mut left = value_bytes as usize;
    while left > 0 {
        let chunk = &mut chunk[..left.min(4096)];
        from.read_exact(chunk)?;
        digest.update(chunk);
        left -= chunk.len();
    }
    batch.size_bytes += 21 + u64::from(key_bytes) + u64::from(value_bytes);
    // Only rows have keys of this length; facts have names.
    if kind == 0 && key.len() == 12 {
        batch.newest = batch.newest.max(RowId::from_bytes(&key).map(|row| row.revision));
    }
    Ok(())
}

fn rest(file: &mut BufReader<File>, from: u64) -> io::Result<Rest> {
    let Some(end) = last_that_is_set(file, from)? else { return Ok(Rest::Nothing) };
    file.seek(SeekFrom::Start(from))?;
    let mut rest = Vec::new();
    file.take(end - from).read_to_end(&mut rest)?;
    for (at, window) in rest.windows(END_BYTES).enumerate() {
        if window[0] != END || window[END_BYTES - TRAILER.len()..] != *TRAILER {
            continue;
        }
        let next = at + END_BYTES;
        match batch(&mut &rest[next..]) {
            Ok(_) => return Ok(Rest::Damaged { next: from + next as u64 }),
            Err(Stop::Broken) => {}
            Err(Stop::Io(error)) => return Err(error),
        }
    }
    Ok(Rest::Unfinished)
}

/// Where the last byte from `from` on ends that is not zero. A journal is as long as it may become from its beginning.
fn last_that_is_set(file: &mut BufReader<File>, from: u64) -> io::Result<Option<u64>> {
    static ZEROS: [u8; BUFFER_BYTES] = [0; BUFFER_BYTES];
    let (mut position, mut last) = (file.seek(SeekFrom::Start(from))?, None);
    let mut chunk = vec![0; BUFFER_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(last);
        }
        // Compared as a whole, because there is much of nothing.
        if chunk[..read] != ZEROS[..read] {
            let set = chunk[..read].iter().rposition(|byte| *byte != 0).unwrap_or(0);
            last = Some(position + set as u64 + 1);
        }
        position += read as u64;
    }
}
