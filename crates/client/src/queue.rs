//! A work queue of keys: each key at most once, never worked on twice at the same time, later or with backoff on
//! wish. Its size is bounded by the number of distinct keys, that is by the objects in the caches that feed it.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// client-go's default item limiter: 5 ms, doubling, up to 1000 s.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const LAST_BACKOFF: Duration = Duration::from_secs(1000);

/// Cheap to clone; all clones are the same queue.
pub struct WorkQueue<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for WorkQueue<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    wake: Notify,
    cancel: CancellationToken,
    backoff: (Duration, Duration),
}

struct State<T> {
    /// Waiting for a worker, in order of arrival.
    ready: VecDeque<T>,
    /// In `ready`, or to be put there once its worker is done.
    dirty: HashSet<T>,
    processing: HashSet<T>,
    /// Times in the heap may be outdated; `due` has the one that counts.
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    delayed_items: HashMap<u64, T>,
    due: HashMap<T, (Instant, u64)>,
    sequence: u64,
    failures: HashMap<T, u32>,
}

impl<T: Clone + Eq + Hash> WorkQueue<T> {
    /// A queue that ends (see [`WorkQueue::get`]) when `cancel` is cancelled.
    pub fn new(cancel: CancellationToken) -> Self {
        Self::with_backoff(cancel, FIRST_BACKOFF, LAST_BACKOFF)
    }

