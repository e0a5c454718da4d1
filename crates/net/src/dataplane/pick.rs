//! The chains that pick one of a group's endpoints: one for each length of list that occurs, and each way of
//! finding the frontend. They find the group again by the frontend, since no register outlives a rule.

use std::sync::Arc;

use knarr_os::net::nft::{Batch, DynamicOp, Expr, Reg, ipv4};

use super::{AFFINITY, BACKENDS, GROUPS, MEMBERS, Match};

/// Which picking chain a frontend goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pick {
    pub by: Match,
    /// The number of endpoints, at least one.
    pub length: u32,
    /// Seconds for which a client keeps its endpoint.
    pub affinity_s: Option<u32>,
}

impl Pick {
    /// Such as `pick-all-address-3` or `pick-outside-port-2-sticky-10800`.
    pub fn chain(&self) -> Arc<str> {
        let kind = if self.by.by_address { "address" } else { "port" };
        let sticky = self.affinity_s.map(|seconds| format!("-sticky-{seconds}")).unwrap_or_default();
        format!("pick-{}-{kind}-{}{sticky}", self.by.scope.name(), self.length).into()
    }

    /// Makes the chain, or makes it anew.
    pub fn add(&self, batch: &mut Batch) {
        let chain = self.chain();
        batch.add_chain(&chain, None);
        batch.flush_chain(&chain);
        if let Some(seconds) = self.affinity_s {
            add_sticky_rules(batch, &chain, self, seconds);
        }
        batch.add_rule(&chain, &with(self.by, &[random(self.length), backend(), dnat(Reg(10))]));
        // While a batch that shortens the list is being applied, a packet may have come here by the old length and
        // draw a position that is no more. The first one is there as long as the group is.
        let first = Expr::Load { to: INDEX, word: [0; 4] };
        batch.add_rule(&chain, &with(self.by, &[first, backend(), dnat(Reg(10))]));
    }
}

const KEY: Reg = Reg(0);
const GROUP: Reg = Reg(8);
const INDEX: Reg = Reg(9);

fn add_sticky_rules(batch: &mut Batch, chain: &str, pick: &Pick, seconds: u32) {
    let timeout_ms = Some(u64::from(seconds) * 1000);
    let dynamic = |op, key, value| Expr::Dynamic { op, set: AFFINITY.name, key, value: Some(value), timeout_ms };
    // The remembered endpoint, if it still is one. Registers: client's key in 8-9, member's key in 12-14.
    let remembered = [
        ipv4::source(Reg(9)),
        Expr::Map { map: AFFINITY.name, key: GROUP, to: Reg(13) },
        Expr::Map { map: GROUPS.name, key: KEY, to: Reg(12) },
        Expr::In { set: MEMBERS.name, key: Reg(12) },
        dynamic(DynamicOp::Update, GROUP, Reg(13)),
        dnat(Reg(13)),
    ];
    batch.add_rule(chain, &with(pick.by, &remembered));
    // A remembered endpoint that is gone must be forgotten first: an element that is there keeps its value.
    let forget = [
        ipv4::source(Reg(9)),
        Expr::Map { map: AFFINITY.name, key: GROUP, to: Reg(13) },
        Expr::Dynamic { op: DynamicOp::Delete, set: AFFINITY.name, key: GROUP, value: Some(Reg(13)), timeout_ms: None },
    ];
    batch.add_rule(chain, &with(pick.by, &forget));
    // A fresh choice, remembered. Where the memory is full this rule ends, and the plain ones below serve.
    let fresh = [
        random(pick.length),
        backend(),
        Expr::Map { map: GROUPS.name, key: KEY, to: Reg(12) },
        ipv4::source(Reg(13)),
        dynamic(DynamicOp::Add, Reg(12), Reg(10)),
        dnat(Reg(10)),
    ];
    batch.add_rule(chain, &with(pick.by, &fresh));
}

/// A rule that has the group's number in [`GROUP`].
fn with(by: Match, rest: &[Expr<'static>]) -> Vec<Expr<'static>> {
    let mut rule = by.load(KEY).to_vec();
    rule.push(Expr::Map { map: GROUPS.name, key: KEY, to: GROUP });
    rule.extend_from_slice(rest);
    rule
}

fn random(modulus: u32) -> Expr<'static> {
    Expr::Random { modulus, to: INDEX }
}

fn backend() -> Expr<'static> {
    Expr::Map { map: BACKENDS.name, key: GROUP, to: Reg(10) }
}

fn dnat(endpoint: Reg) -> Expr<'static> {
    Expr::Dnat { ip: endpoint, port: Reg(endpoint.0 + 1) }
}
