//! Whole histories of one level under a seed: requests arrive, end, lose patience and are reconfigured under way, and
//! after every step the books must balance. A failure prints its seed.

use std::{collections::BTreeMap, time::Duration};

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::queues::{Arrival, Granted, Machine, Queuing, Refusal, Seat, Ticket};

const QUEUING: Queuing = Queuing { queues: 64, hand: 6, length: 50 };

/// A request by its number.
type Id = u64;

#[derive(Default)]
struct Books {
    executing: BTreeMap<Id, Seat>,
    waiting: BTreeMap<Id, (Ticket, Duration)>,
    waited: BTreeMap<Id, Duration>,
    arrived: u64,
    served: u64,
    refused: u64,
    cancelled: u64,
}

impl Books {
    fn grant(&mut self, now: Duration, granted: Granted<Id>) {
        for (id, seat) in granted {
            let (_, since) = self.waiting.remove(&id).expect("only who waits is granted a seat, and once");
            self.waited.insert(id, now - since);
            self.executing.insert(id, seat);
        }
    }

    fn arrive(&mut self, machine: &mut Machine<Id>, now: Duration, flow: u64, width: u32) -> Id {
        self.arrived += 1;
        let (id, mut granted) = (self.arrived, Vec::new());
        match machine.arrive(now, flow, width, || id, &mut granted) {
            Arrival::Seated(seat) => {
                self.waited.insert(id, Duration::ZERO);
                self.executing.insert(id, seat);
            }
            Arrival::Waits(ticket) => {
                self.waiting.insert(id, (ticket, now));
            }
            Arrival::Refused(_) => self.refused += 1,
        }
        self.grant(now, granted);
        id
    }

    fn finish(&mut self, machine: &mut Machine<Id>, now: Duration, id: Id) {
        let Some(seat) = self.executing.remove(&id) else { return };
        let mut granted = Vec::new();
        machine.finish(now, seat, &mut granted);
        self.served += 1;
        self.grant(now, granted);
    }

    fn cancel(&mut self, machine: &mut Machine<Id>, now: Duration, id: Id) {
        let Some((ticket, _)) = self.waiting.remove(&id) else { return };
        let mut granted = Vec::new();
        assert!(machine.cancel(now, ticket, &mut granted), "who waits can leave");
        assert!(!machine.cancel(now, ticket, &mut granted), "and only once");
        self.cancelled += 1;
        self.grant(now, granted);
    }

    fn balance(&self, machine: &Machine<Id>, seed: u64) {
        let seats: u32 = self.executing.values().map(Seat::width).sum();
        let counted = (machine.executing() as usize, machine.waiting() as usize, machine.seats_taken());
        assert_eq!(counted, (self.executing.len(), self.waiting.len(), seats), "seed {seed}");
        let ended = self.served + self.refused + self.cancelled;
        assert_eq!(self.arrived, ended + counted.0 as u64 + counted.1 as u64, "seed {seed}");
    }
}

fn any<T: Copy>(map: &BTreeMap<Id, T>, random: &mut SmallRng) -> Option<Id> {
    (!map.is_empty()).then(|| *map.keys().nth(random.random_range(0..map.len())).unwrap())
}

fn any_executing(books: &Books, random: &mut SmallRng) -> Option<Id> {
    let ids: Vec<Id> = books.executing.keys().copied().collect();
    (!ids.is_empty()).then(|| ids[random.random_range(0..ids.len())])
}

