//! What one node can have of a pool: the slices of the newest generation that are for it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    core::v1::NodeSelector,
    resource::v1::{Counter, Device, ResourceSlice},
};
use knarr_api::{device::selector::Subject, placement::node_selector_matches, quantity::Quantity};

use super::picture::{DeviceId, Picture, PoolId, Slice};
use crate::terms::Labels;

/// By set and name.
pub type Counters<'a> = BTreeMap<(&'a str, &'a str), Quantity>;

pub struct Pool<'a> {
    pub id: &'a PoolId,
    pub state: State,
    pub devices: Vec<Candidate<'a>>,
    /// What its devices share, less what is in use.
    pub counters: Counters<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Complete,
    /// The driver is still writing the others of this generation.
    Incomplete,
    /// Two devices have the same name.
    Invalid,
}

pub struct Candidate<'a> {
    pub id: DeviceId,
    pub device: &'a Device,
    pub subject: &'a Result<Subject, String>,
    /// Which nodes it is for, where that is not all.
    pub nodes: Option<Nodes<'a>>,
}

#[derive(Clone, Copy)]
pub enum Nodes<'a> {
    Named(&'a str),
    Selected(&'a NodeSelector),
}

impl Nodes<'_> {
    fn include(self, node: &str, labels: &Labels) -> bool {
        match self {
            Nodes::Named(name) => name == node,
            Nodes::Selected(selector) => node_selector_matches(selector, node, labels),
        }
    }
}

impl<'a> Pool<'a> {
    pub fn of(picture: &'a Picture, id: &'a PoolId, node: &str, labels: &Labels) -> Self {
        let newest = picture.slices_of(id).map(generation).max();
        let slices: Vec<&Slice> = picture.slices_of(id).filter(|slice| Some(generation(slice)) == newest).collect();
        let expected = slices.first().map_or(0, |slice| slice.object.spec.pool.resource_slice_count);
        let mut names = BTreeSet::new();
        let mut devices = slices.iter().flat_map(|slice| slice.devices());
        let is_unique = devices.all(|(device, _)| names.insert(device.name.as_str()));
        let state = match (is_unique, usize::try_from(expected) == Ok(slices.len())) {
            (false, _) => State::Invalid,
            (true, false) => State::Incomplete,
            (true, true) => State::Complete,
        };
        let all = || slices.iter().flat_map(|slice| candidates(slice, id));
        let used = all().filter(|candidate| picture.is_in_use(&candidate.id));
        let mut counters = counters(&slices);
        used.for_each(|candidate| spend(&mut counters, candidate.device));
        let is_here = |candidate: &Candidate<'_>| candidate.nodes.is_none_or(|nodes| nodes.include(node, labels));
        Self { id, state, devices: all().filter(is_here).collect(), counters }
    }
}

fn generation(slice: &Slice) -> i64 {
    slice.object.spec.pool.generation
}

fn candidates<'a>(slice: &'a Slice, pool: &PoolId) -> impl Iterator<Item = Candidate<'a>> {
    let spec = &slice.object.spec;
    let each = spec.per_device_node_selection == Some(true);
    slice.devices().filter_map(move |(device, subject)| {
        let nodes = if each {
            nodes(device.all_nodes, device.node_name.as_deref(), device.node_selector.as_ref())?
        } else {
            nodes(spec.all_nodes, spec.node_name.as_deref(), spec.node_selector.as_ref())?
        };
        let id = DeviceId { driver: pool.0.clone(), pool: pool.1.clone(), device: device.name.clone() };
        Some(Candidate { id, device, subject, nodes })
    })
}

/// `Some(None)` for all nodes, `None` for none.
fn nodes<'a>(
    all: Option<bool>,
    name: Option<&'a str>,
    selector: Option<&'a NodeSelector>,
) -> Option<Option<Nodes<'a>>> {
    match (all, name, selector) {
        (_, Some(name), _) => Some(Some(Nodes::Named(name))),
        (_, _, Some(selector)) => Some(Some(Nodes::Selected(selector))),
        (Some(true), ..) => Some(None),
        _ => None,
    }
}

fn counters<'a>(slices: &[&'a Slice]) -> Counters<'a> {
    let sets = slices.iter().flat_map(|slice| shared(&slice.object));
    sets.filter_map(|(set, name, counter)| Some(((set, name), counter.value.0.parse().ok()?))).collect()
}

fn shared(slice: &ResourceSlice) -> impl Iterator<Item = (&str, &str, &Counter)> {
    let sets = slice.spec.shared_counters.iter().flatten();
    sets.flat_map(|set| set.counters.iter().map(|(name, counter)| (set.name.as_str(), name.as_str(), counter)))
}

fn spend<'a>(counters: &mut Counters<'a>, device: &'a Device) {
    for (set, name, amount) in consumed(device) {
        if let Some(left) = counters.get_mut(&(set, name)) {
            *left = *left - amount.unwrap_or(Quantity::ZERO);
        }
    }
}

/// What of its pool's counters a device takes.
pub fn consumed(device: &Device) -> impl Iterator<Item = (&str, &str, Option<Quantity>)> {
    let sets = device.consumes_counters.iter().flatten();
    sets.flat_map(|set| {
        let counters = set.counters.iter();
        counters.map(|(name, counter)| (set.counter_set.as_str(), name.as_str(), counter.value.0.parse().ok()))
    })
}
