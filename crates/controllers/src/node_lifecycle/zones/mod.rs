//! Which silent nodes their pods are taken from, and when: judged for each zone by how much of it is silent, and never
//! faster than pods can be started elsewhere. Pure; it is told of nodes one by one, and counts instead of listing them.
//! (<https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction>)

mod limit;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Node;
use knarr_client::meta;
use tokio::time::Instant;

use super::plan::{self, Evict};
use limit::{Limit, Refused};

/// A zone loses a node every so often (upstream: 0.1 nodes a second).
const EVERY: Duration = Duration::from_secs(10);
/// And so often where much of a large zone is silent (0.01 nodes a second).
const SELDOM: Duration = Duration::from_secs(100);
/// A zone of more nodes than this is large; a smaller one that is disrupted loses none.
const LARGE: usize = 50;
/// In percent: a zone where so many nodes are silent is disrupted, if they are more than [`FEW`].
const DISRUPTED: usize = 55;
const FEW: usize = 2;
/// A node with this label is not counted.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";
/// Each with its name of before, which upstream looks at first.
const ZONE: [&str; 2] = ["failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"];
const REGION: [&str; 2] = ["failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"];

/// All nodes by zone.
pub(crate) struct Zones {
    /// The node in the server's own process. It is never out of sight and tells nothing of the network to the others.
    local: Option<String>,
    places: BTreeMap<String, Place>,
    zones: BTreeMap<Arc<str>, Zone>,
    all: Count,
    /// Without the local one.
    others: Count,
    is_cut_off: bool,
    healed: Option<Instant>,
    next_ticket: u64,
    /// New nodes whose turn has come without a token.
    free: Vec<String>,
}

/// What counts of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    zone: Arc<str>,
    is_counted: bool,
    is_ready: bool,
    /// It is not ready and has no taint yet that evicts.
    asks: bool,
}

struct Place {
    seen: Seen,
    turn: Turn,
    /// It came while this looked on, and was never ready. No pods are on it that could be taken away, so that it costs
    /// no token: otherwise a node that joins would make one that is lost wait.
    is_new: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is nothing to wait for; left when the node asks.
    None,
    /// By its place in the line; left when the node is ready, or when a token is there.
    Waits(u64),
    /// Left when the node has the taint or is ready, or when nobody may be evicted any more.
    Granted,
}

struct Zone {
    nodes: usize,
    count: Count,
    waiting: BTreeMap<u64, String>,
    limit: Limit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    ready: usize,
    silent: usize,
}

/// Whose turn it is now, and when to ask again if nothing changes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Turns {
    pub now: Vec<String>,
    pub next: Option<Instant>,
}

