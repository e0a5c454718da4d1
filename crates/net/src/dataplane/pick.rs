//! The chains that pick one of a group's endpoints: one for each length of list that occurs, and each way of
//! finding the frontend. They find the group again by the frontend, since no register outlives a rule.

use std::sync::Arc;

use knarr_os::net::nft::{Batch, DynamicOp, Expr, MetaKey, Reg, ipv4};

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
        batch.add_rule(&chain, &with(self.by, &[&[random(self.length), backend(), dnat(ENDPOINT)]]));
        // While a batch that shortens the list is being applied, a packet may have come here by the old length and
        // draw a position that is no more. The first one is there as long as the group is.
        let first = Expr::Load { to: INDEX, word: [0; 4] };
        batch.add_rule(&chain, &with(self.by, &[&[first, backend(), dnat(ENDPOINT)]]));
    }
}

const KEY: Reg = Reg(0);
const GROUP: Reg = Reg(8);
const INDEX: Reg = Reg(9);
const CLIENT: Reg = Reg(9);
/// Address and port.
const ENDPOINT: Reg = Reg(10);
/// Group and address, the key of [`MEMBERS`], with room for the port behind it.
const MEMBER: Reg = Reg(12);
const MEMBER_IP: Reg = Reg(13);
const MEMBER_PORT: Reg = Reg(14);
const SPARE: Reg = Reg(15);

fn add_sticky_rules(batch: &mut Batch, chain: &str, pick: &Pick, seconds: u32) {
    let timeout_ms = Some(u64::from(seconds) * 1000);
    let change =
        |op, timeout_ms| Expr::Dynamic { op, set: AFFINITY.name, key: GROUP, value: Some(MEMBER_IP), timeout_ms };
    let client = ipv4::source(CLIENT);
    let recall = Expr::Map { map: AFFINITY.name, key: GROUP, to: MEMBER_IP };
    // The remembered endpoint, if it still is one.
    let known = [
        Expr::Map { map: MEMBERS.name, key: MEMBER, to: MEMBER_PORT },
        change(DynamicOp::Update, timeout_ms),
        dnat(MEMBER_IP),
    ];
    let remembered = [&copy(GROUP, MEMBER)[..], &[client.clone(), recall.clone()], &copy(MEMBER_IP, MEMBER_IP), &known];
    batch.add_rule(chain, &with(pick.by, &remembered));
    // A remembered endpoint that is gone must be forgotten first: an element that is there keeps its value.
    let forget = [&[client.clone(), recall][..], &copy(MEMBER_IP, MEMBER_IP), &[change(DynamicOp::Delete, None)]];
    batch.add_rule(chain, &with(pick.by, &forget));
    // A fresh choice, remembered. Where the memory is full this rule ends, and the plain ones below serve.
    let remember = [client, change(DynamicOp::Add, timeout_ms), dnat(ENDPOINT)];
    let fresh = [&[random(pick.length), backend()][..], &copy(ENDPOINT, MEMBER_IP), &remember];
    batch.add_rule(chain, &with(pick.by, &fresh));
}

/// A rule that has the group's number in [`GROUP`].
fn with(by: Match, rest: &[&[Expr<'static>]]) -> Vec<Expr<'static>> {
    let mut rule = by.load(KEY).to_vec();
    rule.push(Expr::Map { map: GROUPS.name, key: KEY, to: GROUP });
    rule.extend(copy(GROUP, GROUP));
    rule.extend(rest.iter().copied().flatten().cloned());
    rule
}

/// Copies what a map gave, by way of the packet's mark, which is as before afterwards: `nft` up to 1.0.6 aborts at
/// a rule that uses a map's result in a longer key, and a register that was loaded from the mark does not look like
/// one. Nothing in between can end the rule.
fn copy(from: Reg, to: Reg) -> [Expr<'static>; 4] {
    let mark = |to| Expr::Meta { key: MetaKey::Mark, to };
    [mark(SPARE), Expr::SetMark { from }, mark(to), Expr::SetMark { from: SPARE }]
}

fn random(modulus: u32) -> Expr<'static> {
    Expr::Random { modulus, to: INDEX }
}

fn backend() -> Expr<'static> {
    Expr::Map { map: BACKENDS.name, key: GROUP, to: ENDPOINT }
}

fn dnat(endpoint: Reg) -> Expr<'static> {
    Expr::Dnat { ip: endpoint, port: Reg(endpoint.0 + 1) }
}
