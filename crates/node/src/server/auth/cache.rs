use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const MAX_ENTRIES: usize = 4096;

/// Answers that are believed for a while.
pub struct Cache<K, V> {
    entries: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(_, until)| Instant::now() < *until).map(|(value, _)| value.clone())
    }

    pub fn put(&self, key: K, value: V, believed: Duration) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if entries.len() >= MAX_ENTRIES {
            entries.retain(|_, (_, until)| now < *until);
        }
        // Full of what is still believed: forgetting it costs a question for each who asks again.
        if entries.len() >= MAX_ENTRIES {
            entries.clear();
        }
        entries.insert(key, (value, now + believed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_age_and_are_bounded() {
        let cache = Cache::default();
        cache.put(0, "zero", Duration::from_secs(10));
        assert_eq!(cache.get(&0), Some("zero"));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(cache.get(&0), None);
        for key in 0..2 * MAX_ENTRIES {
            cache.put(key, "", Duration::from_secs(10));
            assert!(cache.entries.lock().unwrap().len() <= MAX_ENTRIES);
        }
    }
}
