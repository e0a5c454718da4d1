//! How soon a pod that failed on a node is replaced there: pods that a node refuses would else be made without end.

use std::{collections::HashMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// Upstream's: one second, doubling up to a quarter of an hour, forgotten after twice that.
const FIRST: SignedDuration = SignedDuration::from_secs(1);
const LAST: SignedDuration = SignedDuration::from_mins(15);
const FORGET: SignedDuration = SignedDuration::from_mins(30);

/// By the uid of the DaemonSet and the name of the node. Bounded by what failed within the last half hour.
#[derive(Default)]
pub struct Backoff {
    pauses: HashMap<(String, String), (SignedDuration, Timestamp)>,
}

impl Backoff {
    /// Begins the next pause where none is under way; else says what is left of it.
    pub fn take(&mut self, uid: &str, node: &str, now: Timestamp) -> Result<(), Duration> {
        self.pauses.retain(|_, (_, since)| now.duration_since(*since) < FORGET);
        let key = (uid.to_owned(), node.to_owned());
        let next = match self.pauses.get(&key) {
            None => FIRST,
            Some((pause, since)) => {
                let left = *pause - now.duration_since(*since);
                match Duration::try_from(left) {
                    Ok(left) if !left.is_zero() => return Err(left),
                    _ => (*pause * 2).min(LAST),
                }
            }
        };
        self.pauses.insert(key, (next, now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_and_is_forgotten() {
        let mut backoff = Backoff::default();
        let mut now: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(backoff.take("u", "n", now), Ok(()));
        for expected in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            assert_eq!(backoff.take("u", "n", now), Err(Duration::from_secs(expected)));
            assert_eq!(backoff.take("u", &format!("other{expected}{now}"), now), Ok(()), "each node for itself");
            now += SignedDuration::from_secs(expected as i64);
            assert_eq!(backoff.take("u", "n", now), Ok(()));
        }
        now += FORGET;
        assert_eq!(backoff.take("u", "n", now), Ok(()));
        assert_eq!(backoff.take("u", "n", now), Err(Duration::from_secs(1)));
        assert_eq!(backoff.pauses.len(), 1);
    }
}
