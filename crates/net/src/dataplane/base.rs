//! The fixed part of the table: sets, base chains and their rules.

use knarr_os::net::nft::{
    Batch, ChainHook, ChainKind, CtKey, Expr, Hook, MetaKey, Nftables, Op, Reg, RejectWith, Verdict, ipv4,
};

use super::{
    ALL_SETS, FAMILY, FIREWALL, FRONTENDS, GROUPS, HAIRPINS, HOST_PORTS, MASQUERADE_MARK, Match, REFUSALS,
    REJECT_CHAIN, Scope,
};
use crate::{
    Config, Ipv4Cidr,
    error::{During, Result},
    names::{LINK_PREFIX, TABLE},
};

const TCP: u8 = 6;
const PRIORITY_DESTINATION_NAT: i32 = -100;
/// Before addresses are translated.
const PRIORITY_FIREWALL: i32 = -110;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

/// The whole name with the zero at its end, so that the comparison does not take it for a beginning.
const NODE_LINK_NAME: &[u8] = b"knarr0\0";

const BY_ADDRESS: Match = Match { scope: Scope::All, by_address: true };
const BY_PORT: Match = Match { scope: Scope::All, by_address: false };
const OUTSIDE_BY_ADDRESS: Match = Match { scope: Scope::Outside, by_address: true };
const OUTSIDE_BY_PORT: Match = Match { scope: Scope::Outside, by_address: false };

/// Makes the table, or brings the rules of the one that is there up to this version. Elements stay as they are,
/// so that traffic flows on across a restart; only a table whose sets have another shape is made anew.
pub fn ensure(nftables: &Nftables, config: &Config) -> Result<()> {
    let mut batch = Batch::new(FAMILY, TABLE);
    add_all(&mut batch, config);
    let Err(error) = nftables.commit(batch) else { return Ok(()) };
    if !nftables.has_table(FAMILY, TABLE).during("looking for the nftables table")? {
        return Err(error).during("making the nftables table");
    }
    tracing::info!(%error, "the nftables table is of another version; making it anew");
    let mut batch = Batch::new(FAMILY, TABLE);
    batch.delete_table();
    add_all(&mut batch, config);
    nftables.commit(batch).during("making the nftables table anew")
}

/// Removes the table, if there is one.
pub fn remove(nftables: &Nftables) -> Result<()> {
    let mut batch = Batch::new(FAMILY, TABLE);
    batch.delete_table();
    match nftables.commit(batch) {
        Err(error) if !error.is_missing() => Err(error).during("removing the nftables table"),
        _ => Ok(()),
    }
}

fn add_all(batch: &mut Batch, config: &Config) {
    batch.add_table();
    for set in &ALL_SETS {
        batch.add_set(set);
    }
    let nat = |hook, priority| ChainHook { kind: ChainKind::Nat, hook, priority };
    let filter = |hook| ChainHook { kind: ChainKind::Filter, hook, priority: PRIORITY_FILTER };
    let chains = [
        (REJECT_CHAIN, None),
        ("inside", None),
        ("outside", None),
        ("refuse-inside", None),
        ("refuse-outside", None),
        ("prerouting", Some(nat(Hook::Prerouting, PRIORITY_DESTINATION_NAT))),
        ("output", Some(nat(Hook::Output, PRIORITY_DESTINATION_NAT))),
        ("postrouting", Some(nat(Hook::Postrouting, PRIORITY_SOURCE_NAT))),
        ("refuse-prerouting", Some(filter(Hook::Prerouting))),
        ("refuse-output", Some(filter(Hook::Output))),
        ("firewall", Some(ChainHook { priority: PRIORITY_FIREWALL, ..filter(Hook::Prerouting) })),
        ("input", Some(filter(Hook::Input))),
        ("forward", Some(filter(Hook::Forward))),
    ];
    for (chain, hook) in chains {
        batch.add_chain(chain, hook);
        batch.flush_chain(chain);
    }
    add_destination_rules(batch);
    add_source_rules(batch, config);
    add_refusal_rules(batch, config);
}

