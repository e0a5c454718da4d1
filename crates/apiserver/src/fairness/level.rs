//! A priority level at work: the machine behind a lock that is never held across a wait, and places that give
//! themselves back however a request ends.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    borrow::{Bounds, Terms},
    counters::{Counters, Outcome},
    demand::Observed,
    queues::{Arrival, Machine, Queuing, Refusal, Seat, Ticket},
};

/// What a PriorityLevelConfiguration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelConfig {
    pub exempt: bool,
    pub terms: Terms,
    pub queuing: Queuing,
}

type Waiter = oneshot::Sender<Held>;

pub struct Level {
    pub name: Box<str>,
    epoch: Instant,
    machine: Mutex<Machine<Waiter>>,
    nominal: AtomicU32,
    lower: AtomicU32,
    upper: AtomicU32,
    current: AtomicU32,
}

impl Level {
    pub fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            epoch: Instant::now(),
            machine: Mutex::new(Machine::new(Queuing::REJECT, 0)),
            nominal: AtomicU32::new(0),
            lower: AtomicU32::new(0),
            upper: AtomicU32::new(0),
            current: AtomicU32::new(0),
        })
    }

    /// Waits for a place, at most for `patience`. Free seats are taken without waiting, and without allocation.
    pub async fn enter(
        self: &Arc<Self>,
        counters: &Arc<Counters>,
        flow: u64,
        width: u32,
        patience: Duration,
    ) -> Result<Place, Outcome> {
        let mut answer = None;
        let waiter = || {
            let (send, receive) = oneshot::channel();
            answer = Some(receive);
            send
        };
        let mut granted = Vec::new();
        let now = Instant::now();
        let arrival = self.machine().arrive(now - self.epoch, flow, width, waiter, &mut granted);
        self.hand_out(granted);
        match (arrival, answer) {
            (Arrival::Seated(seat), _) => {
                counters.waited(Duration::ZERO, Outcome::Executed);
                Ok(Place::new(Held { level: self.clone(), seat: Some(seat) }, counters.clone(), now))
            }
            (Arrival::Waits(ticket), Some(receive)) => {
                let waiting = Waits { level: self, counters, ticket: Some(ticket), since: now, receive };
                waiting.until(patience).await
            }
            (Arrival::Refused(Refusal::ConcurrencyLimit), _) => Err(counters.refused(Outcome::ConcurrencyLimit)),
            // A request that waits has somebody to tell.
            (Arrival::Refused(Refusal::QueueFull) | Arrival::Waits(_), _) => Err(counters.refused(Outcome::QueueFull)),
        }
    }

    pub fn configure(self: &Arc<Self>, config: LevelConfig, bounds: Bounds) {
        let is_new = self.current() == 0 && self.bounds() == Bounds::default();
        self.nominal.store(bounds.nominal, Ordering::Relaxed);
        self.lower.store(bounds.lower, Ordering::Relaxed);
        self.upper.store(bounds.upper, Ordering::Relaxed);
        let seats = if is_new { bounds.nominal } else { self.current().clamp(bounds.lower, bounds.upper) };
        self.current.store(seats, Ordering::Relaxed);
        let limit = if config.exempt { u32::MAX } else { seats };
        let mut granted = Vec::new();
        self.machine().configure(self.epoch.elapsed(), config.queuing, limit, &mut granted);
        self.hand_out(granted);
    }

    /// Lends or borrows. What is exempt is not limited by it.
    pub fn set_seats(self: &Arc<Self>, exempt: bool, seats: u32) {
        self.current.store(seats, Ordering::Relaxed);
        if exempt {
            return;
        }
        let mut granted = Vec::new();
        self.machine().set_limit(self.epoch.elapsed(), seats, &mut granted);
        self.hand_out(granted);
    }

    pub fn take_demand(&self) -> Observed {
        self.machine().take_demand(self.epoch.elapsed())
    }

    pub fn bounds(&self) -> Bounds {
        Bounds {
            nominal: self.nominal.load(Ordering::Relaxed),
            lower: self.lower.load(Ordering::Relaxed),
            upper: self.upper.load(Ordering::Relaxed),
        }
    }

    pub fn current(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }

    fn machine(&self) -> MutexGuard<'_, Machine<Waiter>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those who have seats now. The lock is free by then: a waiter that has gone gives its seat back at once.
    fn hand_out(self: &Arc<Self>, granted: Vec<(Waiter, Seat)>) {
        for (waiter, seat) in granted {
            drop(waiter.send(Held { level: self.clone(), seat: Some(seat) }));
        }
    }
}

/// A seat wherever it is: in a request's hands, or on its way there when the request is dropped.
struct Held {
    level: Arc<Level>,
    seat: Option<Seat>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        let mut granted = Vec::new();
        self.level.machine().finish(self.level.epoch.elapsed(), seat, &mut granted);
        self.level.hand_out(granted);
    }
}

/// A request that waits. However its waiting ends, it leaves the queue.
struct Waits<'a> {
    level: &'a Arc<Level>,
    counters: &'a Arc<Counters>,
    /// `None` once it is out of the queue.
    ticket: Option<Ticket>,
    since: Instant,
    receive: oneshot::Receiver<Held>,
}

impl Waits<'_> {
    async fn until(mut self, patience: Duration) -> Result<Place, Outcome> {
        self.counters.queued(1);
        let outcome = timeout(patience, &mut self.receive).await;
        let held = match outcome {
            Ok(Ok(held)) => Some(held),
            // The time is up; a seat that came in this very moment is taken all the same.
            Ok(Err(_)) | Err(_) => match self.leave() {
                true => None,
                false => self.receive.try_recv().ok(),
            },
        };
        self.ticket = None;
        self.counters.queued(-1);
        let waited = self.since.elapsed();
        let Some(held) = held else {
            self.counters.waited(waited, Outcome::TimeOut);
            return Err(self.counters.refused(Outcome::TimeOut));
        };
        self.counters.waited(waited, Outcome::Executed);
        Ok(Place::new(held, self.counters.clone(), Instant::now()))
    }

    /// True where it was still waiting.
    fn leave(&mut self) -> bool {
        let Some(ticket) = self.ticket.take() else { return false };
        let mut granted = Vec::new();
        let left = self.level.machine().cancel(self.level.epoch.elapsed(), ticket, &mut granted);
        self.level.hand_out(granted);
        left
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        // Only a request whose client has gone is dropped before its wait has ended.
        if self.ticket.is_some() {
            self.leave();
            self.counters.queued(-1);
            self.counters.waited(self.since.elapsed(), Outcome::Cancelled);
            self.counters.refused(Outcome::Cancelled);
        }
    }
}

/// The right to be worked on, until it is dropped.
pub struct Place {
    held: Held,
    counters: Arc<Counters>,
    since: Instant,
}

impl Place {
    fn new(held: Held, counters: Arc<Counters>, since: Instant) -> Self {
        counters.started(held.seat.as_ref().map_or(0, Seat::width));
        Self { held, counters, since }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.ended(self.held.seat.as_ref().map_or(0, Seat::width), self.since.elapsed());
    }
}
