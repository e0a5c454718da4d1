//! The nftables table `knarr`: how packets to Services find an endpoint.
//!
//! ```text
//! prerouting, output --> outside / inside --(frontends)--> pick-… --(groups, backends)--> dnat
//! ```
//!
//! A *frontend* is what clients connect to: an address, protocol and port, or a port on every address of the
//! node. A *group* is a numbered list of endpoints behind it. Three maps hold all of the cluster's Services, and
//! a change of one endpoint changes two or three elements of them; rules exist only per list *length*, because
//! a random choice needs its modulus in the rule. Nothing is ever rebuilt for the size of the cluster.

mod allow;
mod base;
mod pick;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use knarr_os::net::nft::{Batch, DataType, Expr, Family, Reg, Set, SetKind, Words, ipv4};

pub use allow::Allow;
pub use base::{ensure, remove};
pub use pick::Pick;

pub const FAMILY: Family = Family::Ipv4;

/// The bit of the packet mark that says "masquerade when leaving"; the one Kubernetes has always used.
pub const MASQUERADE_MARK: u32 = 0x4000;

/// Endpoint choices of `sessionAffinity: ClientIP` that are remembered at most.
const AFFINITY_SIZE: u32 = 1 << 17;

const FRONTEND: &[DataType] = &[DataType::Mark, DataType::Ipv4Address, DataType::InetProtocol, DataType::InetService];

/// Frontend to the chain that picks an endpoint.
pub const FRONTENDS: Set = Set { name: "frontends", key: FRONTEND, kind: SetKind::VerdictMap };
/// Frontend to the number of its group.
pub const GROUPS: Set = Set { name: "groups", key: FRONTEND, kind: SetKind::Map(&[DataType::Mark]) };
/// Frontends without endpoints, and how they refuse.
pub const REFUSALS: Set = Set { name: "refusals", key: FRONTEND, kind: SetKind::VerdictMap };
/// Frontends that not everyone may connect to, and the chain that says who may.
pub const FIREWALL: Set = Set { name: "firewall", key: FRONTEND, kind: SetKind::VerdictMap };
/// Group and position to endpoint.
pub const BACKENDS: Set = Set {
    name: "backends",
    key: &[DataType::Mark, DataType::Mark],
    kind: SetKind::Map(&[DataType::Ipv4Address, DataType::InetService]),
};
/// Group and endpoint's address to its port, for groups with session affinity: a remembered choice counts while it
/// is in here.
pub const MEMBERS: Set = Set {
    name: "members",
    key: &[DataType::Mark, DataType::Ipv4Address],
    kind: SetKind::Map(&[DataType::InetService]),
};
/// Group and client to the address of the endpoint chosen before.
pub const AFFINITY: Set = Set {
    name: "affinity",
    key: &[DataType::Mark, DataType::Ipv4Address],
    kind: SetKind::DynamicMap { value: &[DataType::Ipv4Address], size: AFFINITY_SIZE },
};
/// Host address (or 0.0.0.0 for all), protocol and port to a pod's port.
pub const HOST_PORTS: Set = Set {
    name: "host-ports",
    key: &[DataType::Ipv4Address, DataType::InetProtocol, DataType::InetService],
    kind: SetKind::Map(&[DataType::Ipv4Address, DataType::InetService]),
};
/// Pairs of a pod's address with itself: a pod that reached itself through a Service must see another source.
pub const HAIRPINS: Set =
    Set { name: "hairpins", key: &[DataType::Ipv4Address, DataType::Ipv4Address], kind: SetKind::Set };

pub const ALL_SETS: [Set; 9] =
    [FRONTENDS, GROUPS, REFUSALS, FIREWALL, BACKENDS, MEMBERS, AFFINITY, HOST_PORTS, HAIRPINS];

/// The chain that answers "port unreachable".
pub const REJECT_CHAIN: &str = "reject";

/// Whom a frontend serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everyone; what comes from outside the cluster is masqueraded on its way.
    All,
    /// Only what comes from outside, unmasqueraded: `externalTrafficPolicy: Local`. Looked up first there.
    Outside,
}

impl Scope {
    fn number(self) -> u32 {
        match self {
            Self::All => 0,
            Self::Outside => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Outside => "outside",
        }
    }
}

/// A chain that elements of the maps refer to. Its name says what it does, so one that is there can stay.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Chain {
    Pick(Pick),
    Allow(Allow),
}

impl Chain {
    pub fn add(&self, batch: &mut Batch) {
        match self {
            Self::Pick(pick) => pick.add(batch),
            Self::Allow(allow) => allow.add(batch),
        }
    }
}

/// What clients connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub scope: Scope,
    /// `None`: each address of the node.
    pub ip: Option<Ipv4Addr>,
    /// The IP protocol's number: 6, 17 or 132.
    pub protocol: u8,
    pub port: u16,
}

impl Frontend {
    pub fn key(&self) -> Words {
        let ip = self.ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
        Words::new().number(self.scope.number()).ip(ip).protocol(self.protocol).port(self.port)
    }
}

/// How a rule finds the frontend of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Match {
    pub scope: Scope,
    /// By destination address and port, or by the port alone.
    pub by_address: bool,
}

impl Match {
    /// Puts the key of [`FRONTENDS`] into four registers from `to` on.
    fn load(self, to: Reg) -> [Expr<'static>; 4] {
        let at = |offset| Reg(to.0 + offset);
        let any = Expr::Load { to: at(1), word: [0; 4] };
        [
            Expr::Load { to, word: self.scope.number().to_ne_bytes() },
            if self.by_address { ipv4::destination(at(1)) } else { any },
            ipv4::protocol(at(2)),
            ipv4::destination_port(at(3)),
        ]
    }
}
