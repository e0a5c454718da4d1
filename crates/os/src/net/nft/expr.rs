//! Expressions, the instructions of the nftables machine: each loads, compares or looks up registers, or acts on
//! the packet. A rule is a row of them; it ends at the first that does not match.

use super::{
    super::wire::Attributes,
    element::{code, write_verdict, write_words},
};

/// One of sixteen 32-bit registers. Values longer than a word lie in the registers that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u8);

impl Reg {
    /// Where a verdict map puts its verdict.
    const VERDICT: u32 = 0;

    fn id(self) -> u32 {
        debug_assert!(self.0 < 16, "there are sixteen registers");
        8 + u32::from(self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    Mark = 3,
    InName = 6,
    OutName = 7,
    L4Protocol = 16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    /// Bits as in [`CtKey::NEW`] and its like.
    State = 0,
    /// Bits as in [`CtKey::DESTINATION_TRANSLATED`].
    Status = 2,
}

impl CtKey {
    pub const INVALID: u32 = 1;
    pub const ESTABLISHED: u32 = 2;
    pub const RELATED: u32 = 4;
    pub const NEW: u32 = 8;
    pub const DESTINATION_TRANSLATED: u32 = 1 << 5;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Equal = 0,
    NotEqual = 1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynamicOp {
    Add = 0,
    /// Adds, or renews the timeout of what is there.
    Update = 1,
    Delete = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectWith {
    /// ICMP port unreachable: the client sees "connection refused", unless the kernel has sent it too many.
    PortUnreachable,
    /// A TCP reset, which is never held back.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    Accept,
    Drop,
    Return,
    Jump(&'a str),
    Goto(&'a str),
}

#[derive(Clone, Debug)]
pub enum Expr<'a> {
    /// Bytes of the network header.
    Network {
        offset: u32,
        length: u32,
        to: Reg,
    },
    /// Bytes of the transport header.
    Transport {
        offset: u32,
        length: u32,
        to: Reg,
    },
    Meta {
        key: MetaKey,
        to: Reg,
    },
    SetMark {
        from: Reg,
    },
    Ct {
        key: CtKey,
        to: Reg,
    },
    /// The type of the route to the destination address, such as [`Expr::LOCAL`].
    DestinationType {
        to: Reg,
    },
    Compare {
        reg: Reg,
        op: Op,
        with: &'a [u8],
    },
    /// `to = (from & mask) ^ xor`, in the machine's byte order where both are loaded so.
    Bitwise {
        from: Reg,
        to: Reg,
        mask: [u8; 4],
        xor: [u8; 4],
    },
    Load {
        to: Reg,
        word: [u8; 4],
    },
    /// Ends the rule unless `set` has the key.
    In {
        set: &'a str,
        key: Reg,
    },
    NotIn {
        set: &'a str,
        key: Reg,
    },
    /// Ends the rule unless `map` has the key; else puts its value into `to`.
    Map {
        map: &'a str,
        key: Reg,
        to: Reg,
    },
    /// Ends the rule unless the verdict map has the key; else does what it says.
    VerdictMap {
        map: &'a str,
        key: Reg,
    },
    /// A random number below `modulus`.
    Random {
        modulus: u32,
        to: Reg,
    },
    /// Changes a set or a map as packets pass; `value` only for maps.
    Dynamic {
        op: DynamicOp,
        set: &'a str,
        key: Reg,
        value: Option<Reg>,
        timeout_ms: Option<u64>,
    },
    Dnat {
        ip: Reg,
        port: Reg,
    },
    Masquerade,
    Reject(RejectWith),
    Verdict(Verdict<'a>),
}

impl Expr<'_> {
    /// `RTN_LOCAL`: the destination is an address of this host.
    pub const LOCAL: [u8; 4] = 2u32.to_ne_bytes();
}

/// Loads from the IPv4 header and what follows it.
pub mod ipv4 {
    use super::{Expr, MetaKey, Reg};

    pub const fn source(to: Reg) -> Expr<'static> {
        Expr::Network { offset: 12, length: 4, to }
    }

    pub const fn destination(to: Reg) -> Expr<'static> {
        Expr::Network { offset: 16, length: 4, to }
    }

    /// The destination port of TCP, UDP and SCTP.
    pub const fn destination_port(to: Reg) -> Expr<'static> {
        Expr::Transport { offset: 2, length: 2, to }
    }

    pub const fn protocol(to: Reg) -> Expr<'static> {
        Expr::Meta { key: MetaKey::L4Protocol, to }
    }
}

const FIB_RESULT_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const ICMP_PORT_UNREACHABLE: u8 = 3;
const NAT_DESTINATION: u32 = 1;
const RANDOM: u32 = 1;
const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;
const INVERTED: u32 = 1;

pub(super) fn write_rule(w: &mut Attributes<'_>, list: u16, rule: &[Expr<'_>]) {
    w.nest(list, |w| {
        for expr in rule {
            w.nest(1, |w| {
                w.text(1, name(expr));
                w.nest(2, |w| write(w, expr));
            });
        }
    });
}