/// One history of arbitrary steps; everybody who waits in the end is served.
fn history(seed: u64) {
    let random = &mut SmallRng::seed_from_u64(seed);
    let (mut machine, mut books, mut now) = (Machine::new(QUEUING, 20), Books::default(), Duration::ZERO);
    let mut limit = 20;
    for _ in 0..3_000 {
        now += Duration::from_micros(random.random_range(0..5_000));
        match random.random_range(0..100) {
            0..55 => {
                let width = if random.random_bool(0.1) { random.random_range(1..30) } else { 1 };
                let flow = random.random_range(0_u64..8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                books.arrive(&mut machine, now, flow, width);
            }
            55..92 => {
                if let Some(id) = any_executing(&books, random) {
                    books.finish(&mut machine, now, id);
                }
            }
            92..97 => {
                if let Some(id) = any(&books.waiting, random) {
                    books.cancel(&mut machine, now, id);
                }
            }
            _ => {
                limit = random.random_range(0..40);
                let queues = if random.random_bool(0.2) { 0 } else { random.random_range(1..100) };
                let queuing = Queuing { queues, hand: 6.min(queues as usize), length: random.random_range(1..60) };
                let mut granted = Vec::new();
                machine.configure(now, queuing, limit, &mut granted);
                books.grant(now, granted);
            }
        }
        books.balance(&machine, seed);
    }
    let mut granted = Vec::new();
    machine.set_limit(now, limit.max(1), &mut granted);
    books.grant(now, granted);
    while let Some(id) = books.executing.keys().next().copied() {
        now += Duration::from_millis(1);
        books.finish(&mut machine, now, id);
        books.balance(&machine, seed);
    }
    assert!(books.waiting.is_empty(), "seed {seed}: somebody waits for ever");
    assert_eq!(machine.seats_taken(), 0, "seed {seed}");
}

#[test]
fn no_seat_is_lost_and_nobody_waits_for_ever() {
    (0..150).for_each(history);
}

/// A flood beside a quiet user who sends one request every 50 ms; the longest that the quiet one waited.
fn beside_a_flood(seed: u64, flood: u64, quiet: u64) -> Duration {
    let random = &mut SmallRng::seed_from_u64(seed);
    let (mut machine, mut books) = (Machine::new(QUEUING, 10), Books::default());
    let mut ends: Vec<(Duration, Id)> = Vec::new();
    let (mut own, mut refused) = (Vec::new(), 0);
    for step in 0..20_000_u64 {
        let now = Duration::from_micros(100 * step);
        // Ten seats and five milliseconds each are two thousand a second; the flood is ten thousand.
        books.arrive(&mut machine, now, flood, 1);
        if step % 500 == 0 {
            let before = books.refused;
            own.push(books.arrive(&mut machine, now, quiet, 1));
            refused += books.refused - before;
        }
        for id in books.executing.keys() {
            if !ends.iter().any(|(_, known)| known == id) {
                ends.push((now + Duration::from_micros(random.random_range(4_000..6_000)), *id));
            }
        }
        let due: Vec<Id> = ends.extract_if(.., |(end, _)| *end <= now).map(|(_, id)| id).collect();
        due.into_iter().for_each(|id| books.finish(&mut machine, now, id));
        books.balance(&machine, seed);
    }
    assert_eq!(refused, 0, "seed {seed}: the quiet user is refused for the flood");
    assert!(books.refused > 10_000, "seed {seed}: the flood is refused for itself");
    let unserved = own.iter().filter(|id| !books.waited.contains_key(id)).count();
    assert!(unserved <= 1, "seed {seed}: {unserved} requests of the quiet user were not served");
    own.iter().filter_map(|id| books.waited.get(id)).max().copied().unwrap_or_default()
}

#[test]
fn a_flood_makes_nobody_else_wait_long() {
    for seed in 0..20_u64 {
        let (flood, quiet) = (seed.wrapping_mul(0xa076_1d64_78bd_642f), !seed.wrapping_mul(0xe703_7ed1_a0b4_28db));
        let longest = beside_a_flood(seed, flood, quiet);
        // The flood's own wait is six queues of fifty, at two thousand a second: 150 ms.
        assert!(longest < Duration::from_millis(15), "seed {seed}: the quiet user waited {longest:?}");
    }
}

#[test]
fn wide_requests_pay_for_their_width() {
    let (mut machine, mut books) = (Machine::new(QUEUING, 10), Books::default());
    let (wide, narrow) = (1, u64::MAX / 3);
    let mut held = [0_u32; 2];
    for step in 0..4_000_u64 {
        let now = Duration::from_millis(step);
        for (flow, width) in [(wide, 5), (narrow, 1)] {
            for _ in 0..3 {
                books.arrive(&mut machine, now, flow, width);
            }
        }
        // What is fair is the time that seats are held, however many requests that is.
        for seat in books.executing.values() {
            held[usize::from(seat.width() == 1)] += seat.width();
        }
        if let Some(id) = books.executing.keys().next().copied() {
            books.finish(&mut machine, now, id);
        }
    }
    books.balance(&machine, 0);
    let ratio = f64::from(held[0]) / f64::from(held[1]);
    assert!((0.4..2.5).contains(&ratio), "seats of wide and of narrow requests: {held:?}");
}

#[test]
fn a_level_that_rejects_has_no_queue() {
    let (mut machine, mut granted) = (Machine::<Id>::new(Queuing::REJECT, 2), Vec::new());
    let at = Duration::from_millis;
    let one = machine.arrive(at(0), 1, 1, || unreachable!("nobody waits"), &mut granted);
    let Arrival::Seated(seat) = one else { panic!("{one:?}") };
    let wide = machine.arrive(at(1), 1, 2, || unreachable!(), &mut granted);
    assert_eq!(wide, Arrival::Refused(Refusal::ConcurrencyLimit));
    machine.finish(at(2), seat, &mut granted);
    // What is wider than the level goes alone.
    assert!(matches!(machine.arrive(at(3), 1, 9, || unreachable!(), &mut granted), Arrival::Seated(_)));
    let next = machine.arrive(at(3), 1, 1, || unreachable!(), &mut granted);
    assert_eq!(next, Arrival::Refused(Refusal::ConcurrencyLimit));
}
