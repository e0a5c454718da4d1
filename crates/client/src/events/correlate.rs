//! Which events are repetitions. Follows client-go's EventCorrelator: the same event again raises a count; more
//! than ten alike (but for the message) within ten minutes become one "combined" event; a source that goes on and
//! on about one object is throttled (25 at once, then one in five minutes).

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;

use super::EventType;

/// How many things are remembered; beyond that the oldest half is forgotten, which costs a new Event object.
const MAX_REMEMBERED: usize = 4096;
const SIMILAR_LIMIT: usize = 10;
const SIMILAR_WINDOW: SignedDuration = SignedDuration::from_mins(10);
const SPAM_BURST: f64 = 25.0;
const SPAM_REFILL_SECONDS: f64 = 300.0;

/// An event as the component reported it.
pub(super) struct Observed {
    pub about: ObjectReference,
    pub kind: EventType,
    pub reason: String,
    pub message: String,
    pub annotations: BTreeMap<String, String>,
    pub component: &'static str,
    pub host: String,
    pub at: Timestamp,
}

/// What is to be written for it.
#[derive(Debug, PartialEq)]
pub(super) struct Correlated {
    /// The Event object that counts this.
    pub name: String,
    pub count: i32,
    pub first: Timestamp,
    pub reason: String,
    pub message: String,
}

#[derive(Default)]
pub(super) struct Correlator {
    written: HashMap<String, Written>,
    similar: HashMap<String, Similar>,
    tokens: HashMap<String, (f64, Timestamp)>,
}

struct Written {
    name: String,
    count: i32,
    first: Timestamp,
    last: Timestamp,
}

struct Similar {
    messages: Vec<String>,
    last: Timestamp,
}

impl Correlator {
    /// `None` where the source is throttled.
    pub fn observe(&mut self, observed: &Observed) -> Option<Correlated> {
        let Observed { kind, reason, message, at, .. } = observed;
        let place = observed.place();
        if !self.take_token(&place, *at) {
            return None;
        }
        let alike = format!("{place}|{kind:?}|{reason}");
        let (key, message) = if self.is_one_of_many(&alike, message, *at) {
            (alike, format!("(combined from similar events): {message}"))
        } else {
            (format!("{alike}|{message}"), message.clone())
        };
        // The number of those known keeps apart what happens at the same instant.
        let unique = at.as_nanosecond() + self.written.len() as i128;
        let new = || {
            let name = format!("{}.{unique:x}", observed.about.name.as_deref().unwrap_or_default());
            Written { name, count: 0, first: *at, last: *at }
        };
        let written = self.written.entry(key).or_insert_with(new);
        written.count += 1;
        written.last = *at;
        let correlated = Correlated {
            name: written.name.clone(),
            count: written.count,
            first: written.first,
            reason: reason.clone(),
            message,
        };
        forget_half(&mut self.written, |written| written.last);
        Some(correlated)
    }

    fn is_one_of_many(&mut self, alike: &str, message: &str, at: Timestamp) -> bool {
        let similar = self.similar.entry(alike.to_owned()).or_insert(Similar { messages: Vec::new(), last: at });
        if at.duration_since(similar.last) > SIMILAR_WINDOW {
            similar.messages.clear();
        }
        similar.last = at;
        if similar.messages.len() < SIMILAR_LIMIT && !similar.messages.iter().any(|known| known == message) {
            similar.messages.push(message.to_owned());
        }
        let many = similar.messages.len() >= SIMILAR_LIMIT;
        forget_half(&mut self.similar, |similar| similar.last);
        many
    }

    fn take_token(&mut self, place: &str, at: Timestamp) -> bool {
        let (tokens, since) = self.tokens.entry(place.to_owned()).or_insert((SPAM_BURST, at));
        let refill = at.duration_since(*since).as_secs_f64().max(0.0) / SPAM_REFILL_SECONDS;
        *tokens = (*tokens + refill).min(SPAM_BURST);
        *since = at;
        let allowed = *tokens >= 1.0;
        if allowed {
            *tokens -= 1.0;
        }
        forget_half(&mut self.tokens, |(_, since)| *since);
        allowed
    }
}

fn forget_half<V>(map: &mut HashMap<String, V>, last: impl Fn(&V) -> Timestamp) {
    if map.len() <= MAX_REMEMBERED {
        return;
    }
    let mut times: Vec<Timestamp> = map.values().map(&last).collect();
    times.sort_unstable();
    let middle = times[times.len() / 2];
    map.retain(|_, value| last(value) > middle);
    if map.len() > MAX_REMEMBERED {
        map.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(message: &str, second: i64) -> Observed {
        Observed {
            about: ObjectReference { name: Some("p".into()), namespace: Some("d".into()), ..Default::default() },
            kind: EventType::Warning,
            reason: "BackOff".into(),
            message: message.into(),
            annotations: BTreeMap::new(),
            component: "kubelet",
            host: "n1".into(),
            at: Timestamp::from_second(second).unwrap(),
        }
    }

    #[test]
    fn repetitions_are_counted_on_the_first_event_object() {
        let mut correlator = Correlator::default();
        let first = correlator.observe(&observed("m", 10)).unwrap();
        assert_eq!((first.name.as_str(), first.count), ("p.2540be400", 1));
        let second = correlator.observe(&observed("m", 20)).unwrap();
        assert_eq!((second.name.as_str(), second.count), ("p.2540be400", 2));
        assert_eq!(second.first.as_second(), 10);
        let other = correlator.observe(&observed("n", 20)).unwrap();
        assert_eq!((other.name.as_str(), other.count), ("p.4a817c801", 1));
    }

    #[test]
    fn many_alike_are_combined() {
        let mut correlator = Correlator::default();
        let messages: Vec<_> =
            (0..12).map(|i| correlator.observe(&observed(&format!("m{i}"), i)).unwrap().message).collect();
        assert_eq!(messages[8], "m8");
        assert_eq!(messages[9], "(combined from similar events): m9");
        assert_eq!(messages[11], "(combined from similar events): m11");
        let later = correlator.observe(&observed("m13", 2000)).unwrap();
        assert_eq!(later.message, "m13");
    }

    #[test]
    fn a_source_that_goes_on_is_throttled_and_recovers() {
        let mut correlator = Correlator::default();
        let passed = (0..100).filter(|_| correlator.observe(&observed("m", 5)).is_some()).count();
        assert_eq!(passed, 25);
        assert!(correlator.observe(&observed("m", 306)).is_some());
        assert!(correlator.observe(&observed("m", 307)).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        for i in 0..20_000 {
            let mut event = observed("m", i);
            event.about.name = Some(format!("p{i}"));
            correlator.observe(&event);
        }
        assert!(correlator.written.len() <= MAX_REMEMBERED && correlator.tokens.len() <= MAX_REMEMBERED);
    }
}
