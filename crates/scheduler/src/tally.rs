//! How many pods of a kind are on each node, kept up to date change by change: what spreading and nearness ask about
//! every pod that comes would else be a count over all pods that are there.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use knarr_api::selector::LabelSelector;

use crate::{pod::PodInfo, terms};

/// By the index of the node; nodes without any are left out.
pub type PerNode = HashMap<usize, i64>;

/// Questions remembered at once, at most; of those the one that was asked longest ago goes first.
const MOST: usize = 128;

fn add(counts: &mut PerNode, index: usize, change: i64) {
    let count = counts.entry(index).or_default();
    *count += change;
    if *count == 0 {
        counts.remove(&index);
    }
}

/// The node at `from` is now at `to`, where none is any more.
fn moved(counts: &mut PerNode, from: usize, to: usize) {
    if let Some(count) = counts.remove(&from) {
        counts.insert(to, count);
    }
}

/// Which pods are counted.
#[derive(Clone, Debug)]
pub struct Question {
    /// All that follows, as text.
    pub key: Arc<str>,
    pub namespaces: Vec<String>,
    /// A pod counts that all of these select.
    pub selectors: Vec<LabelSelector>,
    /// Pods that are on their way out do not count.
    pub only_staying: bool,
}

impl Question {
    pub fn new(mut namespaces: Vec<String>, selectors: Vec<LabelSelector>, only_staying: bool) -> Self {
        namespaces.sort();
        let texts: Vec<_> = selectors.iter().map(ToString::to_string).collect();
        let key = format!("{only_staying} {namespaces:?} {texts:?}").into();
        Self { key, namespaces, selectors, only_staying }
    }

    pub fn counts(&self, pod: &PodInfo) -> bool {
        self.namespaces.contains(&pod.namespace)
            && !(self.only_staying && pod.object.metadata.deletion_timestamp.is_some())
            && self.selectors.iter().all(|selector| terms::matches(selector, &pod.labels))
    }
}

#[derive(Default)]
pub struct Tallies {
    known: RefCell<Known>,
}

#[derive(Default)]
struct Known {
    tallies: HashMap<Arc<str>, Tally>,
    /// Counts the questions, to know which was asked last.
    clock: u64,
}

struct Tally {
    question: Question,
    counts: PerNode,
    asked_at: u64,
}

impl Tallies {
    /// The answer, which `count` works out where the question is new.
    pub fn ask(&self, question: &Question, count: impl FnOnce() -> PerNode) -> PerNode {
        let mut known = self.known.borrow_mut();
        known.clock += 1;
        let now = known.clock;
        if let Some(tally) = known.tallies.get_mut(&question.key) {
            tally.asked_at = now;
            return tally.counts.clone();
        }
        if known.tallies.len() >= MOST {
            let oldest = known.tallies.values().min_by_key(|tally| tally.asked_at);
            let oldest = oldest.map(|tally| tally.question.key.clone());
            oldest.map(|key| known.tallies.remove(&key));
        }
        let counts = count();
        let tally = Tally { question: question.clone(), counts: counts.clone(), asked_at: now };
        known.tallies.insert(question.key.clone(), tally);
        counts
    }

    /// A pod is on a node from now on (1), or no longer (-1).
    pub fn note(&mut self, pod: &PodInfo, index: usize, change: i64) {
        for tally in self.known.get_mut().tallies.values_mut() {
            if tally.question.counts(pod) {
                add(&mut tally.counts, index, change);
            }
        }
    }

    pub fn node_moved(&mut self, from: usize, to: usize) {
        self.known.get_mut().tallies.values_mut().for_each(|tally| moved(&mut tally.counts, from, to));
    }
}

/// Pods that say the same about others, with one of them to ask, by what they say.
#[derive(Default)]
pub struct Groups {
    groups: HashMap<Arc<str>, (Arc<PodInfo>, PerNode)>,
}

impl Groups {
    pub fn note(&mut self, key: &Arc<str>, pod: &Arc<PodInfo>, index: usize, change: i64) {
        let (_, counts) = self.groups.entry(key.clone()).or_insert_with(|| (pod.clone(), PerNode::new()));
        add(counts, index, change);
        if counts.is_empty() {
            self.groups.remove(key);
        }
    }

    pub fn node_moved(&mut self, from: usize, to: usize) {
        self.groups.values_mut().for_each(|(_, counts)| moved(counts, from, to));
    }

    /// One pod of each group, and how many there are on each node.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<PodInfo>, &PerNode)> {
        self.groups.values().map(|(pod, counts)| (pod, counts))
    }
}

/// What is left of an answer as if some pods were gone; `leaving` are those of them that it counts, with their nodes.
pub fn without(mut counts: PerNode, leaving: impl Iterator<Item = usize>) -> PerNode {
    leaving.for_each(|index| add(&mut counts, index, -1));
    counts
}

/// Uids of pods that are to be thought away.
pub type Gone<'a> = HashSet<&'a str>;