impl Zones {
    /// Of all nodes at once: what is known of the first few alone says nothing about the cluster.
    pub(crate) fn new<'a>(local: Option<String>, nodes: impl IntoIterator<Item = &'a Node>, now: Instant) -> Self {
        let mut zones = Self {
            local,
            places: BTreeMap::new(),
            zones: BTreeMap::new(),
            all: Count::default(),
            others: Count::default(),
            is_cut_off: false,
            healed: None,
            next_ticket: 0,
            free: Vec::new(),
        };
        for node in nodes {
            zones.enter(meta::name(&node.metadata), Seen::of(node), false, false, now);
        }
        zones.is_cut_off = zones.looks_cut_off();
        zones.set_limits(None, now);
        zones
    }

    /// A node as it is now, or that there is none of this name. True where from now on nobody is to be evicted any more:
    /// then every silent node has to be looked at.
    pub(crate) fn saw(&mut self, name: &str, node: Option<&Node>, now: Instant) -> bool {
        let seen = node.map(Seen::of);
        if self.places.get(name).map(|place| &place.seen) == seen.as_ref() {
            return false;
        }
        let mut touched = BTreeSet::new();
        let (mut is_granted, mut is_new) = (false, true);
        if let Some(left) = self.places.remove(name) {
            self.leave(name, &left);
            let is_there_still = seen.as_ref().is_some_and(|seen| seen.zone == left.seen.zone);
            is_granted = is_there_still && left.turn == Turn::Granted;
            is_new = left.is_new;
            touched.insert(left.seen.zone);
        }
        if let Some(seen) = seen {
            touched.insert(seen.zone.clone());
            is_new &= !seen.is_ready;
            self.enter(name, seen, is_granted, is_new, now);
        }
        self.zones.retain(|_, zone| zone.nodes > 0);
        let was_cut_off = self.is_cut_off;
        self.is_cut_off = self.looks_cut_off();
        match (was_cut_off, self.is_cut_off) {
            (true, false) => self.healed = Some(now),
            (false, true) => self.take_turns_back(),
            _ => {}
        }
        self.set_limits(Some(&touched).filter(|_| was_cut_off == self.is_cut_off), now);
        self.is_cut_off && !was_cut_off
    }

    /// Gives tokens to those that wait, the longest waiting first.
    pub(crate) fn turns(&mut self, now: Instant) -> Turns {
        let mut turns = Turns { now: std::mem::take(&mut self.free), next: None };
        turns.now.retain(|name| self.places.get(name).is_some_and(|place| place.turn == Turn::Granted));
        for zone in self.zones.values_mut() {
            while let Some(first) = zone.waiting.first_entry() {
                match zone.limit.take(now) {
                    Ok(()) => {
                        let name = first.remove();
                        if let Some(place) = self.places.get_mut(&name) {
                            place.turn = Turn::Granted;
                        }
                        turns.now.push(name);
                    }
                    Err(Refused::Until(at)) => {
                        turns.next = Some(turns.next.map_or(at, |next| next.min(at)));
                        break;
                    }
                    Err(Refused::ForNow) => break,
                }
            }
        }
        turns
    }

    pub(crate) fn verdict(&self, name: &str) -> Evict {
        match self.places.get(name) {
            _ if self.is_cut_off => Evict::Nobody,
            Some(Place { turn: Turn::Granted, .. }) => Evict::Now,
            _ => Evict::Not,
        }
    }

    /// When the last nodes that were all silent at once were heard again. Nothing is held against any node from before.
    pub(crate) fn healed(&self) -> Option<Instant> {
        self.healed
    }

    /// Whether so much has fallen silent at once that the fault is more likely here than there. Pods of nodes that are
    /// merely out of sight run on; starting them again elsewhere would help nobody.
    fn looks_cut_off(&self) -> bool {
        let all_others = self.all.nodes() > 2 && self.others.is_silent();
        self.all.is_silent() || all_others
    }

    fn enter(&mut self, name: &str, seen: Seen, is_granted: bool, is_new: bool, now: Instant) {
        let zone = self.zones.entry(seen.zone.clone()).or_insert_with(|| Zone::new(now));
        zone.nodes += 1;
        let mut turn = Turn::None;
        if seen.asks && is_granted {
            turn = Turn::Granted;
        } else if seen.asks && is_new && !self.is_cut_off {
            turn = Turn::Granted;
            self.free.push(name.to_owned());
        } else if seen.asks {
            turn = Turn::Waits(self.next_ticket);
            zone.waiting.insert(self.next_ticket, name.to_owned());
            self.next_ticket += 1;
        }
        self.count(name, &seen, |number| *number += 1);
        self.places.insert(name.to_owned(), Place { seen, turn, is_new });
    }

    fn leave(&mut self, name: &str, place: &Place) {
        if let Some(zone) = self.zones.get_mut(&place.seen.zone) {
            zone.nodes -= 1;
            if let Turn::Waits(ticket) = place.turn {
                zone.waiting.remove(&ticket);
            }
        }
        self.count(name, &place.seen, |number| *number -= 1);
    }

    fn count(&mut self, name: &str, seen: &Seen, change: impl Fn(&mut usize)) {
        let is_local = self.local.as_deref() == Some(name);
        let zone = self.zones.get_mut(&seen.zone).map(|zone| &mut zone.count);
        let others = (!is_local).then_some(&mut self.others);
        for count in [zone, Some(&mut self.all), others].into_iter().flatten().filter(|_| seen.is_counted) {
            change(if seen.is_ready { &mut count.ready } else { &mut count.silent });
        }
    }

    /// Whoever had a turn and made nothing of it waits again.
    fn take_turns_back(&mut self) {
        for (name, place) in self.places.iter_mut().filter(|(_, place)| place.turn == Turn::Granted) {
            place.turn = Turn::Waits(self.next_ticket);
            if let Some(zone) = self.zones.get_mut(&place.seen.zone) {
                zone.waiting.insert(self.next_ticket, name.clone());
            }
            self.next_ticket += 1;
        }
    }

    /// Of these zones, or of all.
    fn set_limits(&mut self, touched: Option<&BTreeSet<Arc<str>>>, now: Instant) {
        let is_cut_off = self.is_cut_off;
        let zones = self.zones.iter_mut().filter(|(key, _)| touched.is_none_or(|touched| touched.contains(*key)));
        for (_, zone) in zones {
            let rate = if is_cut_off { None } else { zone.count.rate() };
            zone.limit.set(rate, !zone.waiting.is_empty(), now);
        }
    }
}

impl Zone {
    fn new(now: Instant) -> Self {
        Self { nodes: 0, count: Count::default(), waiting: BTreeMap::new(), limit: Limit::new(EVERY, now) }
    }
}

impl Count {
    fn nodes(self) -> usize {
        self.ready + self.silent
    }

    fn is_silent(self) -> bool {
        self.silent > 0 && self.ready == 0
    }

    /// How often a zone of these loses a node. One that is silent as a whole is lost, and its pods are started in the
    /// others: its rate is the usual one.
    fn rate(self) -> Option<Duration> {
        let is_much = self.silent > FEW && self.silent * 100 >= self.nodes() * DISRUPTED;
        match () {
            () if self.is_silent() || !is_much => Some(EVERY),
            () if self.nodes() > LARGE => Some(SELDOM),
            () => None,
        }
    }
}

impl Seen {
    fn of(node: &Node) -> Self {
        let label = |keys: [&str; 2]| keys.into_iter().find_map(|key| meta::label(&node.metadata, key));
        let (region, zone) = (label(REGION).unwrap_or_default(), label(ZONE).unwrap_or_default());
        let is_ready = plan::is_ready(node);
        Self {
            // No label has this character in it.
            zone: format!("{region}\0{zone}").into(),
            is_counted: meta::label(&node.metadata, EXCLUDED).is_none(),
            is_ready,
            asks: !is_ready && plan::has_ready_condition(node) && !plan::is_evicted(node),
        }
    }
}