fn name(expr: &Expr<'_>) -> &'static str {
    match expr {
        Expr::Network { .. } | Expr::Transport { .. } => "payload",
        Expr::Meta { .. } | Expr::SetMark { .. } => "meta",
        Expr::Ct { .. } => "ct",
        Expr::DestinationType { .. } => "fib",
        Expr::Compare { .. } => "cmp",
        Expr::Bitwise { .. } => "bitwise",
        Expr::In { .. } | Expr::NotIn { .. } | Expr::Map { .. } | Expr::VerdictMap { .. } => "lookup",
        Expr::Random { .. } => "numgen",
        Expr::Dynamic { .. } => "dynset",
        Expr::Dnat { .. } => "nat",
        Expr::Masquerade => "masq",
        Expr::Reject(_) => "reject",
        Expr::Load { .. } | Expr::Verdict(_) => "immediate",
    }
}

/// The attributes of an expression; the numbers are those of its own enumeration in the kernel's header.
fn write(w: &mut Attributes<'_>, expr: &Expr<'_>) {
    match *expr {
        Expr::Network { offset, length, to } => write_payload(w, BASE_NETWORK, offset, length, to),
        Expr::Transport { offset, length, to } => write_payload(w, BASE_TRANSPORT, offset, length, to),
        Expr::Meta { key, to } => {
            w.be32(1, to.id());
            w.be32(2, key as u32);
        }
        Expr::SetMark { from } => {
            w.be32(2, MetaKey::Mark as u32);
            w.be32(3, from.id());
        }
        Expr::Ct { key, to } => {
            w.be32(1, to.id());
            w.be32(2, key as u32);
        }
        Expr::DestinationType { to } => {
            w.be32(1, to.id());
            w.be32(2, FIB_RESULT_ADDRESS_TYPE);
            w.be32(3, FIB_DESTINATION);
        }
        Expr::Compare { reg, op, with } => {
            w.be32(1, reg.id());
            w.be32(2, op as u32);
            write_words(w, 3, with);
        }
        Expr::Bitwise { from, to, mask, xor } => {
            w.be32(1, from.id());
            w.be32(2, to.id());
            w.be32(3, 4);
            write_words(w, 4, &mask);
            write_words(w, 5, &xor);
        }
        Expr::Load { to, word } => {
            w.be32(1, to.id());
            write_words(w, 2, &word);
        }
        Expr::In { set, key } => write_lookup(w, set, key, None, 0),
        Expr::NotIn { set, key } => write_lookup(w, set, key, None, INVERTED),
        Expr::Map { map, key, to } => write_lookup(w, map, key, Some(to.id()), 0),
        Expr::VerdictMap { map, key } => write_lookup(w, map, key, Some(Reg::VERDICT), 0),
        Expr::Random { modulus, to } => {
            w.be32(1, to.id());
            w.be32(2, modulus);
            w.be32(3, RANDOM);
        }
        Expr::Dynamic { op, set, key, value, timeout_ms } => {
            w.text(1, set);
            w.be32(3, op as u32);
            w.be32(4, key.id());
            if let Some(value) = value {
                w.be32(5, value.id());
            }
            if let Some(timeout_ms) = timeout_ms {
                w.be64(6, timeout_ms);
            }
        }
        Expr::Dnat { ip, port } => {
            w.be32(1, NAT_DESTINATION);
            w.be32(2, nix::libc::AF_INET as u32);
            w.be32(3, ip.id());
            w.be32(5, port.id());
        }
        Expr::Masquerade => {}
        Expr::Reject(RejectWith::PortUnreachable) => {
            w.be32(1, 0);
            w.u8(2, ICMP_PORT_UNREACHABLE);
        }
        Expr::Reject(RejectWith::Reset) => w.be32(1, 1),
        Expr::Verdict(verdict) => {
            w.be32(1, Reg::VERDICT);
            let (code, chain) = match verdict {
                Verdict::Accept => (code::ACCEPT, None),
                Verdict::Drop => (code::DROP, None),
                Verdict::Return => (code::RETURN, None),
                Verdict::Jump(chain) => (code::JUMP, Some(chain)),
                Verdict::Goto(chain) => (code::GOTO, Some(chain)),
            };
            write_verdict(w, 2, code, chain);
        }
    }
}

fn write_payload(w: &mut Attributes<'_>, base: u32, offset: u32, length: u32, to: Reg) {
    w.be32(1, to.id());
    w.be32(2, base);
    w.be32(3, offset);
    w.be32(4, length);
}

fn write_lookup(w: &mut Attributes<'_>, set: &str, key: Reg, to: Option<u32>, lookup_flags: u32) {
    w.text(1, set);
    w.be32(2, key.id());
    if let Some(to) = to {
        w.be32(3, to);
    }
    if lookup_flags != 0 {
        w.be32(5, lookup_flags);
    }
}
