//! Elements of sets and maps. A key (or a datum) is a row of 32-bit words, as it lies in the registers of the
//! nftables machine: shorter fields fill the low addresses of a word, the rest is zero.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::super::wire::{Attributes, attribute, attributes, text};

const MAX_BYTES: usize = 32;

mod nfta {
    pub const ELEMENT_KEY: u16 = 1;
    pub const ELEMENT_DATA: u16 = 2;
    pub const DATA_VALUE: u16 = 1;
    pub const DATA_VERDICT: u16 = 2;
    pub const VERDICT_CODE: u16 = 1;
    pub const VERDICT_CHAIN: u16 = 2;
}

/// The types that `nft list` prints fields by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    Ipv4Address,
    InetProtocol,
    InetService,
    /// A 32-bit number in the machine's byte order.
    Mark,
}

impl DataType {
    fn id(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::InetProtocol => 12,
            Self::InetService => 13,
            Self::Mark => 19,
        }
    }

    /// The type of a concatenation: six bits a field.
    pub(super) fn concatenated(fields: &[Self]) -> u32 {
        fields.iter().fold(0, |id, field| id << 6 | field.id())
    }
}

/// A row of words, kept in place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Words {
    length: u8,
    bytes: [u8; MAX_BYTES],
}

impl Words {
    pub const fn new() -> Self {
        Self { length: 0, bytes: [0; MAX_BYTES] }
    }

    /// Appends a field of at most four bytes as one word.
    fn word(mut self, field: &[u8]) -> Self {
        let at = self.length as usize;
        self.bytes[at..at + field.len()].copy_from_slice(field);
        self.length += 4;
        self
    }

    pub fn ip(self, ip: Ipv4Addr) -> Self {
        self.word(&ip.octets())
    }

    pub fn protocol(self, protocol: u8) -> Self {
        self.word(&[protocol])
    }

    pub fn port(self, port: u16) -> Self {
        self.word(&port.to_be_bytes())
    }

    pub fn number(self, number: u32) -> Self {
        self.word(&number.to_ne_bytes())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length as usize]
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut words = Self::new();
        words.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        words.length = bytes.len() as u8;
        Some(words)
    }

    fn at(&self, index: usize) -> [u8; 4] {
        let start = index * 4;
        self.bytes.get(start..start + 4).map_or([0; 4], |word| word.try_into().unwrap_or_default())
    }

    pub fn ip_at(&self, index: usize) -> Ipv4Addr {
        self.at(index).into()
    }

    pub fn number_at(&self, index: usize) -> u32 {
        u32::from_ne_bytes(self.at(index))
    }

    pub fn port_at(&self, index: usize) -> u16 {
        let [high, low, ..] = self.at(index);
        u16::from_be_bytes([high, low])
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words: Vec<_> = (0..self.length as usize / 4).map(|index| IpAddr::from(self.at(index))).collect();
        write!(f, "{words:?}")
    }
}

/// What a map gives for a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The element is one of a set: there is nothing to give.
    None,
    Words(Words),
    Accept,
    Drop,
    Jump(Arc<str>),
    Goto(Arc<str>),
}

/// One element of a set (value `None`) or a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub key: Words,
    pub value: Value,
}

pub(super) fn write_words(w: &mut Attributes<'_>, kind: u16, words: &[u8]) {
    w.nest(kind, |w| w.bytes(nfta::DATA_VALUE, words));
}

pub(super) fn write_verdict(w: &mut Attributes<'_>, kind: u16, code: i32, chain: Option<&str>) {
    w.nest(kind, |w| {
        w.nest(nfta::DATA_VERDICT, |w| {
            w.be32(nfta::VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                w.text(nfta::VERDICT_CHAIN, chain);
            }
        });
    });
}

pub(super) mod code {
    pub const DROP: i32 = 0;
    pub const ACCEPT: i32 = 1;
    pub const JUMP: i32 = -3;
    pub const GOTO: i32 = -4;
    pub const RETURN: i32 = -5;
}

impl Element {
    pub(super) fn write(&self, w: &mut Attributes<'_>) {
        self.write_key(w);
        match &self.value {
            Value::None => {}
            Value::Words(words) => write_words(w, nfta::ELEMENT_DATA, words.as_bytes()),
            Value::Accept => write_verdict(w, nfta::ELEMENT_DATA, code::ACCEPT, None),
            Value::Drop => write_verdict(w, nfta::ELEMENT_DATA, code::DROP, None),
            Value::Jump(chain) => write_verdict(w, nfta::ELEMENT_DATA, code::JUMP, Some(chain)),
            Value::Goto(chain) => write_verdict(w, nfta::ELEMENT_DATA, code::GOTO, Some(chain)),
        }
    }

    pub(super) fn write_key(&self, w: &mut Attributes<'_>) {
        write_words(w, nfta::ELEMENT_KEY, self.key.as_bytes());
    }

    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (mut key, mut value) = (None, Value::None);
        for (kind, content) in attributes(bytes) {
            match kind {
                nfta::ELEMENT_KEY => key = Words::from_bytes(attribute(content, nfta::DATA_VALUE)?),
                nfta::ELEMENT_DATA => value = parse_value(content)?,
                _ => {}
            }
        }
        Some(Self { key: key?, value })
    }
}

fn parse_value(bytes: &[u8]) -> Option<Value> {
    if let Some(words) = attribute(bytes, nfta::DATA_VALUE) {
        return Words::from_bytes(words).map(Value::Words);
    }
    let verdict = attribute(bytes, nfta::DATA_VERDICT)?;
    let chain = || attribute(verdict, nfta::VERDICT_CHAIN).map(|name| Arc::from(text(name)));
    match i32::from_be_bytes(attribute(verdict, nfta::VERDICT_CODE)?.try_into().ok()?) {
        code::ACCEPT => Some(Value::Accept),
        code::DROP => Some(Value::Drop),
        code::JUMP => chain().map(Value::Jump),
        code::GOTO => chain().map(Value::Goto),
        _ => None,
    }
}
