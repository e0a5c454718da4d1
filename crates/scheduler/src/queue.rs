//! The pods that wait for a node: ready to be tried, waiting out a backoff, or set aside until something happens
//! that may help them.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use knarr_client::lean::Pod;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    filter::Plugin,
    pod::{PodInfo, Uid},
};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// A pod set aside is tried again after this long even if nothing seems to have changed.
const MAX_ASIDE: Duration = Duration::from_secs(5 * 60);

/// What happened in the cluster, as far as it may help a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    NodeAdded,
    NodeRoom,
    NodeLabels,
    NodeTaints,
    /// A pod is new on a node, or its labels changed.
    PodPlaced,
    /// A pod left its node, or asks for less.
    PodGone,
    /// A claim, a volume or a storage class is there or differs.
    Storage,
    /// A claim, a class or a slice of devices is there or differs.
    Devices,
}

impl Happening {
    /// May a pod that this plugin refused fit now?
    fn helps(self, plugin: Plugin) -> bool {
        use Plugin::*;
        match self {
            Happening::NodeAdded => true,
            Happening::NodeRoom => plugin == Fit,
            Happening::NodeLabels => {
                matches!(plugin, Affinity | PodAffinity | Spread | Volumes | VolumeZones | Plugin::Devices)
            }
            Happening::NodeTaints => matches!(plugin, Taints | Unschedulable | Spread),
            Happening::PodPlaced => matches!(plugin, PodAffinity | Spread),
            Happening::PodGone => matches!(plugin, Fit | Ports | PodAffinity | Spread | VolumeUsers | VolumeLimits),
            Happening::Storage => matches!(plugin, Volumes | VolumeUsers | VolumeLimits | VolumeZones),
            Happening::Devices => plugin == Plugin::Devices,
        }
    }
}

/// The more important first; of equals, the one that waits longer.
type Order = (Reverse<i32>, u64, Uid);

struct Waiting {
    pod: Arc<PodInfo>,
    attempts: u32,
    place: Place,
    last_turn: Option<LastTurn>,
}

struct LastTurn {
    /// Comes once all that was decided about the pod before is written.
    written: oneshot::Receiver<Option<Arc<Pod>>>,
    superseded: Arc<AtomicBool>,
}

/// One writer's turn with a pod: what was decided about a pod is written in the order in which it was decided, or the
/// pod would go on telling of an obstacle that is long gone.
pub struct Turn {
    before: Option<oneshot::Receiver<Option<Arc<Pod>>>>,
    done: oneshot::Sender<Option<Arc<Pod>>>,
    superseded: Arc<AtomicBool>,
}

impl Turn {
    /// Waits for the writer before; answers with the pod as that one left it.
    pub async fn begin(&mut self) -> Option<Arc<Pod>> {
        let before = self.before.as_mut()?;
        before.await.ok().flatten()
    }

    /// Something else was decided meanwhile, which will be written next.
    pub fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }

    /// Lets the next go on. Whoever drops its turn does so too.
    pub fn end(self, left: Option<Arc<Pod>>) {
        // Nobody may be next.
        let _ = self.done.send(left);
    }
}

enum Place {
    Active(Order),
    /// Left when the backoff is over, or earlier when there is nothing else to do.
    Backoff(Order, Instant),
    /// Left when something happens that helps one of the plugins that refused.
    Aside {
        refused_by: Vec<Plugin>,
        since: Instant,
    },
    /// Left when the time has come, never earlier: the API server could not be asked, or would not have it.
    Failed {
        until: Instant,
    },
    /// Being decided about or bound.
    Taken,
}

#[derive(Default)]
pub struct Queue {
    pods: HashMap<Uid, Waiting>,
    active: BTreeSet<Order>,
    backoff: BTreeSet<Order>,
    aside: BTreeSet<Uid>,
    failed: BTreeSet<(Instant, Uid)>,
    sequence: u64,
}

impl Queue {
    /// A pod that has no node is new, or changed.
    pub fn set(&mut self, pod: Arc<PodInfo>, now: Instant) {
        let uid = pod.uid.clone();
        let Some(waiting) = self.pods.get_mut(&uid) else {
            self.pods.insert(uid.clone(), Waiting { pod, attempts: 0, place: Place::Taken, last_turn: None });
            return self.activate(&uid);
        };
        // A change of the pod's own wishes may help it; its status is what this scheduler itself writes.
        let claims = |pod: &PodInfo| pod.object.status.as_ref().and_then(|s| s.resource_claim_statuses.clone());
        let wishes = |pod: &PodInfo| (pod.object.spec.clone(), pod.labels.clone(), claims(pod));
        let changed = wishes(&waiting.pod) != wishes(&pod);
        waiting.pod = pod;
        if changed && matches!(waiting.place, Place::Aside { .. }) {
            self.back_off(&uid, now);
        }
    }

