//! A batch of changes to one table: the kernel applies all of it or nothing, and a packet sees the table either
//! before or after.

use super::{
    super::wire::{Request, flags},
    element::{DataType, Element},
    expr::{Expr, write_rule},
    msg,
};

/// Elements in one message: a nested attribute ends at 64 KB, and an element takes about 60 bytes.
const ELEMENTS_PER_MESSAGE: usize = 400;

mod nfta {
    pub const TABLE_NAME: u16 = 1;
    pub const CHAIN_TABLE: u16 = 1;
    pub const CHAIN_NAME: u16 = 3;
    pub const CHAIN_HOOK: u16 = 4;
    pub const CHAIN_POLICY: u16 = 5;
    pub const CHAIN_TYPE: u16 = 7;
    pub const HOOK_NUMBER: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
    pub const RULE_TABLE: u16 = 1;
    pub const RULE_CHAIN: u16 = 2;
    pub const RULE_EXPRESSIONS: u16 = 4;
    pub const SET_TABLE: u16 = 1;
    pub const SET_NAME: u16 = 2;
    pub const SET_FLAGS: u16 = 3;
    pub const SET_KEY_TYPE: u16 = 4;
    pub const SET_KEY_LENGTH: u16 = 5;
    pub const SET_DATA_TYPE: u16 = 6;
    pub const SET_DATA_LENGTH: u16 = 7;
    pub const SET_DESCRIPTION: u16 = 9;
    pub const SET_DESCRIPTION_SIZE: u16 = 1;
    pub const SET_ID: u16 = 10;
    pub const LIST_TABLE: u16 = 1;
    pub const LIST_SET: u16 = 2;
    pub const LIST_ELEMENTS: u16 = 3;
    pub const LIST_ELEMENT: u16 = 1;
}

const SET_IS_MAP: u32 = 8;
const SET_HAS_TIMEOUT: u32 = 0x10;
const SET_IS_DYNAMIC: u32 = 0x20;
const DATA_TYPE_VERDICT: u32 = 0xffff_ff00;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Ipv4,
}

impl Family {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Ipv4 => nix::libc::AF_INET as u8,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    Nat,
    Filter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

/// Where packets enter a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHook {
    pub kind: ChainKind,
    pub hook: Hook,
    pub priority: i32,
}

