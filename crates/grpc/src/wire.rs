//! Messages and their ends as they travel.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

/// A message has a byte for compression and four for its length before it.
pub const HEAD_BYTES: usize = 5;

/// Headers by which a call says more than its message.
pub type Metadata<'a> = &'a [(&'a str, &'a str)];

/// What a call that failed may say, of the seventeen codes there are.
pub mod code {
    pub const UNKNOWN: u32 = 2;
    pub const INVALID_ARGUMENT: u32 = 3;
    pub const DEADLINE_EXCEEDED: u32 = 4;
    pub const NOT_FOUND: u32 = 5;
    pub const ALREADY_EXISTS: u32 = 6;
    pub const PERMISSION_DENIED: u32 = 7;
    pub const RESOURCE_EXHAUSTED: u32 = 8;
    pub const FAILED_PRECONDITION: u32 = 9;
    pub const UNIMPLEMENTED: u32 = 12;
    pub const INTERNAL: u32 = 13;
    /// Of a server that cannot answer now, and may later.
    pub const UNAVAILABLE: u32 = 14;

    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];

    /// As gRPC's own messages spell it.
    pub fn name(code: u32) -> &'static str {
        usize::try_from(code).ok().and_then(|code| NAMES.get(code)).unwrap_or(&"Unknown")
    }
}

/// The length of the message that begins here, where its head is there and says so.
pub fn message_length(bytes: &[u8], available: usize) -> Option<usize> {
    let (head, _) = bytes.split_first_chunk::<HEAD_BYTES>().filter(|_| available >= HEAD_BYTES)?;
    let [0, length @ ..] = *head else { return None };
    usize::try_from(u32::from_be_bytes(length)).ok()
}

pub fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(HEAD_BYTES + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// What [`unescape`] takes back.
pub fn escape(text: &str) -> String {
    let plain = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'%';
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Messages are sent with `%xx` for what is not plain ASCII.
pub fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| after.get(..2)).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