    /// The pod has a node, is gone, or has ended.
    pub fn remove(&mut self, uid: &str) {
        if let Some(waiting) = self.pods.remove(uid) {
            self.aside.remove(&waiting.pod.uid);
            self.unlist(&waiting.pod.uid, &waiting.place);
        }
    }

    /// The next pod to decide about. It stays known, to be given back or removed.
    pub fn take(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        let over = self.backoff.iter().filter(|order| self.is_over(order, now)).cloned().collect::<Vec<_>>();
        over.into_iter().for_each(|(_, _, uid)| self.activate(&uid));
        while self.failed.first().is_some_and(|(until, _)| *until <= now) {
            let Some((_, uid)) = self.failed.pop_first() else { break };
            self.activate(&uid);
        }
        // Rather than be idle, try one whose backoff is not over.
        let order = self.active.pop_first().or_else(|| self.backoff.pop_first())?;
        let waiting = self.pods.get_mut(&order.2)?;
        waiting.place = Place::Taken;
        waiting.attempts += 1;
        Some(waiting.pod.clone())
    }

    /// The turn to write what was just decided about a pod.
    pub fn turn(&mut self, uid: &str) -> Turn {
        let (done, written) = oneshot::channel();
        let superseded = Arc::new(AtomicBool::new(false));
        let own = LastTurn { written, superseded: superseded.clone() };
        let before = self.pods.get_mut(uid).and_then(|waiting| waiting.last_turn.replace(own));
        let before = before.map(|before| {
            before.superseded.store(true, Ordering::Relaxed);
            before.written
        });
        Turn { before, done, superseded }
    }

    /// No node takes the pod now, for these plugins' reasons.
    pub fn set_aside(&mut self, uid: &str, refused_by: Vec<Plugin>, now: Instant) {
        if let Some(waiting) = self.pods.get_mut(uid) {
            self.aside.insert(waiting.pod.uid.clone());
            waiting.place = Place::Aside { refused_by, since: now };
        }
    }

    /// Binding failed in a way that trying again may mend, after a while: whoever cannot be reached now is not
    /// reached sooner by being asked all the time.
    pub fn retry(&mut self, uid: &str, now: Instant) {
        let Some(waiting) = self.pods.get_mut(uid).filter(|waiting| matches!(waiting.place, Place::Taken)) else {
            return;
        };
        let until = now + backoff(waiting.attempts);
        waiting.place = Place::Failed { until };
        self.failed.insert((until, waiting.pod.uid.clone()));
    }

    /// When the next of those whose binding failed is to be tried again.
    pub fn next_retry(&self) -> Option<Instant> {
        self.failed.first().map(|(until, _)| *until)
    }

    pub fn notice(&mut self, happening: Happening, now: Instant) {
        let helps = |refused_by: &[Plugin]| refused_by.is_empty() || refused_by.iter().any(|p| happening.helps(*p));
        self.wake(now, |place| matches!(place, Place::Aside { refused_by, .. } if helps(refused_by)));
    }

    /// Tries again what was set aside long ago: a happening may have been judged wrongly.
    pub fn wake_overdue(&mut self, now: Instant) {
        let is_overdue = |since: Instant| now.duration_since(since) >= MAX_ASIDE;
        self.wake(now, |place| matches!(place, Place::Aside { since, .. } if is_overdue(*since)));
    }

    fn wake(&mut self, now: Instant, which: impl Fn(&Place) -> bool) {
        let is_wanted = |uid: &&Uid| self.pods.get(*uid).is_some_and(|waiting| which(&waiting.place));
        let wanted: Vec<_> = self.aside.iter().filter(is_wanted).cloned().collect();
        wanted.iter().for_each(|uid| self.back_off(uid, now));
    }

    pub fn has_work(&self) -> bool {
        !self.active.is_empty() || !self.backoff.is_empty()
    }

    fn activate(&mut self, uid: &Uid) {
        self.sequence += 1;
        let sequence = self.sequence;
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        let earlier = match &waiting.place {
            Place::Backoff(order, _) => Some(order.clone()),
            _ => None,
        };
        let order = earlier.clone().unwrap_or((Reverse(waiting.pod.priority), sequence, uid.clone()));
        waiting.place = Place::Active(order.clone());
        if let Some(order) = earlier {
            self.backoff.remove(&order);
        }
        self.active.insert(order);
    }