/// Where packets to Services and host ports go.
fn add_destination_rules(batch: &mut Batch) {
    batch.add_rule("prerouting", &[meta(MetaKey::InName), ours(Op::Equal), goto("inside")]);
    batch.add_rule("prerouting", &[goto("outside")]);
    batch.add_rule("output", &[goto("inside")]);

    batch.add_rule("inside", &choose(BY_ADDRESS));
    for any in [false, true] {
        let address = if any { Expr::Load { to: Reg(0), word: [0; 4] } } else { ipv4::destination(Reg(0)) };
        let rest = [
            address,
            ipv4::protocol(Reg(1)),
            ipv4::destination_port(Reg(2)),
            Expr::Map { map: HOST_PORTS.name, key: Reg(0), to: Reg(4) },
            Expr::Dnat { ip: Reg(4), port: Reg(5) },
        ];
        batch.add_rule("inside", &[&to_this_host()[..], &rest].concat());
    }
    batch.add_rule("inside", &choose(BY_PORT));

    // From outside: frontends of its own first; at the others the packet is marked to be masqueraded.
    batch.add_rule("outside", &choose(OUTSIDE_BY_ADDRESS));
    batch.add_rule("outside", &choose(OUTSIDE_BY_PORT));
    for by in [BY_ADDRESS, BY_PORT] {
        let mut rule = packet(by);
        rule.push(Expr::Map { map: GROUPS.name, key: Reg(0), to: Reg(8) });
        rule.push(meta(MetaKey::Mark));
        rule.push(set_bits(MASQUERADE_MARK));
        rule.push(Expr::SetMark { from: Reg(8) });
        batch.add_rule("outside", &rule);
    }
    batch.add_rule("outside", &[goto("inside")]);
}

/// Which connections leave with an address of the node as their source.
fn add_source_rules(batch: &mut Batch, config: &Config) {
    let marked = MASQUERADE_MARK.to_ne_bytes();
    let is_marked = [
        meta(MetaKey::Mark),
        Expr::Bitwise { from: Reg(8), to: Reg(9), mask: marked, xor: [0; 4] },
        equal(Reg(9), &marked),
        Expr::Bitwise { from: Reg(8), to: Reg(8), mask: (!MASQUERADE_MARK).to_ne_bytes(), xor: [0; 4] },
        Expr::SetMark { from: Reg(8) },
        Expr::Masquerade,
    ];
    batch.add_rule("postrouting", &is_marked);
    let hairpin = [
        ipv4::source(Reg(0)),
        ipv4::destination(Reg(1)),
        Expr::In { set: HAIRPINS.name, key: Reg(0) },
        Expr::Masquerade,
    ];
    batch.add_rule("postrouting", &hairpin);
    // A process of the node that came by the loopback address: no answer would find it there.
    let mut loopback = has_bits(CtKey::Status, CtKey::DESTINATION_TRANSLATED).to_vec();
    loopback.extend([ipv4::source(Reg(8)), masked(Reg(8), [255, 0, 0, 0]), equal(Reg(8), &[127, 0, 0, 0])]);
    loopback.push(Expr::Masquerade);
    batch.add_rule("postrouting", &loopback);

    let (mask, first) = range(&config.cluster_cidr);
    let leaving = [
        meta(MetaKey::OutName),
        ours(Op::NotEqual),
        ipv4::source(Reg(8)),
        masked(Reg(8), mask),
        equal(Reg(8), &first),
        ipv4::destination(Reg(8)),
        masked(Reg(8), mask),
        Expr::Compare { reg: Reg(8), op: Op::NotEqual, with: &first },
        ipv4::destination(Reg(8)),
        masked(Reg(8), [0xf0, 0, 0, 0]),
        Expr::Compare { reg: Reg(8), op: Op::NotEqual, with: &[0xe0, 0, 0, 0] },
        Expr::Masquerade,
    ];
    batch.add_rule("postrouting", &leaving);
}

