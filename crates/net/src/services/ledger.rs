//! What the table has now, and for which Service. Two Services may want the same frontend (the same external
//! address and port, or a node port that was given twice): the first keeps it, the other waits.

use std::collections::{BTreeSet, HashMap, HashSet};

use knarr_client::ObjectKey;
use knarr_os::net::nft::{Element, Value, Words};

use super::plan::{Backend, ElementKey, Groups, Map, Plan};
use crate::names::stable_hash;

#[derive(Debug, Default)]
pub struct Ledger {
    /// Every element of the maps, as it is in the kernel.
    elements: HashMap<ElementKey, Value>,
    owners: HashMap<ElementKey, ObjectKey>,
    owned: HashMap<ObjectKey, BTreeSet<ElementKey>>,
    /// Services that did not get all they wanted.
    waiting: HashSet<ObjectKey>,
    groups: HashMap<u32, Group>,
}

/// Whose a group's number is.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    service: ObjectKey,
    name: Box<str>,
    protocol: u8,
}

impl Groups for Ledger {
    /// A hash, so that a restart finds its groups again; the next free number where two groups have the same.
    fn number(&mut self, service: &ObjectKey, name: &str, protocol: u8) -> u32 {
        let mut number = stable_hash(format!("{service} {name} {protocol}").as_bytes()) as u32;
        let group = Group { service: service.clone(), name: name.into(), protocol };
        while self.groups.get(&number).is_some_and(|other| *other != group) {
            number = number.wrapping_add(1);
        }
        self.groups.insert(number, group);
        number
    }

    fn positions(&self, number: u32) -> Vec<Backend> {
        let at = |index| match self.elements.get(&(Map::Backends, Words::new().number(number).number(index)))? {
            Value::Words(endpoint) => Some((endpoint.ip_at(0), endpoint.port_at(1))),
            _ => None,
        };
        (0..).map_while(at).collect()
    }
}

/// A change of one element: what it was, what it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: ElementKey,
    pub old: Option<Value>,
    pub new: Option<Value>,
}

impl Ledger {
    /// What is found in the kernel; owned by nobody until its Service is planned.
    pub fn of(found: impl IntoIterator<Item = (Map, Vec<Element>)>) -> Self {
        let elements = found
            .into_iter()
            .flat_map(|(map, elements)| elements.into_iter().map(move |element| ((map, element.key), element.value)))
            .collect();
        Self { elements, ..Self::default() }
    }

    /// The protocol of a group; `None` for one that a former process left.
    pub fn protocol(&self, group: u32) -> Option<u8> {
        self.groups.get(&group).map(|group| group.protocol)
    }

    /// Forgets the groups of a Service that is gone.
    pub fn forget(&mut self, service: &ObjectKey) {
        self.groups.retain(|_, group| group.service != *service);
    }

    /// Takes over what a Service needs (nothing, where it is gone) and answers what has to change for it.
    pub fn assign(&mut self, service: &ObjectKey, plan: Plan) -> Vec<Change> {
        let wanted = plan.elements;
        let mut changes = Vec::new();
        let former = self.owned.remove(service).unwrap_or_default();
        for key in former.into_iter().filter(|key| !wanted.contains_key(key)) {
            self.owners.remove(&key);
            if let Some(old) = self.elements.remove(&key) {
                changes.push(Change { key, old: Some(old), new: None });
            }
        }
        self.waiting.remove(service);
        let mut owned = BTreeSet::new();
        for (key, value) in wanted {
            if self.owners.get(&key).is_some_and(|owner| owner != service) {
                self.waiting.insert(service.clone());
                continue;
            }
            self.owners.insert(key, service.clone());
            owned.insert(key);
            let old = self.elements.insert(key, value.clone());
            if old.as_ref() != Some(&value) {
                changes.push(Change { key, old, new: Some(value) });
            }
        }
        if !owned.is_empty() {
            self.owned.insert(service.clone(), owned);
        }
        changes
    }

    /// Gives up the elements that no Service wants: leftovers of Services that went while nobody watched.
    pub fn sweep(&mut self) -> Vec<Change> {
        let orphans: Vec<_> = self.elements.keys().filter(|key| !self.owners.contains_key(key)).copied().collect();
        let remove = |key| Some(Change { key, old: self.elements.remove(&key), new: None });
        orphans.into_iter().filter_map(remove).collect()
    }

    /// Those that may get what a departing Service leaves.
    pub fn waiting(&self) -> impl Iterator<Item = &ObjectKey> {
        self.waiting.iter()
    }
}
