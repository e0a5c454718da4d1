//! What to do next with a Deployment's ReplicaSets. Pure: the same objects give the same actions.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use knarr_client::{lean::Pod, meta};

use super::{revision, scale, status};
use crate::common::pods;

pub struct Observed<'a> {
    pub deployment: &'a Deployment,
    /// Those that belong to it, deleted ones included.
    pub replica_sets: &'a [Arc<ReplicaSet>],
    pub pods_of: &'a dyn Fn(&ReplicaSet) -> Vec<Arc<Pod>>,
    pub now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(Box<ReplicaSet>),
    /// `scaled_from` is the size before, where the size changes.
    Update {
        set: Box<ReplicaSet>,
        scaled_from: Option<i32>,
    },
    Delete(Box<ReplicaSet>),
    /// The Deployment's `deployment.kubernetes.io/revision`.
    SetRevision(String),
    SetStatus(Box<DeploymentStatus>),
    LookAgain(Duration),
}

pub fn plan(observed: &Observed<'_>) -> Vec<Action> {
    let Observed { deployment, replica_sets, pods_of, now } = observed;
    let mut sets: Vec<ReplicaSet> = replica_sets.iter().map(|set| (**set).clone()).collect();
    // Oldest first, so that of several with the wished-for template the same one is always "new".
    sets.sort_by(scale::oldest_first);
    let position = sets.iter().position(|set| revision::same_template(deployment, set));
    let new = position.map(|position| sets.remove(position));
    let mut rollout = Rollout {
        deployment,
        new,
        old: sets,
        now: *now,
        actions: Vec::new(),
        base: deployment.status.clone().unwrap_or_default(),
    };

    if deployment.metadata.deletion_timestamp.is_some() {
        rollout.sync_status();
        return rollout.actions;
    }
    rollout.note_pause();
    if is_paused(deployment) || rollout.was_resized() {
        rollout.adopt_new_set(false);
        rollout.scale_proportionally();
        if is_paused(deployment) {
            rollout.clean_up();
        }
        rollout.sync_status();
    } else if is_recreate(deployment) {
        rollout.recreate(pods_of);
    } else {
        rollout.roll();
    }
    rollout.actions
}

pub fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
}

/// The state of a rollout while it is planned: what was planned already shows in `new` and `old`.
struct Rollout<'a> {
    deployment: &'a Deployment,
    /// The set with the wished-for template.
    new: Option<ReplicaSet>,
    /// All others, oldest first.
    old: Vec<ReplicaSet>,
    now: Timestamp,
    actions: Vec<Action>,
    /// The status so far; conditions are set on the way.
    base: DeploymentStatus,
}

