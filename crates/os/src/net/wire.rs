//! The netlink wire format: messages made of a fixed header and nested, aligned attributes.
//!
//! One growing buffer holds a whole request, so that a change of many objects costs one allocation and one
//! system call. Source: Linux `include/uapi/linux/netlink.h` and RFC 3549.

use std::net::IpAddr;

const HEADER_BYTES: usize = 16;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Flags of a message header.
pub mod flags {
    pub const REQUEST: u16 = 0x1;
    pub const ACK: u16 = 0x4;
    pub const REPLACE: u16 = 0x100;
    pub const EXCLUSIVE: u16 = 0x200;
    pub const DUMP: u16 = 0x300;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}

/// What a message is about, for the error that names it.
#[derive(Clone, Debug)]
pub struct Label {
    pub action: &'static str,
    pub name: Box<str>,
}

/// A request: one or more messages that are sent by one system call, numbered from 1 in their order.
#[derive(Debug, Default)]
pub struct Request {
    buffer: Vec<u8>,
    labels: Vec<Label>,
}

impl Request {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one message. `body` writes the family's fixed header and the attributes.
    pub fn message(
        &mut self,
        kind: u16,
        message_flags: u16,
        action: &'static str,
        name: &str,
        body: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.buffer.len();
        self.labels.push(Label { action, name: name.into() });
        let sequence = self.labels.len() as u32;
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&(message_flags | flags::REQUEST).to_ne_bytes());
        self.buffer.extend_from_slice(&sequence.to_ne_bytes());
        self.buffer.extend_from_slice(&0u32.to_ne_bytes());
        body(&mut Attributes { buffer: &mut self.buffer });
        let length = (self.buffer.len() - start) as u32;
        self.buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        pad(&mut self.buffer);
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The label of the message with this number.
    pub(super) fn label(&self, sequence: u32) -> Option<&Label> {
        self.labels.get((sequence as usize).checked_sub(1)?)
    }
}

/// Writes the inside of a message.
pub struct Attributes<'a> {
    buffer: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// The fixed header of a family, before the attributes; its length must be a multiple of four.
    pub fn header(&mut self, bytes: &[u8]) {
        debug_assert_eq!(bytes.len() % 4, 0, "netlink headers are aligned");
        self.buffer.extend_from_slice(bytes);
    }

    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = (value.len() + 4) as u16;
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        pad(self.buffer);
    }

    /// A text with the terminating zero that the kernel expects.
    pub fn text(&mut self, kind: u16, value: &str) {
        let length = (value.len() + 5) as u16;
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value.as_bytes());
        self.buffer.push(0);
        pad(self.buffer);
    }

    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// A number in the machine's byte order, as the route family has them.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A number in network byte order, as the netfilter families have them.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub fn address(&mut self, kind: u16, value: IpAddr) {
        match value {
            IpAddr::V4(v4) => self.bytes(kind, &v4.octets()),
            IpAddr::V6(v6) => self.bytes(kind, &v6.octets()),
        }
    }

    pub fn nest(&mut self, kind: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        body(&mut Attributes { buffer: self.buffer });
        // The kernel's own limit: a nested list longer than this must be split over several messages.
        let length = u16::try_from(self.buffer.len() - start).expect("a netlink attribute holds at most 64 KB");
        self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }
}

fn pad(buffer: &mut Vec<u8>) {
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

/// One message as the kernel sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub kind: u16,
    pub sequence: u32,
    /// Everything after the netlink header.
    pub payload: &'a [u8],
}

/// The messages in a datagram; ends at the first that is cut short.
pub fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?) as usize;
        let message = datagram.get(..length).filter(|message| message.len() >= HEADER_BYTES)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Message {
            kind: u16::from_ne_bytes([message[4], message[5]]),
            sequence: u32::from_ne_bytes([message[8], message[9], message[10], message[11]]),
            payload: &message[HEADER_BYTES..],
        })
    })
}

/// The attributes in `bytes` as (type, value) pairs; ends at the first that is cut short.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]) as usize;
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A text attribute without its terminating zero.
pub fn text(value: &[u8]) -> &str {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    std::str::from_utf8(&value[..end]).unwrap_or_default()
}

/// A number in the machine's byte order.
pub fn native_u32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

/// An address of four or sixteen bytes.
pub fn address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}
