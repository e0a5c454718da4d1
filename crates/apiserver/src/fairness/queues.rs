//! The queues of one priority level, as a machine that is given the time and does nothing by itself.
//!
//! Fair queuing of requests, as upstream has it: time is counted in seat-seconds that each busy queue was due, and
//! the queue is served next whose oldest request would be done first by that count. A request is taken to last
//! [`GUESS`] until it has ended and its real duration is known. A flow that asks for more than its share therefore
//! waits behind its own requests and not in front of others'.
//!
//! Only queues that hold a request exist, so that ten million of them cost nothing, and taking a seat while there are
//! free ones and nobody waits touches one of them and allocates nothing.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{
    demand::{Demand, Observed},
    hand::Hand,
};

/// What a request is taken to last before anybody knows.
pub const GUESS: Duration = Duration::from_millis(3);

/// Seat-nanoseconds; wide enough for any time a server may run.
type Virtual = i128;

/// What a level does with what it cannot take at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queuing {
    /// None: what is too much is refused.
    pub queues: u32,
    pub hand: usize,
    pub length: usize,
}

impl Queuing {
    pub const REJECT: Self = Self { queues: 0, hand: 0, length: 0 };
}

/// A place at work, to be handed back to [`Machine::finish`].
#[derive(Debug, PartialEq, Eq)]
pub struct Seat {
    queue: Option<u32>,
    width: u32,
    since: Duration,
}

impl Seat {
    pub fn width(&self) -> u32 {
        self.width
    }
}

/// Names a request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    queue: u32,
    number: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The request may be worked on.
    Seated(Seat),
    /// Its payload comes back with a seat, unless it is cancelled before.
    Waits(Ticket),
    /// Neither a seat nor room in a queue.
    Refused(Refusal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    QueueFull,
    ConcurrencyLimit,
}

/// What waited and now has a seat.
pub type Granted<W> = Vec<(W, Seat)>;

struct Waiting<W> {
    number: u64,
    width: u32,
    arrived: Virtual,
    payload: W,
}

struct Queue<W> {
    waiting: VecDeque<Waiting<W>>,
    executing: u32,
    seats_waited_for: u64,
    /// When the next request begins, by the count of this queue's own work.
    next: Virtual,
}

impl<W> Queue<W> {
    fn starting_at(next: Virtual) -> Self {
        Self { waiting: VecDeque::new(), executing: 0, seats_waited_for: 0, next }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.executing == 0
    }

    /// A queue that could not use what it was due does not save it up.
    fn never_begin_before_arrival(&mut self) {
        if let Some(oldest) = self.waiting.front() {
            self.next = self.next.max(oldest.arrived);
        }
    }
}

pub struct Machine<W> {
    queuing: Queuing,
    limit: u32,
    queues: HashMap<u32, Queue<W>>,
    /// What each busy queue was due so far.
    progress: Virtual,
    now: Duration,
    seats_taken: u32,
    seats_waited_for: u32,
    executing: u32,
    waiting: u32,
    numbers: u64,
    demand: Demand,
}

impl<W> Machine<W> {
    pub fn new(queuing: Queuing, limit: u32) -> Self {
        Self {
            queuing,
            limit,
            queues: HashMap::new(),
            progress: 0,
            now: Duration::ZERO,
            seats_taken: 0,
            seats_waited_for: 0,
            executing: 0,
            waiting: 0,
            numbers: 0,
            demand: Demand::default(),
        }
    }

    #[cfg(test)]
    pub fn executing(&self) -> u32 {
        self.executing
    }

    #[cfg(test)]
    pub fn waiting(&self) -> u32 {
        self.waiting
    }

    #[cfg(test)]
    pub fn seats_taken(&self) -> u32 {
        self.seats_taken
    }

    /// Takes in a request of a flow. `payload` is made only for one that waits; others may get seats with it.
    pub fn arrive(
        &mut self,
        now: Duration,
        flow: u64,
        width: u32,
        payload: impl FnOnce() -> W,
        granted: &mut Granted<W>,
    ) -> Arrival {
        self.advance(now);
        if self.queuing.queues == 0 {
            if !self.has_room_for(width) {
                return Arrival::Refused(Refusal::ConcurrencyLimit);
            }
            return Arrival::Seated(self.seat(None, width));
        }
        let index = self.choose(flow);
        let progress = self.progress;
        if self.waiting == 0 && self.seats_taken < self.limit && self.has_room_for(width) {
            self.queues.entry(index).or_insert_with(|| Queue::starting_at(progress));
            return Arrival::Seated(self.seat(Some(index), width));
        }
        let length = self.queues.get(&index).map_or(0, |queue| queue.waiting.len());
        if length >= self.queuing.length {
            return Arrival::Refused(Refusal::QueueFull);
        }
        self.numbers += 1;
        let number = self.numbers;
        let queue = self.queues.entry(index).or_insert_with(|| Queue::starting_at(progress));
        queue.waiting.push_back(Waiting { number, width, arrived: progress, payload: payload() });
        queue.seats_waited_for += u64::from(width);
        queue.never_begin_before_arrival();
        self.waiting += 1;
        self.seats_waited_for = self.seats_waited_for.saturating_add(width);
        self.note_demand();
        self.dispatch(granted);
        Arrival::Waits(Ticket { queue: index, number })
    }

