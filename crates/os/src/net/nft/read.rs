//! What is in the kernel now.

use super::{
    super::{
        NetError, Netlink, Protocol, Result,
        wire::{Request, attribute, attributes, flags, text},
    },
    Batch, Element, Family, msg,
};

/// The nftables of one network namespace.
#[derive(Debug)]
pub struct Nftables {
    netlink: Netlink,
}

/// A chain of anyone's that packets enter by a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// The kernel's number of the protocol family: 2 for IPv4, 1 for IPv4 and IPv6.
    pub family: u8,
    pub table: String,
    pub name: String,
    /// The kernel's number, as in [`super::Hook`].
    pub hook: u32,
    /// Whether packets that no rule decides are dropped.
    pub drops: bool,
}

impl Nftables {
    /// Those of the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { netlink: Netlink::open(Protocol::Netfilter)? })
    }

    /// The socket itself, for the neighbouring subsystems (connection tracking).
    pub fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// Applies a batch: all of it, or nothing and an error that names the first change refused.
    pub fn commit(&self, batch: Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        self.netlink.execute(&batch.finish())
    }

    pub fn has_table(&self, family: Family, table: &str) -> Result<bool> {
        let mut request = Request::new();
        request.message(msg::GET_TABLE, 0, "look up nftables table", table, |w| {
            w.header(&[family.number(), 0, 0, 0]);
            w.text(1, table);
        });
        match self.netlink.query(&request, |_| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All base chains of the host, whoever made them.
    pub fn base_chains(&self) -> Result<Vec<BaseChain>> {
        let mut request = Request::new();
        request.message(msg::GET_CHAIN, flags::DUMP, "list", "nftables chains", |w| w.header(&[0; 4]));
        let mut found = Vec::new();
        self.netlink.query(&request, |message| {
            if message.kind == msg::NEW_CHAIN {
                found.extend(parse_base_chain(message.payload));
            }
        })?;
        Ok(found)
    }

    /// The elements of a set; none where the set or its table is not there.
    pub fn elements(&self, family: Family, table: &str, set: &str) -> Result<Vec<Element>> {
        let mut request = Request::new();
        request.message(msg::GET_ELEMENT, flags::DUMP, "list elements of nftables set", set, |w| {
            w.header(&[family.number(), 0, 0, 0]);
            w.text(1, table);
            w.text(2, set);
        });
        let mut found = Vec::new();
        let answer = self.netlink.query(&request, |message| {
            let rest = message.payload.get(4..).unwrap_or_default();
            if message.kind == msg::NEW_ELEMENT
                && let Some(list) = attribute(rest, 3)
            {
                found.extend(attributes(list).filter_map(|(_, element)| Element::parse(element)));
            }
        });
        match answer {
            Ok(()) => Ok(found),
            Err(error) if error.is_missing() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The number of the ruleset's state, which grows with each change by anyone.
    pub fn generation(&self) -> Result<u32> {
        let mut request = Request::new();
        request.message(msg::GET_GENERATION, 0, "read", "nftables generation", |w| w.header(&[0; 4]));
        let mut generation = None;
        self.netlink.query(&request, |message| {
            if message.kind == msg::NEW_GENERATION {
                let rest = message.payload.get(4..).unwrap_or_default();
                generation = attribute(rest, 1).and_then(|value| value.try_into().ok()).map(u32::from_be_bytes);
            }
        })?;
        generation.ok_or_else(|| NetError::Socket { source: std::io::ErrorKind::InvalidData.into() })
    }
}

fn parse_base_chain(payload: &[u8]) -> Option<BaseChain> {
    let rest = payload.get(4..)?;
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes);
    Some(BaseChain {
        family: payload[0],
        table: text(attribute(rest, 1)?).to_owned(),
        name: text(attribute(rest, 3)?).to_owned(),
        hook: attribute(attribute(rest, 4)?, 1).and_then(number)?,
        drops: attribute(rest, 5).and_then(number) == Some(0),
    })
}