impl Rollout<'_> {
    fn wanted(&self) -> i32 {
        scale::wanted(self.deployment)
    }

    fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old.iter().chain(&self.new)
    }

    fn roll(&mut self) {
        self.adopt_new_set(true);
        if !self.scale_new_up() {
            self.scale_old_down();
        }
        self.finish();
    }

    fn recreate(&mut self, pods_of: &dyn Fn(&ReplicaSet) -> Vec<Arc<Pod>>) {
        self.adopt_new_set(false);
        let mut scaled = false;
        for index in 0..self.old.len() {
            scaled |= self.scale_old(index, 0);
        }
        let runs = |pod: &Arc<Pod>| !pods::is_terminal(pod);
        if scaled || self.old.iter().any(|set| pods_of(set).iter().any(runs)) {
            return self.sync_status();
        }
        self.adopt_new_set(true);
        self.scale_new_to(self.wanted());
        self.finish();
    }

    fn finish(&mut self) {
        if status::is_complete(self.deployment, &self.base_status()) {
            self.clean_up();
        }
        self.sync_status();
    }

    /// Brings the new set's annotations up to date; makes it where it is missing and `create` says so.
    fn adopt_new_set(&mut self, create: bool) {
        let last_revision = self.old.iter().map(revision::of).max().unwrap_or(0);
        let name;
        let found = match &mut self.new {
            Some(set) => {
                let before = set.clone();
                revision::annotate(self.deployment, set, last_revision + 1, true);
                let min_ready = self.deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds);
                if let Some(spec) =
                    set.spec.as_mut().filter(|spec| spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0))
                {
                    spec.min_ready_seconds = min_ready;
                }
                if *set != before {
                    self.actions.push(Action::Update { set: Box::new(set.clone()), scaled_from: None });
                    // Its resourceVersion is outdated by that; the update's event brings the next reconciliation.
                }
                name = meta::name(&set.metadata).to_owned();
                true
            }
            None if create => {
                let mut set = revision::new_set(self.deployment);
                revision::annotate(self.deployment, &mut set, last_revision + 1, false);
                let size = scale::new_size(self.deployment, self.all().map(scale::replicas).sum(), 0);
                scale::resize(self.deployment, &mut set, size);
                self.actions.push(Action::Create(Box::new(set.clone())));
                name = meta::name(&set.metadata).to_owned();
                self.new = Some(set);
                false
            }
            None => return,
        };
        if let Some(revision) = self.new.as_ref().and_then(|set| meta::annotation(&set.metadata, revision::REVISION))
            && meta::annotation(&self.deployment.metadata, revision::REVISION) != Some(revision)
        {
            self.actions.push(Action::SetRevision(revision.to_owned()));
        }
        if status::has_deadline(self.deployment) {
            status::note_new_set(&mut self.base, &name, found, self.now);
        }
    }

    /// True where the new set's size changed.
    fn scale_new_up(&mut self) -> bool {
        let Some(new) = &self.new else { return false };
        let (size, wanted) = (scale::replicas(new), self.wanted());
        let target = if size > wanted {
            wanted
        } else {
            scale::new_size(self.deployment, self.all().map(scale::replicas).sum(), size)
        };
        self.scale_new_to(target)
    }

    fn scale_old_down(&mut self) {
        let limits = scale::Limits::of(self.deployment);
        let min_available = self.wanted() - limits.max_unavailable;
        let all: i32 = self.all().map(scale::replicas).sum();
        let new_unavailable = self.new.as_ref().map_or(0, |new| scale::replicas(new) - scale::available(new));
        let mut may_go = all - min_available - new_unavailable;
        if may_go <= 0 || self.old.iter().all(|set| scale::replicas(set) == 0) {
            return;
        }
        // Pods that serve nobody go first: taking them away takes nothing from the users.
        for index in 0..self.old.len() {
            let (size, available) = (scale::replicas(&self.old[index]), scale::available(&self.old[index]));
            let down = (size - available).clamp(0, may_go.max(0));
            if down > 0 && self.scale_old(index, size - down) {
                may_go -= down;
            }
        }
        let available: i32 = self.all().map(scale::available).sum();
        let mut may_go = available - min_available;
        for index in 0..self.old.len() {
            let size = scale::replicas(&self.old[index]);
            let down = size.min(may_go);
            if down > 0 && self.scale_old(index, size - down) {
                may_go -= down;
            }
        }
    }

    /// Somebody changed `spec.replicas` since the sets were sized.
    fn was_resized(&self) -> bool {
        let desired = |set: &ReplicaSet| meta::annotation(&set.metadata, scale::DESIRED)?.parse::<i32>().ok();
        let active = self.all().filter(|set| scale::replicas(set) > 0);
        active.filter_map(desired).any(|desired| desired != self.wanted())
    }

    /// Spreads a change of size over the sets there are, in proportion, without moving the rollout on.
    fn scale_proportionally(&mut self) {
        for (is_new, index, size) in scale::proportional(self.deployment, self.new.as_ref(), &self.old) {
            if is_new {
                self.scale_new_to(size)
            } else {
                self.scale_old(index, size)
            };
        }
    }

    fn scale_new_to(&mut self, size: i32) -> bool {
        let Some(new) = &mut self.new else { return false };
        scale_set(self.deployment, new, size, &mut self.actions)
    }

    fn scale_old(&mut self, index: usize, size: i32) -> bool {
        scale_set(self.deployment, &mut self.old[index], size, &mut self.actions)
    }

    /// Deletes the oldest empty sets beyond `revisionHistoryLimit`.
    fn clean_up(&mut self) {
        let Some(limit) = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit) else { return };
        let mut alive: Vec<_> = self.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
        let excess = alive.len().saturating_sub(limit.max(0) as usize);
        alive.sort_by_key(|set| revision::of(set));
        let is_empty = |set: &&&ReplicaSet| {
            let status = set.status.clone().unwrap_or_default();
            status.replicas == 0 && scale::replicas(set) == 0 && set.metadata.generation <= status.observed_generation
        };
        let deletions = alive.iter().take(excess).filter(is_empty).map(|set| Action::Delete(Box::new((**set).clone())));
        self.actions.extend(deletions);
    }

    fn note_pause(&mut self) {
        if status::has_deadline(self.deployment) {
            status::note_pause(&mut self.base, is_paused(self.deployment), self.now);
        }
    }

    fn base_status(&self) -> DeploymentStatus {
        let (new, old): (_, Vec<_>) = (self.new.as_ref(), self.old.iter().collect());
        status::count(self.deployment, &self.base, new, &old, self.now)
    }

    fn sync_status(&mut self) {
        let mut status = self.base_status();
        let alive = self.deployment.metadata.deletion_timestamp.is_none() && !is_paused(self.deployment);
        if alive {
            status::note_progress(self.deployment, &mut status, self.new.as_ref(), self.now);
        }
        status::note_failure(&mut status, self.new.as_ref(), &self.old, self.now);
        let again = if alive { status::look_again(self.deployment, &status, self.now) } else { None };
        if self.deployment.status.as_ref() != Some(&status) {
            self.actions.push(Action::SetStatus(Box::new(status)));
        }
        self.actions.extend(again.map(Action::LookAgain));
    }
}

/// True where the set's size changed.
fn scale_set(deployment: &Deployment, set: &mut ReplicaSet, size: i32, actions: &mut Vec<Action>) -> bool {
    let before = scale::replicas(set);
    if !scale::resize(deployment, set, size) {
        return false;
    }
    let scaled_from = (before != size).then_some(before);
    // Of several changes to one set in one plan only the last is written: they are based on the same version.
    let same = |action: &&mut Action| match action {
        Action::Create(other) | Action::Update { set: other, .. } => other.metadata.name == set.metadata.name,
        _ => false,
    };
    match actions.iter_mut().find(same) {
        Some(Action::Create(earlier)) => **earlier = set.clone(),
        Some(Action::Update { set: earlier, scaled_from: first }) => {
            **earlier = set.clone();
            *first = first.or(scaled_from);
        }
        _ => actions.push(Action::Update { set: Box::new(set.clone()), scaled_from }),
    }
    before != size
}