    pub fn with_backoff(cancel: CancellationToken, first: Duration, last: Duration) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BinaryHeap::new(),
            delayed_items: HashMap::new(),
            due: HashMap::new(),
            sequence: 0,
            failures: HashMap::new(),
        };
        let shared = Shared { state: Mutex::new(state), wake: Notify::new(), cancel, backoff: (first, last) };
        Self { shared: Arc::new(shared) }
    }

    pub fn cancellation(&self) -> &CancellationToken {
        &self.shared.cancel
    }

    pub fn add(&self, item: T) {
        if self.state().add(item) {
            self.shared.wake.notify_one();
        }
    }

    /// Adds after a delay; of several delays of one item the shortest counts.
    pub fn add_after(&self, item: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(item);
        }
        let due = Instant::now() + delay;
        let mut state = self.state();
        if state.due.get(&item).is_some_and(|(earlier, _)| *earlier <= due) {
            return;
        }
        state.sequence += 1;
        let sequence = state.sequence;
        if let Some((_, outdated)) = state.due.insert(item.clone(), (due, sequence)) {
            state.delayed_items.remove(&outdated);
        }
        state.delayed_items.insert(sequence, item);
        state.delayed.push(Reverse((due, sequence)));
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Adds after the item's own backoff, which doubles until [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, item: T) {
        let (first, last) = self.shared.backoff;
        let failures = {
            let mut state = self.state();
            let count = state.failures.entry(item.clone()).or_insert(0);
            *count += 1;
            *count
        };
        let factor = 1u32.checked_shl(failures - 1).filter(|_| failures <= 31);
        let delay = factor.and_then(|f| first.checked_mul(f)).unwrap_or(last).min(last);
        self.add_after(item, delay);
    }

    /// The item went well: its backoff starts anew.
    pub fn forget(&self, item: &T) {
        self.state().failures.remove(item);
    }

    pub fn failures(&self, item: &T) -> u32 {
        self.state().failures.get(item).copied().unwrap_or(0)
    }

    /// The next item, to be given back with [`WorkQueue::done`]; `None` once cancelled.
    pub async fn get(&self) -> Option<T> {
        loop {
            if self.shared.cancel.is_cancelled() {
                return None;
            }
            let next_due = match self.state().take(Instant::now()) {
                Taken::Item { item, more } => {
                    if more {
                        self.shared.wake.notify_one();
                    }
                    return Some(item);
                }
                Taken::Nothing { next_due } => next_due,
            };
            let due = async {
                match next_due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = due => {}
                () = self.shared.cancel.cancelled() => {}
            }
        }
    }

    /// The worker is done with an item it got; was it added meanwhile, it is ready again.
    pub fn done(&self, item: &T) {
        let mut state = self.state();
        state.processing.remove(item);
        if state.dirty.contains(item) {
            state.ready.push_back(item.clone());
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// How many items wait for a worker now.
    pub fn len(&self) -> usize {
        self.state().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Taken<T> {
    Item { item: T, more: bool },
    Nothing { next_due: Option<Instant> },
}

impl<T: Clone + Eq + Hash> State<T> {
    /// True where a worker is to be woken.
    fn add(&mut self, item: T) -> bool {
        if !self.dirty.insert(item.clone()) || self.processing.contains(&item) {
            return false;
        }
        self.ready.push_back(item);
        true
    }

    fn take(&mut self, now: Instant) -> Taken<T> {
        let next_due = self.promote(now);
        let Some(item) = self.ready.pop_front() else {
            return Taken::Nothing { next_due };
        };
        self.dirty.remove(&item);
        self.processing.insert(item.clone());
        Taken::Item { item, more: !self.ready.is_empty() || next_due.is_some() }
    }

    /// Moves what is due to `ready`; answers when the next item is.
    fn promote(&mut self, now: Instant) -> Option<Instant> {
        while let Some(Reverse((due, sequence))) = self.delayed.peek().copied() {
            let outdated = !self.delayed_items.contains_key(&sequence);
            if !outdated && due > now {
                return Some(due);
            }
            self.delayed.pop();
            if let Some(item) = self.delayed_items.remove(&sequence) {
                self.due.remove(&item);
                self.add(item);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> WorkQueue<&'static str> {
        WorkQueue::new(CancellationToken::new())
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_added_twice_is_worked_on_once() {
        let queue = queue();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.get().await, Some("a"));
        assert_eq!(queue.get().await, Some("b"));
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_added_while_worked_on_comes_again_only_after_done() {
        let queue = queue();
        queue.add("a");
        assert_eq!(queue.get().await, Some("a"));
        queue.add("a");
        assert!(queue.is_empty());
        queue.done(&"a");
        assert_eq!(queue.get().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_shortest_delay_counts_and_order_is_by_time() {
        let queue = queue();
        let start = Instant::now();
        queue.add_after("late", Duration::from_secs(10));
        queue.add_after("soon", Duration::from_secs(5));
        queue.add_after("late", Duration::from_secs(2));
        queue.add_after("soon", Duration::from_secs(7));
        assert_eq!(queue.get().await, Some("late"));
        assert_eq!(start.elapsed().as_secs(), 2);
        assert_eq!(queue.get().await, Some("soon"));
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn backoff_doubles_is_capped_and_is_forgotten() {
        let queue = queue();
        let mut delays = Vec::new();
        for _ in 0..40 {
            let start = Instant::now();
            queue.add_rate_limited("a");
            queue.get().await;
            queue.done(&"a");
            delays.push(start.elapsed());
        }
        assert_eq!(delays[0], Duration::from_millis(5));
        assert_eq!(delays[1], Duration::from_millis(10));
        assert_eq!(delays[10], Duration::from_millis(5 << 10));
        assert_eq!(delays[39], LAST_BACKOFF);
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_wakes_every_worker() {
        let cancel = CancellationToken::new();
        let queue: WorkQueue<u8> = WorkQueue::new(cancel.clone());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.get().await })
            })
            .collect();
        tokio::task::yield_now().await;
        cancel.cancel();
        for worker in workers {
            assert_eq!(worker.await.ok(), Some(None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_reaches_all_workers() {
        let queue = WorkQueue::<u32>::new(CancellationToken::new());
        let got = Arc::new(Mutex::new(HashSet::new()));
        for _ in 0..8 {
            let (queue, got) = (queue.clone(), got.clone());
            tokio::spawn(async move {
                while let Some(item) = queue.get().await {
                    got.lock().unwrap().insert(item);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    queue.done(&item);
                }
            });
        }
        tokio::task::yield_now().await;
        (0..8).for_each(|i| queue.add(i));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(got.lock().unwrap().len(), 8, "all eight workers hold an item at once");
    }
}