    /// Takes a seat back and gives what is free to those who wait.
    pub fn finish(&mut self, now: Duration, seat: Seat, granted: &mut Granted<W>) {
        self.advance(now);
        let Seat { queue, width, since } = seat;
        self.executing -= 1;
        self.seats_taken -= width;
        if let Some((index, queue)) = queue.and_then(|index| Some((index, self.queues.get_mut(&index)?))) {
            queue.executing -= 1;
            // It was charged for a guess; now it is charged for what it was.
            queue.next += work(width, now.saturating_sub(since)) - work(width, GUESS);
            queue.never_begin_before_arrival();
            if queue.is_idle() {
                self.queues.remove(&index);
            }
        }
        self.note_demand();
        self.dispatch(granted);
    }

    /// Lets a request go that waited long enough, or whose client did. False where it has its seat already.
    pub fn cancel(&mut self, now: Duration, ticket: Ticket, granted: &mut Granted<W>) -> bool {
        self.advance(now);
        let Some(queue) = self.queues.get_mut(&ticket.queue) else { return false };
        let Some(place) = queue.waiting.iter().position(|waiting| waiting.number == ticket.number) else {
            return false;
        };
        let width = queue.waiting.remove(place).map_or(0, |waiting| waiting.width);
        queue.seats_waited_for -= u64::from(width);
        queue.never_begin_before_arrival();
        if queue.is_idle() {
            self.queues.remove(&ticket.queue);
        }
        self.waiting -= 1;
        self.seats_waited_for -= width;
        self.note_demand();
        // It may have been what kept narrower ones from going first.
        self.dispatch(granted);
        true
    }

    /// Another limit or other queues. Those who wait keep their places, and those who work their seats.
    pub fn configure(&mut self, now: Duration, queuing: Queuing, limit: u32, granted: &mut Granted<W>) {
        self.advance(now);
        self.queuing = queuing;
        self.limit = limit;
        self.dispatch(granted);
    }

    pub fn set_limit(&mut self, now: Duration, limit: u32, granted: &mut Granted<W>) {
        self.configure(now, self.queuing, limit, granted);
    }

    /// Ends a period of observation.
    pub fn take_demand(&mut self, now: Duration) -> Observed {
        self.demand.take(now)
    }

    /// Each busy queue is due an equal part of the seats that can be used.
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.now);
        self.now = self.now.max(now);
        if !self.queues.is_empty() {
            let seats = self.seats_taken.saturating_add(self.seats_waited_for).min(self.limit);
            self.progress += work(seats, passed) / self.queues.len() as Virtual;
        }
    }

    /// Of the queues that the flow was dealt the one with the least before it. Which is asked first goes round, so
    /// that flows whose hands overlap do not all meet in the lowest number.
    fn choose(&self, flow: u64) -> u32 {
        let hand = Hand::deal(flow, self.queuing.queues, self.queuing.hand);
        let cards = hand.cards();
        let Some(first) = cards.len().checked_sub(1).map(|last| self.numbers as usize % (last + 1)) else { return 0 };
        if self.waiting == 0 {
            return cards[first];
        }
        let ahead = |index: &u32| self.queues.get(index).map_or(0, |queue| queue.seats_waited_for);
        let (before, after) = cards.split_at(first);
        after.iter().chain(before).copied().min_by_key(ahead).unwrap_or_default()
    }

    fn has_room_for(&self, width: u32) -> bool {
        // What is wider than the whole level goes alone: it would wait for ever otherwise.
        if width > self.limit { self.executing == 0 } else { self.seats_taken + width <= self.limit }
    }

    fn seat(&mut self, index: Option<u32>, width: u32) -> Seat {
        self.executing += 1;
        self.seats_taken += width;
        if let Some(queue) = index.and_then(|index| self.queues.get_mut(&index)) {
            queue.executing += 1;
            queue.next += work(width, GUESS);
        }
        self.note_demand();
        Seat { queue: index, width, since: self.now }
    }

    fn dispatch(&mut self, granted: &mut Granted<W>) {
        while self.waiting > 0 && self.seats_taken < self.limit {
            let next = self.queues.iter().filter_map(|(index, queue)| {
                let oldest = queue.waiting.front()?;
                // Among equals who came first; the order of a map must not decide.
                Some((queue.next + work(oldest.width, GUESS), oldest.number, oldest.width, *index))
            });
            let Some((_, _, width, index)) = next.min() else { return };
            if !self.has_room_for(width) {
                return;
            }
            let Some(waiting) = self.queues.get_mut(&index).and_then(|queue| queue.waiting.pop_front()) else { return };
            self.waiting -= 1;
            self.seats_waited_for -= width;
            let seat = self.seat(Some(index), width);
            if let Some(queue) = self.queues.get_mut(&index) {
                queue.seats_waited_for -= u64::from(width);
                queue.never_begin_before_arrival();
            }
            granted.push((waiting.payload, seat));
        }
    }

    fn note_demand(&mut self) {
        self.demand.set(self.now, f64::from(self.seats_taken) + f64::from(self.seats_waited_for));
    }
}

fn work(width: u32, time: Duration) -> Virtual {
    // Nanoseconds of centuries fit.
    Virtual::from(width) * time.as_nanos() as Virtual
}
