//! The chains behind `loadBalancerSourceRanges`: what comes from a listed range goes on, the rest is dropped. A chain
//! is named by what it allows, so it never changes, and Services with the same ranges share it.

use std::{fmt::Write as _, sync::Arc};

use knarr_os::net::nft::{Batch, Expr, Op, Reg, Verdict, ipv4};

use crate::{Ipv4Cidr, names::stable_hash};

/// The sources that may connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Allow {
    ranges: Vec<Ipv4Cidr>,
}

impl Allow {
    pub fn new(ranges: &[Ipv4Cidr]) -> Self {
        let mut ranges = ranges.to_vec();
        ranges.sort_by_key(|range| (range.first(), range.prefix()));
        ranges.dedup();
        Self { ranges }
    }

    pub fn chain(&self) -> Arc<str> {
        let mut text = String::new();
        for range in &self.ranges {
            let _ = write!(text, "{range} ");
        }
        format!("allow-{:016x}", stable_hash(text.as_bytes())).into()
    }

    /// Makes the chain, or makes it anew.
    pub fn add(&self, batch: &mut Batch) {
        let chain = self.chain();
        batch.add_chain(&chain, None);
        batch.flush_chain(&chain);
        for range in &self.ranges {
            let first = range.first().octets();
            batch.add_rule(
                &chain,
                &[
                    ipv4::source(Reg(8)),
                    Expr::Bitwise { from: Reg(8), to: Reg(8), mask: range.mask().octets(), xor: [0; 4] },
                    Expr::Compare { reg: Reg(8), op: Op::Equal, with: &first },
                    Expr::Verdict(Verdict::Return),
                ],
            );
        }
        batch.add_rule(&chain, &[Expr::Verdict(Verdict::Drop)]);
    }
}