/// What is refused: Services without endpoints, and what may not pass.
fn add_refusal_rules(batch: &mut Batch, config: &Config) {
    let tcp = [ipv4::protocol(Reg(8)), equal(Reg(8), &[TCP]), Expr::Reject(RejectWith::Reset)];
    batch.add_rule(REJECT_CHAIN, &tcp);
    batch.add_rule(REJECT_CHAIN, &[Expr::Reject(RejectWith::PortUnreachable)]);
    batch.add_rule("refuse-prerouting", &[meta(MetaKey::InName), ours(Op::Equal), goto("refuse-inside")]);
    batch.add_rule("refuse-prerouting", &[goto("refuse-outside")]);
    for by in [OUTSIDE_BY_ADDRESS, OUTSIDE_BY_PORT] {
        batch.add_rule("refuse-outside", &refuse(by));
    }
    batch.add_rule("refuse-outside", &[goto("refuse-inside")]);
    for by in [BY_ADDRESS, BY_PORT] {
        batch.add_rule("refuse-inside", &refuse(by));
    }

    // The service range is routed to the node's link, so what still has such an address after translation has no
    // endpoint, or is no Service at all.
    let (mask, first) = range(&config.service_cidr);
    let unserved = [
        meta(MetaKey::OutName),
        equal(Reg(8), NODE_LINK_NAME),
        ipv4::destination(Reg(8)),
        masked(Reg(8), mask),
        equal(Reg(8), &first),
        goto(REJECT_CHAIN),
    ];
    batch.add_rule("forward", &unserved);
    batch.add_rule("refuse-output", &unserved);
    batch.add_rule("refuse-output", &[goto("refuse-inside")]);

    let mut restricted = packet(BY_ADDRESS);
    restricted.push(Expr::VerdictMap { map: FIREWALL.name, key: Reg(0) });
    batch.add_rule("firewall", &restricted);

    // Loopback addresses are routable on pod links, so that a node port answers on 127.0.0.1. A pod must not get
    // to the node's loopback services that way.
    let answers = (CtKey::ESTABLISHED | CtKey::RELATED).to_ne_bytes();
    let localnet = [
        meta(MetaKey::InName),
        ours(Op::Equal),
        ipv4::destination(Reg(8)),
        masked(Reg(8), [255, 0, 0, 0]),
        equal(Reg(8), &[127, 0, 0, 0]),
        Expr::Ct { key: CtKey::State, to: Reg(8) },
        Expr::Bitwise { from: Reg(8), to: Reg(8), mask: answers, xor: [0; 4] },
        equal(Reg(8), &[0; 4]),
        Expr::Verdict(Verdict::Drop),
    ];
    batch.add_rule("input", &localnet);
}

/// Loads the frontend's key into registers 0 to 3; a frontend by port is one on an address of this host.
fn packet(by: Match) -> Vec<Expr<'static>> {
    let mut rule = Vec::new();
    if !by.by_address {
        rule.extend(to_this_host());
    }
    rule.extend(by.load(Reg(0)));
    rule
}

fn choose(by: Match) -> Vec<Expr<'static>> {
    let mut rule = packet(by);
    rule.push(Expr::VerdictMap { map: FRONTENDS.name, key: Reg(0) });
    rule
}

fn refuse(by: Match) -> Vec<Expr<'static>> {
    let mut rule = packet(by);
    rule.push(Expr::VerdictMap { map: REFUSALS.name, key: Reg(0) });
    rule
}

fn to_this_host() -> [Expr<'static>; 2] {
    [Expr::DestinationType { to: Reg(8) }, equal(Reg(8), &Expr::LOCAL)]
}

fn meta(key: MetaKey) -> Expr<'static> {
    Expr::Meta { key, to: Reg(8) }
}

/// Compares the link name in register 8 by its beginning.
fn ours(op: Op) -> Expr<'static> {
    Expr::Compare { reg: Reg(8), op, with: LINK_PREFIX.as_bytes() }
}

fn equal(reg: Reg, with: &[u8]) -> Expr<'_> {
    Expr::Compare { reg, op: Op::Equal, with }
}

fn masked(reg: Reg, mask: [u8; 4]) -> Expr<'static> {
    Expr::Bitwise { from: reg, to: reg, mask, xor: [0; 4] }
}

/// `reg8 |= bits`, which the machine spells as "keep the others, then flip these".
fn set_bits(bits: u32) -> Expr<'static> {
    Expr::Bitwise { from: Reg(8), to: Reg(8), mask: (!bits).to_ne_bytes(), xor: bits.to_ne_bytes() }
}

fn has_bits(key: CtKey, bits: u32) -> [Expr<'static>; 3] {
    const NONE: [u8; 4] = [0; 4];
    [
        Expr::Ct { key, to: Reg(8) },
        Expr::Bitwise { from: Reg(8), to: Reg(8), mask: bits.to_ne_bytes(), xor: [0; 4] },
        Expr::Compare { reg: Reg(8), op: Op::NotEqual, with: &NONE },
    ]
}

fn range(cidr: &Ipv4Cidr) -> ([u8; 4], [u8; 4]) {
    (cidr.mask().octets(), cidr.first().octets())
}

fn goto(chain: &'static str) -> Expr<'static> {
    Expr::Verdict(Verdict::Goto(chain))
}
