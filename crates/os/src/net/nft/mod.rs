//! nftables by netlink: tables, chains, rules, sets and maps, changed in batches that the kernel applies as one
//! or not at all. Source: `include/uapi/linux/netfilter/nf_tables.h`.

mod batch;
mod element;
mod expr;
mod read;

pub use batch::{Batch, ChainHook, ChainKind, Family, Hook, Set, SetKind};
pub use element::{DataType, Element, Value, Words};
pub use expr::{CtKey, DynamicOp, Expr, MetaKey, Op, Reg, RejectWith, Verdict, ipv4};
pub use read::{BaseChain, Nftables};

/// `NFNL_SUBSYS_NFTABLES`, the high byte of each message type.
const SUBSYSTEM: u16 = 10 << 8;

mod msg {
    use super::SUBSYSTEM;

    pub const BATCH_BEGIN: u16 = 0x10;
    pub const BATCH_END: u16 = 0x11;
    pub const NEW_TABLE: u16 = SUBSYSTEM;
    pub const GET_TABLE: u16 = SUBSYSTEM | 1;
    pub const DELETE_TABLE: u16 = SUBSYSTEM | 2;
    pub const NEW_CHAIN: u16 = SUBSYSTEM | 3;
    pub const GET_CHAIN: u16 = SUBSYSTEM | 4;
    pub const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
    pub const NEW_RULE: u16 = SUBSYSTEM | 6;
    pub const DELETE_RULE: u16 = SUBSYSTEM | 8;
    pub const NEW_SET: u16 = SUBSYSTEM | 9;
    pub const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
    pub const GET_ELEMENT: u16 = SUBSYSTEM | 13;
    pub const DELETE_ELEMENT: u16 = SUBSYSTEM | 14;
    pub const NEW_GENERATION: u16 = SUBSYSTEM | 15;
    pub const GET_GENERATION: u16 = SUBSYSTEM | 16;
}