    fn back_off(&mut self, uid: &str, now: Instant) {
        self.sequence += 1;
        let sequence = self.sequence;
        let Some(waiting) = self.pods.get_mut(uid) else { return };
        self.aside.remove(&waiting.pod.uid);
        let order = (Reverse(waiting.pod.priority), sequence, waiting.pod.uid.clone());
        waiting.place = Place::Backoff(order.clone(), now + backoff(waiting.attempts));
        self.backoff.insert(order);
    }

    fn is_over(&self, order: &Order, now: Instant) -> bool {
        self.pods.get(&order.2).is_some_and(|w| matches!(w.place, Place::Backoff(_, until) if until <= now))
    }

    fn unlist(&mut self, uid: &Uid, place: &Place) {
        match place {
            Place::Failed { until } => drop(self.failed.remove(&(*until, uid.clone()))),
            Place::Active(order) => drop(self.active.remove(order)),
            Place::Backoff(order, _) => drop(self.backoff.remove(order)),
            Place::Aside { .. } | Place::Taken => {}
        }
    }
}

fn backoff(attempts: u32) -> Duration {
    (FIRST_BACKOFF * 2u32.pow(attempts.saturating_sub(1).min(8))).min(LAST_BACKOFF)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: i32) -> Arc<PodInfo> {
        let value = json!({"metadata": {"name": name, "uid": name}, "spec": {"priority": priority, "containers": []}});
        Arc::new(PodInfo::of(Arc::new(serde_json::from_value(value).unwrap())))
    }

    fn take(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.take(now).map(|pod| pod.name.clone())
    }

    #[tokio::test(start_paused = true)]
    async fn important_first_then_first_come() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for (name, priority) in [("a", 0), ("b", 0), ("vip", 100), ("c", -1)] {
            queue.set(pod(name, priority), now);
        }
        queue.remove("b");
        let order: Vec<_> = std::iter::from_fn(|| take(&mut queue, now)).collect();
        assert_eq!(order, ["vip", "a", "c"]);
    }

    #[tokio::test(start_paused = true)]
    async fn aside_until_something_helps() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.set(pod("a", 0), now);
        take(&mut queue, now);
        queue.set_aside("a", vec![Plugin::Fit], now);
        for useless in [Happening::NodeLabels, Happening::NodeTaints, Happening::PodPlaced] {
            queue.notice(useless, now);
            assert_eq!(take(&mut queue, now), None, "{useless:?}");
        }
        queue.set(pod("a", 0), now);
        assert_eq!(take(&mut queue, now), None, "an update that changes nothing of the pod's wishes");
        queue.notice(Happening::PodGone, now);
        assert_eq!(take(&mut queue, now).as_deref(), Some("a"), "an idle scheduler does not wait for the backoff");
        queue.set_aside("a", vec![Plugin::Fit], now);
        now += MAX_ASIDE;
        queue.wake_overdue(now);
        assert_eq!(take(&mut queue, now).as_deref(), Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_waits_for_its_time_also_when_there_is_nothing_else_to_do() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.set(pod("a", 9), now);
        take(&mut queue, now);
        queue.retry("a", now);
        assert_eq!((take(&mut queue, now), queue.has_work()), (None, false));
        assert_eq!(queue.next_retry(), Some(now + FIRST_BACKOFF));
        queue.set(pod("b", 0), now);
        assert_eq!(take(&mut queue, now).as_deref(), Some("b"));
        queue.set(pod("c", 0), now);
        assert_eq!(take(&mut queue, now + FIRST_BACKOFF).as_deref(), Some("a"), "it is over");
        assert_eq!(take(&mut queue, now).as_deref(), Some("c"));
        queue.retry("a", now);
        queue.remove("a");
        assert_eq!(queue.next_retry(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_decided_first_is_written_first() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.set(pod("a", 0), now);
        let (mut first, mut second, mut third) = (queue.turn("a"), queue.turn("a"), queue.turn("a"));
        assert!(first.begin().await.is_none());
        assert_eq!([&first, &second, &third].map(Turn::is_superseded), [true, true, false]);
        let early = tokio::time::timeout(Duration::from_secs(60), second.begin()).await;
        assert!(early.is_err(), "the first is not written yet");
        first.end(None);
        drop(second);
        assert!(third.begin().await.is_none(), "nobody waits for one that was given up");
        let (fourth, mut fifth) = (queue.turn("a"), queue.turn("a"));
        let left = pod("left", 0).object.clone();
        fourth.end(Some(left.clone()));
        assert_eq!(fifth.begin().await, Some(left));
        queue.remove("a");
        assert!(queue.turn("a").begin().await.is_none(), "a pod that is gone keeps nobody waiting");
    }
}
