//! Which policies there are, and where they are bound: understood, compiled, in the order of their names.
//!
//! As with webhooks, the snapshot is replaced as a whole when the watch cache has moved on, by whoever comes first. A
//! server without policies pays for a few comparisons. A policy is compiled once for each of its generations: what is
//! written into its status compiles nothing.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use knarr_api::registry::Resource;
use serde_json::Value;

use super::params::{ParamKind, ParamRef};
use crate::{
    contract::{Lookup, Stored},
    json::{items, text},
    matching::Criteria,
};

/// A policy that is bound somewhere. One that is not is none of any request's business.
pub(super) struct Bound<P> {
    pub name: String,
    pub criteria: Arc<Criteria>,
    pub policy: Arc<P>,
    pub param_kind: Option<ParamKind>,
    pub bindings: Vec<Arc<Binding>>,
}

/// Where a policy holds, and what comes of it.
pub(super) struct Binding {
    pub name: String,
    policy: String,
    /// `None`: wherever the policy is for.
    pub criteria: Option<Criteria>,
    pub param_ref: Option<ParamRef>,
    /// Of a validating policy's.
    pub actions: Vec<Action>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Deny,
    Warn,
    Audit,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Deny => "Deny",
            Action::Warn => "Warn",
            Action::Audit => "Audit",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Action::Deny, Action::Warn, Action::Audit].into_iter().find(|action| action.as_str() == word)
    }
}

/// A policy as it was last read.
struct Known<P> {
    name: String,
    uid: String,
    generation: i64,
    criteria: Arc<Criteria>,
    policy: Arc<P>,
    param_kind: Option<ParamKind>,
}

/// Of the policies and of their bindings.
type Generations = (u64, u64);

/// A snapshot, and what it was made of.
type Now<P> = (Option<Generations>, Arc<Vec<Bound<P>>>);

/// The policies of one kind.
pub(super) struct Kept<P> {
    policies: &'static Resource,
    bindings: &'static Resource,
    compile: fn(&Value) -> P,
    now: ArcSwap<Now<P>>,
    known: Mutex<Vec<Known<P>>>,
}

impl<P> Kept<P> {
    pub fn new(policies: &'static Resource, bindings: &'static Resource, compile: fn(&Value) -> P) -> Self {
        let now = ArcSwap::from_pointee((None, Arc::default()));
        Self { policies, bindings, compile, now, known: Mutex::default() }
    }

    pub fn current(&self, lookup: &dyn Lookup) -> Arc<Vec<Bound<P>>> {
        let generations = || (lookup.generation(self.policies), lookup.generation(self.bindings));
        let now = self.now.load();
        if now.0 == Some(generations()) {
            return now.1.clone();
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Read again under the lock, before the lists: what changes between is seen again next time.
        let generations = generations();
        let before = std::mem::take(&mut *known);
        *known = lookup.list(self.policies, "").iter().map(|stored| self.read(stored, &before)).collect();
        known.sort_by(|a, b| a.name.cmp(&b.name));
        let mut bindings: Vec<Arc<Binding>> =
            lookup.list(self.bindings, "").iter().map(|stored| Arc::new(Binding::read(stored))).collect();
        bindings.sort_by(|a, b| a.name.cmp(&b.name));
        let all: Vec<Bound<P>> = known.iter().filter_map(|known| known.bound(&bindings)).collect();
        let all = Arc::new(all);
        self.now.store(Arc::new((Some(generations), all.clone())));
        all
    }

    fn read(&self, stored: &Stored, before: &[Known<P>]) -> Known<P> {
        let object = stored.value();
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let (name, uid) = (stored.name().to_owned(), text(&metadata["uid"]).to_owned());
        let generation = metadata["generation"].as_i64().unwrap_or(0);
        let param_kind = ParamKind::read(&spec["paramKind"]);
        match before.iter().find(|known| known.uid == uid && known.generation == generation) {
            Some(same) => {
                let (criteria, policy) = (same.criteria.clone(), same.policy.clone());
                Known { name, uid, generation, criteria, policy, param_kind }
            }
            None => {
                let criteria = Arc::new(Criteria::of_resources(&spec["matchConstraints"]));
                let policy = Arc::new((self.compile)(spec));
                Known { name, uid, generation, criteria, policy, param_kind }
            }
        }
    }
}

impl<P> Known<P> {
    fn bound(&self, bindings: &[Arc<Binding>]) -> Option<Bound<P>> {
        let bindings: Vec<_> = bindings.iter().filter(|binding| binding.policy == self.name).cloned().collect();
        (!bindings.is_empty()).then(|| Bound {
            name: self.name.clone(),
            criteria: self.criteria.clone(),
            policy: self.policy.clone(),
            param_kind: self.param_kind.clone(),
            bindings,
        })
    }
}

impl Binding {
    fn read(stored: &Stored) -> Self {
        let object = stored.value();
        let spec = &object["spec"];
        let resources = &spec["matchResources"];
        Self {
            name: stored.name().to_owned(),
            policy: text(&spec["policyName"]).to_owned(),
            criteria: resources.is_object().then(|| Criteria::of_resources(resources)),
            param_ref: ParamRef::read(&spec["paramRef"]),
            actions: items(&spec["validationActions"]).iter().filter_map(|action| Action::of(text(action))).collect(),
        }
    }
}