/// What the elements of a set or map are made of.
#[derive(Clone, Copy, Debug)]
pub enum SetKind {
    Set,
    Map(&'static [DataType]),
    VerdictMap,
    /// A map that rules fill: bounded, and each element ends by itself.
    DynamicMap {
        value: &'static [DataType],
        size: u32,
    },
}

#[derive(Clone, Copy, Debug)]
pub struct Set {
    pub name: &'static str,
    pub key: &'static [DataType],
    pub kind: SetKind,
}

/// Changes to one table, in their order.
#[derive(Debug)]
pub struct Batch {
    family: Family,
    table: Box<str>,
    request: Request,
    changes: usize,
}

impl Batch {
    pub fn new(family: Family, table: &str) -> Self {
        let mut request = Request::new();
        request.message(msg::BATCH_BEGIN, 0, "commit changes of nftables table", table, |w| w.header(&batch_header()));
        Self { family, table: table.into(), request, changes: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.changes == 0
    }

    pub(super) fn finish(mut self) -> Request {
        self.request.message(msg::BATCH_END, 0, "commit changes of nftables table", &self.table, |w| {
            w.header(&batch_header());
        });
        self.request
    }

    fn push(
        &mut self,
        kind: u16,
        message_flags: u16,
        action: &'static str,
        name: &str,
        body: impl FnOnce(&str, &mut super::super::wire::Attributes<'_>),
    ) {
        self.changes += 1;
        let (family, table) = (self.family.number(), &*self.table);
        self.request.message(kind, message_flags, action, name, |w| {
            w.header(&[family, 0, 0, 0]);
            body(table, w);
        });
    }

    /// Makes the table, or leaves the one that is there.
    pub fn add_table(&mut self) {
        let name = self.table.clone();
        self.push(msg::NEW_TABLE, flags::CREATE, "add nftables table", &name, |table, w| {
            w.text(nfta::TABLE_NAME, table);
        });
    }

    /// Removes the table with everything in it.
    pub fn delete_table(&mut self) {
        let name = self.table.clone();
        self.push(msg::DELETE_TABLE, 0, "delete nftables table", &name, |table, w| w.text(nfta::TABLE_NAME, table));
    }

    /// Makes a chain, or leaves the one that is there. Base chains accept what no rule decides.
    pub fn add_chain(&mut self, chain: &str, hook: Option<ChainHook>) {
        self.add_chain_with(chain, hook, NF_ACCEPT);
    }

    /// Makes a base chain that drops what no rule decides.
    pub fn add_dropping_chain(&mut self, chain: &str, hook: ChainHook) {
        self.add_chain_with(chain, Some(hook), NF_DROP);
    }

    fn add_chain_with(&mut self, chain: &str, hook: Option<ChainHook>, policy: u32) {
        self.push(msg::NEW_CHAIN, flags::CREATE, "add nftables chain", chain, |table, w| {
            w.text(nfta::CHAIN_TABLE, table);
            w.text(nfta::CHAIN_NAME, chain);
            let Some(hook) = hook else { return };
            w.nest(nfta::CHAIN_HOOK, |w| {
                w.be32(nfta::HOOK_NUMBER, hook.hook as u32);
                w.be32(nfta::HOOK_PRIORITY, hook.priority as u32);
            });
            w.be32(nfta::CHAIN_POLICY, policy);
            let kind = match hook.kind {
                ChainKind::Nat => "nat",
                ChainKind::Filter => "filter",
            };
            w.text(nfta::CHAIN_TYPE, kind);
        });
    }

    /// Removes a chain that nothing refers to.
    pub fn delete_chain(&mut self, chain: &str) {
        self.push(msg::DELETE_CHAIN, 0, "delete nftables chain", chain, |table, w| {
            w.text(nfta::CHAIN_TABLE, table);
            w.text(nfta::CHAIN_NAME, chain);
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, chain: &str) {
        self.push(msg::DELETE_RULE, 0, "empty nftables chain", chain, |table, w| {
            w.text(nfta::RULE_TABLE, table);
            w.text(nfta::RULE_CHAIN, chain);
        });
    }

    /// Appends a rule.
    pub fn add_rule(&mut self, chain: &str, rule: &[Expr<'_>]) {
        let append = flags::CREATE | flags::APPEND;
        self.push(msg::NEW_RULE, append, "add a rule to nftables chain", chain, |table, w| {
            w.text(nfta::RULE_TABLE, table);
            w.text(nfta::RULE_CHAIN, chain);
            write_rule(w, nfta::RULE_EXPRESSIONS, rule);
        });
    }

    /// Makes a set or map, or leaves the one that is there.
    pub fn add_set(&mut self, set: &Set) {
        let id = self.changes as u32 + 1;
        self.push(msg::NEW_SET, flags::CREATE, "add nftables set", set.name, |table, w| {
            w.text(nfta::SET_TABLE, table);
            w.text(nfta::SET_NAME, set.name);
            let (set_flags, data, size) = match set.kind {
                SetKind::Set => (0, None, None),
                SetKind::Map(value) => (SET_IS_MAP, Some(typed(value)), None),
                SetKind::VerdictMap => (SET_IS_MAP, Some((DATA_TYPE_VERDICT, 0)), None),
                SetKind::DynamicMap { value, size } => {
                    (SET_IS_MAP | SET_HAS_TIMEOUT | SET_IS_DYNAMIC, Some(typed(value)), Some(size))
                }
            };
            let (key_type, key_length) = typed(set.key);
            w.be32(nfta::SET_FLAGS, set_flags);
            w.be32(nfta::SET_KEY_TYPE, key_type);
            w.be32(nfta::SET_KEY_LENGTH, key_length);
            if let Some((data_type, data_length)) = data {
                w.be32(nfta::SET_DATA_TYPE, data_type);
                w.be32(nfta::SET_DATA_LENGTH, data_length);
            }
            if let Some(size) = size {
                w.nest(nfta::SET_DESCRIPTION, |w| w.be32(nfta::SET_DESCRIPTION_SIZE, size));
            }
            w.be32(nfta::SET_ID, id);
        });
    }

    /// Adds elements that must not be there yet (or be there just so).
    pub fn add_elements(&mut self, set: &str, elements: &[Element]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.push(msg::NEW_ELEMENT, flags::CREATE, "add elements to nftables set", set, |table, w| {
                write_list(w, table, set, chunk, Element::write);
            });
        }
    }

    /// Removes elements that must be there, by their keys.
    pub fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.push(msg::DELETE_ELEMENT, 0, "delete elements of nftables set", set, |table, w| {
                write_list(w, table, set, chunk, Element::write_key);
            });
        }
    }

    /// Removes all elements.
    pub fn flush_set(&mut self, set: &str) {
        self.push(msg::DELETE_ELEMENT, 0, "empty nftables set", set, |table, w| {
            w.text(nfta::LIST_TABLE, table);
            w.text(nfta::LIST_SET, set);
        });
    }
}

fn write_list(
    w: &mut super::super::wire::Attributes<'_>,
    table: &str,
    set: &str,
    elements: &[Element],
    write: impl Fn(&Element, &mut super::super::wire::Attributes<'_>),
) {
    w.text(nfta::LIST_TABLE, table);
    w.text(nfta::LIST_SET, set);
    w.nest(nfta::LIST_ELEMENTS, |w| {
        for element in elements {
            w.nest(nfta::LIST_ELEMENT, |w| write(element, w));
        }
    });
}

/// The type and the length in bytes of a row of fields.
fn typed(fields: &[DataType]) -> (u32, u32) {
    (DataType::concatenated(fields), 4 * fields.len() as u32)
}

/// `struct nfgenmsg` of a batch's ends: the subsystem in network byte order.
fn batch_header() -> [u8; 4] {
    [0, 0, 0, 10]
}
